/**
 * Proves that a person holds a phone number: opens a challenge, has the code sent, and verifies what is typed.
 *
 * Exits with 0 when the person was verified, 1 when otpd decided otherwise, and 2 when a call could not be decided.
 */

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { credentials, Metadata, status, type ClientUnaryCall, type ServiceError } from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RetryInfo } from "nice-grpc-error-details";
import { Status } from "nice-grpc-error-details/lib/proto/google/rpc/status.js";

import {
  Channel,
  CreateChallengeRequest,
  DeliveryState,
  OtpServiceClient,
  Purpose,
  VerifyOtpRequest,
  type AccountLocked,
  type CreateChallengeResponse,
  type CreateChallengeSuccess,
  type RequestHeader,
  type VerifyOtpResponse,
} from "./generated/otp/v1/otp.js";

const SERVICE_CONFIG = new URL("../../service-config.json", import.meta.url);

/** An outcome, not a failure: otpd has decided, and the person was not verified. */
class NotVerified extends Error {}

async function main(): Promise<number> {
  const otp = connect(setting("OTPD_ADDRESS", "127.0.0.1:50051"));
  try {
    await run(otp);
    return 0;
  } catch (error) {
    if (error instanceof NotVerified) {
      console.log(`not verified: ${error.message}`);
      return 1;
    }
    if (isServiceError(error)) {
      explain(error);
      return 2;
    }
    throw error;
  } finally {
    otp.close();
  }
}

async function run(otp: OtpServiceClient): Promise<void> {
  // The id of the request is the name of the challenge. A program that may be restarted stores it before the call: the
  // same id then finds the challenge that was opened, where a new one would send a second message.
  const challenge = randomUUID();
  await create(otp, challenge, setting("OTPD_PHONE_NUMBER", "+14155550100"));
  // Reads from here on: lines that come before somebody waits for them would be lost.
  const lines = createInterface({ input: process.stdin });
  try {
    process.stdout.write("code: ");
    for await (const typed of lines) {
      if (await verify(otp, challenge, typed)) return;
      process.stdout.write("code: ");
    }
  } finally {
    lines.close();
  }
  throw new NotVerified("no more codes were typed");
}

/**
 * Applies the service config to every call: how long it may take, when it is repeated, over which servers it is spread.
 * `dns:///otpd:50051` spreads calls over all addresses of a name.
 */
function connect(address: string): OtpServiceClient {
  const options = { "grpc.service_config": readFileSync(SERVICE_CONFIG, "utf8") };
  const authorities = setting("OTPD_CA_FILE", "");
  if (!authorities) return new OtpServiceClient(address, credentials.createInsecure(), options);
  let secure = credentials.createSsl(readFileSync(authorities));
  const token = setting("OTPD_CALLER_TOKEN", "");
  if (token) {
    // The token that otpd knows this caller by. It is sent over encrypted connections only.
    const bearer = new Metadata();
    bearer.set("authorization", `Bearer ${token}`);
    const caller = credentials.createFromMetadataGenerator((_, done) => done(null, bearer));
    secure = credentials.combineChannelCredentials(secure, caller);
  }
  return new OtpServiceClient(address, secure, options);
}

/** One call, as a promise. grpc-js takes `waitForReady` from here alone, and all else from the service config. */
function call<Response>(
  start: (metadata: Metadata, done: (error: ServiceError | null, response: Response) => void) => ClientUnaryCall,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    start(new Metadata({ waitForReady: true }), (error, response) => (error ? reject(error) : resolve(response)));
  });
}

/**
 * Begins every request. A repetition has the id of the call that it repeats: otpd gives the recorded answer again, and
 * neither sends nor counts twice. All repetitions by the service config are such, as they send the same message.
 */
function header(requestId: string): RequestHeader {
  return {
    protocolVersion: { major: 1, minor: 0, revision: 0 },
    requestId,
    requestTimestamp: { epochMillis: Date.now() },
    paymentIntegratorAccountId: setting("OTPD_TENANT", "example"),
  };
}

