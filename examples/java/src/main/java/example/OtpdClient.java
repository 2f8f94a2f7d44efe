package example;

import com.google.gson.Gson;
import com.google.gson.reflect.TypeToken;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
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
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.time.temporal.ChronoUnit;
import java.util.List;
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
        } catch (IOException | RuntimeException broken) { // A wrong setting, or input that cannot be read.
            tellCauses(broken);
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
        // The person's account, by an id that stays the same. Here a new one for each run: their wrong codes would lock it.
        String account = "person-" + challenge.substring(0, 8);
        open(challenge, account, setting("OTPD_PHONE_NUMBER", "+14155550100"));
        var input = new BufferedReader(new InputStreamReader(System.in));
        while (true) {
            System.out.print("code: ");
            System.out.flush();
            String typed = input.readLine();
            if (typed == null) {
                throw new NotVerified("no more codes were typed");
            }
            if (verify(challenge, account, typed)) {
                return;
            }
        }
    }

    /**
     * The service config holds for every call of the channel: how long a call may take, when it is repeated, and how calls
     * are spread. {@code dns:///otpd:50051} spreads them over all addresses of a name.
     */
    private static ManagedChannel connect(String address) throws IOException {
        Map<String, ?> serviceConfig;
        try (var file = OtpdClient.class.getResourceAsStream("/service-config.json")) {
            var config = new String(file.readAllBytes(), StandardCharsets.UTF_8);
            // Gson reads objects as maps and numbers as Double, as gRPC expects them.
            serviceConfig = new Gson().fromJson(config, new TypeToken<>() {});
        }
        ChannelCredentials credentials = InsecureChannelCredentials.create();
        String authorities = setting("OTPD_CA_FILE", "");
        if (!authorities.isEmpty()) {
            credentials = TlsChannelCredentials.newBuilder().trustManager(new File(authorities)).build();
        }
        String token = setting("OTPD_CALLER_TOKEN", "");
        if (!token.isEmpty()) {
            if (authorities.isEmpty()) {
                throw new IllegalArgumentException("OTPD_CALLER_TOKEN needs OTPD_CA_FILE: the token could be read on the way");
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
     * Begins every request. A repetition has the id of the call that it repeats: otpd neither sends nor counts twice. All
     * repetitions by the service config are such, as they send the same message.
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
    private void open(String challenge, String account, String phoneNumber) throws NotVerified {
        CreateChallengeResponse response = otp.createChallenge(CreateChallengeRequest.newBuilder()
                .setRequestHeader(header(challenge))
                .setAccountId(account)
                .setPurpose(Purpose.PURPOSE_LOGIN)
                .addDestinations(Destination.newBuilder().setChannel(Channel.CHANNEL_SMS).setPhoneNumber(phoneNumber))
                .setSendOtp(true)
                .build());
        var result = response.getResult();
        switch (result.getResultCase()) {
            case SUCCESS -> sent(result.getSuccess());
            case ACCOUNT_LOCKED -> throw new NotVerified(locked(result.getAccountLocked()));
            case RISK_DECLINED -> throw new NotVerified("declined for now, try later");
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
                // 0 where the provider makes the code and does not say.
                var length = success.getOtpLength() == 0 ? "" : " of %d characters".formatted(success.getOtpLength());
                var to = opened.getChallengeOptionsList().stream().findFirst()
                        .map(option -> option.getMaskedDestination())
                        .filter(masked -> !masked.isEmpty())
                        .orElse("the contact on file");
                System.out.printf("a code%s was sent to %s%n", length, to);
                if (success.getDeliveryState() == DeliveryState.DELIVERY_STATE_UNCONFIRMED) {
                    System.out.println("(the provider did not say whether it took the message)");
                }
            }
            case ACCOUNT_LOCKED -> throw new NotVerified(locked(result.getAccountLocked()));
            case RISK_DECLINED -> throw new NotVerified("declined for now, try later");
            case DESTINATION_REJECTED -> throw new NotVerified("the number takes no messages, choose another");
            default -> throw new NotVerified("no code was sent");
        }
    }

    /** Asks about one typed code. Each typed code is a request of its own, with an id of its own. */
    private boolean verify(String challenge, String account, String typed) throws NotVerified {
        var request = VerifyOtpRequest.newBuilder()
                .setRequestHeader(header(UUID.randomUUID().toString()))
                .setAuthenticateRequestId(challenge)
                .setOtp(typed)
                // otpd compares these with the challenge, and refuses a code of another account or purpose.
                .setAccountId(account)
                .setPurpose(Purpose.PURPOSE_LOGIN)
                .build();
        VerifyOtpResponse response;
        try {
            response = otp.verifyOtp(request);
        } catch (StatusRuntimeException failed) {
            System.out.println("not a code: " + mistyped(failed).orElseThrow(() -> failed));
            return false;
        }
        var result = response.getResult();
        switch (result.getVerifyOtpResultCodeCase()) {
            case SUCCESS -> {
                var proven = response.getVerified();
                if (!proven.getAccountId().equals(account) || proven.getPurpose() != Purpose.PURPOSE_LOGIN) {
                    throw new NotVerified("otpd verified something else");
                }
                System.out.printf("verified: %s by %s%n", proven.getAccountId(), proven.getMaskedDestination());
                return true;
            }
            case OTP_NOT_MATCHED -> {
                long left = result.getOtpNotMatched().getRemainingVerificationAttempts();
                System.out.printf("wrong code, attempts left: %d%n", left);
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
        if (!lock.hasUnlockTimestamp()) {
            return "the account is locked";
        }
        var until = Instant.ofEpochMilli(lock.getUnlockTimestamp().getEpochMillis()).truncatedTo(ChronoUnit.SECONDS);
        return "the account is locked until " + until;
    }

    /** What is wrong with a text that cannot be a code, such as an empty line. It is neither compared nor counted. */
    private static Optional<String> mistyped(StatusRuntimeException failed) {
        return detail(failed, BadRequest.class)
                .map(BadRequest::getFieldViolationsList)
                .filter(violations -> violations.size() == 1 && violations.get(0).getField().equals("otp"))
                .map(violations -> violations.get(0).getDescription());
    }

    /**
     * Tells why a call could not be decided. {@code ErrorInfo} has the reason that a program acts on, a name of
     * {@code Reason} in the contract without its prefix; the message is for people.
     */
    private static void explain(StatusRuntimeException failed) {
        tellCauses(failed);
        detail(failed, ErrorInfo.class).ifPresent(info ->
                System.err.printf("  reason %s (%s)%n", info.getReason(), info.getDomain()));
        detail(failed, BadRequest.class).ifPresent(request -> request.getFieldViolationsList().forEach(violation ->
                System.err.printf("  field %s: %s%n", violation.getField(), violation.getDescription())));
        detail(failed, RetryInfo.class).map(RetryInfo::getRetryDelay).ifPresent(delay ->
                System.err.printf("  try again in %.3fs, with the same request id%n",
                        delay.getSeconds() + delay.getNanos() / 1e9));
    }

    /** The detail of that type, which a status of otpd carries at most once. */
    private static <T extends Message> Optional<T> detail(StatusRuntimeException failed, Class<T> type) {
        var status = StatusProto.fromThrowable(failed);
        for (var detail : status == null ? List.<Any>of() : status.getDetailsList()) {
            if (detail.is(type)) {
                try {
                    return Optional.of(detail.unpack(type));
                } catch (InvalidProtocolBufferException undecodable) {
                    return Optional.empty();
                }
            }
        }
        return Optional.empty();
    }

    private static void tellCauses(Throwable error) {
        for (var cause = error; cause != null; cause = cause.getCause()) {
            // Where there was no connection, the description of a status shows the causes with their stacks.
            cause.toString().lines().filter(line -> !line.startsWith("\t")).forEach(System.err::println);
        }
    }

    private static String setting(String name, String otherwise) {
        return Optional.ofNullable(System.getenv(name)).filter(value -> !value.isEmpty()).orElse(otherwise);
    }
}
