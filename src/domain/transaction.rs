//! What a person agrees to by typing a code.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An amount of money.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Millionths of the currency's unit, at least 1.
    pub micros: i64,
    /// ISO 4217, three capital letters.
    pub currency: String,
}

impl Amount {
    /// The amount in units with two decimals or as many as it needs, such as `1.50` or `0.000001`.
    pub fn decimal(&self) -> String {
        let (units, micros) = (self.micros / 1_000_000, self.micros % 1_000_000);
        let fraction = format!("{micros:06}");
        let cents = fraction.trim_end_matches('0');
        format!("{units}.{cents:0<2}")
    }
}

/// What a code is bound to (PSD2 RTS 2018/389, Art. 5: amount and payee).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    pub amount: Amount,
    /// Who is paid, 1 to 100 characters.
    pub payee: String,
    /// The caller's reference, at most 100 characters.
    pub reference: String,
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Amount(..)")
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction(..)")
    }
}
