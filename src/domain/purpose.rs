//! What a challenge proves.

use serde::{Deserialize, Serialize};

/// What a challenge proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Purpose {
    /// The person logs in to an account that exists. Failures belong to the account.
    Login,
    /// A new account or contact. Failures belong to the contact, so that a fresh account buys no guesses.
    Registration,
    /// The person agrees to a transaction. Failures belong to the account.
    Transaction,
}

impl Purpose {
    pub const ALL: [Self; 3] = [Self::Login, Self::Registration, Self::Transaction];

    /// The name in configuration and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Registration => "registration",
            Self::Transaction => "transaction",
        }
    }
}
