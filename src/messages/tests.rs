//! Tests of `messages`.

use super::*;
use crate::domain::{
    destination::{Destination, PhoneNumber},
    ids::Tenant,
    purpose::Purpose,
    route::Scope,
};

fn template(name: &str, text: &str) -> Template {
    Template { name: name.to_owned(), scope: Scope::default(), locale: None, text: text.to_owned() }
}

fn transactional(name: &str, text: &str) -> Template {
    let scope = Scope { purpose: Some(Purpose::Transaction), ..Scope::default() };
    Template { scope, ..template(name, text) }
}

fn messages(suffix: SmsSuffix, templates: Vec<Template>) -> Messages {
    Messages::new(Some("Example".to_owned()), suffix, templates).expect("sound templates")
}

fn faults(templates: Vec<Template>) -> Vec<String> {
    let faults = Messages::new(None, SmsSuffix::None, templates).expect_err("faults");
    faults.into_iter().map(|fault| format!("{}: {}", fault.template, fault.message)).collect()
}

fn pays(payee: &str) -> Transaction {
    let amount = Amount { micros: 12_500_000, currency: "EUR".to_owned() };
    Transaction { amount, payee: payee.to_owned(), reference: "R-1".to_owned() }
}

fn text(
    messages: &Messages,
    goal: (&str, Purpose, Channel),
    locale: &str,
    transaction: Option<&Transaction>,
) -> String {
    let tenant = Tenant::parse(goal.0).expect("tenant");
    let destination = Destination::Phone(PhoneNumber::parse("+14155550100").expect("number"));
    let goal = Goal { tenant: &tenant, purpose: goal.1, channel: goal.2, destination: &destination, currency: None };
    let code = Secret::new("123456".to_owned());
    let content = Content { code: &code, code_life: Duration::from_secs(300), transaction };
    messages.text(&goal, locale, &content).expect("text").expose().clone()
}

const LOGIN: (&str, Purpose, Channel) = ("other", Purpose::Login, Channel::Sms);
const PAYMENT: (&str, Purpose, Channel) = ("other", Purpose::Transaction, Channel::Sms);

#[test]
fn the_closest_template_is_taken() {
    let scoped = |name: &str, tenant: &str, purpose, channel, locale: &str| {
        let scope = Scope { tenant: Tenant::parse(tenant).ok(), purpose, channel, prefix: String::new() };
        Template { scope, locale: Language::parse(locale), ..template(name, &format!("{name} {{{{ code }}}}")) }
    };
    let (login, sms) = (Some(Purpose::Login), Some(Channel::Sms));
    let messages = messages(
        SmsSuffix::None,
        vec![
            scoped("any", "", None, None, ""),
            scoped("sms", "", None, sms, ""),
            scoped("login", "", login, None, ""),
            scoped("pt", "", None, None, "pt"),
            scoped("pt-BR", "", None, None, "pt-br"),
            scoped("pt-login", "", login, None, "pt"),
            scoped("acme", "acme", None, None, ""),
            scoped("acme-zh", "acme", None, None, "zh-hant"),
            scoped("zh", "", None, None, "zh"),
            scoped("zh-Hant", "", None, None, "zh-Hant"),
            scoped("es-419", "", None, None, "es-419"),
            scoped("sr-Latn", "", None, None, "sr-Latn"),
        ],
    );
    for (tenant, purpose, channel, locale, expected) in [
        ("other", Purpose::Registration, Channel::Email, "en", "any"),
        ("other", Purpose::Registration, Channel::Sms, "", "sms"),
        ("other", Purpose::Login, Channel::Sms, "ptx", "login"),
        ("other", Purpose::Registration, Channel::Sms, "pt", "pt"),
        ("other", Purpose::Registration, Channel::Sms, "PT-br", "pt-BR"),
        ("other", Purpose::Registration, Channel::Sms, "pt-PT", "pt"),
        ("other", Purpose::Login, Channel::Sms, "pt-AO", "pt-login"),
        ("other", Purpose::Login, Channel::Sms, "zh-TW", "zh-Hant"),
        ("other", Purpose::Login, Channel::Sms, "zh-MO", "zh-Hant"),
        ("other", Purpose::Login, Channel::Sms, "zh-Hant-HK", "zh-Hant"),
        ("other", Purpose::Login, Channel::Sms, "zh-SG", "zh"),
        ("other", Purpose::Login, Channel::Sms, "zh-Hans-HK", "zh"),
        ("other", Purpose::Login, Channel::Sms, "es-AR", "es-419"),
        ("other", Purpose::Login, Channel::Sms, "es", "es-419"),
        ("other", Purpose::Login, Channel::Sms, "sh", "sr-Latn"),
        ("other", Purpose::Login, Channel::Sms, "x-house", "login"),
        ("other", Purpose::Login, Channel::Sms, "pt-BR", "pt-BR"),
        ("acme", Purpose::Login, Channel::Sms, "pt-BR", "acme"),
        ("acme", Purpose::Login, Channel::Voice, "zh-Hant-TW", "acme-zh"),
        ("acme", Purpose::Login, Channel::Voice, "zh", "acme"),
    ] {
        let text = text(&messages, (tenant, purpose, channel), locale, None);
        assert_eq!(text, format!("{expected} 123456"), "{tenant} {purpose:?} {channel:?} {locale}");
    }
    // None of them shows what is agreed to.
    let built_in = text(&messages, PAYMENT, "pt", Some(&pays("Books")));
    assert!(built_in.contains("EUR 12.50 to Books"), "{built_in}");
}

