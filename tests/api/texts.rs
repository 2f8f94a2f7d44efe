//! What people write and read: spellings of numbers, mailboxes and codes; payees and amounts; languages.

use otpd::grpc::proto::{
    Amount, Channel, CreateChallengeRequest, Destination, Purpose, SendOtpRequest, Transaction, UnlockAccountRequest,
};
use serde_json::json;
use tonic::Code;

use crate::{
    caller::{Caller, SMS, email, login, payment, send, sms, unlock, verify, wrong},
    site::Site,
    upstream::{Upstream, blamed, body, code, ok, only, to},
    words::{created, sent, verified},
};

/// The old and the new number of a phone in Benin, and two spellings of a mailbox.
fn twins() -> [[Destination; 2]; 3] {
    [
        [sms("+22940123456", SMS), sms("+2290140123456", SMS)],
        [sms("+841691234567", SMS), sms("+84391234567", SMS)],
        [email("\"j\\ane\"@Example.com", SMS), email("jane@example.com", SMS)],
    ]
}

fn registration(id: &str, destinations: Vec<Destination>) -> CreateChallengeRequest {
    CreateChallengeRequest { purpose: Purpose::Registration.into(), destinations, ..login(id, id, "") }
}

#[tokio::test]
async fn spelling_makes_no_second_contact() {
    let policy = "[policy]\nresend_gaps = []\n[policy.lock]\nfirst_after = 2\n[policy.quotas]\ndestination_sends = [\"2 per 1h\"]\n";
    let server = Site::embedded().configured(policy).start();
    let caller = Caller::of(&server).await;
    for (index, [old, new]) in twins().into_iter().enumerate() {
        let id = |name: &str| format!("{name}-{index}");
        let both = vec![old.clone(), Destination { challenge_option_id: "other".into(), ..new.clone() }];
        let refused = caller.create(registration(&id("both"), both)).await.unwrap_err();
        assert_eq!((refused.code(), blamed(&refused)), (Code::InvalidArgument, vec!["destinations[1]".to_owned()]));

        assert_eq!(created(&caller.create(registration(&id("a"), vec![old.clone()])).await), "success");
        let told = [caller.send(send("s1", &id("a"))).await, caller.send(send("s2", &id("a"))).await];
        assert_eq!(told.map(|told| sent(&told)), ["success", "success"]);
        assert_eq!(created(&caller.create(to(new.clone(), login(&id("b"), &id("b"), ""))).await), "success");
        assert_eq!(sent(&caller.send(send("s", &id("b"))).await), "risk_declined", "the quota is one");

        for guess in ["v1", "v2"] {
            assert_eq!(verified(&caller.verify(verify(guess, &id("a"), "000000000")).await), "otp_not_matched");
        }
        assert_eq!(created(&caller.create(registration(&id("c"), vec![new.clone()])).await), "account_locked");
    }
    // An operator may name either number.
    assert_eq!(caller.number("+2290140123456").await.unwrap().locked, Some(true));
    let lifted = UnlockAccountRequest { phone_number: "+2290140123456".into(), ..unlock("lift", "") };
    caller.unlock(lifted).await.unwrap();
    assert_eq!(caller.number("+22940123456").await.unwrap().locked, Some(false));
}

#[tokio::test]
async fn a_registration_may_name_both_numbers_of_its_phone() {
    let server = Site::embedded().start();
    let caller = Caller::of(&server).await;
    let call = Destination { channel: Channel::Voice.into(), ..sms("+2290140123456", "call") };
    assert_eq!(created(&caller.create(registration("c", vec![sms("+22940123456", SMS), call])).await), "success");
}