/** Opens the challenge and sends its first code in one call. */
async function create(otp: OtpServiceClient, challenge: string, phoneNumber: string): Promise<void> {
  const request = CreateChallengeRequest.fromPartial({
    requestHeader: header(challenge),
    // The person's account, by an id that stays the same. Here a new one for each run: their wrong codes would lock it.
    accountId: `person-${challenge.slice(0, 8)}`,
    purpose: Purpose.PURPOSE_LOGIN,
    destinations: [{ channel: Channel.CHANNEL_SMS, destination: { $case: "phoneNumber", value: phoneNumber } }],
    sendOtp: true,
  });
  const response = await call<CreateChallengeResponse>((metadata, done) =>
    otp.createChallenge(request, metadata, done),
  );
  const result = response.result?.result;
  switch (result?.$case) {
    case "success":
      return tellSent(result.value);
    case "accountLocked":
      throw new NotVerified(locked(result.value));
    case "riskDeclined":
      throw new NotVerified("declined due to risk");
    default: // A later otpd may decline for a reason that this program does not know.
      throw new NotVerified("the challenge was declined");
  }
}

/** Tells what became of the message: the challenge is open even where none was sent. */
function tellSent(opened: CreateChallengeSuccess): void {
  const result = opened.sendResult?.result;
  switch (result?.$case) {
    case "success": {
      const to = opened.challengeOptions[0]?.maskedDestination;
      console.log(`a code of ${result.value.otpLength} digits was sent to ${to}`);
      if (result.value.deliveryState === DeliveryState.DELIVERY_STATE_UNCONFIRMED) {
        console.log("(the provider did not say whether it took the message)");
      }
      return;
    }
    case "accountLocked":
      throw new NotVerified(locked(result.value));
    case "riskDeclined":
      throw new NotVerified("too many messages, try later");
    case "destinationRejected":
      throw new NotVerified("the number takes no messages, choose another");
    default:
      throw new NotVerified(`no code was sent (${result?.$case})`);
  }
}

/** Asks about one typed code. Each typed code is a request of its own, with an id of its own. */
async function verify(otp: OtpServiceClient, challenge: string, typed: string): Promise<boolean> {
  const request = VerifyOtpRequest.fromPartial({
    requestHeader: header(randomUUID()),
    authenticateRequestId: challenge,
    otp: typed,
  });
  const response = await call<VerifyOtpResponse>((metadata, done) => otp.verifyOtp(request, metadata, done));
  const result = response.result?.verifyOtpResultCode;
  switch (result?.$case) {
    case "success":
      console.log(`verified: ${response.verified?.accountId} by ${response.verified?.maskedDestination}`);
      return true;
    case "otpNotMatched":
      console.log(`wrong code, ${result.value.remainingVerificationAttempts} attempts left`);
      return false;
    case "otpAlreadyUsed":
      throw new NotVerified("another request has verified this challenge");
    case "otpExpired":
      throw new NotVerified("the code has expired, send a new one");
    case "verificationAttemptsExceeded":
      throw new NotVerified("too many codes were tried, open a new challenge");
    case "accountLocked":
      throw new NotVerified(locked(result.value));
    default:
      throw new NotVerified("otpd did not accept the code");
  }
}

function locked(lock: AccountLocked): string {
  const until = lock.unlockTimestamp;
  return until ? `the account is locked until ${new Date(until.epochMillis).toISOString()}` : "the account is locked";
}

/**
 * Tells why a call could not be decided. ErrorInfo has the reason that a program acts on, a name of `Reason` in the
 * contract without its prefix; the message is for people.
 */
function explain(error: ServiceError): void {
  console.error(`${status[error.code]}: ${error.details}`);
  for (const encoded of error.metadata.get("grpc-status-details-bin")) {
    for (const detail of Status.decode(encoded as Buffer).details) {
      switch (detail.typeUrl) {
        case "type.googleapis.com/google.rpc.ErrorInfo": {
          const info = ErrorInfo.decode(detail.value);
          console.error(`  reason ${info.reason} (${info.domain})`);
          break;
        }
        case "type.googleapis.com/google.rpc.BadRequest":
          for (const violation of BadRequest.decode(detail.value).fieldViolations) {
            console.error(`  field ${violation.field}: ${violation.description}`);
          }
          break;
        case "type.googleapis.com/google.rpc.RetryInfo": {
          const wait = RetryInfo.decode(detail.value).retryDelay;
          const seconds = (wait?.seconds ?? 0) + (wait?.nanos ?? 0) / 1e9;
          console.error(`  try again in ${seconds} s, with the same request id`);
          break;
        }
      }
    }
  }
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}

function setting(name: string, otherwise: string): string {
  return process.env[name] || otherwise;
}

process.exitCode = await main();
