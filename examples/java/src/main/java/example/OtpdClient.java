package example;

import com.google.gson.Gson;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.CallCredentials;
import io.grpc.ChannelCredentials;
import io.grpc.CompositeChannelCredentials;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.Executor;
import otpd.otp.v1.AccountLocked;
import otpd.otp.v1.Channel;
import otpd.otp.v1.CreateChallengeRequest;
import otpd.otp.v1.CreateChallengeResponse;
import otpd.otp.v1.CreateChallengeSuccess;
import otpd.otp.v1.DeliveryState;
import otpd.otp.v1.Destination;
import otpd.otp.v1.EpochTimestamp;
import otpd.otp.v1.OtpServiceGrpc;
import otpd.otp.v1.OtpServiceGrpc.OtpServiceBlockingStub;
import otpd.otp.v1.ProtocolVersion;
import otpd.otp.v1.Purpose;
import otpd.otp.v1.RequestHeader;
import otpd.otp.v1.VerifyOtpRequest;
import otpd.otp.v1.VerifyOtpResponse;

/**
 * Proves that a person holds a phone number: opens a challenge, has the code sent, and verifies what is typed until otpd
 * says that it is right. Exits with 0 when it was, 1 when it was not, and 2 when a call could not be decided.
 */
public final class OtpdClient {
    /** An outcome, not a failure: otpd has decided, and the person was not verified. */
    private static final class NotVerified extends Exception {
        NotVerified(String why) {
            super("not verified: " + why);
        }
    }

    private final OtpServiceBlockingStub otp;

    private OtpdClient(OtpServiceBlockingStub otp) {
        this.otp = otp;
    }

    public static void main(String[] arguments) {
        System.exit(exitCode());
    }

    private static int exitCode() {
        ManagedChannel channel = null;
        try {
            channel = connect(setting("OTPD_ADDRESS", "127.0.0.1:50051"));
            new OtpdClient(OtpServiceGrpc.newBlockingStub(channel)).run();
            return 0;
        } catch (NotVerified outcome) {
            System.out.println(outcome.getMessage());
            return 1;
        } catch (StatusRuntimeException failed) {
            explain(failed);
            return 2;
        } catch (IOException | IllegalArgumentException wrongSettings) {
            System.err.println(wrongSettings);
            return 2;
        } finally {
            if (channel != null) {
                channel.shutdownNow();
            }
        }
    }

    private void run() throws IOException, NotVerified {
        // The id of the request is the name of the challenge. A program that may be restarted stores it before the call:
        // the same id then finds the challenge that was opened, where a new one would send a second message.
        String challenge = UUID.randomUUID().toString();
        open(challenge, setting("OTPD_PHONE_NUMBER", "+14155550100"));
        var input = new BufferedReader(new InputStreamReader(System.in));
        while (true) {
            System.out.print("code: ");
            System.out.flush();
            String typed = input.readLine();
            if (typed == null) {
                throw new NotVerified("no more codes were typed");
            }
            if (verify(challenge, typed)) {
                return;
            }
        }
    }

    /**
     * The service config holds for every call of the channel: how long a call may take, when it is repeated, and how calls
     * are spread. {@code dns:///otpd:50051} spreads them over all addresses of a name.
     */
    private static ManagedChannel connect(String address) throws IOException {
        String config = Files.readString(Path.of("../service-config.json"));
        @SuppressWarnings("unchecked") // Gson reads objects as maps and numbers as Double, as gRPC expects them.
        Map<String, ?> serviceConfig = new Gson().fromJson(config, Map.class);

        ChannelCredentials credentials = InsecureChannelCredentials.create();
        String authorities = setting("OTPD_CA_FILE", "");
        if (!authorities.isEmpty()) {
            credentials = TlsChannelCredentials.newBuilder().trustManager(new File(authorities)).build();
        }
        String token = setting("OTPD_CALLER_TOKEN", "");
        if (!token.isEmpty()) {
            if (authorities.isEmpty()) {
                throw new IllegalArgumentException("OTPD_CALLER_TOKEN needs OTPD_CA_FILE: it could be read on the way");
            }
            credentials = CompositeChannelCredentials.create(credentials, new Bearer(token));
        }
        return Grpc.newChannelBuilder(address, credentials).defaultServiceConfig(serviceConfig).build();
    }

    /** The token that otpd knows this caller by. */
    private static final class Bearer extends CallCredentials {
        private static final Metadata.Key<String> AUTHORIZATION =
                Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

        private final Metadata headers = new Metadata();

        Bearer(String token) {
            headers.put(AUTHORIZATION, "Bearer " + token);
        }

        @Override
        public void applyRequestMetadata(RequestInfo call, Executor executor, MetadataApplier applier) {
            applier.apply(headers);
        }
    }

    /**
     * Begins every request. A repetition has the id of the call that it repeats: otpd gives the recorded answer again, and
     * neither sends nor counts twice. All repetitions by the service config are such, as they send the same message.
     */
    private static RequestHeader header(String requestId) {
        return RequestHeader.newBuilder()
                .setProtocolVersion(ProtocolVersion.newBuilder().setMajor(1))
                .setRequestId(requestId)
                .setRequestTimestamp(EpochTimestamp.newBuilder().setEpochMillis(System.currentTimeMillis()))
                .setPaymentIntegratorAccountId(setting("OTPD_TENANT", "example"))
                .build();
    }

