//! `scripts/release-check`: a tree that is fit to be released passes, and each thing that does not fit is told.

use std::{
    fs, io,
    path::Path,
    process::{Command, Output},
};

use super::text;

const CHANGELOG: &str = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n\n### Added\n\n- More.\n\n## [1.2.2] - 2026-01-01\n\n- Less.\n";
const MANIFEST: &str =
    "[package]\nname = \"otpd\"\nversion = \"1.2.3\"\n\n[dependencies]\nother = { version = \"9\" }\n";
const LOCK: &str = "version = 4\n\n[[package]]\nname = \"other\"\nversion = \"9.0.0\"\n\n[[package]]\nname = \"otpd\"\nversion = \"1.2.3\"\n";

const KUSTOMIZATION: &str = "images:\n  - name: otpd\n    newTag: 1.2.3\n";

/// A tree with one file changed.
fn tree(changed: (&str, &str)) -> io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let script = text("scripts/release-check");
    for (path, content) in [
        ("CHANGELOG.md", CHANGELOG),
        ("Cargo.toml", MANIFEST),
        ("Cargo.lock", LOCK),
        ("deploy/kubernetes/base/kustomization.yaml", KUSTOMIZATION),
        ("proto/otp/v1/otp.proto", "syntax"),
        ("proto-frozen/otp/v1/otp.proto", "syntax"),
        ("scripts/release-check", &script),
    ] {
        let file = folder.path().join(path);
        fs::create_dir_all(file.parent().unwrap_or(Path::new("/")))?;
        fs::write(file, if path == changed.0 { changed.1 } else { content })?;
    }
    Ok(folder)
}

fn check(folder: &Path, version: &str) -> io::Result<(Option<i32>, String, String)> {
    let Output { status, stdout, stderr } =
        Command::new("bash").arg(folder.join("scripts/release-check")).arg(version).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((status.code(), text(stdout), text(stderr)))
}

#[test]
fn what_fits_passes_and_is_described() {
    let (code, out, errors) = check(tree(("", "")).unwrap().path(), "1.2.3").unwrap();
    assert_eq!((code, out.trim(), errors.as_str()), (Some(0), "### Added\n\n- More.", ""));
}

#[test]
fn what_does_not_fit_is_told() {
    for (file, from, to, expected) in [
        ("Cargo.toml", "1.2.3", "1.2.2", "Cargo.toml has version 1.2.2"),
        ("Cargo.lock", "1.2.3", "1.2.2", "Cargo.lock has version 1.2.2 of otpd"),
        ("deploy/kubernetes/base/kustomization.yaml", "1.2.3", "1.2.2", "kustomization.yaml has another newTag"),
        ("CHANGELOG.md", " - 2026-01-31", "", "CHANGELOG.md has 0 headings of the form: ## [1.2.3] - YYYY-MM-DD"),
        ("CHANGELOG.md", "[1.2.3]", "[1x2.3]", "CHANGELOG.md says nothing of 1.2.3"),
        ("CHANGELOG.md", "### Added\n\n- More.\n\n", "", "CHANGELOG.md says nothing of 1.2.3"),
        ("CHANGELOG.md", "## [Unreleased]\n\n", "", "CHANGELOG.md has no heading: ## [Unreleased]"),
        ("CHANGELOG.md", "## [Unreleased]\n", "## [Unreleased]\n- New.\n", "has changes below ## [Unreleased]"),
        ("proto/otp/v1/otp.proto", "syntax", "syntax2", "the contract of this release is not frozen"),
    ] {
        let content = match file {
            "Cargo.toml" => MANIFEST,
            "Cargo.lock" => LOCK,
            "CHANGELOG.md" => CHANGELOG,
            "deploy/kubernetes/base/kustomization.yaml" => KUSTOMIZATION,
            _ => "syntax",
        };
        let changed = content.replace(from, to);
        assert_ne!(changed, content, "{file}: {from}");
        let (code, out, errors) = check(tree((file, &changed)).unwrap().path(), "1.2.3").unwrap();
        assert!(code == Some(1) && out.is_empty() && errors.contains(expected), "{file}, {from}: {errors}");
    }
    // All of it at once.
    let (code, _, errors) = check(tree(("", "")).unwrap().path(), "1.3.0").unwrap();
    assert!(code == Some(1) && errors.contains("Cargo.toml") && errors.contains("says nothing of 1.3.0"), "{errors}");
}

#[test]
fn a_version_is_a_semantic_one_without_a_v() {
    let folder = tree(("", "")).unwrap();
    for version in ["v1.2.3", "1.2", "1.02.3", "", "1.2.3 "] {
        assert_eq!(check(folder.path(), version).unwrap().0, Some(64), "{version}");
    }
}
