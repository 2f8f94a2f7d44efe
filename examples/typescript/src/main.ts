/**
 * Proves that a person holds a phone number: opens a challenge, has the code sent, and verifies what is typed.
 *
 * Exits with 0 when the person was verified, 1 when otpd decided otherwise, and 2 when a call could not be decided.
 */

import { randomUUID, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

import { credentials, Metadata, status, type ClientUnaryCall, type ServiceError } from "@grpc/grpc-js";
import { BadRequest, ErrorInfo, RetryInfo } from "nice-grpc-error-details";

import { detail } from "./details.js";
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
const PURPOSE = Purpose.PURPOSE_LOGIN;

/** An outcome, not a failure: otpd has decided, and the person was not verified. */
class NotVerified extends Error {}

async function main(): Promise<number> {
  try {
    const otp = connect(setting("OTPD_ADDRESS", "127.0.0.1:50051"));
    try {
      await run(otp);
      return 0;
    } finally {
      otp.close();
    }
  } catch (error) {
    if (error instanceof NotVerified) {
      console.log(`not verified: ${error.message}`);
      return 1;
    }
    explain(error); // Whatever broke, 1 would say that otpd has decided.
    return 2;
  }
}

async function run(otp: OtpServiceClient): Promise<void> {
  // The id of the request is the name of the challenge. A program that may be restarted stores it before the call: the
  // same id then finds the challenge that was opened, where a new one would send a second message.
  const challenge = randomUUID();
  // The person's account, by an id that stays the same. Here a new one for each run: their wrong codes would lock it.
  const account = `person-${challenge.slice(0, 8)}`;
  await create(otp, challenge, account, setting("OTPD_PHONE_NUMBER", "+14155550100"));
  // Reads from here on: lines that come before somebody waits for them would be lost.
  const lines = createInterface({ input: process.stdin });
  try {
    process.stdout.write("code: ");
    for await (const typed of lines) {
      if (await verify(otp, challenge, account, typed)) return;
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
  const token = setting("OTPD_CALLER_TOKEN", "");
  if (!authorities) {
    if (token) throw new Error("OTPD_CALLER_TOKEN needs OTPD_CA_FILE: the token could be read on the way");
    return new OtpServiceClient(address, credentials.createInsecure(), options);
  }
  let secure = credentials.createSsl(readAuthorities(authorities));
  if (token) {
    // What otpd knows this caller by.
    const bearer = new Metadata();
    bearer.set("authorization", `Bearer ${token}`);
    const caller = credentials.createFromMetadataGenerator((_, done) => done(null, bearer));
    secure = credentials.combineChannelCredentials(secure, caller);
  }
  return new OtpServiceClient(address, secure, options);
}

/** Looks whether there is a certificate: gRPC does not tell, and every call would wait until its deadline. */
function readAuthorities(path: string): Buffer {
  const pem = readFileSync(path);
  try {
    new X509Certificate(pem);
  } catch (error) {
    throw new Error(`OTPD_CA_FILE: ${path} is not a certificate in PEM: ${error}`);
  }
  return pem;
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
 * Begins every request. A repetition has the id of the call that it repeats: otpd neither sends nor counts twice. All
 * repetitions by the service config are such, as they send the same message.
 */
function header(requestId: string): RequestHeader {
  return {
    protocolVersion: { major: 1, minor: 0, revision: 0 },
    requestId,
    requestTimestamp: { epochMillis: BigInt(Date.now()) },
    paymentIntegratorAccountId: setting("OTPD_TENANT", "example"),
  };
}

/** Opens the challenge and sends its first code in one call. */
async function create(otp: OtpServiceClient, challenge: string, account: string, phoneNumber: string): Promise<void> {
  const request = CreateChallengeRequest.fromPartial({
    requestHeader: header(challenge),
    accountId: account,
    purpose: PURPOSE,
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
      throw new NotVerified("declined for now, try later");
    default: // A later otpd may decline for a reason that this program does not know.
      throw new NotVerified("the challenge was declined");
  }
}

/** Tells what became of the message: the challenge is open even where none was sent. */
function tellSent(opened: CreateChallengeSuccess): void {
  const result = opened.sendResult?.result;
  switch (result?.$case) {
    case "success": {
      // 0 where the provider makes the code and does not say.
      const length = result.value.otpLength ? ` of ${result.value.otpLength} characters` : "";
      const to = opened.challengeOptions[0]?.maskedDestination || "the contact on file";
      console.log(`a code${length} was sent to ${to}`);
      if (result.value.deliveryState === DeliveryState.DELIVERY_STATE_UNCONFIRMED) {
        console.log("(the provider did not say whether it took the message)");
      }
      return;
    }
    case "accountLocked":
      throw new NotVerified(locked(result.value));
    case "riskDeclined":
      throw new NotVerified("declined for now, try later");
    case "destinationRejected":
      throw new NotVerified("the number takes no messages, choose another");
    default:
      throw new NotVerified("no code was sent");
  }
}

/** Asks about one typed code. Each typed code is a request of its own, with an id of its own. */
async function verify(otp: OtpServiceClient, challenge: string, account: string, typed: string): Promise<boolean> {
  const request = VerifyOtpRequest.fromPartial({
    requestHeader: header(randomUUID()),
    authenticateRequestId: challenge,
    otp: typed,
    // otpd compares these with the challenge, and refuses a code of another account or purpose.
    accountId: account,
    purpose: PURPOSE,
  });
  let response: VerifyOtpResponse;
  try {
    response = await call<VerifyOtpResponse>((metadata, done) => otp.verifyOtp(request, metadata, done));
  } catch (error) {
    const mistake = mistyped(error);
    if (mistake === undefined) throw error;
    console.log(`not a code: ${mistake}`);
    return false;
  }
  const result = response.result?.verifyOtpResultCode;
  switch (result?.$case) {
    case "success": {
      const proven = response.verified;
      if (proven?.accountId !== account || proven.purpose !== PURPOSE) {
        throw new NotVerified("otpd verified something else");
      }
      console.log(`verified: ${proven.accountId} by ${proven.maskedDestination}`);
      return true;
    }
    case "otpNotMatched":
      console.log(`wrong code, attempts left: ${result.value.remainingVerificationAttempts ?? 0}`);
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
  if (!lock.unlockTimestamp) return "the account is locked";
  const until = new Date(Number(lock.unlockTimestamp.epochMillis)).toISOString();
  return `the account is locked until ${until.replace(/\.\d+Z$/, "Z")}`;
}

/** What is wrong with a text that cannot be a code, such as an empty line. It is neither compared nor counted. */
function mistyped(error: unknown): string | undefined {
  if (!isServiceError(error)) return undefined;
  const [violation, ...others] = detail(error, BadRequest)?.fieldViolations ?? [];
  return violation?.field === "otp" && others.length === 0 ? violation.description : undefined;
}

/**
 * Tells why a call could not be decided. ErrorInfo has the reason that a program acts on, a name of `Reason` in the
 * contract without its prefix; the message is for people.
 */
function explain(error: unknown): void {
  if (!isServiceError(error)) {
    console.error(`${error}`);
    return;
  }
  console.error(`${status[error.code]}: ${error.details}`);
  const info = detail(error, ErrorInfo);
  if (info) console.error(`  reason ${info.reason} (${info.domain})`);
  for (const violation of detail(error, BadRequest)?.fieldViolations ?? []) {
    console.error(`  field ${violation.field}: ${violation.description}`);
  }
  const wait = detail(error, RetryInfo)?.retryDelay;
  if (wait) console.error(`  try again in ${wait.seconds + wait.nanos / 1e9} s, with the same request id`);
}

function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && "code" in error && "metadata" in error;
}

function setting(name: string, otherwise: string): string {
  return process.env[name] || otherwise;
}

process.exitCode = await main();