    /** Opens the challenge and sends its first code in one call. */
    private void open(String challenge, String phoneNumber) throws NotVerified {
        CreateChallengeResponse response = otp.createChallenge(CreateChallengeRequest.newBuilder()
                .setRequestHeader(header(challenge))
                // The person's account, by an id that stays the same. Here a new one for each run: their wrong codes would
                // lock it.
                .setAccountId("person-" + challenge.substring(0, 8))
                .setPurpose(Purpose.PURPOSE_LOGIN)
                .addDestinations(Destination.newBuilder().setChannel(Channel.CHANNEL_SMS).setPhoneNumber(phoneNumber))
                .setSendOtp(true)
                .build());
        var result = response.getResult();
        switch (result.getResultCase()) {
            case SUCCESS -> sent(result.getSuccess());
            case ACCOUNT_LOCKED -> throw new NotVerified(locked(result.getAccountLocked()));
            case RISK_DECLINED -> throw new NotVerified("declined due to risk");
            // A later otpd may decline for a reason that this program does not know.
            default -> throw new NotVerified("the challenge was declined");
        }
    }

    /** Tells what became of the message: the challenge is open even where none was sent. */
    private static void sent(CreateChallengeSuccess opened) throws NotVerified {
        var result = opened.getSendResult();
        switch (result.getResultCase()) {
            case SUCCESS -> {
                var success = result.getSuccess();
                System.out.printf("a code of %d digits was sent to %s%n",
                        success.getOtpLength(), opened.getChallengeOptions(0).getMaskedDestination());
                if (success.getDeliveryState() == DeliveryState.DELIVERY_STATE_UNCONFIRMED) {
                    System.out.println("(the provider did not say whether it took the message)");
                }
            }
            case ACCOUNT_LOCKED -> throw new NotVerified(locked(result.getAccountLocked()));
            case RISK_DECLINED -> throw new NotVerified("too many messages, try later");
            case DESTINATION_REJECTED -> throw new NotVerified("the number takes no messages, choose another");
            default -> throw new NotVerified("no code was sent: " + result.getResultCase());
        }
    }

    /** Asks about one typed code. Each typed code is a request of its own, with an id of its own. */
    private boolean verify(String challenge, String typed) throws NotVerified {
        VerifyOtpResponse response = otp.verifyOtp(VerifyOtpRequest.newBuilder()
                .setRequestHeader(header(UUID.randomUUID().toString()))
                .setAuthenticateRequestId(challenge)
                .setOtp(typed)
                .build());
        var result = response.getResult();
        switch (result.getVerifyOtpResultCodeCase()) {
            case SUCCESS -> {
                var proven = response.getVerified();
                System.out.printf("verified: %s by %s%n", proven.getAccountId(), proven.getMaskedDestination());
                return true;
            }
            case OTP_NOT_MATCHED -> {
                long left = result.getOtpNotMatched().getRemainingVerificationAttempts();
                System.out.printf("wrong code, %d attempts left%n", left);
                return false;
            }
            case OTP_ALREADY_USED -> throw new NotVerified("another request has verified this challenge");
            case OTP_EXPIRED -> throw new NotVerified("the code has expired, send a new one");
            case VERIFICATION_ATTEMPTS_EXCEEDED ->
                    throw new NotVerified("too many codes were tried, open a new challenge");
            case ACCOUNT_LOCKED -> throw new NotVerified(locked(result.getAccountLocked()));
            default -> throw new NotVerified("otpd did not accept the code");
        }
    }

    private static String locked(AccountLocked lock) {
        return lock.hasUnlockTimestamp()
                ? "the account is locked until " + Instant.ofEpochMilli(lock.getUnlockTimestamp().getEpochMillis())
                : "the account is locked";
    }

    /**
     * Tells why a call could not be decided. {@code ErrorInfo} has the reason that a program acts on, a name of
     * {@code Reason} in the contract without its prefix; the message is for people.
     */
    private static void explain(StatusRuntimeException failed) {
        // The first line: where there was no connection, a description shows the whole stack.
        var message = Optional.ofNullable(failed.getStatus().getDescription()).flatMap(text -> text.lines().findFirst());
        System.err.printf("%s: %s%n", failed.getStatus().getCode(), message.orElse("no description"));
        var status = StatusProto.fromThrowable(failed);
        if (status == null) {
            return;
        }
        try {
            for (var detail : status.getDetailsList()) {
                if (detail.is(ErrorInfo.class)) {
                    var info = detail.unpack(ErrorInfo.class);
                    System.err.printf("  reason %s (%s)%n", info.getReason(), info.getDomain());
                } else if (detail.is(BadRequest.class)) {
                    for (var violation : detail.unpack(BadRequest.class).getFieldViolationsList()) {
                        System.err.printf("  field %s: %s%n", violation.getField(), violation.getDescription());
                    }
                } else if (detail.is(RetryInfo.class)) {
                    var delay = detail.unpack(RetryInfo.class).getRetryDelay();
                    var seconds = delay.getSeconds() + delay.getNanos() / 1e9;
                    System.err.printf("  try again in %.3fs, with the same request id%n", seconds);
                }
            }
        } catch (InvalidProtocolBufferException undecodable) {
            System.err.println("  (a detail could not be decoded)");
        }
    }

    private static String setting(String name, String otherwise) {
        return Optional.ofNullable(System.getenv(name)).filter(value -> !value.isEmpty()).orElse(otherwise);
    }
}
