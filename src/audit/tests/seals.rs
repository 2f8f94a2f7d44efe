//! Seals: when they are made, and what is found without them.

use super::*;

#[tokio::test]
async fn a_chain_that_is_made_anew_has_no_seals() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let text = written(&path, 2500).await;
    assert_eq!((kinds(&path), verified(&path).seals), (vec![], (3, 3)));
    let forged = |keep_seals: bool| {
        let (mut chain, mut lines) = (Chain::default(), Vec::new());
        for line in text.lines() {
            let body = chain::Line::parse(line.as_bytes()).unwrap();
            if keep_seals || body.seal().is_none() {
                let body = String::from_utf8_lossy(body.body).replace("otp_not_matched", "success");
                chain.append(body.as_bytes(), &mut lines);
            }
        }
        fs::write(&path, lines).unwrap();
        (verify(slice::from_ref(&path), None).unwrap().faults.len(), kinds(&path))
    };
    // Without keys nothing is wrong with it.
    let (without_keys, with_keys) = forged(true);
    assert_eq!((without_keys, with_keys.contains(&FaultKind::Seal)), (0, true));
    let (without_keys, with_keys) = forged(false);
    assert_eq!((without_keys, with_keys), (0, vec![FaultKind::Unsealed]));
    // Nor are other keys those.
    fs::write(&path, text).unwrap();
    assert_eq!(verify(slice::from_ref(&path), Some(keys(2))).unwrap().faults[0].kind, FaultKind::Seal);
}

/// Attempts at these seconds, after a first line of the same time.
async fn written_at(path: &Path, seconds: &[u64]) {
    let (audit, _) = audit(options(path));
    let (audit, call) = (audit.unwrap(), call());
    let start = SystemClock.now();
    for seconds in seconds {
        let at = start.plus(Duration::from_secs(*seconds));
        let decision = DecisionKind::Cancel { purpose: Purpose::Login };
        audit.decided(&DecisionEvent { at, call: &call, is_overdue: *seconds == 30, decision });
    }
    close(&audit).await;
}

#[tokio::test]
async fn no_line_is_without_a_seal_for_much_more_than_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    written_at(&path, &[0, 30, 59, 90, 120, 149, 151, 3600]).await;
    let text = fs::read_to_string(&path).unwrap();
    let events: Vec<bool> = text.lines().map(|line| line.contains(r#""event":"seal""#)).collect();
    // The configuration, 0, 30, 59, a seal, 90, 120, 149, a seal, 151, a seal, 3600, and a seal at the end.
    let seals = [false, false, false, false, true, false, false, false, true, false, true, false, true];
    assert_eq!(events, seals, "{text}");
    assert_eq!(text.matches(r#""overdue":true"#).count(), 1);
    assert_eq!((kinds(&path), verified(&path).seals), (vec![], (4, 4)));
    // A chain that is made anew without its seals is found out, long before the number of its lines is.
    let (mut chain, mut lines) = (Chain::default(), Vec::new());
    for line in text.lines() {
        let line = chain::Line::parse(line.as_bytes()).unwrap();
        if line.seal().is_none() {
            chain.append(line.body, &mut lines);
        }
    }
    fs::write(&path, lines).unwrap();
    assert_eq!(kinds(&path), [FaultKind::Late]);
    assert_eq!(verify(slice::from_ref(&path), None).unwrap().faults, []);
}

/// A process that was killed has left lines without a seal, and perhaps a torn one, a long time ago.
#[tokio::test]
async fn what_a_killed_process_has_left_is_sealed_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit");
    let now = SystemClock.now().as_millis();
    for torn in ["", "{\"v\":1,"] {
        let (encoder, mut chain, mut lines) = (Encoder::new(1, "policy"), Chain::default(), Vec::new());
        let at = Timestamp::from_millis(now - 3_600_000);
        let decision = DecisionKind::Cancel { purpose: Purpose::Login };
        let event = DecisionEvent { at, call: &call(), is_overdue: false, decision };
        chain.append(&encoder.encode(&event), &mut lines);
        lines.extend_from_slice(torn.as_bytes());
        fs::write(&path, &lines).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let text = written(&path, 1).await;
        assert!(text.lines().nth(1).unwrap().contains(r#""event":"seal""#), "{text}");
        assert_eq!(text.contains(r#""event":"torn""#), !torn.is_empty());
        assert_eq!(kinds(&path), [], "{text}");
    }
}
