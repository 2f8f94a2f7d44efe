//! The built-in text of a message, for operators without a template.

use super::Content;
use crate::{
    domain::{code::spelled, destination::Channel, time::whole_minutes},
    secret::Secret,
};

/// The text. That of a transaction shows amount and payee, so that the person sees what the code agrees to (PSD2 RTS
/// 2018/389, Art. 5). A voice reads the code out one digit after the other.
pub(super) fn text(channel: Channel, content: &Content<'_>) -> Secret<String> {
    let plain = content.code.expose();
    let code = if channel == Channel::Voice { spelled(plain) } else { plain.clone() };
    let minutes = whole_minutes(content.code_life);
    let unit = if minutes == 1 { "minute" } else { "minutes" };
    Secret::new(match content.transaction {
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
    use std::time::Duration;

    use super::*;
    use crate::domain::transaction::{Amount, Transaction};

    fn shown(channel: Channel, seconds: u64, transaction: Option<&Transaction>) -> String {
        let code = Secret::new("123456".to_owned());
        text(channel, &Content { code: &code, code_life: Duration::from_secs(seconds), transaction }).expose().clone()
    }

    #[test]
    fn a_transaction_shows_amount_and_payee() {
        for (micros, currency, expected) in
            [(12_500_000, "EUR", "EUR 12.50"), (1_000_000_000, "JPY", "JPY 1000"), (1_500_000, "KWD", "KWD 1.500")]
        {
            let amount = Amount { micros, currency: currency.to_owned() };
            let transaction = Transaction { amount, payee: "Books & Co".to_owned(), reference: String::new() };
            assert_eq!(
                shown(Channel::Sms, 300, Some(&transaction)),
                format!(
                    "123456 is your code to pay {expected} to Books & Co. It is valid for 5 minutes. Do not share it."
                )
            );
        }
    }

    #[test]
    fn a_voice_reads_digits() {
        let spelled = "1, 2, 3, 4, 5, 6 is your verification code. It is valid for 5 minutes. Do not share it.";
        assert_eq!(shown(Channel::Voice, 300, None), spelled);
    }

    #[test]
    fn no_more_time_is_promised_than_there_is() {
        for (seconds, expected) in [(45, "1 minute."), (90, "1 minute."), (119, "1 minute."), (120, "2 minutes.")] {
            assert_eq!(
                shown(Channel::Email, seconds, None),
                format!("123456 is your verification code. It is valid for {expected} Do not share it.")
            );
        }
    }
}
