//! Configuration as an operator meets it: what is right, and how what is wrong is reported.

mod callers;
mod service_config;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use otpd::{
    config::{Config, Keys, Listen, LogFormat, Profile, Source},
    providers::KINDS,
};

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let source = Source { file: Some(("otpd.toml".to_owned(), file.to_owned())), environment };
    Config::load(&source).map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn refuses(file: &str, expected: &str) {
    assert_eq!(load(file, &[]).err(), Some(vec![expected.to_owned()]), "{file}");
}

const KEY: (&str, &str) = ("OTPD_MASTER_KEYS", "1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");

#[test]
fn nothing_configured_is_a_development_server_on_loopback() {
    let config = Config::load(&Source::default()).unwrap();
    assert_eq!(config.profile, Profile::Development);
    assert_eq!(config.server.listen, Listen::Address(SocketAddr::from(([127, 0, 0, 1], 50051))));
    assert_eq!(config.operations.listen, SocketAddr::from(([127, 0, 0, 1], 9464)));
    assert_eq!(config.server.request_timeout, Duration::from_secs(10));
    assert_eq!(
        (config.server.drain_delay, config.server.drain_timeout),
        (Duration::from_secs(3), Duration::from_secs(15))
    );
    assert_eq!(config.store.url.expose(), "embedded:./otpd-data");
    assert_eq!(config.keys, Keys::Generated);
    assert_eq!(config.providers.routes, ["console"]);
    assert_eq!(config.providers.by_name["console"].kind(), "console");
    assert!(!config.store.require_noeviction && !config.store.accept_loss);
    assert!(config.tenants.others.is_some());
    assert_eq!(config.warnings().len(), 3);
}

#[test]
fn each_wrong_value_is_reported_with_its_path() {
    for (file, expected) in [
        ("profile = \"staging\"", "profile: must be development or production"),
        (
            "[server]\nlisten = \"localhost:1\"",
            "server.listen: must be an IP address and a port, such as 127.0.0.1:50051, or unix: and a path",
        ),
        ("[server]\nmax_in_flight = 0", "server.max_in_flight: must be 1 to 1000000"),
        ("[server]\nmax_in_flight = \"9\"", "server.max_in_flight: must be a whole number, 1 to 1000000"),
        (
            "[server]\nrequest_timeout = \"2m\"",
            "server.request_timeout: must be a span of time with its unit, such as \"30s\", 1s to 1m",
        ),
        ("[server]\nrequest_timeout = 10", "server.request_timeout: must be a text in quotes"),
        ("[server]\nreflection = \"yes\"", "server.reflection: must be true or false"),
        ("server = 1", "server: must be a section: [server]"),
        ("[keys]\nfile = 1", "keys.file: must be a text in quotes"),
        ("[log]\nformat = \"xml\"", "log.format: must be text or json"),
        ("[log]\nfilter = \"otpd=loud\"", "log.filter: must be a level or directives, such as info or info,otpd=debug"),
        ("[policy]\ncode_digits = 4", "policy.code_digits: must be 6 to 10 (set force.weak_policy to allow 4 and 5)"),
        (
            "[policy]\nchallenge_life = \"11m\"",
            "policy.challenge_life: must be a span of time with its unit, such as \"30s\", 30s to 10m \
             (set force.weak_policy to allow more)",
        ),
        ("[policy]\nmax_verification_attempts = 21", "policy.max_verification_attempts: must be 1 to 20"),
        ("[policy]\non_resend = \"again\"", "policy.on_resend: must be rotate or repeat"),
        (
            "[policy]\nresend_gaps = [\"1s\", \"2h\"]",
            "policy.resend_gaps: item 2: must be a span of time with its unit, such as \"30s\", 0s to 1h",
        ),
        ("[policy.lock]\nspans = []", "policy.lock.spans: must hold 1 to 10, not 0"),
        (
            "[policy.quotas]\ntenant_sends = [\"0 per 1h\"]",
            "policy.quotas.tenant_sends: item 1: must be like \"5 per 1h\": 1 to 10000 per 1s to 31d",
        ),
        (
            "[policy.quotas]\ntenant_sends = \"1 per 1h\"",
            "policy.quotas.tenant_sends: must be a list of texts, such as [\"…\", \"…\"]",
        ),
        ("[tenants.\"a b\"]", "tenants.a b: a tenant's name must be 1 to 100 of [a-zA-Z0-9:_-]"),
        (
            "[tenants.acme.policy.purposes.login.lock]\nfirst_after = 5",
            "tenants.acme.policy.purposes.login.lock.first_after: cannot differ by purpose: failures are counted over all \
             purposes together",
        ),
        (
            "[policy.purposes.login.quotas]\naccount_sends = []",
            "policy.purposes.login.quotas.account_sends: cannot differ by purpose: sends and creations are counted over \
             all purposes together",
        ),
        ("[providers.Mine]\nkind = \"console\"", "providers.Mine: a provider's name must be 1 to 50 of [a-z0-9_-]"),
    ] {
        refuses(file, expected);
    }
}

