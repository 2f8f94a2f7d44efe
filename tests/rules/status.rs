//! The table of the rules: what each status of a challenge means for each call. ARCHITECTURE.md shows it, made here from the
//! code; and each status is brought about, and each call made, to see that the table is what happens.

use std::{fs, path::Path};

use otpd::domain::{
    challenge::{Ended, Phase},
    lockout::Lockout,
    outcome::ChallengeState,
    policy::LockPolicy,
    rules::{
        Cancel, CancelRefusal, CancelStep, Comparison, QuotaState, ReserveSend, SendStep, State, Status, VerifyRefusal,
        view,
    },
    time::Timestamp,
};

use super::{
    fixture::{SECOND, decided, key, option_id, plan, state, token, verify, with_code},
    language::{self, START, Words},
};

const BEGIN: &str = "<!-- rules -->\n";
const END: &str = "<!-- /rules -->";

fn description(status: Status) -> &'static str {
    match status {
        Status::Verified => "verified",
        Status::Cancelled => "cancelled",
        Status::Expired => "past its time",
        Status::Exhausted => "out of attempts, the last code still in time",
        Status::ExhaustedExpired => "out of attempts, the last code past its time",
        Status::Unsent => "open, nothing sent",
        Status::CodeExpired => "open, the code past its time",
        Status::Live => "open, with a live code",
    }
}

fn send(status: Status) -> String {
    status.refuses_send().map_or_else(|| "goes on".to_owned(), |refusal| format!("`{}`", language::sent(&refusal)))
}

fn verification(status: Status) -> String {
    match status.refuses_verify() {
        None => "compares, or asks".to_owned(),
        Some(VerifyRefusal::Answer(refusal)) => format!("`{}`", language::verified(&refusal)),
        Some(VerifyRefusal::NothingSent) => "PRECONDITION_VIOLATION".to_owned(),
    }
}

fn cancel(status: Status) -> &'static str {
    match status.refuses_cancel() {
        None => "cancels",
        Some(CancelRefusal::Done) => "done already",
        Some(CancelRefusal::Verified) => "PRECONDITION_VIOLATION",
    }
}

fn shown(state: ChallengeState) -> &'static str {
    match state {
        ChallengeState::Created => "`CREATED`",
        ChallengeState::Sent => "`SENT`",
        ChallengeState::Verified => "`VERIFIED`",
        ChallengeState::Cancelled => "`CANCELLED`",
        ChallengeState::Expired => "`EXPIRED`",
        ChallengeState::AttemptsExceeded => "`ATTEMPTS_EXCEEDED`",
    }
}

fn table() -> String {
    let mut table = "\
| Status | SendOtp | VerifyOtp | CancelChallenge | GetChallenge |
| --- | --- | --- | --- | --- |
"
    .to_owned();
    for status in Status::ALL {
        let cells = [
            description(status).to_owned(),
            send(status),
            verification(status),
            cancel(status).to_owned(),
            shown(status.shown()).to_owned(),
        ];
        table.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    table
}

#[test]
fn architecture_shows_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md");
    let page = fs::read_to_string(path).unwrap();
    let written = page.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(table, _)| table);
    let expected = table();
    assert!(
        written == Some(expected.as_str()),
        "between `{}` and `{END}` of ARCHITECTURE.md belongs\n{expected}",
        BEGIN.trim(),
    );
}

/// A challenge in that status, and the time at which it is.
fn in_status(status: Status) -> (State, Timestamp) {
    let opened = state("open attempts=1 code=60s", Lockout::default());
    let sent = with_code(&opened, "opt1", START);
    let after =
        |comparison| decided(&sent, &verify("v", 1, comparison), START.plus(SECOND), &LockPolicy::default()).state;
    let cancelled = || {
        let cancel = Cancel { key: key("c", "CancelChallenge") };
        decided(&sent, &cancel, START.plus(SECOND), &LockPolicy::default()).state
    };
    let (state, seconds) = match status {
        Status::Verified => (after(Comparison::Matches), 30),
        Status::Cancelled => (cancelled(), 30),
        Status::Expired => (sent, 600),
        Status::Exhausted => (after(Comparison::Differs), 59),
        Status::ExhaustedExpired => (after(Comparison::Differs), 60),
        Status::Unsent => (opened, 30),
        Status::CodeExpired => (sent, 60),
        Status::Live => (sent, 30),
    };
    (state, START.plus(seconds * SECOND))
}

#[test]
fn each_call_does_what_the_table_says() {
    let policy = LockPolicy::default();
    for status in Status::ALL {
        let (state, now) = in_status(status);
        assert_eq!(Status::of(&state.challenge, now), status);
        let reserve = ReserveSend {
            key: key("s", "SendOtp"),
            token: token(1),
            option: option_id("opt2"),
            quotas: QuotaState::Acquired,
            plan: plan(&Words::parse("send")),
            lease: 15 * SECOND,
            can_call: true,
            resume_lease: Some(std::time::Duration::from_secs(15)),
        };
        let came = match decided(&state, &reserve, now, &policy).outcome {
            SendStep::Refused(refusal) => format!("`{}`", language::sent(&refusal)),
            SendStep::Reserved(_) => "goes on".to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(came, send(status), "SendOtp, {status:?}");
        let comparison = if state.challenge.live_code().is_some() { Comparison::Differs } else { Comparison::NoCode };
        let came = decided(&state, &verify("v2", 2, comparison), now, &policy).outcome;
        let told = format!("`{}`", language::verify_step(&came));
        let expected = match verification(status).as_str() {
            "compares, or asks" => "`otp_not_matched left=0`".to_owned(),
            "PRECONDITION_VIOLATION" => "`nothing_sent`".to_owned(),
            refusal => refusal.to_owned(),
        };
        assert_eq!(told, expected, "VerifyOtp, {status:?}");
        let cancelled = decided(&state, &Cancel { key: key("c2", "CancelChallenge") }, now, &policy);
        let came = match cancelled.outcome {
            CancelStep::Done if cancelled.state.challenge.phase == Phase::Ended(Ended::Cancelled) => {
                if status == Status::Cancelled { "done already" } else { "cancels" }
            }
            CancelStep::Done => "done already",
            CancelStep::Verified => "PRECONDITION_VIOLATION",
            CancelStep::Conflict => "conflict",
        };
        assert_eq!(came, cancel(status), "CancelChallenge, {status:?}");
        assert_eq!(view(&state.challenge, now).state, status.shown(), "GetChallenge, {status:?}");
    }
}
