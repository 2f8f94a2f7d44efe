"""Proves that a person holds a phone number: opens a challenge, has the code sent, and verifies what is typed.

Exits with 0 when the person was verified, 1 when otpd decided otherwise, and 2 when a call could not be decided.
"""

import os
import sys
import time
import uuid
from datetime import datetime
from pathlib import Path

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from otp.v1 import otp_pb2, otp_pb2_grpc

SERVICE_CONFIG = Path(__file__).parent.parent / "service-config.json"


class NotVerified(Exception):
    """An outcome, not a failure: otpd has decided, and the person was not verified."""


def main() -> int:
    try:
        with connect(setting("OTPD_ADDRESS", "127.0.0.1:50051")) as channel:
            run(otp_pb2_grpc.OtpServiceStub(channel))
    except NotVerified as outcome:
        print(f"not verified: {outcome}")
        return 1
    except grpc.RpcError as error:
        explain(error)
        return 2
    return 0


def run(otp: otp_pb2_grpc.OtpServiceStub) -> None:
    # The id of the request is the name of the challenge. A program that may be restarted stores it before the call: the
    # same id then finds the challenge that was opened, where a new one would send a second message.
    challenge = str(uuid.uuid4())
    create(otp, challenge, setting("OTPD_PHONE_NUMBER", "+14155550100"))
    print("code: ", end="", flush=True)
    for typed in sys.stdin:
        if verify(otp, challenge, typed.strip()):
            return
        print("code: ", end="", flush=True)
    raise NotVerified("no more codes were typed")


def connect(address: str) -> grpc.Channel:
    """Applies the service config to every call: how long it may take, when it is repeated, over which servers.

    `dns:///otpd:50051` spreads calls over all addresses of a name.
    """
    options = [("grpc.service_config", SERVICE_CONFIG.read_text(encoding="utf-8"))]
    authorities = setting("OTPD_CA_FILE", "")
    if not authorities:
        return grpc.insecure_channel(address, options)
    credentials = grpc.ssl_channel_credentials(Path(authorities).read_bytes())
    # The token that otpd knows this caller by. gRPC sends it over encrypted connections only.
    if token := setting("OTPD_CALLER_TOKEN", ""):
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
    return grpc.secure_channel(address, credentials, options)


def header(request_id: str) -> otp_pb2.RequestHeader:
    """Begins every request.

    A repetition has the id of the call that it repeats: otpd gives the recorded answer again, and neither sends nor
    counts twice. All repetitions by the service config are such, as they send the same message.
    """
    return otp_pb2.RequestHeader(
        protocol_version=otp_pb2.ProtocolVersion(major=1),
        request_id=request_id,
        request_timestamp=otp_pb2.EpochTimestamp(epoch_millis=time.time_ns() // 1_000_000),
        payment_integrator_account_id=setting("OTPD_TENANT", "example"),
    )


def create(otp: otp_pb2_grpc.OtpServiceStub, challenge: str, phone_number: str) -> None:
    """Opens the challenge and sends its first code in one call."""
    response = otp.CreateChallenge(
        otp_pb2.CreateChallengeRequest(
            request_header=header(challenge),
            # The person's account, by an id that stays the same. Here a new one for each run: their wrong codes would lock it.
            account_id=f"person-{challenge:.8}",
            purpose=otp_pb2.PURPOSE_LOGIN,
            destinations=[otp_pb2.Destination(channel=otp_pb2.CHANNEL_SMS, phone_number=phone_number)],
            send_otp=True,
        )
    )
    match response.result.WhichOneof("result"):
        case "success":
            tell_sent(response.result.success)
        case "account_locked":
            raise NotVerified(locked(response.result.account_locked))
        case "risk_declined":
            raise NotVerified("declined due to risk")
        case other:  # A later otpd may decline for a reason that this program does not know.
            raise NotVerified(f"the challenge was declined ({other})")


def tell_sent(opened: otp_pb2.CreateChallengeSuccess) -> None:
    """Tells what became of the message: the challenge is open even where none was sent."""
    sent = opened.send_result
    match sent.WhichOneof("result"):
        case "success":
            to = opened.challenge_options[0].masked_destination
            print(f"a code of {sent.success.otp_length} digits was sent to {to}")
            if sent.success.delivery_state == otp_pb2.DELIVERY_STATE_UNCONFIRMED:
                print("(the provider did not say whether it took the message)")
        case "account_locked":
            raise NotVerified(locked(sent.account_locked))
        case "risk_declined":
            raise NotVerified("too many messages, try later")
        case "destination_rejected":
            raise NotVerified("the number takes no messages, choose another")
        case other:
            raise NotVerified(f"no code was sent ({other})")


def verify(otp: otp_pb2_grpc.OtpServiceStub, challenge: str, typed: str) -> bool:
    """Asks about one typed code. Each typed code is a request of its own, with an id of its own."""
    response = otp.VerifyOtp(
        otp_pb2.VerifyOtpRequest(request_header=header(str(uuid.uuid4())), authenticate_request_id=challenge, otp=typed)
    )
    result = response.result
    match result.WhichOneof("verify_otp_result_code"):
        case "success":
            print(f"verified: {response.verified.account_id} by {response.verified.masked_destination}")
            return True
        case "otp_not_matched":
            print(f"wrong code, {result.otp_not_matched.remaining_verification_attempts} attempts left")
            return False
        case "otp_already_used":
            raise NotVerified("another request has verified this challenge")
        case "otp_expired":
            raise NotVerified("the code has expired, send a new one")
        case "verification_attempts_exceeded":
            raise NotVerified("too many codes were tried, open a new challenge")
        case "account_locked":
            raise NotVerified(locked(result.account_locked))
        case other:
            raise NotVerified(f"otpd did not accept the code ({other})")


def locked(lock: otp_pb2.AccountLocked) -> str:
    if not lock.HasField("unlock_timestamp"):
        return "the account is locked"
    until = datetime.fromtimestamp(lock.unlock_timestamp.epoch_millis / 1000).astimezone()
    return f"the account is locked until {until.isoformat(timespec='seconds')}"


def explain(error: grpc.RpcError) -> None:
    """Tells why a call could not be decided.

    ErrorInfo has the reason that a program acts on, a name of `Reason` in the contract without its prefix; the message
    is for people.
    """
    print(f"{error.code().name}: {error.details()}", file=sys.stderr)
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            print(f"  reason {info.reason} ({info.domain})", file=sys.stderr)
        elif detail.Unpack(bad):
            for violation in bad.field_violations:
                print(f"  field {violation.field}: {violation.description}", file=sys.stderr)
        elif detail.Unpack(retry):
            wait = retry.retry_delay.ToTimedelta().total_seconds()
            print(f"  try again in {wait} s, with the same request id", file=sys.stderr)


def setting(name: str, otherwise: str) -> str:
    return os.environ.get(name) or otherwise


if __name__ == "__main__":
    sys.exit(main())
