// Otpd-client proves that a person holds a phone number: it opens a challenge, has the code sent, and verifies what is
// typed until otpd says that it is right. It exits with 0 when it was, 1 when it was not, and 2 when a call could not be
// decided.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // reads healthCheckConfig of the service config
	"google.golang.org/grpc/status"

	otpv1 "example.com/otpd-client/generated/otp/v1"
)

//go:generate buf generate
//go:generate cp ../service-config.json generated/

// serviceConfig applies to every call: how long it may take, when it is repeated, and how calls are spread.
//
//go:embed generated/service-config.json
var serviceConfig string

func main() {
	switch err := run(context.Background()); {
	case errors.Is(err, errNotVerified):
		fmt.Println(err)
		os.Exit(1)
	case err != nil:
		explain(err)
		os.Exit(2)
	}
}

// errNotVerified is an outcome, not a failure: otpd has decided, and the person was not verified.
var errNotVerified = errors.New("not verified")

func notVerified(why string) error { return fmt.Errorf("%w: %s", errNotVerified, why) }

func run(ctx context.Context) error {
	connection, err := connect(setting("OTPD_ADDRESS", "127.0.0.1:50051"))
	if err != nil {
		return err
	}
	defer connection.Close()
	otp := otpv1.NewOtpServiceClient(connection)

	// The id of the request is the name of the challenge. A program that may be restarted stores it before the call: the
	// same id then finds the challenge that was opened, where a new one would send a second message.
	challenge := uuid.NewString()
	// The person's account, by an id that stays the same. Here a new one for each run: their wrong codes would lock it.
	account := "person-" + challenge[:8]
	if err := open(ctx, otp, challenge, account, setting("OTPD_PHONE_NUMBER", "+14155550100")); err != nil {
		return err
	}
	input := bufio.NewScanner(os.Stdin)
	for {
		fmt.Print("code: ")
		if !input.Scan() {
			if err := input.Err(); err != nil {
				return err
			}
			return notVerified("no more codes were typed")
		}
		if verified, err := verify(ctx, otp, challenge, account, input.Text()); verified || err != nil {
			return err
		}
	}
}

// connect prepares a connection, which is made with the first call. `dns:///otpd:50051` spreads calls over all addresses of
// a name.
func connect(address string) (*grpc.ClientConn, error) {
	options := []grpc.DialOption{
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
	}
	if authorities := os.Getenv("OTPD_CA_FILE"); authorities != "" {
		encrypted, err := credentials.NewClientTLSFromFile(authorities, "")
		if err != nil {
			return nil, fmt.Errorf("OTPD_CA_FILE (%s): %w", authorities, err)
		}
		options = append(options, grpc.WithTransportCredentials(encrypted))
	}
	if token := os.Getenv("OTPD_CALLER_TOKEN"); token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(token)))
	}
	return grpc.NewClient(address, options...)
}

// bearer is the token that otpd knows this caller by.
type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

// RequireTransportSecurity refuses to send the token where it could be read on the way.
func (bearer) RequireTransportSecurity() bool { return true }

// header begins every request. A repetition has the id of the call that it repeats: otpd neither sends nor counts twice. All
// repetitions by the service config are such, as they send the same message.
func header(requestID string) *otpv1.RequestHeader {
	return &otpv1.RequestHeader{
		ProtocolVersion:            &otpv1.ProtocolVersion{Major: 1},
		RequestId:                  requestID,
		RequestTimestamp:           &otpv1.EpochTimestamp{EpochMillis: time.Now().UnixMilli()},
		PaymentIntegratorAccountId: setting("OTPD_TENANT", "example"),
	}
}

// open opens the challenge and sends its first code in one call.
func open(ctx context.Context, otp otpv1.OtpServiceClient, challenge, account, phoneNumber string) error {
	response, err := otp.CreateChallenge(ctx, &otpv1.CreateChallengeRequest{
		RequestHeader: header(challenge),
		AccountId:     account,
		Purpose:       otpv1.Purpose_PURPOSE_LOGIN,
		Destinations: []*otpv1.Destination{{
			Channel:     otpv1.Channel_CHANNEL_SMS,
			Destination: &otpv1.Destination_PhoneNumber{PhoneNumber: phoneNumber},
		}},
		SendOtp: true,
	})
	if err != nil {
		return err
	}
	switch result := response.GetResult().GetResult().(type) {
	case *otpv1.CreateChallengeResult_Success:
		return sent(result.Success)
	case *otpv1.CreateChallengeResult_AccountLocked:
		return notVerified(locked(result.AccountLocked))
	case *otpv1.CreateChallengeResult_RiskDeclined:
		return notVerified("declined for now, try later")
	default: // A later otpd may decline for a reason that this program does not know.
		return notVerified("the challenge was declined")
	}
}

