//! Holds the shape of the source tree: who imports whom, sizes, leftovers, prints, documentation, wiring.
//!
//! Each check turns text into complaints and is itself tested with bad text. What they judge is read at run time.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/names.rs"]
mod names;

use code::{code_of, imports, is_word, tokens};
use names::{type_complaints, word_complaints};

/// Which modules of the crate each layer may import. ARCHITECTURE.md shows the same table under "Imports".
const LAYERS: &[(&str, &str)] = &[
    ("secret", ""),
    ("domain", "secret"),
    ("ports", "domain secret"),
    ("keys", "domain ports secret"),
    ("messages", "domain secret"),
    ("audit", "domain keys ports"),
    ("service", "domain keys messages ports secret"),
    ("spans", "ports"),
    ("streams", "ports"),
    ("stores", "domain ports secret spans streams"),
    ("settings", "domain"),
    ("providers", "domain ports secret settings spans"),
    ("grpc", "domain ports secret service spans streams"),
    ("config", "audit domain keys messages providers secret settings stores telemetry"),
    ("telemetry", "domain metrics ports spans"),
    ("lifecycle", "domain ports readiness"),
    ("readiness", "domain ports"),
    ("metrics", "domain ports"),
    ("operations", "metrics ports readiness streams"),
    (
        "app",
        "audit config domain grpc keys lifecycle metrics operations ports providers readiness secret service stores",
    ),
    ("cli", "app config grpc keys lifecycle metrics ports providers readiness telemetry"),
    ("main", "cli"),
    ("lib", ""),
];

/// Crates that only some layers may use.
const FOREIGN: &[(&str, &str)] = &[
    ("aws_credential_types", "providers"),
    ("aws_sigv4", "providers"),
    ("axum", "operations"),
    ("fjall", "stores"),
    ("lettre", "providers"),
    ("lsm_tree", "stores"),
    ("hyper", "grpc providers"),
    ("hyper_rustls", "providers"),
    ("hyper_util", "grpc providers"),
    ("minijinja", "messages"),
    ("opentelemetry", "spans telemetry"),
    ("opentelemetry_proto", "telemetry"),
    ("opentelemetry_sdk", "telemetry"),
    ("prost", "grpc"),
    ("redis", "stores"),
    ("tonic", "app cli grpc telemetry"),
    ("tonic_health", "app cli grpc"),
    ("tonic_reflection", "app grpc"),
    ("tonic_types", "cli grpc"),
    ("tracing_opentelemetry", "spans telemetry"),
];

/// The only sources that may write to standard output or standard error.
const MAY_PRINT: &[&str] = &["src/main.rs", "src/cli.rs", "src/cli/", "src/telemetry.rs", "src/providers/console.rs"];

/// The longest file of a folder, in lines; the first prefix that fits counts.
const MAX_LINES: [(&str, usize); 5] =
    [("src/domain/", 300), ("src/service/", 300), ("src/", 400), ("tests/", 600), ("benches/", 600)];

/// The longest ARCHITECTURE.md, in bytes: a page that is read, not a list that is searched.
const MAX_ARCHITECTURE: usize = 10 * 1024;

/// Where a Rust file must be part of a target.
const RUST_FOLDERS: [&str; 3] = ["src/", "tests/", "benches/"];

struct File {
    path: String,
    text: String,
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// All text files of the project, with paths relative to its top.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), "", &[".git".to_owned()], &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// All below a folder but what git ignores: that is of tools, not of the project. The files `.gitignore` name folders only.
fn collect(folder: &Path, prefix: &str, ignored: &[String], found: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let more = fs::read_to_string(folder.join(".gitignore")).unwrap_or_default();
    let more = more.lines().map(|line| line.trim_matches('/').to_owned());
    let ignored = ignored.iter().cloned().chain(more).collect::<Vec<_>>();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if ignored.contains(&name) {
            continue;
        }
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{path}/"), &ignored, found);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            found.push(File { path, text });
        }
    }
}

fn text_of(files: &[File], path: &str) -> String {
    files.iter().find(|file| file.path == path).map(|file| file.text.clone()).unwrap_or_default()
}

/// Whether a list of words holds a word.
fn lists(words: &str, word: &str) -> bool {
    words.split_whitespace().any(|listed| listed == word)
}

