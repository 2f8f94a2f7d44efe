//! The words around a code of ours.

use std::time::Duration;

use super::transaction::Transaction;
use crate::secret::Secret;

/// How long a code is valid, as a person reads it: minutes that have begun, at least one.
pub fn minutes(code_life: Duration) -> u64 {
    code_life.as_secs().div_ceil(60).max(1)
}

/// The built-in text of a message. A transaction shows amount and payee, so that the person sees what the code agrees to (PSD2 RTS
/// 2018/389, Art. 5).
pub fn text(code: &Secret<String>, code_life: Duration, transaction: Option<&Transaction>) -> Secret<String> {
    let code = code.expose();
    let minutes = minutes(code_life);
    let unit = if minutes == 1 { "minute" } else { "minutes" };
    Secret::new(match transaction {
        Some(transaction) => format!(
            "{code} is your code to pay {} {} to {}. It is valid for {minutes} {unit}. Do not share it.",
            transaction.amount.currency,
            transaction.amount.decimal(),
            transaction.payee,
        ),
        None => format!("{code} is your verification code. It is valid for {minutes} {unit}. Do not share it."),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::transaction::Amount;

    #[test]
    fn a_transaction_shows_amount_and_payee() {
        let code = Secret::new("123456".to_owned());
        let amount = Amount { micros: 12_500_000, currency: "EUR".to_owned() };
        let transaction = Transaction { amount, payee: "Books & Co".to_owned(), reference: String::new() };
        let shown = text(&code, Duration::from_secs(300), Some(&transaction));
        assert_eq!(
            shown.expose(),
            "123456 is your code to pay EUR 12.50 to Books & Co. It is valid for 5 minutes. Do not share it."
        );
        let plain = text(&code, Duration::from_secs(61), None);
        assert_eq!(plain.expose(), "123456 is your verification code. It is valid for 2 minutes. Do not share it.");
    }
}
