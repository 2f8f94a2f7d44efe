//! Reads Rust just well enough: code without comments and literals, its words, what it imports.

use std::collections::BTreeSet;

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// How many bytes of a comment or a literal `rest` starts with; 0 if with neither.
fn comment_or_literal(rest: &str, after_word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        let mut depth = 0;
        for (at, _) in rest.char_indices() {
            let here = rest.get(at..).unwrap_or_default();
            let before = rest.get(..at).unwrap_or_default();
            if here.starts_with("/*") {
                depth += 1;
            } else if before.ends_with("*/") && at > 3 {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
        }
        return rest.len();
    }
    let quoted = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - quoted.len();
    if let Some(raw) = quoted.strip_prefix('r').filter(|_| !after_word && prefix <= 1) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if let Some(body) = raw.trim_start_matches('#').strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = rest.len() - body.len();
            return body.find(&end).map_or(rest.len(), |at| start + at + end.len());
        }
    }
    if let Some(body) = rest.strip_prefix('"') {
        let mut escaped = false;
        for (at, c) in body.char_indices() {
            if c == '"' && !escaped {
                return at + 2;
            }
            escaped = c == '\\' && !escaped;
        }
        return rest.len();
    }
    if let Some(body) = rest.strip_prefix('\'') {
        let mut characters = body.chars();
        let first = characters.next();
        if first == Some('\\') {
            return body.get(2..).and_then(|tail| tail.find('\'')).map_or(rest.len(), |at| at + 4);
        }
        if characters.next() == Some('\'') {
            return first.map_or(0, char::len_utf8) + 2;
        }
    }
    0
}

/// The code alone: comments and literals become spaces, lines stay.
pub(crate) fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = comment_or_literal(rest, code.ends_with(is_word));
        let (head, tail) = rest.split_at(if skipped == 0 { first.len_utf8() } else { skipped });
        if skipped == 0 {
            code.push(first);
        } else {
            code.extend(head.chars().map(|c| if c == '\n' { c } else { ' ' }));
        }
        rest = tail;
    }
    code
}

/// Words, `::` and single characters.
pub(crate) fn tokens(code: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = if is_word(first) {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, tail) = rest.split_at(length);
        found.push(token);
        rest = tail.trim_start();
    }
    found
}

/// The names that follow `crate`: one, those of a group, or `*` where everything is within reach.
fn heads(after: &[&str]) -> Vec<String> {
    match after {
        ["as" | ";", ..] | ["::", "*", ..] => vec!["*".into()],
        ["::", "{", group @ ..] => {
            let mut depth = 1;
            let mut first = true;
            let mut names = Vec::new();
            for token in group {
                if depth == 1 && first && *token != "}" {
                    names.push((*token).to_owned());
                }
                first = false;
                match *token {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    "," => first = true,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
            names
        }
        ["::", name, ..] => vec![(*name).to_owned()],
        _ => Vec::new(),
    }
}

fn module_path(path: &str) -> Vec<&str> {
    let module = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if matches!(module, "lib" | "main") { Vec::new() } else { module.split('/').collect() }
}

/// The modules at the top of the crate that a source file reaches for, in `use` or in a path.
pub(crate) fn imports(path: &str, text: &str) -> BTreeSet<String> {
    let code = code_of(text);
    let tokens = tokens(&code);
    let mut found = BTreeSet::new();
    let mut depth = 0;
    let mut inline_modules = Vec::new();
    let mut previous = "";
    for (at, token) in tokens.iter().enumerate() {
        let after = tokens.get(at + 1..).unwrap_or_default();
        match *token {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inline_modules.retain(|opened| *opened <= depth);
            }
            "mod" if after.get(1) == Some(&"{") => inline_modules.push(depth + 1),
            "otpd" if previous != "::" && path == "src/main.rs" => found.extend(heads(after)),
            "crate" => found.extend(heads(after).into_iter().filter(|_| after.first() != Some(&";"))),
            "super" if previous != "::" => {
                let climbed = 1 + after.chunks(2).take_while(|pair| *pair == ["::", "super"]).count();
                if climbed == module_path(path).len() + inline_modules.len() {
                    let rest = after.get((climbed - 1) * 2..).unwrap_or_default();
                    found.extend(heads(rest));
                }
            }
            _ => {}
        }
        previous = token;
    }
    found
}