fn layer_of(path: &str) -> &str {
    let module = path.trim_start_matches("src/").trim_end_matches(".rs");
    module.split('/').next().unwrap_or_default()
}

fn layer_complaints(path: &str, text: &str) -> Vec<String> {
    let layer = layer_of(path);
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == layer) else {
        return vec![format!("{path}: `{layer}` has no row in LAYERS")];
    };
    let is_layer = |name: &str| LAYERS.iter().any(|(layer, _)| *layer == name);
    let mut complaints = Vec::new();
    for name in imports(path, text) {
        let known = name == "*" || is_layer(&name);
        if known && name != layer && !lists(allowed, &name) {
            complaints.push(format!("{path}: `{layer}` may not import `{name}`"));
        }
    }
    let code = code_of(text);
    let tokens = tokens(&code);
    for (crate_name, layers) in FOREIGN {
        let used = tokens.windows(2).any(|pair| pair == [*crate_name, "::"]);
        let own = path.ends_with(&format!("/{crate_name}.rs")) || path.contains(&format!("/{crate_name}/"));
        if used && !own && !lists(layers, layer) {
            complaints.push(format!("{path}: `{layer}` may not use the crate `{crate_name}`"));
        }
    }
    let awaits = tokens.iter().any(|token| matches!(*token, "async" | "await" | "tokio"));
    if layer == "domain" && awaits {
        complaints.push(format!("{path}: the domain does not wait"));
    }
    complaints
}

/// What holds for every file on its own.
fn file_complaints(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for place in [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/fa", "rm/")] {
        let absolute =
            |at: usize| !text.get(..at).unwrap_or_default().ends_with(|c: char| is_word(c) || "-.~".contains(c));
        if text.match_indices(place).any(|(at, _)| absolute(at)) {
            complaints.push(format!("{path}: names a path of one machine, {place}"));
        }
    }
    if !is_rust(path) {
        return complaints;
    }
    let lines = text.lines().count();
    let max = MAX_LINES.iter().find(|(folder, _)| path.starts_with(folder)).map_or(400, |(_, max)| *max);
    if lines > max {
        complaints.push(format!("{path}: {lines} lines; at most {max}"));
    }
    if RUST_FOLDERS.iter().any(|folder| path.starts_with(folder)) && !text.starts_with("//! ") {
        complaints.push(format!("{path}: the first line must say what the file is for, after `//! `"));
    }
    let code = code_of(text);
    for macro_name in
        [concat!("db", "g!"), concat!("to", "do!"), concat!("unimpl", "emented!"), concat!("#[ig", "nore")]
    {
        if code.contains(macro_name) {
            complaints.push(format!("{path}: leftover {macro_name}"));
        }
    }
    for word in [concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO")] {
        if text.split(|c| !is_word(c)).any(|found| found == word) {
            complaints.push(format!("{path}: leftover {word}"));
        }
    }
    let prints = tokens(&code).windows(2).any(|pair| {
        matches!(pair, ["print" | "println" | "eprint" | "eprintln", "!"] | ["stdout" | "stderr", "(" | ")"])
    });
    if path.starts_with("src/") && prints && !MAY_PRINT.iter().any(|place| path.starts_with(place)) {
        complaints.push(format!("{path}: prints; use `tracing`"));
    }
    complaints
}

/// The rows of the Markdown tables under a heading: the first cell, and the rest, without backticks.
fn rows(markdown: &str, heading: &str) -> Vec<(String, String)> {
    let section = markdown.lines().skip_while(|line| line.trim() != heading).skip(1);
    let section = section.take_while(|line| !line.starts_with("## "));
    let cells = section.filter_map(|line| line.strip_prefix('|')?.split_once('|'));
    cells.map(|(first, rest)| (first.replace('`', "").trim().to_owned(), rest.to_owned())).collect()
}

fn mirror_complaints(architecture: &str) -> Vec<String> {
    let mut shown = BTreeMap::new();
    for (layer, cell) in rows(architecture, "## Imports").into_iter().filter(|(layer, _)| layer.starts_with(is_word)) {
        let names = cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
        shown.insert(layer, names);
    }
    shown.remove("Layer");
    let mut complaints = Vec::new();
    for (layer, allowed) in LAYERS {
        let allowed = allowed.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
        if shown.remove(*layer) != Some(allowed) {
            complaints
                .push(format!("ARCHITECTURE.md: under Imports, the row of `{layer}` is missing or not that of LAYERS"));
        }
    }
    complaints.extend(shown.keys().map(|layer| format!("ARCHITECTURE.md: under Imports, `{layer}` is not in LAYERS")));
    complaints
}

