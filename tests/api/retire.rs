//! Retiring a master key with `otpd keys`.

use crate::{
    caller::{Caller, verify, wrong},
    redis_server::RedisServer,
    site::{KEY_1, KEY_2, Site},
    words::verified,
};

const KEY_3: &str = "3:YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";

/// What the command prints.
fn keys(site: &Site, arguments: &[&str]) -> String {
    let ended = site.command(&[&["keys"], arguments].concat());
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8(ended.stdout).unwrap()
}

/// The row of a key: its status and its counts.
fn row(printed: &str, key: &str) -> String {
    let row =
        printed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).find(|row| row.first() == Some(&key));
    row.expect(printed).join(" ")
}

/// Two keys are in the ring, and a third takes their place. On Redis replicas serve meanwhile; an embedded store is looked over
/// while otpd is stopped.
#[tokio::test]
async fn a_key_leaves_when_no_record_needs_it() {
    let redis = RedisServer::start();
    for mut site in [Site::embedded(), Site::on(&redis)] {
        let is_shared = site.store().starts_with("redis");
        let number = "+14155558000";
        site.set("OTPD_MASTER_KEYS", &format!("{KEY_2},{KEY_1}"));
        let server = site.start();
        let caller = Caller::of(&server).await;
        caller.sent("c", "person", number).await;
        let code = site.code(number);
        assert_eq!(verified(&caller.verify(verify("w", "c", &wrong(&code, 0))).await), "otp_not_matched");
        if !is_shared {
            let refused = site.command(&["keys"]);
            let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert_eq!(refused.status.code(), Some(1), "{errors}");
            assert!(
                errors.contains("is in use by another process") && errors.contains("while otpd is stopped"),
                "{errors}"
            );
        }
        drop(server);

        site.set("OTPD_MASTER_KEYS", &format!("{KEY_3},{KEY_2},{KEY_1}"));
        let server = is_shared.then(|| site.start());
        let printed = keys(&site, &[]);
        assert_eq!(row(&printed, "1"), "1 in ring 0 0 16 0 0");
        assert_eq!(row(&printed, "2"), "2 in ring 1 1 0 0 1");
        assert_eq!(row(&printed, "3"), "3 active 0 0 0 0 0");
        assert!(printed.contains("key 2: seals 2 records: `otpd keys --reseal`"), "{printed}");
        assert!(printed.contains("key 1: stays: "), "{printed}");

        let printed = keys(&site, &["--reseal"]);
        assert!(printed.contains("2 records were sealed anew with key 3"), "{printed}");
        assert_eq!(row(&printed, "2"), "2 in ring 0 0 0 0 1");
        assert_eq!(row(&printed, "3"), "3 active 1 1 0 0 0");
        assert!(
            printed.contains("key 2: seals nothing, and the last code that was made with it expires at 20"),
            "{printed}"
        );

        // The code that was made with key 2 is still good, and needs it no more once it is used.
        let server = server.unwrap_or_else(|| site.start());
        let caller = Caller::of(&server).await;
        assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), "success");
        drop(server);
        let printed = keys(&site, &[]);
        assert!(
            printed.contains("key 2: is in use by nothing: it can be removed, if every replica has had key 3 first"),
            "{printed}"
        );
        site.set("OTPD_MASTER_KEYS", &format!("{KEY_3},{KEY_1}"));
        let server = site.start();
        let caller = Caller::of(&server).await;
        assert_eq!(verified(&caller.verify(verify("v", "c", &code)).await), "success");
        assert_eq!(caller.account("person").await.unwrap().failures(), 0);
    }
}

/// A key that has left too early, and a ring that is another store's.
#[tokio::test]
async fn a_key_that_is_missing_is_named() {
    let redis = RedisServer::start();
    let mut site = Site::on(&redis).with("OTPD_MASTER_KEYS", &format!("{KEY_2},{KEY_1}"));
    let server = site.start();
    Caller::of(&server).await.sent("c", "person", "+14155558001").await;
    drop(server);
    site.set("OTPD_MASTER_KEYS", KEY_1);
    let printed = keys(&site, &["--reseal"]);
    assert_eq!(row(&printed, "2"), "2 missing 1 0 0 1 0");
    assert!(printed.contains("key 2: is missing: 1 records cannot be opened"), "{printed}");
    site.set("OTPD_MASTER_KEYS", &KEY_2.replacen('2', "1", 1));
    let refused = site.command(&["keys"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the store belongs to other master keys"));
    let nowhere = Site::embedded().command(&["keys"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("there is no store in "));
}
