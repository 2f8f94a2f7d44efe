"""Proves that a person holds a phone number: opens a challenge, has the code sent, and verifies what is typed.

Exits with 0 when the person was verified, 1 when otpd decided otherwise, and 2 when a call could not be decided.
"""

import os
import ssl
import sys
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from otp.v1 import otp_pb2, otp_pb2_grpc

SERVICE_CONFIG = Path(__file__).parent.parent / "service-config.json"
PURPOSE = otp_pb2.PURPOSE_LOGIN


class NotVerified(Exception):
    """An outcome, not a failure: otpd has decided, and the person was not verified."""


def main() -> int:
    try:
        with connect(setting("OTPD_ADDRESS", "127.0.0.1:50051")) as channel:
            run(otp_pb2_grpc.OtpServiceStub(channel))
    except NotVerified as outcome:
        print(f"not verified: {outcome}")
        return 1
    except Exception as error:  # Whatever broke, 1 would say that otpd has decided.
        explain(error)
        return 2
    return 0


def run(otp: otp_pb2_grpc.OtpServiceStub) -> None:
    # The id of the request is the name of the challenge. A program that may be restarted stores it before the call: the
    # same id then finds the challenge that was opened, where a new one would send a second message.
    challenge = str(uuid.uuid4())
    # The person's account, by an id that stays the same. Here a new one for each run: their wrong codes would lock it.
    account = f"person-{challenge:.8}"
    create(otp, challenge, account, setting("OTPD_PHONE_NUMBER", "+14155550100"))
    print("code: ", end="", flush=True)
    for typed in sys.stdin:
        if verify(otp, challenge, account, typed.strip()):
            return
        print("code: ", end="", flush=True)
    raise NotVerified("no more codes were typed")


def connect(address: str) -> grpc.Channel:
    """Applies the service config to every call: how long it may take, when it is repeated, over which servers.

    `dns:///otpd:50051` spreads calls over all addresses of a name.
    """
    options = [("grpc.service_config", SERVICE_CONFIG.read_text(encoding="utf-8"))]
    authorities = setting("OTPD_CA_FILE", "")
    token = setting("OTPD_CALLER_TOKEN", "")
    if not authorities:
        if token:
            raise ValueError("OTPD_CALLER_TOKEN needs OTPD_CA_FILE: the token could be read on the way")
        return grpc.insecure_channel(address, options)
    credentials = grpc.ssl_channel_credentials(read_authorities(authorities))
    if token:  # What otpd knows this caller by.
        credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials(token))
    return grpc.secure_channel(address, credentials, options)


def read_authorities(path: str) -> bytes:
    """Looks whether there is a certificate: gRPC does not tell, and every call would wait until its deadline."""
    pem = Path(path).read_bytes()
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as error:
        raise ValueError(f"OTPD_CA_FILE: {path} is not a certificate in PEM: {error}") from error
    return pem