/// Goal: a code is taken as it was meant, however it was typed. Method: one challenge for each way; its repetition in ASCII under
/// the same id is the same request.
#[tokio::test]
async fn a_code_is_taken_as_it_was_meant() {
    let site = Site::embedded();
    let server = site.start();
    let caller = Caller::of(&server).await;
    let in_script = |code: &str, zero: u32| -> String {
        code.chars().filter_map(|c| char::from_u32(zero + c.to_digit(10)?)).collect()
    };
    let ways: [fn(&str, &str) -> String; 6] = [
        |a, b| format!("{a} {b}"),
        |a, b| format!("\u{200e}{a}-{b}\u{202c}"),
        |a, b| format!("{a}\u{2212}{b}\u{a0}\n"),
        |a, b| format!("{a}\u{2011}\u{200b}{b}\u{feff}"),
        |a, b| (a.to_owned() + b).chars().flat_map(|c| [c, '\u{fe0f}', '\u{20e3}']).collect(),
        |a, b| format!("\u{2800}{a}\u{3164}{b}"),
    ];
    let scripts = [0x660, 0x6f0, 0x966, 0x9e6, 0xe50, 0xff10, 0x1d7d8];
    for index in 0..ways.len() + scripts.len() {
        let (challenge, number) = (format!("c{index}"), format!("+141555502{index:02}"));
        caller.sent(&challenge, &challenge, &number).await;
        let code = site.code(&number);
        let (a, b) = code.split_at(3);
        let typed = match ways.get(index) {
            Some(way) => way(a, b),
            None => in_script(&code, scripts[index - ways.len()]),
        };
        assert_eq!(verified(&caller.verify(verify("v1", &challenge, &wrong(&code, 1))).await), "otp_not_matched");
        for typed in [&typed, &code] {
            assert_eq!(verified(&caller.verify(verify("v2", &challenge, typed)).await), "success", "{typed:?}");
        }
    }
}

