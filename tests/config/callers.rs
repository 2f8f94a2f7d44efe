//! Who may call, where otpd listens, and what production refuses of both.

use std::path::PathBuf;

use otpd::{
    config::Listen,
    domain::{ids::Tenant, purpose::Purpose},
};

use super::{KEY, load, refuses};

const TOKEN: &str = "token-sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// What is wrong, without the explanations.
fn mistakes(file: &str) -> Vec<String> {
    let errors = load(file, &[KEY]).err().unwrap_or_default();
    errors.iter().map(|error| error.split(": ").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn callers_have_identities_and_rights() {
    let file = format!(
        "[tenants.acme]\n[tenants.bold]\n\
         [callers.shop]\nidentities = [\"spiffe://td/shop\", \"dns:shop.example\", \"{TOKEN}\"]\n\
         tenants = [\"acme\"]\npurposes = [\"login\", \"registration\"]\nmax_in_flight = 7\n\
         [callers.ops]\nidentities = [\"spiffe://td/ops\"]\ntenants = [\"*\"]\nadmin = true\n"
    );
    let variable = ("OTPD__CALLERS__EXTRA__IDENTITIES", "[\"dns:extra.example\"]");
    let callers = load(&file, &[variable]).unwrap().callers;
    let names: Vec<&str> = callers.iter().map(|caller| caller.name.as_str()).collect();
    assert_eq!(names, ["extra", "ops", "shop"]);
    let [extra, ops, shop] = callers.as_slice() else { panic!("{callers:?}") };
    let (acme, bold) = (Tenant::parse("acme").unwrap(), Tenant::parse("bold").unwrap());
    assert!(extra.rights.has_tenant(&bold) && !extra.rights.admin && extra.rights.has_purpose(Purpose::Transaction));
    assert!(ops.rights.has_tenant(&bold) && ops.rights.admin);
    assert!(shop.rights.has_tenant(&acme) && !shop.rights.has_tenant(&bold) && !shop.rights.admin);
    assert!(shop.rights.has_purpose(Purpose::Login) && !shop.rights.has_purpose(Purpose::Transaction));
    assert_eq!((shop.rights.max_in_flight, ops.rights.max_in_flight), (Some(7), None));
    assert!(!format!("{callers:?}").contains("9f86d081"));
}

#[test]
fn what_is_wrong_with_callers_and_listeners_is_told() {
    let identity = "must be spiffe://TRUST-DOMAIN/PATH, dns:NAME, or token-sha256: and 64 hexadecimal digits";
    for (file, expected) in [
        (
            "[callers.a]",
            "callers.a.identities: required: what the caller is known by, such as [\"spiffe://example.org/shop\"]",
        ),
        ("[callers.a]\nidentities = []", "callers.a.identities: must hold 1 to 1000, not 0"),
        ("[callers.a]\nidentities = [\"shop\"]", &format!("callers.a.identities: item 1: {identity}")),
        (
            "[callers.a]\nidentities = [\"token-sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"]",
            "callers.a.identities: item 1: is the SHA-256 of nothing: the token was empty when it was hashed",
        ),
        ("[callers.a]\nidentities = [\"dns:x\", \"dns:X\"]", "callers.a.identities: item 2: is there twice"),
        (
            "[callers.a]\nidentities = [\"dns:x\"]\n[callers.b]\nidentities = [\"dns:y\", \"dns:x\"]",
            "callers.b.identities: item 2: is one of a, too",
        ),
        (
            "[callers.\"a b\"]\nidentities = [\"dns:x\"]",
            "callers.a b: a caller's name must be 1 to 100 of [a-zA-Z0-9:_-]",
        ),
        (
            "[tenants.acme]\n[callers.a]\nidentities = [\"dns:x\"]\ntenants = [\"acme\", \"acne\"]",
            "callers.a.tenants: item 2: no tenant of this name is accepted",
        ),
        ("[callers.a]\nidentities = [\"dns:x\"]\ntenants = []", "callers.a.tenants: must hold 1 to 1000, not 0"),
        (
            "[callers.a]\nidentities = [\"dns:x\"]\npurposes = [\"pay\"]",
            "callers.a.purposes: item 1: must be login or registration or transaction",
        ),
        ("[callers.a]\nidentities = [\"dns:x\"]\nmax_in_flight = 0", "callers.a.max_in_flight: must be 1 to 1000000"),
        (
            "[server]\nlisten = \"unix:otpd.sock\"",
            "server.listen: must be unix: and a path from the root, such as unix:/run/otpd/otpd.sock",
        ),
        ("[server]\nsocket_mode = \"rw\"", "server.socket_mode: must be a mode in octal digits, such as \"0660\""),
        ("[server]\nsocket_mode = \"0888\"", "server.socket_mode: must be a mode in octal digits, such as \"0660\""),
        ("[server.tls]\ncertificate_file = \"/c\"", "server.tls.key_file: required: beside certificate_file"),
        ("[server.tls]\nkey_file = \"/k\"", "server.tls.certificate_file: required: beside key_file"),
        (
            "[server.tls]\nclient_ca_file = \"/ca\"",
            "server.tls.certificate_file: required: the server's own, beside client_ca_file",
        ),
        (
            "[server.sidecar]\nxfcc_by = [\"otpd\"]",
            "server.sidecar.xfcc_by: item 1: must be the SPIFFE id of our own sidecar, spiffe://TRUST-DOMAIN/PATH",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:50051\"",
            "admin.listen: must differ from server.listen, which is 127.0.0.1:50051",
        ),
        ("[admin]\nlisten = \"0.0.0.0:9464\"", "operations.listen: must differ from admin.listen"),
    ] {
        refuses(file, expected);
    }
}

#[test]
fn all_mistakes_of_callers_are_told_at_once() {
    let file = "
        [server]
        listen = \"unix:x\"
        [callers.a]
        identities = [\"shop\"]
        tenants = [\"no good\"]
        admin = 1
        [callers.b]
        quota = 7
    ";
    assert_eq!(
        mistakes(file),
        [
            "server.listen",
            "callers.a.identities",
            "callers.a.tenants",
            "callers.a.admin",
            "callers.b.identities",
            "callers.b.quota"
        ]
    );
}

#[test]
fn where_it_listens_is_an_address_or_a_socket() {
    let config = load("[server]\nlisten = \"unix:/run/otpd.sock\"\n[admin]\nlisten = \"unix:/run/ops.sock\"", &[]);
    let server = config.unwrap().server;
    assert_eq!(server.listen, Listen::Socket(PathBuf::from("/run/otpd.sock")));
    assert_eq!(server.listen.to_string(), "unix:/run/otpd.sock");
    assert_eq!(server.admin, Some(Listen::Socket(PathBuf::from("/run/ops.sock"))));
    assert_eq!((server.socket_mode, server.listen.is_open()), (0o660, false));
    let server = load("", &[("OTPD__ADMIN__LISTEN", "")]).unwrap().server;
    assert!(server.admin.is_none() && server.tls.is_none() && !server.sidecar.is_any());
}

#[test]
fn production_knows_who_calls_unless_forced() {
    let gateway =
        "[tenants.acme]\n[providers.gw]\nkind = \"http-json\"\nbase_url = \"https://a.example\"\npath = \"/m\"\n";
    let production = |rest: &str| mistakes(&format!("profile = \"production\"\n{gateway}{rest}"));
    let of_certificate = "[callers.a]\nidentities = [\"spiffe://td/a\"]\ntenants = [\"acme\"]\n";
    let of_token = format!("[callers.a]\nidentities = [\"{TOKEN}\"]\ntenants = [\"acme\"]\n");
    let open = "[server]\nlisten = \"0.0.0.0:50051\"\n";
    let tls = "[server.tls]\ncertificate_file = \"/c\"\nkey_file = \"/k\"\n";
    let none: &[&str] = &[];
    let table: &[(String, &[&str])] = &[
        (String::new(), none),
        (open.to_owned(), &["server.listen"]),
        (format!("{open}{tls}"), &["server.listen"]),
        (format!("{open}[force]\nopen_listener = true"), none),
        ("[admin]\nlisten = \"[::]:50052\"".to_owned(), &["admin.listen"]),
        (format!("{open}{of_certificate}"), none),
        (format!("{open}{of_token}"), &["server.listen"]),
        (format!("{open}{of_token}{tls}"), none),
        (format!("{open}{of_token}[force]\nplain_tokens = true"), none),
        (of_token.clone(), none),
        ("[callers.a]\nidentities = [\"dns:a\"]".to_owned(), none),
        ("[callers.a]\nidentities = [\"dns:a\"]\ntenants = [\"*\"]".to_owned(), none),
        (format!("{open}[callers.a]\nidentities = [\"a\"]\ntenants = [\"*\"]"), &["callers.a.identities"]),
        ("[requests]\naccept_unlisted_tenants = true".to_owned(), &["requests.accept_unlisted_tenants"]),
        ("[requests]\naccept_unlisted_tenants = true\n[force]\nunlisted_tenants = true".to_owned(), none),
    ];
    for (rest, expected) in table {
        assert_eq!(production(rest), *expected, "{rest}");
    }
}

#[test]
fn development_warns_of_who_may_call() {
    let warned = |file: &str, words: &str| {
        let warnings = load(file, &[]).unwrap().warnings();
        warnings.iter().any(|warning| warning.contains(words))
    };
    let tls = "[server.tls]\ncertificate_file = \"/c\"\nkey_file = \"/k\"\n";
    let of_certificate = "[callers.a]\nidentities = [\"dns:a\"]\n";
    let of_token = format!("[callers.a]\nidentities = [\"{TOKEN}\"]\n");
    let open = "[server]\nlisten = \"0.0.0.0:50051\"\n";
    assert!(warned("", "no callers are configured: whoever can reach it"));
    assert!(warned(
        &format!("{tls}client_ca_file = \"/ca\""),
        "whoever has a certificate of server.tls.client_ca_file"
    ));
    assert!(warned(
        &format!("[server]\nlisten = \"unix:/run/otpd.sock\"\n{tls}client_ca_file = \"/ca\""),
        "server.listen: no callers are configured: whoever can reach it"
    ));
    for sidecar in ["xfcc_by = [\"spiffe://td/otpd\"]", "l5d_client_id = true"] {
        let sidecar = format!("[server.sidecar]\n{sidecar}\n");
        assert!(warned(&sidecar, "server.sidecar says nothing: no callers are configured"));
        assert!(!warned(&format!("{sidecar}{of_certificate}"), "server.sidecar"));
    }
    assert!(!warned("", "server.sidecar"));
    assert!(!warned(of_certificate, "no callers are configured"));
    assert!(warned(of_certificate, "callers.a is known by a certificate, which none can show"));
    assert!(!warned(&format!("{of_certificate}{tls}client_ca_file = \"/ca\""), "which none can show"));
    assert!(!warned(&format!("{of_certificate}[server.sidecar]\nl5d_client_id = true"), "which none can show"));
    assert!(warned(&format!("{open}{of_token}"), "server.listen is open to other machines, and bearer tokens"));
    assert!(!warned(&format!("{open}{of_token}{tls}"), "bearer tokens"));
    assert!(!warned(&of_token, "bearer tokens"));
}
