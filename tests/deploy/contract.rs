//! What callers rely on in the contract is kept: `buf breaking` refuses each change that breaks them, and no other. The
//! templates for generated code say the same for one language as for all.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

use crate::text;

const CONTRACT: &str = "proto/otp/v1/otp.proto";

#[expect(clippy::disallowed_methods, reason = "where a program of the tests is, is no setting of otpd")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Whether `SKIP_BUF=1` says that these tests are left out. A missing program is no reason to leave them out.
fn left_out() -> bool {
    variable("SKIP_BUF").as_deref() == Some("1")
}

/// buf: of `BUF`, else the one that scripts/test has fetched, else of the system.
fn buf(folder: &Path, arguments: &[&str]) -> Output {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/buf");
    let named = variable("BUF").map(PathBuf::from).or_else(|| fetched.exists().then_some(fetched));
    let program = named.unwrap_or_else(|| PathBuf::from("buf"));
    let ended = Command::new(&program).current_dir(folder).args(arguments).output();
    ended.unwrap_or_else(|error| {
        panic!(
            "cannot run {} ({error}): this test needs it. Run scripts/test, which fetches it; or name it in BUF; or \
             leave its tests out with SKIP_BUF=1",
            program.display()
        )
    })
}

/// The rules that a changed contract breaks, compared with the frozen one.
fn broken_rules(contract: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir_all(folder.path().join("proto/otp/v1")).expect("a folder");
    fs::write(folder.path().join(CONTRACT), contract).expect("the contract is written");
    fs::write(folder.path().join("buf.yaml"), text("buf.yaml")).expect("the configuration is written");
    let frozen = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto-frozen");
    let frozen = frozen.to_str().expect("a path in UTF-8");
    let ended = buf(folder.path(), &["breaking", "proto", "--against", frozen, "--error-format", "json"]);
    let (told, complaints) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    // 100: buf has found something. Any other failure is one of the test.
    assert!(matches!(ended.status.code(), Some(0 | 100)), "{told}{complaints}");
    assert_eq!(ended.status.code() == Some(0), told.trim().is_empty(), "{told}{complaints}");
    let rule = |line: &str| {
        let finding: Value = serde_json::from_str(line).expect("JSON");
        finding.get("type").and_then(Value::as_str).expect("the name of a rule").to_owned()
    };
    told.lines().map(rule).collect()
}

fn changed(contract: &str, from: &str, to: &str) -> String {
    assert!(contract.contains(from), "the contract has no {from:?}");
    contract.replacen(from, to, 1)
}

#[test]
fn what_breaks_callers_is_refused() {
    if left_out() {
        return;
    }
    let contract = text(CONTRACT);
    let cases = [
        ("a field is renamed", "bool send_otp = 9;", "bool send = 9;", "FIELD_SAME_NAME"),
        ("a field is renumbered", "bool send_otp = 9;", "bool send_otp = 10;", "FIELD_NO_DELETE"),
        ("a field is retyped", "string otp = 3;", "int64 otp = 3;", "FIELD_SAME_TYPE"),
        ("a field is repeated", "string otp = 3;", "repeated string otp = 3;", "FIELD_SAME_CARDINALITY"),
        ("a field is removed", "  int64 otp_length = 7;\n", "", "FIELD_NO_DELETE"),
        ("a field leaves its oneof", "oneof destination {\n", "oneof contact {\n", "FIELD_SAME_ONEOF"),
        ("a message is renamed", "message ClientContext {", "message Device {", "MESSAGE_NO_DELETE"),
        ("an enum value is removed", "  CHANNEL_WHATSAPP = 3;\n", "", "ENUM_VALUE_NO_DELETE"),
        ("an enum value is renamed", "CHANNEL_WHATSAPP = 3;", "CHANNEL_CHAT = 3;", "ENUM_VALUE_SAME_NAME"),
        ("a reason is renumbered", "REASON_INTERNAL = 16;", "REASON_INTERNAL = 60;", "ENUM_VALUE_NO_DELETE"),
        ("a call is renamed", "rpc CancelChallenge(", "rpc EndChallenge(", "RPC_NO_DELETE"),
        ("a call writes", "option idempotency_level = NO_SIDE_EFFECTS;", "", "RPC_SAME_IDEMPOTENCY_LEVEL"),
        ("a service is renamed", "service OtpAdminService", "service AdminService", "SERVICE_NO_DELETE"),
        ("Go's package changes", "\"otpd/otp/v1;otpv1\"", "\"otpd/v1;otpv1\"", "FILE_SAME_GO_PACKAGE"),
        (
            "Java's package changes",
            "java_package = \"otpd.otp.v1\"",
            "java_package = \"otpd\"",
            "FILE_SAME_JAVA_PACKAGE",
        ),
        ("C#'s package changes", "\"Otpd.Otp.V1\"", "\"Otpd.V1\"", "FILE_SAME_CSHARP_NAMESPACE"),
    ];
    for (change, from, to, rule) in cases {
        let mut contract = changed(&contract, from, to);
        if rule == "MESSAGE_NO_DELETE" {
            contract = contract.replace("ClientContext client_context", "Device client_context");
        }
        let broken = broken_rules(&contract);
        assert!(broken.iter().any(|found| found == rule), "{change}: {broken:?}");
    }
}