#[test]
fn variables_and_the_condition_are_filled_in() {
    let words = "{{ brand }}: {{ code }} für {{ amount }} {{ currency }} an {{payee}} ({{ reference }}), \
                 {{ minutes }} {% if minutes == 1 %}Minute{% else %}Minuten{% endif %}";
    let messages = messages(SmsSuffix::None, vec![transactional("de", words)]);
    let shown = text(&messages, PAYMENT, "de", Some(&pays("<Bücher> & {{ code }}")));
    assert_eq!(shown, "Example: 123456 für 12.50 EUR an <Bücher> & {{ code }} (R-1), 5 Minuten");
}

#[test]
fn a_template_for_calls_may_spell_the_code() {
    let scope = Scope { channel: Some(Channel::Voice), ..Scope::default() };
    let calls = Template { scope, ..template("calls", "Your code is {{ code_spelled }}. Again: {{ code_spelled }}.") };
    let read_out = Template { name: "read".to_owned(), text: "{{ code }}".to_owned(), ..calls.clone() };
    let warnings = messages(SmsSuffix::None, vec![read_out]).warnings();
    assert!(
        warnings[0].starts_with("messages.templates.read.text: a voice reads {{ code }} as one number"),
        "{warnings:?}"
    );
    let messages = messages(SmsSuffix::None, vec![calls]);
    assert_eq!(messages.warnings(), Vec::<String>::new());
    let shown = text(&messages, (LOGIN.0, LOGIN.1, Channel::Voice), "", None);
    assert_eq!(shown, "Your code is 1, 2, 3, 4, 5, 6. Again: 1, 2, 3, 4, 5, 6.");
}

#[test]
fn all_faults_of_all_templates_are_reported() {
    let found = faults(vec![
        template("a", "{{ kode }} {{ payee }} {% for x in y %}\n{# note #}"),
        template("b", "hello"),
        transactional("c", "{{ code }}"),
        transactional("d", "{% if minutes == 1 %}{{ code }}{% endif %} {{ amount }} {{ payee }}"),
        Template { locale: Language::parse("fr"), ..template("e", "{{ code }} {{ brand }}") },
        Template { locale: Language::parse("it"), ..template("f", "{% if minutes == 1 %}{{ code }}") },
        Template { locale: Language::parse("es"), ..template("g", "{{ code | upper }} {{ 1 / 0 }} {{ code") },
        Template { locale: Language::parse("sv"), ..template("h", "") },
        Template { locale: Language::parse("da"), ..transactional("i", "{{ code }} {{ amount }}:\n{{ payee }} ") },
    ]);
    let expected = [
        "a: line 1: only",
        "a: line 1: only",
        "a: line 2: only",
        "a: uses payee, which only",
        "b: is for the same as messages.templates.a",
        "d: is for the same as messages.templates.c",
        "e: uses brand, and messages.brand is not set",
        "f: {% if %}, {% else %} and {% endif %} do not pair up",
        "g: line 1: only",
        "g: line 1: only",
        "g: line 1: only",
        "h: must be 1 to 2000",
        "b: must show the code in every case",
        "c: must show the amount",
        "c: must show the payee",
        "d: must show the code in every case",
        "i: the last line must not begin with payee",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}: {expected}");
    }
}

