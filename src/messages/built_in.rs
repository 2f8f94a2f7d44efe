//! The built-in text of a message, for operators without a template.

use std::time::Duration;

use crate::{
    domain::{time::whole_minutes, transaction::Transaction},
    secret::Secret,
};

/// The text. That of a transaction shows amount and payee, so that the person sees what the code agrees to (PSD2 RTS
/// 2018/389, Art. 5).
pub(super) fn text(code: &Secret<String>, code_life: Duration, transaction: Option<&Transaction>) -> Secret<String> {
    let code = code.expose();
    let minutes = whole_minutes(code_life);
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
    }

    #[test]
    fn no_more_time_is_promised_than_there_is() {
        let code = Secret::new("123456".to_owned());
        for (seconds, expected) in [(45, "1 minute."), (90, "1 minute."), (119, "1 minute."), (120, "2 minutes.")] {
            let text = text(&code, Duration::from_secs(seconds), None);
            assert_eq!(
                *text.expose(),
                format!("123456 is your verification code. It is valid for {expected} Do not share it.")
            );
        }
    }
}