#[test]
fn what_comes_last_is_allowed() {
    if left_out() {
        return;
    }
    let contract = text(CONTRACT);
    let cases = [
        ("no change", "bool send_otp = 9;", "bool send_otp = 9;"),
        ("a field", "  bool send_otp = 9;\n", "  bool send_otp = 9;\n  // New.\n  string theme = 1000;\n"),
        (
            "an outcome",
            "RiskDeclined risk_declined = 3;\n",
            "RiskDeclined risk_declined = 3;\n    // New.\n    Device device = 4;\n",
        ),
        ("an enum value", "  CHANNEL_EMAIL = 4;\n", "  CHANNEL_EMAIL = 4;\n  // New.\n  CHANNEL_PUSH = 1000;\n"),
        ("a call", "  rpc CancelChallenge(", "  // New.\n  rpc Ping(Device) returns (Device);\n  rpc CancelChallenge("),
        ("a comment", "// Sends to the first option at once.", "// Sends at once."),
    ];
    for (addition, from, to) in cases {
        let contract = changed(&contract, from, to) + "\n// New.\nmessage Device {}\n";
        assert_eq!(broken_rules(&contract), Vec::<String>::new(), "{addition}");
    }
}

#[test]
fn the_page_fetches_the_plugins_of_java_in_the_versions_of_its_build() {
    let (build, page) = (text("examples/java/pom.xml"), text("docs/clients.md"));
    for (property, plugin) in [("grpc.version", "protoc-gen-grpc-java"), ("protobuf.version", "protoc")] {
        let (_, rest) = build.split_once(&format!("<{property}>")).expect("the property");
        let (version, _) = rest.split_once('<').expect("its end");
        for named in [format!(":{plugin}:{version}:exe"), format!("/{plugin}-{version}-linux")] {
            assert!(page.contains(&named), "docs/clients.md has no {named}");
        }
    }
}

/// The blocks of a template, without comments.
fn blocks(template: &str) -> Vec<String> {
    let (_, plugins) = template.split_once("\nplugins:\n").expect("plugins");
    let plain = plugins.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n");
    plain.split("  - ").skip(1).map(|block| block.trim_end().to_owned()).collect()
}

/// A block of one language as it is from the top of the project.
fn from_the_top(block: &str, folder: &str) -> String {
    let lines = block.lines().map(|line| match line.split_once("out: ") {
        Some((before, _)) => format!("{before}out: generated/{folder}"),
        None => line
            .replace("[go, tool,", "[go, -C, examples/go, tool,")
            .replace("protoc_gen_python_grpc.py", "examples/python/protoc_gen_python_grpc.py")
            .replace("node_modules/", "examples/typescript/node_modules/"),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_template_of_all_languages_has_the_blocks_of_each() {
    let mut expected = Vec::new();
    for folder in ["go", "java", "python", "rust", "typescript"] {
        let of_one = blocks(&text(&format!("examples/{folder}/buf.gen.yaml")));
        expected.extend(of_one.iter().map(|block| from_the_top(block, folder)));
    }
    assert_eq!(blocks(&text("buf.gen.yaml")), expected);
    assert!(expected.iter().all(|block| !block.contains("remote:")), "needs another's network: {expected:#?}");
}
