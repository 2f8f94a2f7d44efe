//! A challenge with codes of ours, once more and as simply as possible: from the design, not from the code. Its bugs are
//! there on purpose, one at a time, to show that the comparison finds them.

use std::collections::BTreeMap;

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    ExpiresTooLate,
    ResendForgivesAttempts,
    GapPerOption,
    RepetitionCounts,
    ContentIgnored,
    OldCodeStaysGood,
    FailedSendKeepsItsGap,
    FailedSendKeepsItsId,
    GivesBackForEver,
    UnknownIsFailed,
    LockUsesAttempt,
    LockAfterExpiry,
    CancelIsNotExpired,
    LastSettleWins,
    ClockRunsBack,
}

impl Bug {
    pub(crate) const ALL: [Self; 15] = [
        Self::ExpiresTooLate,
        Self::ResendForgivesAttempts,
        Self::GapPerOption,
        Self::RepetitionCounts,
        Self::ContentIgnored,
        Self::OldCodeStaysGood,
        Self::FailedSendKeepsItsGap,
        Self::FailedSendKeepsItsId,
        Self::GivesBackForEver,
        Self::UnknownIsFailed,
        Self::LockUsesAttempt,
        Self::LockAfterExpiry,
        Self::CancelIsNotExpired,
        Self::LastSettleWins,
        Self::ClockRunsBack,
    ];
}

/// The limits of a history. Times are in quarters of a second.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) attempts: u32,
    pub(crate) sends: u32,
    pub(crate) gaps: Vec<u64>,
    pub(crate) code_life: u64,
    pub(crate) life: u64,
    pub(crate) repeat: bool,
}

/// What is done. Sends and codes go by the number of the send.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send { id: u8, option: usize, locked: bool },
    First,
    Settle { number: u32, how: How },
    Decline { number: u32 },
    Verify { id: u8, code: Option<u32>, locked: bool },
    Cancel { id: u8 },
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Accepted,
    Rejected,
    Failed,
    Unknown,
}

const LEASE: u64 = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Creation,
    Send(usize),
    /// The send that made the code; `None` for a wrong one.
    Verify(Option<u32>),
    Cancel,
}

#[derive(Clone, Debug)]
struct Live {
    made_by: u32,
    option: usize,
    expires: u64,
}

#[derive(Clone, Debug)]
struct Flight {
    id: String,
    content: Content,
    number: u32,
    option: usize,
    lease: u64,
    expires: u64,
    before: Option<Live>,
    next_before: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    Verified,
    Cancelled,
    OutOfAttempts { code_expires: u64 },
    Expired,
}

/// The model.
pub(crate) struct Model {
    limits: Limits,
    bug: Option<Bug>,
    latest: u64,
    end: Option<End>,
    sends: [u32; 2],
    spent: u32,
    next: [u64; 2],
    given_back: u32,
    attempts: u32,
    live: Option<Live>,
    flight: Option<Flight>,
    numbers: u32,
    /// Which code each send delivered.
    codes: BTreeMap<u32, u32>,
    requests: BTreeMap<u32, (String, Content)>,
    answers: BTreeMap<String, (Content, String)>,
    /// Sends that failed and stayed spent, by their ids: tried again they are not charged again.
    failed: BTreeMap<String, (Content, u32)>,
}

fn time(quarters: u64) -> String {
    let (seconds, rest) = (quarters / 4, quarters % 4);
    format!("{seconds}{}s", ["", ".25", ".5", ".75"][usize::try_from(rest).unwrap()])
}