/// Permissions of LAYERS that no file uses.
fn idle_complaints(files: &[File]) -> Vec<String> {
    let mut used = BTreeSet::new();
    for file in files.iter().filter(|file| file.path.starts_with("src/") && is_rust(&file.path)) {
        used.extend(imports(&file.path, &file.text).into_iter().map(|name| (layer_of(&file.path).to_owned(), name)));
    }
    let allowed = LAYERS.iter().flat_map(|(layer, names)| names.split_whitespace().map(move |name| (*layer, name)));
    let idle = allowed.filter(|(layer, name)| !used.contains(&((*layer).to_owned(), (*name).to_owned())));
    idle.map(|(layer, name)| format!("LAYERS: `{layer}` may import `{name}`, and no file does")).collect()
}

/// Rust files below `src`, `tests` and `benches` that no target compiles.
fn wiring_complaints(files: &[File]) -> Vec<String> {
    let rust = files.iter().filter(|file| is_rust(&file.path));
    let rust = rust.filter(|file| RUST_FOLDERS.iter().any(|folder| file.path.starts_with(folder)));
    let mut waiting = rust.map(|file| (file.path.as_str(), file)).collect::<BTreeMap<_, _>>();
    let is_root = |path: &str| {
        let parts = path.split('/').collect::<Vec<_>>();
        matches!(
            parts.as_slice(),
            ["src", "lib.rs" | "main.rs"] | ["tests" | "benches", _] | ["tests" | "benches", _, "main.rs"]
        )
    };
    let mut open =
        waiting.keys().filter(|path| is_root(path)).map(|path| ((*path).to_owned(), true)).collect::<Vec<_>>();
    while let Some((path, owns_folder)) = open.pop() {
        let Some(file) = waiting.remove(path.as_str()) else { continue };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let children = if owns_folder { folder.to_owned() } else { path.trim_end_matches(".rs").to_owned() };
        let mut given = None;
        for line in file.text.lines().map(str::trim_start) {
            if let Some(rest) = line.strip_prefix("#[path = \"") {
                given = rest.split('"').next().map(|relative| joined(folder, relative));
            } else if let Some(name) = module_name(line) {
                match given.take() {
                    Some(path) => open.push((path, true)),
                    None => open.extend([
                        (format!("{children}/{name}.rs"), false),
                        (format!("{children}/{name}/mod.rs"), true),
                    ]),
                }
            }
        }
    }
    waiting.keys().map(|path| format!("{path}: no target compiles it")).collect()
}

/// The name in `mod name;`, whatever its visibility.
fn module_name(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub").map_or(line, |rest| rest.trim_start_matches(|c| c != ' ').trim_start());
    line.strip_prefix("mod ")?.split_once(';').map(|(name, _)| name).filter(|name| name.chars().all(is_word))
}

/// A relative path taken from a folder.
fn joined(folder: &str, relative: &str) -> String {
    let mut parts = folder.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
    for part in relative.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Every benchmark is declared with its own `main`, as criterion needs.
fn bench_complaints(manifest: &str, files: &[File]) -> Vec<String> {
    let declared = manifest.split("[[bench]]").skip(1).map(|part| part.split("\n[").next().unwrap_or_default());
    let declared = declared.filter(|part| part.contains("harness = false")).collect::<Vec<_>>();
    let names = files.iter().filter_map(|file| file.path.strip_prefix("benches/")?.strip_suffix(".rs"));
    let names = names.map(|name| name.trim_end_matches("/main")).filter(|name| !name.contains('/'));
    let missing = names.filter(|name| !declared.iter().any(|part| part.contains(&format!("name = \"{name}\""))));
    missing.map(|name| format!("Cargo.toml: no [[bench]] of name {name} with harness = false")).collect()
}

/// Links of the documents to files that are not there.
fn link_complaints(files: &[File]) -> Vec<String> {
    let paths = files.iter().map(|file| file.path.as_str()).collect::<BTreeSet<_>>();
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| Path::new(&file.path).extension().is_some_and(|extension| extension == "md"))
    {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for link in file.text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
            let local = !link.is_empty() && !link.contains("://");
            let target = joined(folder, link);
            if local
                && !paths.contains(target.as_str())
                && !paths.iter().any(|path| path.starts_with(&format!("{target}/")))
            {
                complaints.push(format!("{}: links to {link}, which is absent", file.path));
            }
        }
    }
    complaints
}