#[test]
fn a_provider_is_of_a_kind_that_there_is() {
    let kinds: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
    let kinds = kinds.join(" or ");
    refuses("[providers.mine]", &format!("providers.mine.kind: required: {kinds}"));
    refuses("[providers.mine]\nkind = \"carrier-pigeon\"", &format!("providers.mine.kind: must be {kinds}"));
}

#[test]
fn what_a_provider_lacks_is_reported_at_once_and_unquoted() {
    let file = "[providers.twilio-verify]\nauth_token = \"hunter 2\"\nservice_sid = \"AC1\"\ncode_length = 3";
    let errors = load(file, &[]).unwrap_err();
    assert_eq!(
        errors,
        [
            "providers.twilio-verify.account_sid: required: the account's SID, or that of an API key",
            "providers.twilio-verify.auth_token: must be visible ASCII characters without spaces",
            "providers.twilio-verify.service_sid: must be VA and 32 hexadecimal digits",
            "providers.twilio-verify.code_length: must be 6 to 10",
        ]
    );
    refuses(
        "[providers.infobip-2fa]\napi_key = \"K\"\napplication_id = \"A\"\nmessage_id = \"M\"",
        "providers.infobip-2fa.base_url: required: the URL of the provider's API",
    );
}

#[test]
fn unknown_settings_are_mistakes_and_name_their_neighbours() {
    refuses("[operations]\nport = 1", "operations.port: unknown setting; here are: listen");
    refuses(
        "[requests]\nmax_skew = \"1s\"",
        "requests.max_skew: unknown setting; here are: accept_unlisted_tenants, max_timestamp_skew",
    );
    let errors = load("[sever]\nlisten = \"127.0.0.1:1\"\n[policy.purposes.payment]", &[]).unwrap_err();
    assert!(errors[0].starts_with("policy.purposes.payment: unknown setting; here are: login,"), "{errors:?}");
    assert!(errors[1].starts_with("sever.listen: unknown setting; here are: admin,"), "{errors:?}");
}

