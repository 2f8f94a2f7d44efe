//! `Debug` of the messages that must not be printed: their names, nothing of what they hold.
//!
//! The list is the one in `build.rs`. A message that is there and not here does not compile where it is nested in a
//! printable one; a message that is here and not there has two `Debug`s and does not compile at all.

use std::fmt;

use super::proto;

macro_rules! redacted {
    ($($message:ty),+ $(,)?) => {
        $(impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), "(..)"))
            }
        })+
    };
}

redacted!(
    proto::RequestHeader,
    proto::Amount,
    proto::Transaction,
    proto::Destination,
    proto::destination::Destination,
    proto::ClientContext,
    proto::ChallengeOption,
    proto::CreateChallengeRequest,
    proto::SendOtpRequest,
    proto::SendOtpSuccess,
    proto::VerifyOtpRequest,
    proto::Verified,
    proto::VerifyOtpResponse,
    proto::CancelChallengeRequest,
    proto::GetChallengeRequest,
    proto::GetChallengeResponse,
    proto::GetAccountRequest,
    proto::LockAccountRequest,
    proto::UnlockAccountRequest,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_typed_or_holds_is_not_printed() {
        let parameters = [("pan".to_owned(), "4111111111111111".to_owned())];
        let verify = proto::VerifyOtpRequest {
            otp: "493021".to_owned(),
            account_id: "jane".to_owned(),
            provider_parameters: parameters.into(),
            ..Default::default()
        };
        let destination = proto::destination::Destination::PhoneNumber("+14155550100".to_owned());
        let option = proto::ChallengeOption { masked_destination: "+14*******00".to_owned(), ..Default::default() };
        let success = proto::CreateChallengeSuccess { challenge_options: vec![option], ..Default::default() };
        let printed = format!("{verify:?} {destination:?} {success:#?} {:?}", tonic::Request::new(verify.clone()));
        for secret in ["493021", "jane", "4111", "415", "+14"] {
            assert!(!printed.contains(secret), "{printed}");
        }
        assert!(printed.contains("VerifyOtpRequest(..)"), "{printed}");
    }
}