/// Goal: the person, the provider and the caller see one payee and one amount.
#[tokio::test]
async fn a_payee_is_clean_and_an_amount_as_banks_write_it_everywhere() {
    let upstream = Upstream::start().await;
    upstream.otherwise(ok(&json!({})));
    let settings = format!(
        "routes = [\"gw\"]\n[policy]\ncode_life = \"90s\"\n[providers.gw]\nkind = \"http-json\"\nbase_url = \"{}\"\npath = \"/m\"\n\
         json = '{{\"code\":\"{{{{code}}}}\",\"payee\":\"{{{{payee}}}}\",\"amount\":\"{{{{amount}}}}\",\"minutes\":\"{{{{minutes}}}}\",\"text\":\"{{{{text}}}}\"}}'\n",
        upstream.url()
    );
    let server = Site::embedded().configured(&settings).start();
    let caller = Caller::of(&server).await;
    for (index, (micros, currency, amount)) in [
        (1_000_000_000, "JPY", "1000"),
        (1_000_500_000, "JPY", "1000.50"),
        (1_500_000, "KWD", "1.500"),
        (12_500_000, "EUR", "12.50"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("c{index}");
        let asked = Transaction {
            amount: Some(Amount { amount_micros: micros, currency_code: currency.into() }),
            payee: "a\u{202e}b\u{2028}c".into(),
            reference: "R\u{2066}1\r\n2".into(),
        };
        let request = CreateChallengeRequest {
            purpose: Purpose::Transaction.into(),
            transaction: Some(asked.clone()),
            ..login(&id, &id, &format!("+1415555030{index}"))
        };
        assert_eq!(created(&caller.create(request).await), "success");
        assert_eq!(sent(&caller.send(SendOtpRequest { ..send("s", &id) }).await), "success");
        let request = only(&upstream);
        let code = code(&request);
        let text = format!(
            "{code} is your code to pay {currency} {amount} to ab c. It is valid for 1 minute. Do not share it."
        );
        let expected = json!({"code": code, "payee": "ab c", "amount": amount, "minutes": "1", "text": text});
        assert_eq!(body(&request), expected);

        let other = Transaction { payee: "ab d".into(), ..asked.clone() };
        let mut check = verify("v1", &id, &code);
        check.transaction = Some(other);
        assert_eq!(caller.verify(check.clone()).await.unwrap_err().code(), Code::NotFound);
        // As it was given, or as it is seen: the two are one.
        check.transaction = Some(asked.clone());
        let told = caller.verify(check.clone()).await;
        assert_eq!(verified(&told), "success");
        let proven = told.unwrap().verified.unwrap().transaction.unwrap();
        assert_eq!((proven.payee.as_str(), proven.reference.as_str()), ("ab c", "R1  2"));
        check.transaction = Some(proven);
        assert_eq!(verified(&caller.verify(check).await), "success");
    }
}

#[tokio::test]
async fn a_reader_gets_the_nearest_language() {
    let templates =
        [("zh", "简体"), ("zh-Hant", "繁體"), ("pt-PT", "pt"), ("es-419", "es"), ("sr-Latn", "sr"), ("nb", "nb")];
    let mut settings = "[messages.templates.any]\ntext = \"any {{ code }}\"\n".to_owned();
    settings += "[messages.templates.calls]\nchannel = \"voice\"\ntext = \"call {{ code_spelled }}\"\n";
    settings.extend(templates.map(|(locale, word)| {
        format!("[messages.templates.{locale}]\nlocale = \"{locale}\"\ntext = \"{word} {{{{ code }}}}\"\n")
    }));
    let site = Site::embedded().configured(&settings);
    let server = site.start();
    let caller = Caller::of(&server).await;
    for (index, (locale, word)) in [
        ("", "any"),
        ("fr", "any"),
        ("zh-TW", "繁體"),
        ("zh-Hant-HK", "繁體"),
        ("zh-MO", "繁體"),
        ("zh-CN", "简体"),
        ("zh-SG", "简体"),
        ("zh-Hans-HK", "简体"),
        ("pt-AO", "pt"),
        ("es-AR", "es"),
        ("sh", "sr"),
        ("no-NO", "nb"),
    ]
    .into_iter()
    .enumerate()
    {
        let (id, number) = (format!("c{index}"), format!("+141555504{index:02}"));
        let request = CreateChallengeRequest { locale: locale.into(), ..login(&id, &id, &number) };
        assert_eq!(created(&caller.create(request).await), "success");
        assert_eq!(sent(&caller.send(send("s", &id)).await), "success");
        let message = site.messages().pop().unwrap();
        assert_eq!(message.text, format!("{word} {}", message.code), "{locale}");
    }
    let call = Destination { channel: Channel::Voice.into(), ..sms("+14155550450", SMS) };
    assert_eq!(created(&caller.create(to(call, login("call", "call", ""))).await), "success");
    assert_eq!(sent(&caller.send(send("s", "call")).await), "success");
    let message = site.messages().pop().unwrap();
    let spelled: Vec<String> = message.code.chars().map(String::from).collect();
    assert_eq!(message.text, format!("call {}", spelled.join(", ")));
    for wrong in ["pt_BR", "en-", "x", "e"] {
        let request = CreateChallengeRequest { locale: wrong.into(), ..login("wrong", "a", "+14155550460") };
        assert_eq!(blamed(&caller.create(request).await.unwrap_err()), ["locale"], "{wrong}");
    }
}

#[tokio::test]
async fn a_payee_that_nobody_can_see_is_refused() {
    let server = Site::embedded().start();
    let caller = Caller::of(&server).await;
    for payee in
        [" ", "\u{a0}", "\u{200b}", "\u{202e}", "\u{2028}", "\u{2800}", "\u{3164}", "\u{ffa0}", "\u{e0041}", "\u{301}"]
    {
        let request = CreateChallengeRequest {
            purpose: Purpose::Transaction.into(),
            transaction: payment(12_500_000, payee),
            ..login("c", "a", "+14155550470")
        };
        let refused = caller.create(request).await.unwrap_err();
        assert_eq!((refused.code(), blamed(&refused)), (Code::InvalidArgument, vec!["transaction.payee".to_owned()]));
    }
}

#[tokio::test]
async fn a_sandbox_knows_its_destinations_by_every_spelling() {
    let sandbox = "[sandbox]\ncode = \"424242\"\ndestinations = [\"+22940123456\", \"Jane@example.com\"]\n";
    let site = Site::embedded().configured(sandbox);
    let server = site.start();
    let caller = Caller::of(&server).await;
    let spellings = [sms("+2290140123456", SMS), sms("+22940123456", SMS), email("\"jane\"@EXAMPLE.com", SMS)];
    for (index, destination) in spellings.into_iter().enumerate() {
        let id = format!("c{index}");
        assert_eq!(created(&caller.create(to(destination, login(&id, &id, ""))).await), "success");
        assert_eq!(sent(&caller.send(send("s", &id)).await), "success");
        assert_eq!(verified(&caller.verify(verify("v", &id, "424242")).await), "success");
    }
    assert!(site.messages().is_empty());
}