#[test]
fn values_that_do_not_fit_together_are_mistakes() {
    for (file, expected) in [
        (
            "[policy]\ncode_life = \"5m\"\nchallenge_life = \"4m\"",
            "policy.code_life: must be at most challenge_life, which is 4m",
        ),
        (
            "[policy.purposes.login]\nchallenge_life = \"1m\"\n[tenants.acme.policy]\ncode_life = \"2m\"",
            "tenants.acme.policy.code_life: must be at most challenge_life, which is 1m",
        ),
        ("[policy.lock]\nfor_good_after = 9", "policy.lock.for_good_after: must be at least first_after, which is 10"),
        (
            "[policy.lock]\nfirst_after = 5\nfor_good_after = 9\n[tenants.acme.policy.lock]\nfirst_after = 10",
            "tenants.acme.policy.lock.first_after: must be at most for_good_after, which is 9",
        ),
        (
            "[policy.quotas]\naccount_sends = [\"9 per 1d\", \"9 per 1h\"]",
            "policy.quotas.account_sends: 9 per 1h and 9 per 1d do not fit: a longer span must allow more",
        ),
        ("[server]\nlisten = \"0.0.0.0:9464\"", "operations.listen: must differ from server.listen"),
        ("[store]\ntimeout = \"20s\"", "store.timeout: must be at most server.request_timeout, which is 10s"),
        (
            "[requests]\naccept_unlisted_tenants = false",
            "requests.accept_unlisted_tenants: no tenant would be accepted: list some as [tenants.NAME]",
        ),
        ("routes = [\"console\", \"other\"]", "routes: item 2: no provider of this name is configured"),
        ("routes = [\"console\", \"console\"]", "routes: item 2: is there twice"),
        (
            "[store]\nurl = \"redis://localhost\"",
            "OTPD_MASTER_KEYS: required where replicas share a store; make one with `otpd generate-key`, or set keys.file",
        ),
    ] {
        refuses(file, expected);
    }
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let file = "
        routes = [\"nobody\"]
        [server]
        listen = \"here\"
        lisen = 1
        [store]
        url = \"mysql://root:hunter2@db\"
        [policy]
        code_digits = 3
        [policy.lock]
        first_after = 9
        for_good_after = 8
    ";
    let environment = [("OTPD__LOG__FORMAT", "yaml"), ("OTPD__LOG__LEVEL", "info")];
    let errors = load(file, &environment).unwrap_err();
    let settings: Vec<&str> = errors.iter().map(|error| error.split(": ").next().unwrap()).collect();
    assert_eq!(
        settings,
        [
            "server.listen",
            "server.lisen",
            "store.url",
            "policy.code_digits",
            "policy.lock.for_good_after",
            "routes",
            "log.format (OTPD__LOG__FORMAT)",
            "log.level (OTPD__LOG__LEVEL)",
        ]
    );
    assert!(!errors.join("\n").contains("hunter2"), "{errors:?}");
}

#[test]
fn a_file_that_is_not_toml_is_reported_without_quoting_it() {
    let errors = load("[store]\nurl = redis://:hunter2@db\n", &[]).unwrap_err();
    assert!(errors[0].starts_with("otpd.toml: line 2: not TOML: "), "{errors:?}");
    assert!(!errors.join("\n").contains("hunter2"), "{errors:?}");
}

#[test]
fn variables_override_the_file_by_the_type_the_setting_wants() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nmax_connection_age = \"1h\"\n[store]\nurl = \"embedded:/a\"";
    let environment = [
        ("OTPD__SERVER__LISTEN", "127.0.0.1:2"),
        ("OTPD__server__Reflection", "false"),
        ("OTPD__SERVER__MAX_IN_FLIGHT", "7"),
        ("OTPD__SERVER__MAX_CONNECTION_AGE", ""),
        ("OTPD__PROVIDERS__CONSOLE__FILE", "/tmp/codes"),
        ("OTPD__STORE", "{ url = \"embedded:/b\", timeout = \"2s\" }"),
        ("OTPD__STORE__TIMEOUT", "3s"),
        ("OTPD__POLICY__RESEND_GAPS", "[\"1s\"]"),
        ("OTPD__LOG__FORMAT", "json"),
        ("OTPD_SERVICE_HOST", "10.0.0.1"),
        ("OTPD_SERVICE_PORT", "50051"),
        ("OTPD_SERVICE_PORT_GRPC", "50051"),
        ("OTPD_PORT", "tcp://10.0.0.1:50051"),
        ("OTPD_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
        ("OTPD_PORT_50051_TCP_ADDR", "10.0.0.1"),
        ("OTPD_PORT_50051_TCP_PORT", "50051"),
        ("OTPD_PORT_50051_TCP_PROTO", "tcp"),
        ("OTPD_ADMIN_SERVICE_HOST", "10.0.0.1"),
        ("OTPD_ADMIN_PORT", "udp://10.0.0.1:50051"),
        ("PATH", "/bin"),
    ];
    let config = load(file, &environment).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:2");
    assert!(!config.server.reflection);
    assert_eq!(config.server.max_in_flight, 7);
    assert_eq!(config.server.max_connection_age, None);
    assert_eq!(config.providers.by_name["console"].kind(), "console");
    assert_eq!(config.store.url.expose(), "embedded:/b");
    assert_eq!(config.store.timeout, Duration::from_secs(3));
    assert_eq!(config.tenants.others.unwrap().limits.resend_gaps, [Duration::from_secs(1)]);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn variables_that_are_no_settings_are_mistakes() {
    for (name, value, expected) in [
        ("OTPD_STORE__URL", "x", "OTPD_STORE__URL: means nothing to otpd: settings are named OTPD__SECTION__KEY"),
        (
            "OTPD_STORE_URL",
            "x",
            "OTPD_STORE_URL: means nothing to otpd: settings are named OTPD__SECTION__KEY, such as OTPD__STORE__URL",
        ),
        (
            "otpd_store_timeout",
            "x",
            "otpd_store_timeout: means nothing to otpd: settings are named OTPD__SECTION__KEY, such as OTPD__store__timeout",
        ),
        (
            "OTPD_CONFG",
            "x",
            "OTPD_CONFG: means nothing to otpd: settings are named OTPD__SECTION__KEY, and the file by OTPD_CONFIG",
        ),
        (
            "OTPD_MASTER_KEY",
            "x",
            "OTPD_MASTER_KEY: means nothing to otpd: settings are named OTPD__SECTION__KEY, and the keys by OTPD_MASTER_KEYS",
        ),
        (
            "OTPD_PORT",
            "8080",
            "OTPD_PORT: means nothing to otpd: settings are named OTPD__SECTION__KEY, such as OTPD__SERVER__LISTEN",
        ),
        ("OTPD__STORE__", "x", "OTPD__STORE__: not a setting: a section or key is empty"),
        ("OTPD__PROFILE__X", "x", "profile: is no section, but OTPD__PROFILE__X sets a key of it"),
        (
            "OTPD__SERVER__MAX_IN_FLIGHT",
            "many",
            "server.max_in_flight (OTPD__SERVER__MAX_IN_FLIGHT): must be a whole number, 1 to 1000000",
        ),
        ("OTPD__LOG", "x", "log (OTPD__LOG): must be a table in TOML syntax, such as { key = \"value\" }"),
    ] {
        assert_eq!(load("profile = \"development\"", &[(name, value)]).unwrap_err(), [expected]);
    }
    let twice = load("", &[("OTPD__STORE__TIMEOUT", "1s"), ("OTPD__store__timeout", "2s")]).unwrap_err();
    assert_eq!(
        twice,
        ["store.timeout (OTPD__store__timeout): set twice in the environment, also by OTPD__STORE__TIMEOUT"]
    );
}

#[test]
fn a_secret_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mailer = |rest: &str| format!("[providers.mail]\nkind = \"sendgrid\"\nfrom = \"a@b.example\"\n{rest}");
    let good = file("key", "SG.abc\n");
    load(&mailer(&format!("api_key_file = \"{good}\"")), &[]).unwrap();
    load(&mailer(""), &[("OTPD__PROVIDERS__MAIL__API_KEY_FILE", &good)]).unwrap();
    let url = file("url", "redis://:hunter2@db:6379/3\r\n");
    let config = load(&format!("[store]\nurl_file = \"{url}\""), &[KEY]).unwrap();
    assert_eq!(config.store.url.expose(), "redis://:hunter2@db:6379/3");

    // A variable overrides the file, whichever of both it sets.
    let variable =
        |name: &'static str, value: &str| load(&mailer(&format!("api_key_file = \"{good}\"")), &[KEY, (name, value)]);
    variable("OTPD__PROVIDERS__MAIL__API_KEY", "from-variable").unwrap();
    let other = [KEY, ("OTPD__PROVIDERS__MAIL__API_KEY_FILE", good.as_str())];
    load(&mailer("api_key = \"x\""), &other).unwrap();
    let twice = [("OTPD__PROVIDERS__MAIL__API_KEY", "y"), other[1]];
    assert!(load(&mailer(""), &twice).unwrap_err()[0].contains("api_key is set, too"));
    let both = load(&mailer(&format!("api_key = \"x\"\napi_key_file = \"{good}\"")), &[]).unwrap_err();
    assert_eq!(both, ["providers.mail.api_key_file: api_key is set, too: set one of them"]);
    for (text, expected) in [
        ("", "providers.mail.api_key_file: is empty"),
        ("\n", "providers.mail.api_key_file: is empty"),
        ("a b", "providers.mail.api_key_file: must be visible ASCII characters without spaces"),
        (&"x".repeat(70_000), "providers.mail.api_key_file: holds more than 65536 bytes"),
    ] {
        let path = file("wrong", text);
        assert_eq!(load(&mailer(&format!("api_key_file = \"{path}\"")), &[]).unwrap_err(), [expected]);
    }
    let gone = load(&mailer("api_key_file = \"/nowhere\""), &[]).unwrap_err();
    assert!(gone.len() == 1 && gone[0].starts_with("providers.mail.api_key_file: cannot be read"), "{gone:?}");
    let missing = load(&mailer(""), &[]).unwrap_err();
    assert!(missing[0].contains("or in a file that api_key_file names"), "{missing:?}");
}

#[test]
fn a_variable_names_a_section_with_hyphens_by_underscores() {
    let file = "[providers.twilio-messages]\naccount_sid = \"AC00000000000000000000000000000000\"\nfrom = \"Acme\"";
    let token = ("OTPD__PROVIDERS__TWILIO_MESSAGES__AUTH_TOKEN", "t");
    let config = load(file, &[token]).unwrap();
    assert_eq!(config.providers.by_name.keys().collect::<Vec<_>>(), ["twilio-messages"]);
    let alone = [
        ("OTPD__PROVIDERS__TWILIO_MESSAGES__ACCOUNT_SID", "AC00000000000000000000000000000000"),
        ("OTPD__PROVIDERS__TWILIO_MESSAGES__FROM", "Acme"),
        token,
    ];
    let config = load("", &alone).unwrap();
    assert_eq!(config.providers.by_name["twilio_messages"].kind(), "twilio-messages");
    // The name as it is written wins over one that is similar.
    let both = format!("{file}\n[providers.twilio_messages]\nkind = \"console\"");
    let errors = load(&both, &[token]).unwrap_err();
    assert!(errors.iter().any(|error| error.starts_with("providers.twilio_messages.auth_token")), "{errors:?}");
    let template = ("OTPD__MESSAGES__TEMPLATES__LOG_IN__TEXT", "{{ code }} anew");
    load("[messages.templates.log-in]\ntext = \"{{ code }}\"", &[template]).unwrap();
}

#[test]
fn production_encrypts_and_refuses_known_codes_beside_all_other_mistakes() {
    let gateway = |url: &str| format!("[providers.gw]\nkind = \"http-json\"\nbase_url = \"{url}\"\npath = \"/m\"");
    let production = |rest: &str| load(&format!("profile = \"production\"\n[tenants.acme]\n{rest}"), &[KEY]);
    let open = production(&gateway("http://sms.example.com")).unwrap_err();
    assert!(open.len() == 1 && open[0].starts_with("providers.gw.base_url: is plain http"), "{open:?}");
    let mail =
        "[providers.mail]\nkind = \"smtp\"\nhost = \"mail.example.com\"\nfrom = \"a@b.example\"\nsecurity = \"none\"";
    let open = production(mail).unwrap_err();
    assert!(
        open.len() == 1 && open[0].starts_with("providers.mail.security: none leaves mail in the clear"),
        "{open:?}"
    );
    for here in ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:1", "http://localhost", "https://a.example"] {
        production(&gateway(here)).unwrap();
    }
    load(&gateway("http://sms.example.com"), &[]).unwrap();
    production(&format!("{}\n[force]\nplain_http = true", gateway("http://sms.example.com"))).unwrap();

    let known = "[sandbox]\ncode = \"424242\"\ndestinations = [\"+1\"]";
    let refused = production(&format!("{}\n{known}", gateway("https://a.example"))).unwrap_err();
    let settings: Vec<&str> = refused.iter().map(|error| error.split(": ").next().unwrap()).collect();
    assert_eq!(settings, ["sandbox.destinations", "sandbox"]);
    production(&format!("{}\n[sandbox]\ndestinations = []", gateway("https://a.example"))).unwrap();
}