def header(request_id: str) -> otp_pb2.RequestHeader:
    """Begins every request.

    A repetition has the id of the call that it repeats: otpd neither sends nor counts twice. All repetitions by the
    service config are such, as they send the same message.
    """
    return otp_pb2.RequestHeader(
        protocol_version=otp_pb2.ProtocolVersion(major=1),
        request_id=request_id,
        request_timestamp=otp_pb2.EpochTimestamp(epoch_millis=time.time_ns() // 1_000_000),
        payment_integrator_account_id=setting("OTPD_TENANT", "example"),
    )


def create(otp: otp_pb2_grpc.OtpServiceStub, challenge: str, account: str, phone_number: str) -> None:
    """Opens the challenge and sends its first code in one call."""
    response = otp.CreateChallenge(
        otp_pb2.CreateChallengeRequest(
            request_header=header(challenge),
            account_id=account,
            purpose=PURPOSE,
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
            raise NotVerified("declined for now, try later")
        case _:  # A later otpd may decline for a reason that this program does not know.
            raise NotVerified("the challenge was declined")


def tell_sent(opened: otp_pb2.CreateChallengeSuccess) -> None:
    """Tells what became of the message: the challenge is open even where none was sent."""
    sent = opened.send_result
    match sent.WhichOneof("result"):
        case "success":
            # 0 where the provider makes the code and does not say.
            length = f" of {sent.success.otp_length} characters" if sent.success.otp_length else ""
            to = next((option.masked_destination for option in opened.challenge_options), "") or "the contact on file"
            print(f"a code{length} was sent to {to}")
            if sent.success.delivery_state == otp_pb2.DELIVERY_STATE_UNCONFIRMED:
                print("(the provider did not say whether it took the message)")
        case "account_locked":
            raise NotVerified(locked(sent.account_locked))
        case "risk_declined":
            raise NotVerified("declined for now, try later")
        case "destination_rejected":
            raise NotVerified("the number takes no messages, choose another")
        case _:
            raise NotVerified("no code was sent")


def verify(otp: otp_pb2_grpc.OtpServiceStub, challenge: str, account: str, typed: str) -> bool:
    """Asks about one typed code. Each typed code is a request of its own, with an id of its own."""
    request = otp_pb2.VerifyOtpRequest(
        request_header=header(str(uuid.uuid4())),
        authenticate_request_id=challenge,
        otp=typed,
        # otpd compares these with the challenge, and refuses a code of another account or purpose.
        account_id=account,
        purpose=PURPOSE,
    )
    try:
        response = otp.VerifyOtp(request)
    except grpc.RpcError as error:
        if not (mistake := mistyped(error)):
            raise
        print(f"not a code: {mistake}")
        return False
    result = response.result
    match result.WhichOneof("verify_otp_result_code"):
        case "success":
            proven = response.verified
            if (proven.account_id, proven.purpose) != (account, PURPOSE):
                raise NotVerified("otpd verified something else")
            print(f"verified: {proven.account_id} by {proven.masked_destination}")
            return True
        case "otp_not_matched":
            print(f"wrong code, attempts left: {result.otp_not_matched.remaining_verification_attempts}")
            return False
        case "otp_already_used":
            raise NotVerified("another request has verified this challenge")
        case "otp_expired":
            raise NotVerified("the code has expired, send a new one")
        case "verification_attempts_exceeded":
            raise NotVerified("too many codes were tried, open a new challenge")
        case "account_locked":
            raise NotVerified(locked(result.account_locked))
        case _:
            raise NotVerified("otpd did not accept the code")


def locked(lock: otp_pb2.AccountLocked) -> str:
    if not lock.HasField("unlock_timestamp"):
        return "the account is locked"
    until = datetime.fromtimestamp(lock.unlock_timestamp.epoch_millis // 1000, UTC)
    return f"the account is locked until {until:%Y-%m-%dT%H:%M:%SZ}"


def mistyped(error: grpc.RpcError) -> str | None:
    """What is wrong with a text that cannot be a code, such as an empty line. It is neither compared nor counted."""
    bad = error_details_pb2.BadRequest()
    read_detail(error, bad)
    match bad.field_violations:
        case [violation] if violation.field == "otp":
            return violation.description
    return None


def explain(error: Exception) -> None:
    """Tells why a call could not be decided.

    ErrorInfo has the reason that a program acts on, a name of `Reason` in the contract without its prefix; the message
    is for people.
    """
    if not isinstance(error, grpc.RpcError):
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return
    print(f"{error.code().name}: {error.details()}", file=sys.stderr)
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    if read_detail(error, info):
        print(f"  reason {info.reason} ({info.domain})", file=sys.stderr)
    if read_detail(error, bad):
        for violation in bad.field_violations:
            print(f"  field {violation.field}: {violation.description}", file=sys.stderr)
    if read_detail(error, retry):
        wait = retry.retry_delay.ToTimedelta().total_seconds()
        print(f"  try again in {wait} s, with the same request id", file=sys.stderr)


def read_detail(error: grpc.RpcError, message: Message) -> bool:
    """Fills the message with the status's detail of its type. False: the status has none that can be read."""
    try:
        status = rpc_status.from_call(error)
        return status is not None and any(detail.Unpack(message) for detail in status.details)
    except (ValueError, DecodeError):  # Made or changed by a proxy.
        return False


def setting(name: str, otherwise: str) -> str:
    return os.environ.get(name) or otherwise


if __name__ == "__main__":
    sys.exit(main())
