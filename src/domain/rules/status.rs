//! The status of a challenge, and what it means for each call: the table of the rules.

use crate::domain::{
    challenge::{Challenge, Ended, Phase},
    outcome::{ChallengeState, Sent, Verified},
    time::Timestamp,
};

/// What VerifyOtp answers where no code is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyRefusal {
    Answer(Verified),
    NothingSent,
}

/// What CancelChallenge answers where nothing is left to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelRefusal {
    Verified,
    Done,
}

/// The status of a challenge at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Verified,
    Cancelled,
    Expired,
    /// Out of attempts, while the last code would still be in time.
    Exhausted,
    /// Out of attempts, and the last code past its time.
    ExhaustedExpired,
    /// Open, and nothing has been sent.
    Unsent,
    /// Open, and the code is past its time.
    CodeExpired,
    /// Open, with a code that is compared.
    Live,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Verified,
        Self::Cancelled,
        Self::Expired,
        Self::Exhausted,
        Self::ExhaustedExpired,
        Self::Unsent,
        Self::CodeExpired,
        Self::Live,
    ];

    /// The status of a challenge at a time.
    pub fn of(challenge: &Challenge, time: Timestamp) -> Self {
        match &challenge.phase {
            Phase::Ended(Ended::Verified) => Self::Verified,
            Phase::Ended(Ended::Cancelled) => Self::Cancelled,
            Phase::Ended(Ended::Expired) => Self::Expired,
            Phase::Ended(Ended::Exhausted { code_expires_at }) if time < *code_expires_at => Self::Exhausted,
            Phase::Ended(Ended::Exhausted { .. }) => Self::ExhaustedExpired,
            Phase::Open(_) if time >= challenge.expires_at() => Self::Expired,
            Phase::Open(open) => match &open.code {
                None => Self::Unsent,
                Some(code) if time >= code.expires_at => Self::CodeExpired,
                Some(_) => Self::Live,
            },
        }
    }

    /// What SendOtp answers; `None`: it goes on.
    pub fn refuses_send(self) -> Option<Sent> {
        match self {
            Self::Verified | Self::Cancelled | Self::Expired | Self::Exhausted | Self::ExhaustedExpired => {
                Some(Sent::ChallengeOptionExpired)
            }
            Self::Unsent | Self::CodeExpired | Self::Live => None,
        }
    }

    /// What VerifyOtp answers; `None`: the code is compared, or its provider asked.
    pub fn refuses_verify(self) -> Option<VerifyRefusal> {
        match self {
            Self::Verified => Some(VerifyRefusal::Answer(Verified::AlreadyUsed)),
            Self::Cancelled | Self::Expired | Self::ExhaustedExpired | Self::CodeExpired => {
                Some(VerifyRefusal::Answer(Verified::Expired))
            }
            Self::Exhausted => Some(VerifyRefusal::Answer(Verified::AttemptsExceeded)),
            Self::Unsent => Some(VerifyRefusal::NothingSent),
            Self::Live => None,
        }
    }

    /// What CancelChallenge answers; `None`: the challenge is cancelled.
    pub fn refuses_cancel(self) -> Option<CancelRefusal> {
        match self {
            Self::Verified => Some(CancelRefusal::Verified),
            Self::Cancelled | Self::Expired | Self::Exhausted | Self::ExhaustedExpired => Some(CancelRefusal::Done),
            Self::Unsent | Self::CodeExpired | Self::Live => None,
        }
    }

    pub fn shown(self) -> ChallengeState {
        match self {
            Self::Verified => ChallengeState::Verified,
            Self::Cancelled => ChallengeState::Cancelled,
            Self::Expired => ChallengeState::Expired,
            Self::Exhausted | Self::ExhaustedExpired => ChallengeState::AttemptsExceeded,
            Self::Unsent => ChallengeState::Created,
            Self::CodeExpired | Self::Live => ChallengeState::Sent,
        }
    }
}