#[test]
fn a_listener_that_others_can_reach_is_warned_of() {
    for (listen, warned) in [("0.0.0.0:50051", true), ("[::]:50051", true), ("127.0.0.1:1", false), ("[::1]:1", false)]
    {
        let config = load(&format!("[server]\nlisten = \"{listen}\""), &[]).unwrap();
        let warnings = config.warnings();
        assert_eq!(warnings.iter().any(|warning| warning.contains("open to other machines")), warned, "{warnings:?}");
    }
    let proxied = load("", &[("HTTPS_PROXY", "socks5://a:1"), ("http_proxy", "http://a:1")]).unwrap().warnings();
    assert!(proxied.iter().any(|warning| warning.contains("HTTPS_PROXY")), "{proxied:?}");
}

#[test]
fn production_refuses_what_shows_codes_or_loses_keys_unless_forced() {
    let settings = |errors: Vec<String>| -> Vec<String> {
        errors.iter().map(|error| error.split(": ").next().unwrap().to_owned()).collect()
    };
    let bare = load("profile = \"production\"", &[]).unwrap_err();
    assert_eq!(settings(bare), ["OTPD_MASTER_KEYS", "requests.accept_unlisted_tenants", "providers"]);
    let reflected = load("profile = \"production\"\n[server]\nreflection = true\n[tenants.a]", &[KEY]).unwrap_err();
    assert_eq!(settings(reflected), ["server.reflection", "providers"]);
    let quiet = load("profile = \"production\"\n[force]\nconsole_provider = true\n[tenants.a]", &[KEY]).unwrap();
    assert!(!quiet.server.reflection);
    let asked = "profile = \"production\"\n[tenants.a]\n[server]\nreflection = true\n[force]\nconsole_provider = true\nreflection = true";
    assert!(load(asked, &[KEY]).unwrap().server.reflection);
    let named = load("profile = \"production\"\n[tenants.a]\n[providers.out]\nkind = \"console\"", &[KEY]).unwrap_err();
    assert_eq!(settings(named), ["providers.out.kind"]);

    let forced =
        "profile = \"production\"\n[force]\nconsole_provider = true\ngenerated_keys = true\nunlisted_tenants = true";
    let config = load(forced, &[]).unwrap();
    assert_eq!(config.warnings().len(), 6);
    assert!(config.store.require_noeviction);
    assert_eq!(config.server.drain_delay, Duration::from_secs(5));
}