// sent tells what became of the message: the challenge is open even where none was sent.
func sent(opened *otpv1.CreateChallengeSuccess) error {
	switch result := opened.GetSendResult().GetResult().(type) {
	case *otpv1.SendOtpResult_Success:
		code := "a code"
		if length := result.Success.GetOtpLength(); length > 0 { // 0 where the provider makes the code and does not say.
			code = fmt.Sprintf("a code of %d characters", length)
		}
		to := "the contact on file"
		if options := opened.GetChallengeOptions(); len(options) > 0 && options[0].GetMaskedDestination() != "" {
			to = options[0].GetMaskedDestination()
		}
		fmt.Printf("%s was sent to %s\n", code, to)
		if result.Success.GetDeliveryState() == otpv1.DeliveryState_DELIVERY_STATE_UNCONFIRMED {
			fmt.Println("(the provider did not say whether it took the message)")
		}
		return nil
	case *otpv1.SendOtpResult_AccountLocked:
		return notVerified(locked(result.AccountLocked))
	case *otpv1.SendOtpResult_RiskDeclined:
		return notVerified("declined for now, try later")
	case *otpv1.SendOtpResult_DestinationRejected:
		return notVerified("the number takes no messages, choose another")
	default:
		return notVerified("no code was sent")
	}
}

// verify asks about one typed code. Each typed code is a request of its own, with an id of its own.
func verify(ctx context.Context, otp otpv1.OtpServiceClient, challenge, account, typed string) (bool, error) {
	response, err := otp.VerifyOtp(ctx, &otpv1.VerifyOtpRequest{
		RequestHeader:         header(uuid.NewString()),
		AuthenticateRequestId: challenge,
		Otp:                   typed,
		// otpd compares these with the challenge, and refuses a code of another account or purpose.
		AccountId: account,
		Purpose:   otpv1.Purpose_PURPOSE_LOGIN,
	})
	if why := mistyped(err); why != "" {
		fmt.Println("not a code:", why)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	switch result := response.GetResult().GetVerifyOtpResultCode().(type) {
	case *otpv1.VerifyOtpResultCode_Success:
		proven := response.GetVerified()
		if proven.GetAccountId() != account || proven.GetPurpose() != otpv1.Purpose_PURPOSE_LOGIN {
			return false, notVerified("otpd verified something else")
		}
		fmt.Printf("verified: %s by %s\n", proven.GetAccountId(), proven.GetMaskedDestination())
		return true, nil
	case *otpv1.VerifyOtpResultCode_OtpNotMatched:
		fmt.Printf("wrong code, attempts left: %d\n", result.OtpNotMatched.GetRemainingVerificationAttempts())
		return false, nil
	case *otpv1.VerifyOtpResultCode_OtpAlreadyUsed:
		return false, notVerified("another request has verified this challenge")
	case *otpv1.VerifyOtpResultCode_OtpExpired:
		return false, notVerified("the code has expired, send a new one")
	case *otpv1.VerifyOtpResultCode_VerificationAttemptsExceeded:
		return false, notVerified("too many codes were tried, open a new challenge")
	case *otpv1.VerifyOtpResultCode_AccountLocked:
		return false, notVerified(locked(result.AccountLocked))
	default:
		return false, notVerified("otpd did not accept the code")
	}
}

func locked(lock *otpv1.AccountLocked) string {
	if lock.GetUnlockTimestamp() == nil {
		return "the account is locked"
	}
	until := time.UnixMilli(lock.GetUnlockTimestamp().GetEpochMillis()).UTC()
	return "the account is locked until " + until.Format(time.RFC3339)
}

// mistyped tells what is wrong with a text that cannot be a code, such as an empty line. It is neither compared nor counted.
func mistyped(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if request, ok := detail.(*errdetails.BadRequest); ok {
			violations := request.GetFieldViolations()
			if len(violations) == 1 && violations[0].GetField() == "otp" {
				return violations[0].GetDescription()
			}
		}
	}
	return ""
}

// explain tells why a call could not be decided. ErrorInfo has the reason that a program acts on, a name of `Reason` in
// the contract without its prefix; the message is for people.
func explain(err error) {
	failed, ok := status.FromError(err)
	if !ok {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	fmt.Fprintf(os.Stderr, "%s: %s\n", failed.Code(), failed.Message())
	for _, detail := range failed.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			fmt.Fprintf(os.Stderr, "  reason %s (%s)\n", detail.GetReason(), detail.GetDomain())
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				fmt.Fprintf(os.Stderr, "  field %s: %s\n", violation.GetField(), violation.GetDescription())
			}
		case *errdetails.RetryInfo:
			fmt.Fprintf(os.Stderr, "  try again in %s, with the same request id\n", detail.GetRetryDelay().AsDuration())
		}
	}
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