impl Model {
    pub(crate) fn new(limits: Limits, bug: Option<Bug>) -> Self {
        Self {
            limits,
            bug,
            latest: 0,
            end: None,
            sends: [0; 2],
            spent: 0,
            next: [0; 2],
            given_back: 0,
            attempts: 0,
            live: None,
            flight: None,
            numbers: 0,
            codes: BTreeMap::new(),
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    pub(crate) fn sends_so_far(&self) -> u32 {
        self.numbers
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn now(&self, clock: u64) -> u64 {
        if self.has(Bug::ClockRunsBack) { clock } else { clock.max(self.latest) }
    }

    fn past(&self, now: u64, end: u64) -> bool {
        if self.has(Bug::ExpiresTooLate) { now > end } else { now >= end }
    }

    /// What the step comes to.
    pub(crate) fn step(&mut self, clock: u64, step: &Step) -> String {
        let now = self.now(clock);
        let own = match step {
            Step::Settle { number, .. } | Step::Decline { number } => Some(*number),
            _ => None,
        };
        if self.flight.as_ref().is_some_and(|flight| now >= flight.lease && own != Some(flight.number)) {
            let how = if self.has(Bug::UnknownIsFailed) { How::Failed } else { How::Unknown };
            self.land(now, how);
        }
        let answer = self.act(now, step);
        if self.end.is_none() && self.past(now, self.limits.life) {
            (self.end, self.latest) = (Some(End::Expired), now);
        }
        answer
    }

    fn act(&mut self, now: u64, step: &Step) -> String {
        match step {
            Step::Send { option: 2, .. } => "unknown_option".to_owned(),
            Step::Send { id, option, locked } => {
                self.send(now, format!("r{id}"), Content::Send(*option), *option, *locked)
            }
            Step::First => self.send(now, "create".to_owned(), Content::Creation, 0, false),
            Step::Settle { number, how } => self.settle(now, *number, *how),
            Step::Decline { number } => self.decline(now, *number),
            Step::Verify { id, code, locked } => self.verify(now, &format!("r{id}"), *code, *locked),
            Step::Cancel { id } => self.cancel(now, &format!("r{id}")),
        }
    }

    /// What is remembered of a request: a conflict, its answer, or that it is in flight.
    fn remembered(&self, id: &str, content: &Content) -> Option<String> {
        let differs = |other: &Content| other != content && !self.has(Bug::ContentIgnored);
        if self.failed.get(id).is_some_and(|(other, _)| other != content) {
            return Some("conflict".to_owned());
        }
        if let Some((other, answer)) = self.answers.get(id) {
            let same_rpc = std::mem::discriminant(other) == std::mem::discriminant(content);
            return Some(if differs(other) || !same_rpc { "conflict".to_owned() } else { format!("again {answer}") });
        }
        if let Some(flight) = self.flight.as_ref().filter(|flight| flight.id == id) {
            let conflict = differs(&flight.content);
            return Some(if conflict { "conflict".to_owned() } else { format!("busy until={}", time(flight.lease)) });
        }
        (id == "create" && *content != Content::Creation).then(|| "conflict".to_owned())
    }

    fn over(&self, now: u64) -> bool {
        self.end.is_some() || self.past(now, self.limits.life) || self.attempts >= self.limits.attempts
    }

    fn send(&mut self, now: u64, id: String, content: Content, option: usize, locked: bool) -> String {
        if let Some(answer) = self.remembered(&id, &content) {
            return answer;
        }
        let charged = self.failed.get(&id).map(|(_, number)| *number);
        let gap = if self.has(Bug::GapPerOption) { self.next[option] } else { *self.next.iter().max().unwrap() };
        if locked {
            "account_locked".to_owned()
        } else if self.over(now) {
            "challenge_option_expired".to_owned()
        } else if charged.is_none() && self.sends[option] >= self.limits.sends {
            "send_limit_exceeded".to_owned()
        } else if charged.is_none() && now < gap {
            format!("resend_too_soon next={}", time(gap))
        } else if let Some(flight) = &self.flight {
            format!("busy until={}", time(flight.lease))
        } else {
            self.take_off(now, id, content, option, gap)
        }
    }

    fn take_off(&mut self, now: u64, id: String, content: Content, option: usize, next_before: u64) -> String {
        let charged = self.failed.remove(&id).map(|(_, number)| number);
        self.numbers += u32::from(charged.is_none());
        let number = charged.unwrap_or(self.numbers);
        let before = self.live.take();
        let repeated = before.clone().filter(|live| self.limits.repeat && live.option == option && now < live.expires);
        let expires = (now + self.limits.code_life).min(self.limits.life);
        let live = repeated.unwrap_or(Live { made_by: number, option, expires });
        self.codes.insert(number, live.made_by);
        let expires = live.expires;
        self.live = Some(live);
        self.requests.insert(number, (id.clone(), content.clone()));
        let lease = now + LEASE;
        self.flight = Some(Flight { id, content, number, option, lease, expires, before, next_before });
        self.latest = now;
        if charged.is_none() {
            self.spend(now, option);
        }
        format!("deliver {number} lease={}", time(lease))
    }

    fn spend(&mut self, now: u64, option: usize) {
        let gaps = &self.limits.gaps;
        let place = usize::try_from(self.spent).unwrap().min(gaps.len().saturating_sub(1));
        let until = now + gaps.get(place).copied().unwrap_or(0);
        if self.has(Bug::GapPerOption) {
            self.next[option] = until;
        } else {
            self.next = [until; 2];
        }
        self.spent += 1;
        self.sends[option] += 1;
        if self.has(Bug::ResendForgivesAttempts) {
            self.attempts = 0;
        }
    }

    /// Ends the flight.
    fn land(&mut self, now: u64, how: How) -> String {
        let flight = self.flight.take().expect("a send in flight");
        self.latest = now;
        let answer = match how {
            How::Accepted | How::Unknown => {
                let word = if how == How::Accepted { "success" } else { "unconfirmed" };
                let left = self.limits.sends - self.sends[flight.option];
                let next = *self.next.iter().max().unwrap();
                format!("{word} expires={} left={left} next={} length=10", time(flight.expires), time(next))
            }
            How::Rejected => {
                self.live = flight.before.filter(|_| self.end.is_none());
                "destination_rejected".to_owned()
            }
            How::Failed => {
                let gives_back = self.given_back < 10 || self.has(Bug::GivesBackForEver);
                if self.has(Bug::FailedSendKeepsItsId) {
                    self.answers.insert(flight.id.clone(), (flight.content.clone(), "failed".to_owned()));
                }
                if gives_back {
                    self.given_back += 1;
                    self.undo(flight);
                } else {
                    self.live = flight.before.filter(|_| self.end.is_none());
                    self.failed.insert(flight.id, (flight.content, flight.number));
                }
                return format!("failed {}", if gives_back { "given_back" } else { "spent" });
            }
        };
        self.answers.insert(flight.id, (flight.content, answer.clone()));
        answer
    }

    fn undo(&mut self, flight: Flight) {
        self.sends[flight.option] -= 1;
        self.spent -= 1;
        self.live = flight.before.filter(|_| self.end.is_none());
        if !self.has(Bug::FailedSendKeepsItsGap) {
            self.next = [flight.next_before; 2];
        }
    }

    fn settle(&mut self, now: u64, number: u32, how: How) -> String {
        if self.flight.as_ref().is_some_and(|flight| flight.number == number) {
            return self.land(now, how);
        }
        let (id, content) = &self.requests[&number];
        let answer = self.answers.get(id).filter(|(other, _)| other == content).map(|(_, answer)| answer.clone());
        if self.has(Bug::LastSettleWins) && how == How::Rejected && answer.is_some() {
            return "destination_rejected".to_owned();
        }
        answer.unwrap_or_else(|| "gone".to_owned())
    }

    fn decline(&mut self, now: u64, number: u32) -> String {
        match self.flight.take_if(|flight| flight.number == number) {
            Some(flight) => {
                self.latest = now;
                self.undo(flight);
                "given_back".to_owned()
            }
            None => "gone".to_owned(),
        }
    }

    fn verify(&mut self, now: u64, id: &str, code: Option<u32>, locked: bool) -> String {
        let typed = code.and_then(|number| self.codes.get(&number).copied());
        let content = Content::Verify(typed);
        if let Some(answer) = self.remembered(id, &content)
            && !(self.has(Bug::RepetitionCounts) && answer.starts_with("again otp_not_matched"))
        {
            return answer;
        }
        if locked && self.has(Bug::LockUsesAttempt) {
            self.attempts += 1;
        }
        let barred = self.barred(now);
        let lock_first = !(self.has(Bug::LockAfterExpiry) && barred.as_deref() == Some("otp_expired"));
        if locked && lock_first {
            return "account_locked".to_owned();
        }
        if let Some(refusal) = barred {
            return refusal;
        }
        let live = self.live.clone().expect("not barred");
        let matches = typed == Some(live.made_by) || (self.has(Bug::OldCodeStaysGood) && typed.is_some());
        self.attempts += 1;
        self.latest = now;
        let number = self.attempts;
        let answer = if matches {
            self.end = Some(End::Verified);
            "success account=jane purpose=login".to_owned()
        } else {
            let left = self.limits.attempts - self.attempts;
            if left == 0 {
                self.end = Some(End::OutOfAttempts { code_expires: live.expires });
            }
            format!("otp_not_matched left={left}")
        };
        let told_again = if matches { format!("{answer} attempt={number} through=0") } else { answer.clone() };
        self.answers.insert(id.to_owned(), (content, told_again));
        format!("attempt {number} {answer}")
    }

    fn barred(&self, now: u64) -> Option<String> {
        let refusal = match (&self.end, &self.live) {
            (Some(End::Verified), _) => "otp_already_used",
            (Some(End::Cancelled), _) if self.has(Bug::CancelIsNotExpired) => "nothing_sent",
            (Some(End::Cancelled), _) => "otp_expired",
            _ if self.past(now, self.limits.life) => "otp_expired",
            (Some(End::OutOfAttempts { code_expires }), _) if self.past(now, *code_expires) => "otp_expired",
            (Some(End::Expired), _) => "otp_expired",
            (Some(End::OutOfAttempts { .. }), _) => "verification_attempts_exceeded",
            (None, None) => "nothing_sent",
            (None, Some(live)) if self.past(now, live.expires) => "otp_expired",
            (None, Some(_)) if self.attempts >= self.limits.attempts => "verification_attempts_exceeded",
            (None, Some(_)) => return None,
        };
        Some(refusal.to_owned())
    }

    fn cancel(&mut self, now: u64, id: &str) -> String {
        if self.remembered(id, &Content::Cancel).is_some() {
            return "conflict".to_owned();
        }
        match self.end {
            Some(End::Verified) => "verified",
            Some(_) => "done",
            None => {
                self.end = Some(End::Cancelled);
                self.latest = now;
                "done"
            }
        }
        .to_owned()
    }

    /// What GetChallenge shows.
    pub(crate) fn view(&self, clock: u64) -> String {
        let now = self.now(clock);
        let live = self.live.as_ref().filter(|_| self.end.is_none());
        let state = match &self.end {
            Some(End::Verified) => "Verified",
            Some(End::Cancelled) => "Cancelled",
            Some(End::OutOfAttempts { .. }) => "AttemptsExceeded",
            Some(End::Expired) => "Expired",
            None if self.past(now, self.limits.life) => "Expired",
            None if self.attempts >= self.limits.attempts => "AttemptsExceeded",
            None if live.is_some() => "Sent",
            None => "Created",
        };
        let code = live.filter(|live| now < live.expires).map_or("-".to_owned(), |live| time(live.expires));
        let next = if self.over(now) { "-".to_owned() } else { time(*self.next.iter().max().unwrap()) };
        let (one, two, most) = (self.sends[0], self.sends[1], self.limits.sends);
        let (used, of) = (self.attempts, self.limits.attempts);
        format!(
            "{state} ends={} code={code} next={next} attempts={used}/{of} sends=opt1:{one},opt2:{two}/{most}",
            time(self.limits.life)
        )
    }
}