/// The defaults fit the grace of an orchestrator; what does not is told.
#[test]
fn an_end_that_takes_long_or_cuts_calls_is_warned_of() {
    let quiet = load("", &[]).unwrap().warnings().len();
    for (file, expected) in [
        ("drain_delay = \"5s\"", None),
        ("drain_delay = \"6s\"", Some("may take 31 s")),
        ("drain_timeout = \"60s\"", Some("may take 73 s")),
        ("drain_timeout = \"9s\"", Some("calls may be cut off")),
        ("drain_timeout = \"9s\"\nrequest_timeout = \"5s\"", None),
    ] {
        let warnings = load(&format!("[server]\n{file}"), &[]).unwrap().warnings();
        assert_eq!(warnings.len(), quiet + usize::from(expected.is_some()), "{file}: {warnings:?}");
        assert!(expected.is_none_or(|text| warnings.iter().any(|warning| warning.contains(text))), "{warnings:?}");
    }
}

#[test]
fn weak_policies_can_be_forced() {
    let file = "[force]\nweak_policy = true\n[policy]\ncode_digits = 4\nchallenge_life = \"1h\"";
    let limits = load(file, &[]).unwrap().tenants.others.unwrap().limits;
    assert_eq!((limits.code_digits, limits.challenge_life), (4, Duration::from_secs(3600)));
}

