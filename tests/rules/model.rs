//! A challenge with codes of ours beside its lockout, once more and as simply as possible: from the design, not from the code.
//! Its bugs are there on purpose, one at a time, to show that the comparison finds them.

use std::collections::BTreeMap;

/// A deliberate mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    ExpiresTooLate,
    ResendResetsAttempts,
    GapPerOption,
    RepetitionCounts,
    ContentIgnored,
    OldCodeStaysGood,
    FailedSendKeepsItsGap,
    FailedSendKeepsItsId,
    RefundsForEver,
    UnknownIsFailed,
    LockUsesAttempt,
    LockAfterExpiry,
    CancelIsNotExpired,
    LastSettleWins,
    ClockRunsBack,
    LocksAreNotCounted,
    OthersMaySend,
    RepeatsShortCodes,
    NeverPauses,
}

impl Bug {
    pub(crate) const ALL: [Self; 19] = [
        Self::ExpiresTooLate,
        Self::ResendResetsAttempts,
        Self::GapPerOption,
        Self::RepetitionCounts,
        Self::ContentIgnored,
        Self::OldCodeStaysGood,
        Self::FailedSendKeepsItsGap,
        Self::FailedSendKeepsItsId,
        Self::RefundsForEver,
        Self::UnknownIsFailed,
        Self::LockUsesAttempt,
        Self::LockAfterExpiry,
        Self::CancelIsNotExpired,
        Self::LastSettleWins,
        Self::ClockRunsBack,
        Self::LocksAreNotCounted,
        Self::OthersMaySend,
        Self::RepeatsShortCodes,
        Self::NeverPauses,
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
    /// Failures that lock; as many more lock again.
    pub(crate) locks: u32,
}

/// What is done. Sends and codes go by the number of the send.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Send {
        id: u8,
        option: usize,
        locked: bool,
    },
    First,
    Settle {
        number: u32,
        how: How,
    },
    Verify {
        id: u8,
        code: Option<u32>,
        locked: bool,
    },
    /// A guess at another challenge of the same account.
    Elsewhere {
        option: usize,
        right: bool,
    },
    Cancel {
        id: u8,
    },
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Accepted,
    Rejected,
    Failed,
    Unknown,
    Withdrawn,
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
    refunded: u32,
    /// Until when no send is tried, after repeated failures.
    paused: u64,
    attempts: u32,
    live: Option<Live>,
    arrived: Option<usize>,
    flight: Option<Flight>,
    numbers: u32,
    /// Which code each send delivered.
    codes: BTreeMap<u32, u32>,
    requests: BTreeMap<u32, (String, Content)>,
    answers: BTreeMap<String, (Content, String)>,
    /// Failures in a row, over all challenges, each for the account; and for either contact.
    failures: [u32; 3],
    /// When the lock of the account ends, and those of either contact.
    locks: [u64; 3],
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
            refunded: 0,
            paused: 0,
            attempts: 0,
            live: None,
            arrived: None,
            flight: None,
            numbers: 0,
            codes: BTreeMap::new(),
            requests: BTreeMap::new(),
            answers: BTreeMap::new(),
            failures: [0; 3],
            locks: [0; 3],
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
            Step::Elsewhere { option, right } => return self.elsewhere(clock, *option, *right),
            Step::Settle { number, .. } => Some(*number),
            _ => None,
        };
        if self.flight.as_ref().is_some_and(|flight| now >= flight.lease && own != Some(flight.number)) {
            let how = if self.has(Bug::UnknownIsFailed) { How::Failed } else { How::Unknown };
            self.land(now, how);
        }
        let answer = self.act(now, clock, step);
        if self.end.is_none() && self.past(now, self.limits.life) {
            (self.end, self.latest) = (Some(End::Expired), now);
        }
        answer
    }

    fn act(&mut self, now: u64, clock: u64, step: &Step) -> String {
        match step {
            Step::Send { option: 2, .. } => "unknown_option".to_owned(),
            Step::Send { id, option, locked } => {
                let lock = self.lock(Some(*option), clock, *locked);
                self.send(now, format!("r{id}"), Content::Send(*option), *option, lock)
            }
            Step::First => {
                let lock = self.lock(Some(0), clock, false);
                self.send(now, "create".to_owned(), Content::Creation, 0, lock)
            }
            Step::Settle { number, how } => self.settle(now, *number, *how),
            Step::Verify { id, code, locked } => self.verify(now, clock, &format!("r{id}"), *code, *locked),
            Step::Cancel { id } => self.cancel(now, &format!("r{id}")),
            Step::Elsewhere { .. } => panic!("decided without this challenge"),
        }
    }

    /// What stops an option, or everything.
    fn lock(&self, option: Option<usize>, clock: u64, by_operator: bool) -> Option<String> {
        if by_operator {
            return Some("account_locked".to_owned());
        }
        let until = option.map_or(0, |option| self.locks[option + 1]).max(self.locks[0]);
        (clock < until).then(|| format!("account_locked until={}", time(until)))
    }

    /// The option whose code is compared; after the end, that of the last code that may have arrived.
    fn option_of_attempt(&self) -> Option<usize> {
        if self.end.is_some() { self.arrived } else { self.live.as_ref().map(|live| live.option) }
    }

    /// Counts a failure. What is left before the next lock.
    fn count(&mut self, clock: u64, option: usize) -> u32 {
        let rung = self.limits.locks;
        for index in [0, option + 1] {
            self.failures[index] += 1;
            if self.failures[index].is_multiple_of(rung) && !self.has(Bug::LocksAreNotCounted) {
                let place = usize::try_from(self.failures[index] / rung - 1).unwrap();
                let spans = [1800, 7200, 28_800, 86_400];
                self.locks[index] = clock + spans[place.min(spans.len() - 1)] * 4;
            }
        }
        let left = |count: u32| rung - count % rung;
        let locked = self.lock(Some(option), clock, false).is_some();
        if locked { 0 } else { left(self.failures[0]).min(left(self.failures[option + 1])) }
    }

    fn reset(&mut self, option: usize) {
        for index in [0, option + 1] {
            (self.failures[index], self.locks[index]) = (0, 0);
        }
    }

    /// A guess at another challenge of the same account.
    fn elsewhere(&mut self, clock: u64, option: usize, right: bool) -> String {
        if let Some(locked) = self.lock(Some(option), clock, false) {
            return locked;
        }
        if right {
            self.reset(option);
            return format!("success account=jane purpose=login of=opt{}", option + 1);
        }
        let left = self.count(clock, option).min(4);
        format!("otp_not_matched left={left}")
    }

    /// What is remembered of a request: a conflict, its answer, or that it is in flight.
    fn remembered(&self, id: &str, content: &Content) -> Option<String> {
        let differs = |other: &Content| other != content && !self.has(Bug::ContentIgnored);
        if let Some((other, answer)) = self.answers.get(id) {
            let same_rpc = std::mem::discriminant(other) == std::mem::discriminant(content);
            let again = if answer == "failed" { "failed_before".to_owned() } else { format!("again {answer}") };
            return Some(if differs(other) || !same_rpc { "conflict".to_owned() } else { again });
        }
        if let Some(flight) = self.flight.as_ref().filter(|flight| flight.id == id) {
            let (conflict, lease) = (differs(&flight.content), time(flight.lease));
            return Some(if conflict { "conflict".to_owned() } else { format!("in_progress until={lease}") });
        }
        (id == "create" && *content != Content::Creation).then(|| "conflict".to_owned())
    }

    fn over(&self, now: u64) -> bool {
        self.end.is_some() || self.past(now, self.limits.life) || self.attempts >= self.limits.attempts
    }

    /// When a send is accepted: after the gap, and after the lease of the one in flight.
    fn accepts(&self) -> u64 {
        let lease = self.flight.as_ref().filter(|_| !self.has(Bug::OthersMaySend)).map_or(0, |flight| flight.lease);
        self.gap().max(lease)
    }

    fn gap(&self) -> u64 {
        *self.next.iter().max().unwrap()
    }

    fn send(&mut self, now: u64, id: String, content: Content, option: usize, lock: Option<String>) -> String {
        if let Some(answer) = self.remembered(&id, &content) {
            return answer;
        }
        let gap = if self.has(Bug::GapPerOption) { self.next[option] } else { self.accepts() };
        if let Some(locked) = lock {
            locked
        } else if self.over(now) {
            "challenge_option_expired".to_owned()
        } else if self.sends[option] >= self.limits.sends {
            "send_limit_exceeded".to_owned()
        } else if now < gap {
            format!("resend_too_soon next={}", time(gap))
        } else if now < self.paused {
            format!("paused until={}", time(self.paused))
        } else {
            self.take_off(now, id, content, option)
        }
    }

    fn take_off(&mut self, now: u64, id: String, content: Content, option: usize) -> String {
        let next_before = self.gap();
        self.numbers += 1;
        let number = self.numbers;
        let before = self.live.take();
        let least = if self.has(Bug::RepeatsShortCodes) { 1 } else { 120 };
        let repeats = |live: &Live| self.limits.repeat && live.option == option && now + least <= live.expires;
        let repeated = before.clone().filter(repeats);
        let expires = (now + self.limits.code_life).min(self.limits.life);
        let live = repeated.unwrap_or(Live { made_by: number, option, expires });
        self.codes.insert(number, live.made_by);
        let expires = live.expires;
        self.live = Some(live);
        self.requests.insert(number, (id.clone(), content.clone()));
        let until = now + LEASE;
        self.flight = Some(Flight { id, content, number, option, lease: until, expires, before, next_before });
        self.latest = now;
        self.spend(now, option);
        format!("reserved {number} lease={}", time(until))
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
        if self.has(Bug::ResendResetsAttempts) {
            self.attempts = 0;
        }
    }

    /// Ends the flight.
    fn land(&mut self, now: u64, how: How) -> String {
        let flight = self.flight.take().expect("a send in flight");
        self.latest = now;
        let answer = match how {
            How::Accepted | How::Unknown => {
                self.arrived = Some(flight.option);
                if how == How::Accepted {
                    self.paused = 0;
                }
                let word = if how == How::Accepted { "success" } else { "unconfirmed" };
                let left = self.limits.sends - self.sends[flight.option];
                let next = self.gap();
                format!("{word} expires={} left={left} next={} length=10", time(flight.expires), time(next))
            }
            How::Rejected => {
                self.live = flight.before.filter(|_| self.end.is_none());
                "destination_rejected".to_owned()
            }
            How::Withdrawn => {
                self.undo(flight);
                return "refunded".to_owned();
            }
            How::Failed if self.refunded < 10 || self.has(Bug::RefundsForEver) => {
                if self.has(Bug::FailedSendKeepsItsId) {
                    self.answers.insert(flight.id.clone(), (flight.content.clone(), "failed".to_owned()));
                }
                self.refunded += 1;
                self.pause(now);
                self.undo(flight);
                return "refunded".to_owned();
            }
            How::Failed => {
                self.pause(now);
                self.live = flight.before.filter(|_| self.end.is_none());
                "failed".to_owned()
            }
        };
        self.answers.insert(flight.id, (flight.content, answer.clone()));
        answer
    }

    /// After the sixth refund 2 s, and after each further one twice as long, up to 32 s.
    fn pause(&mut self, now: u64) {
        let seconds = [2, 4, 8, 16, 32];
        if self.refunded > 5 && !self.has(Bug::NeverPauses) {
            self.paused = now + 4 * seconds[usize::try_from(self.refunded - 6).unwrap().min(4)];
        }
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

    fn verify(&mut self, now: u64, clock: u64, id: &str, code: Option<u32>, locked: bool) -> String {
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
        let lock = self.lock(self.option_of_attempt(), clock, locked);
        let lock_first = !(self.has(Bug::LockAfterExpiry) && barred.as_deref() == Some("otp_expired"));
        if let Some(locked) = lock.filter(|_| lock_first) {
            return locked;
        }
        if let Some(refusal) = barred {
            return refusal;
        }
        let live = self.live.clone().expect("not barred");
        let matches = typed == Some(live.made_by) || (self.has(Bug::OldCodeStaysGood) && typed.is_some());
        self.attempts += 1;
        (self.latest, self.arrived) = (now, Some(live.option));
        let number = self.attempts;
        let answer = if matches {
            self.end = Some(End::Verified);
            self.reset(live.option);
            format!("success account=jane purpose=login of=opt{}", live.option + 1)
        } else {
            let budget = self.count(clock, live.option);
            let left = self.limits.attempts - self.attempts;
            if left == 0 {
                self.end = Some(End::OutOfAttempts { code_expires: live.expires });
            }
            format!("otp_not_matched left={}", left.min(budget))
        };
        self.answers.insert(id.to_owned(), (content, answer.clone()));
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
            None if self.past(now, self.limits.life) => "done",
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
        let next = if self.over(now) { "-".to_owned() } else { time(self.accepts()) };
        let (one, two, most) = (self.sends[0], self.sends[1], self.limits.sends);
        let (used, of) = (self.attempts, self.limits.attempts);
        format!(
            "{state} ends={} code={code} next={next} attempts={used}/{of} sends=opt1:{one},opt2:{two}/{most}",
            time(self.limits.life)
        )
    }
}
