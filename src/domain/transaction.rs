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
    /// The amount in units, with as many decimals as its currency has, such as `1.50`, `1000` yen or `1.500` dinars. An amount
    /// that is finer than its currency has as many as it needs, and two at least.
    pub fn decimal(&self) -> String {
        let (units, micros) = (self.micros / 1_000_000, self.micros % 1_000_000);
        let fraction = format!("{micros:06}");
        let needed = fraction.trim_end_matches('0');
        let of_currency = decimals(&self.currency);
        let width = if needed.len() > of_currency { needed.len().max(2) } else { of_currency };
        match width {
            0 => units.to_string(),
            width => format!("{units}.{needed:0<width$}"),
        }
    }
}

/// The decimals of a currency (ISO 4217, list one, as of 2026: `CcyMnrUnts` by `Ccy`); 2 for any other.
fn decimals(currency: &str) -> usize {
    match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI" | "VND"
        | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        "CLF" | "UYW" => 4,
        _ => 2,
    }
}

/// What a code is bound to (PSD2 RTS 2018/389, Art. 5: amount and payee).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    pub amount: Amount,
    /// Who is paid: 1 to 100 characters on one line, some of them visible, without marks of direction.
    pub payee: String,
    /// The caller's reference: at most 100 characters on one line, without marks of direction.
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