#[test]
fn keys_come_from_the_variable_or_a_file_and_are_not_printed() {
    let redis = "[store]\nurl = \"rediss://:hunter2@db\"";
    let given = load(redis, &[KEY]).unwrap();
    assert_eq!(given.keys.text().unwrap().unwrap().expose(), KEY.1);
    let shown = format!("{given:?}{:?}", given.summary());
    assert!(!shown.contains("AAAA") && !shown.contains("hunter2"), "{shown}");

    let file = load(&format!("{redis}\n[keys]\nfile = \"/k\""), &[]).unwrap();
    assert_eq!(file.keys, Keys::File(PathBuf::from("/k")));
    let both = load("[keys]\nfile = \"/k\"", &[KEY]).unwrap_err();
    assert_eq!(both, ["keys.file: OTPD_MASTER_KEYS is set too; set one of them"]);

    // The variable overrides the configuration file, as with other secrets.
    let named = ("OTPD_MASTER_KEYS_FILE", "/l");
    let overridden = load(&format!("{redis}\n[keys]\nfile = \"/k\""), &[named]).unwrap();
    assert_eq!(overridden.keys, Keys::File(PathBuf::from("/l")));
    let both = load("", &[named, KEY]).unwrap_err();
    assert_eq!(both, ["OTPD_MASTER_KEYS_FILE: OTPD_MASTER_KEYS is set too; set one of them"]);
    let both = load("", &[named, ("OTPD__KEYS__FILE", "/k")]).unwrap_err();
    assert_eq!(both, ["keys.file (OTPD__KEYS__FILE): OTPD_MASTER_KEYS_FILE is set too; set one of them"]);
}