fn assert_none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn layers_hold() {
    let files = files();
    let sources = files.iter().filter(|file| file.path.starts_with("src/") && is_rust(&file.path));
    assert_none(&sources.flat_map(|file| layer_complaints(&file.path, &file.text)).collect::<Vec<_>>());
    assert_none(&idle_complaints(&files));
}

#[test]
fn names_mean_one_thing() {
    let files = files();
    let sources = files.iter().filter(|file| file.path.starts_with("src/") && is_rust(&file.path));
    let sources = sources.map(|file| (file.path.as_str(), code_of(&file.text))).collect::<Vec<_>>();
    assert_none(&type_complaints(&sources));
    assert_none(&word_complaints(&sources));
}

#[test]
fn each_file_is_tidy() {
    assert_none(&files().iter().flat_map(|file| file_complaints(&file.path, &file.text)).collect::<Vec<_>>());
}

#[test]
fn every_file_is_wired() {
    let files = files();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the sources were not found");
    assert_none(&wiring_complaints(&files));
    assert_none(&bench_complaints(&text_of(&files, "Cargo.toml"), &files));
}

#[test]
fn documents_are_true() {
    let files = files();
    let architecture = text_of(&files, "ARCHITECTURE.md");
    let mut complaints = mirror_complaints(&architecture);
    if architecture.len() > MAX_ARCHITECTURE {
        complaints.push(format!("ARCHITECTURE.md: {} bytes; at most {MAX_ARCHITECTURE}", architecture.len()));
    }
    complaints.extend(link_complaints(&files));
    assert_none(&complaints);
}

// From here on, the checks themselves. Each bad text breaks one rule; each good one comes close.

#[test]
fn checks_see_forbidden_imports() {
    let cases = [
        ("src/domain/code.rs", "use crate::ports::clock::Clock;", "ports"),
        ("src/domain/code.rs", "use crate::{domain::ids, secret::{Secret, x}, service::Otp};", "service"),
        ("src/domain/rules/send.rs", "fn f() { super::super::super::grpc::g() }", "grpc"),
        ("src/domain/code.rs", "mod inner { use super::super::super::stores; }", "stores"),
        ("src/domain.rs", "use super::{secret::Secret, keys::Ring};", "keys"),
        ("src/service/verify.rs", "use crate::{domain::{ids::{A, B}, time::T}, stores::redis::Redis};", "stores"),
        ("src/service/verify.rs", "pub(crate) use crate::app;", "app"),
        ("src/service/verify.rs", "use crate::*;", "*"),
        ("src/service/verify.rs", "use crate as everything;", "*"),
        ("src/stores/redis.rs", "let a = '\\''; let b = '\"'; crate::service::x();", "service"),
        ("src/stores/redis.rs", "let a: &'static str = r#\"a\"b\"#; crate :: providers :: x();", "providers"),
        ("src/main.rs", "fn main() { otpd::stores::x() }", "stores"),
    ];
    for (path, text, name) in cases {
        let complaints = layer_complaints(path, text);
        assert!(complaints.iter().any(|text| text.ends_with(&format!("`{name}`"))), "{path}: {text}: {complaints:?}");
    }
    assert_eq!(layer_complaints("src/other.rs", "").len(), 1);
    assert_eq!(layer_complaints("src/service/verify.rs", "use tonic::Status;").len(), 1);
    assert_eq!(layer_complaints("src/domain/code.rs", "async fn f() {}").len(), 1);
}