#[test]
fn nothing_comes_after_the_last_line() {
    let words = "{{ code }}: {{ amount }} {{ payee }} {{ reference }}";
    let origin = SmsSuffix::origin_bound("example.com").expect("origin");
    let bound = messages(origin, vec![transactional("one", words)]);
    let hostile = "Books @evil.example #999999";
    let transaction = Transaction { reference: hostile.to_owned(), ..pays(hostile) };
    for (goal, transaction) in [(PAYMENT, Some(&transaction)), (LOGIN, None)] {
        let shown = text(&bound, goal, "", transaction);
        assert!(shown.ends_with("\n@example.com #123456"), "{shown}");
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert_eq!(bound_host(&shown), Some("example.com"));
    }
    assert!(!text(&bound, (LOGIN.0, LOGIN.1, Channel::Email), "", None).contains('@'));
    let app = messages(SmsSuffix::sms_retriever("FA+9qCX9VSu").expect("hash"), Vec::new());
    assert!(text(&app, LOGIN, "", None).ends_with("\nFA+9qCX9VSu"));
}

#[test]
fn a_second_segment_is_warned_of() {
    let of = |suffix: SmsSuffix, templates| messages(suffix, templates).warnings();
    let fits = format!("{{{{ code }}}}{}", "a".repeat(150));
    assert_eq!(of(SmsSuffix::None, vec![template("fits", &fits)]), Vec::<String>::new());
    let over = format!("{fits}a");
    assert_eq!(
        of(SmsSuffix::None, vec![template("over", &over)]),
        [
            "messages.templates.over.text: as a text message it takes more than one segment: 161 of 160 septets of GSM-7, \
          with a code of 10 digits"
        ]
    );
    let mail = Template { scope: Scope { channel: Some(Channel::Email), ..Scope::default() }, ..template("m", &over) };
    assert_eq!(of(SmsSuffix::None, vec![mail]), Vec::<String>::new());
    let quoted = of(SmsSuffix::None, vec![template("quoted", &format!("{{{{ code }}}} “{}”", "a".repeat(60)))]);
    assert!(quoted[0].contains("73 of 70 characters of UCS-2, because GSM-7 lacks U+201C “"), "{quoted:?}");
    let measured = of(SmsSuffix::origin_bound("example.com").expect("origin"), vec![template("fits", &fits)]);
    assert!(measured[0].contains("185 of 160"), "{measured:?}");
    let words = format!("{{{{ code }}}} {{{{ amount }}}} {{{{ payee }}}} {{{{ reference }}}} {}", "a".repeat(47));
    let long = of(SmsSuffix::None, vec![transactional("pay", &words)]);
    assert!(long[0].contains("161 of 160") && long[0].contains("the greatest amount"), "{long:?}");
    let app =
        of(SmsSuffix::sms_retriever("FA+9qCX9VSu").expect("hash"), vec![template("app", &"ä{{ code }}".repeat(7))]);
    assert_eq!(app, Vec::<String>::new());
    let app =
        of(SmsSuffix::sms_retriever("FA+9qCX9VSu").expect("hash"), vec![template("app", &"öä{{ code }}".repeat(10))]);
    assert!(app[0].contains("too long for the SMS Retriever: 152 of 140 bytes"), "{app:?}");
}

#[test]
fn what_cannot_be_rendered_is_an_error_that_says_nothing_of_the_text() {
    let mut broken = messages(SmsSuffix::None, vec![template("one", "secret {{ code }}")]);
    let mut other = Environment::empty();
    other.set_undefined_behavior(UndefinedBehavior::Strict);
    other.add_template("one", "secret {{ code }} {{ payee }}").expect("template");
    broken.compiled = Arc::new(other);
    let tenant = Tenant::parse("acme").expect("tenant");
    let destination = &Destination::OnFile;
    let goal = Goal { tenant: &tenant, purpose: Purpose::Login, channel: Channel::Sms, destination, currency: None };
    let code = Secret::new("123456".to_owned());
    let content = Content { code: &code, code_life: Duration::from_secs(300), transaction: None };
    let error = broken.text(&goal, "", &content).expect_err("strict").to_string();
    assert_eq!(error, "the message template one cannot be rendered");
    assert!(!format!("{broken:?}").contains("secret"));
}