#[test]
fn the_password_of_the_store_may_stand_beside_its_address() {
    let store = |settings: &str| load(&format!("[store]\n{settings}"), &[KEY]);
    let url = |settings: &str| store(settings).unwrap().store.url.expose().clone();
    assert_eq!(url("url = \"rediss://db/1\"\nusername = \"otpd\"\npassword = \"p/w\""), "rediss://otpd:p%2Fw@db/1");
    assert_eq!(url("url = \"rediss://:x@db\"\nusername = \"\"\npassword = \"\""), "rediss://:x@db");
    let no_login = "store.password: is only for a Redis whose address has no login";
    for (settings, expected) in [
        ("url = \"rediss://:x@db\"\npassword = \"hunter2\"", no_login),
        ("password = \"hunter2\"", no_login),
        ("url = \"rediss://db\"\nusername = \"otpd\"", "store.username: needs password, too"),
        (
            "url = \"rediss://db\"\npassword_file = \"/nowhere\"\nusername = \"otpd\"",
            "store.password_file: cannot be read",
        ),
        ("url = \"mysql://db\"\npassword = \"hunter2\"", "store.url: is none of"),
    ] {
        let errors = store(settings).unwrap_err();
        assert!(errors.len() == 1 && errors[0].starts_with(expected), "{settings}: {errors:?}");
    }
}

#[test]
fn a_file_of_keys_is_bounded_like_that_of_any_secret() {
    let folder = tempfile::tempdir().unwrap();
    for (text, expected) in
        [("", Err("is empty")), (&"1".repeat(70_000), Err("holds more than 65536 bytes")), ("1:a\n", Ok("1:a"))]
    {
        let path = folder.path().join("keys");
        std::fs::write(&path, text).unwrap();
        let read = Keys::File(path.clone()).text().map(|keys| keys.unwrap().expose().clone());
        assert_eq!(read, expected.map(str::to_owned).map_err(|why| format!("{}: {why}", path.display())));
    }
}

#[test]
fn listed_tenants_close_the_door_unless_it_is_held_open() {
    let listed = load("[tenants.acme]", &[]).unwrap().tenants;
    assert!(listed.others.is_none() && listed.listed.len() == 1);
    let open = load("[requests]\naccept_unlisted_tenants = true\n[tenants.acme]", &[]).unwrap().tenants;
    assert!(open.others.is_some());
}

#[test]
fn all_that_is_wrong_with_messages_is_reported_at_once() {
    let file = "
        [messages]
        brand = \"two\\nlines\"
        webotp_domain = \"example.com\"
        sms_retriever_hash = \"FA+9qCX9VSu\"
        [messages.templates.a]
        locale = \"pt_BR\"
        text = \"no code, and not judged before its locale is right\"
        [messages.templates.b]
        text = \"{{ brand }} {{ hunter2 }}\"
        [messages.templates.c]
        purpose = \"transaction\"
        text = \"{{ code }} {{ amount }}\"
        [messages.templates.d]
        channel = \"pigeon\"
    ";
    let errors = load(file, &[]).unwrap_err();
    let settings: Vec<&str> = errors.iter().map(|error| error.split(": ").next().unwrap()).collect();
    assert_eq!(
        settings,
        [
            "messages.brand",
            "messages.sms_retriever_hash",
            "messages.templates.a.locale",
            "messages.templates.d.channel",
            "messages.templates.d.text",
            "messages.templates.b.text",
            "messages.templates.c.text",
        ]
    );
    assert!(!errors.join("\n").contains("hunter2"), "{errors:?}");
}

#[test]
fn a_template_of_two_segments_is_a_warning() {
    let text = "a".repeat(151);
    let warnings = |file: &str| load(file, &[]).unwrap().warnings();
    let long = warnings(&format!("[messages.templates.long]\ntext = \"{{{{ code }}}}{text}\""));
    let about = "messages.templates.long.text: as a text message it takes more than one segment: 161 of 160 septets";
    assert!(long.iter().any(|warning| warning.starts_with(about)), "{long:?}");
    let mail = format!("[messages.templates.long]\nchannel = \"email\"\ntext = \"{{{{ code }}}}{text}\"");
    assert_eq!(warnings(&mail).len(), warnings("").len());
}

#[test]
fn a_loss_is_accepted_by_file_or_variable_and_never_without_a_warning() {
    let variable = [("OTPD__STORE__ACCEPT_LOSS", "true")];
    for config in [load("[store]\naccept_loss = true", &[]), load("", &variable)] {
        let config = config.unwrap();
        assert!(config.store.accept_loss);
        let warnings = config.warnings();
        assert!(warnings.iter().any(|warning| warning.starts_with("store.accept_loss lets ")), "{warnings:?}");
    }
}