#[test]
fn checks_allow_good_imports() {
    let cases = [
        ("src/domain/code.rs", "use crate::{domain::ids::Tag, secret::Secret};\nuse super::time::Timestamp;"),
        ("src/domain/code.rs", "// use crate::service::Otp;\n/* /* crate::app */ crate::app */ /// [`crate::grpc`]"),
        (
            "src/domain/code.rs",
            "const A: &str = \"crate::service::x\"; const B: &str = r\"crate::app\\\"; fn f<'a>(x: &'a str) {}",
        ),
        ("src/domain.rs", "mod tests { use super::*; use super::service; }\npub(crate) struct X;"),
        ("src/stores.rs", "pub mod redis; use redis::Redis; use crate::ports::store::Store;"),
        ("src/providers.rs", "use crate::providers::console; use super::ports;"),
        ("src/main.rs", "fn main() { otpd::cli::run() }"),
    ];
    for (path, text) in cases {
        assert_eq!(layer_complaints(path, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn checks_see_untidy_files() {
    let bad = [
        ("src/a.rs", "fn f() {}\n".to_owned()),
        ("src/a.rs", "//! A.\n".repeat(401)),
        ("src/domain/a.rs", "//! A.\n".repeat(301)),
        ("tests/a.rs", "//! A.\n".repeat(601)),
        ("src/a.rs", format!("//! A.\nfn f() {{ {}() }}", concat!("to", "do!"))),
        ("tests/a.rs", format!("//! A.\n{}] fn f() {{}}", concat!("#[ig", "nore"))),
        ("benches/a.rs", format!("//! A.\n// {}: later", concat!("FIX", "ME"))),
        ("src/a.rs", "//! A.\nfn f() { println!(\"x\") }".to_owned()),
        ("src/a.rs", "//! A.\nfn f() { let out = std::io::stdout(); }".to_owned()),
        ("docs/a.md", format!("see {}a", concat!("/wo", "rk/"))),
    ];
    for (path, text) in bad {
        assert_eq!(file_complaints(path, &text).len(), 1, "{path}: {text:.60}");
    }
    let good = [
        ("src/cli.rs", "//! A.\nfn f() { println!(\"x\") }".to_owned()),
        ("src/a.rs", format!("//! A.\nconst A: &str = \"{} println!()\";", concat!("to", "do!"))),
        ("tests/a.rs", "//! A.\n".repeat(600)),
        ("docs/a.md", format!("see https://example.com{}a", concat!("/wo", "rk/"))),
    ];
    for (path, text) in good {
        assert_eq!(file_complaints(path, &text), Vec::<String>::new());
    }
}

#[test]
fn checks_see_what_documents_miss() {
    let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
    assert_eq!(mirror_complaints("## Imports\n| `service` | `grpc` |\n| `none` | |\n").len(), LAYERS.len() + 1);
    let idle = idle_complaints(&[file("src/ports/a.rs", "use crate::{domain::ids, secret::Secret};")]);
    assert!(idle.iter().all(|complaint| !complaint.starts_with("LAYERS: `ports`")) && !idle.is_empty());
    let links =
        [file("docs/a.md", "[a](../README.md) [b](b.md#c) [c](https://x) [d](#e) [f](gone.md)"), file("docs/b.md", "")];
    assert_eq!(link_complaints(&links).len(), 2);
}

#[test]
fn checks_see_files_left_out() {
    let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
    let files = [
        file("src/lib.rs", "pub mod a;\npub(crate) mod b;\n// mod c;\n"),
        file("src/a.rs", "mod inner;\n"),
        file("src/a/inner.rs", ""),
        file("src/b/mod.rs", "mod deep;"),
        file("src/b/deep.rs", ""),
        file("src/c.rs", ""),
        file("tests/api/main.rs", "#[path = \"../support/clock.rs\"]\nmod clock;\nmod verify;\n"),
        file("tests/api/verify.rs", ""),
        file("tests/api/forgotten.rs", ""),
        file("tests/support/clock.rs", "mod hands;\n"),
        file("tests/support/hands.rs", ""),
        file("benches/flow.rs", ""),
    ];
    let left_out = wiring_complaints(&files);
    assert_eq!(left_out, ["src/c.rs: no target compiles it", "tests/api/forgotten.rs: no target compiles it"]);
    assert_eq!(bench_complaints("[[bench]]\nname = \"flow\"\nharness = false\n", &files), Vec::<String>::new());
    assert_eq!(bench_complaints("[[bench]]\nname = \"other\"\nharness = false\n", &files).len(), 1);
}
