//! Tests of the rules: tables of commands and what they come to, the lockout, random histories against independent models,
//! the traces of the protocol, every order of a few workers' steps, and the bytes of records.
//!
//! A table is a text file beside this one; `language.rs` says how it reads. To add a case, add a line.

// `cfg(test)` tells clippy that the helpers are tests too.
#[cfg(test)]
mod account;
#[cfg(test)]
mod code;
#[cfg(test)]
mod extremes;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod format;
#[cfg(test)]
mod histories;
#[cfg(test)]
mod language;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod lockout;
#[cfg(test)]
mod model;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod pending;
#[cfg(test)]
mod phones;
#[cfg(test)]
mod protocol;
#[cfg(test)]
mod status;
#[cfg(test)]
mod table;
#[cfg(test)]
mod values;

/// Runs every scenario of a table and reports all steps that came out otherwise. With `OTPD_REWRITE_TABLES` set it writes them
/// down instead.
macro_rules! tables {
    ($($name:ident),+) => {
        $(
            #[test]
            fn $name() {
                if std::env::var_os("OTPD_REWRITE_TABLES").is_some() {
                    let path = format!("{}/tests/rules/{}.txt", env!("CARGO_MANIFEST_DIR"), stringify!($name));
                    let table = table::rewritten(&std::fs::read_to_string(&path).unwrap());
                    return std::fs::write(path, table).unwrap();
                }
                let mistakes = table::run(include_str!(concat!(stringify!($name), ".txt")));
                assert!(mistakes.is_empty(), "{}.txt:\n{}", stringify!($name), mistakes.join("\n"));
            }
        )+
    };
}

tables!(send, settle, verify, managed, ending);

/// The canary of the tables: a step with a wrong expectation is reported.
#[test]
fn a_wrong_table_is_noticed() {
    let mistakes = table::run("== t\nat 0s | send opt1 id=s1 | resend_too_soon next=30s\n");
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].contains("reserved 1 lease=15s"), "{mistakes:?}");
}
