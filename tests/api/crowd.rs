//! Many people at once, whose flows go on through outages of the store; and the comparison of what they were told with what the
//! store has counted.
//!
//! Callers do as they should: what was not decided is asked again under the same request id, on the other replica, and some give
//! up. Who they are and what they type depends on the seed alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read, Seek, SeekFrom},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use otpd::{
    grpc::proto::{
        ChallengeState, CreateChallengeRequest, GetAccountResponse, GetChallengeResponse, SendOtpRequest,
        VerifyOtpRequest,
    },
    ports::clock::{Deadline, Stopwatch},
};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    caller::{Caller, Told, login, send, verify, wrong},
    dice::Dice,
    site::{Server, Site},
    words::{created, failed, sent, verified},
};

/// How many people act at the same time.
const PEOPLE: u64 = 200;
/// How long a request is asked again and again: longer than the lease of a send that an outage has cut off.
const PERSISTENCE: Duration = Duration::from_secs(60);
/// How long service must be without trouble to count as restored.
const QUIET: Duration = Duration::from_secs(2);

/// What is asked again: nothing was decided, or not by this request.
const TROUBLE: [&str; 4] = [
    "Unavailable STORE_UNAVAILABLE",
    "DeadlineExceeded DEADLINE_EXCEEDED",
    "ResourceExhausted OVERLOADED",
    "Aborted CONTENTION",
];
const IN_PROGRESS: &str = "Aborted REQUEST_IN_PROGRESS";

/// One crowd at a time: two would keep a machine of few cores busy with each other.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// All people, at work until they are told to stop.
pub(crate) struct Crowd {
    _alone: tokio::sync::MutexGuard<'static, ()>,
    street: Arc<Street>,
    people: JoinSet<Vec<Visit>>,
}

/// What people share.
struct Street {
    site: Site,
    callers: Vec<Caller>,
    clock: Stopwatch,
    stop: AtomicBool,
    heard: Mutex<Heard>,
    mail: Mutex<Mail>,
}

#[derive(Default)]
struct Heard {
    words: BTreeMap<String, usize>,
    last_trouble: Duration,
    last_decision: Duration,
}

/// The file of the console provider, read once.
#[derive(Default)]
struct Mail {
    offset: u64,
    rest: String,
    codes: BTreeMap<String, Vec<String>>,
}

/// What may be asked again.
enum Call {
    Create(CreateChallengeRequest),
    Send(SendOtpRequest),
    Verify(VerifyOtpRequest),
}

/// An answer that decided something, and when it was told.
struct Answer {
    request: String,
    word: String,
    at: Duration,
}

/// One challenge, with all that its person was told.
struct Visit {
    challenge: String,
    number: String,
    answers: Vec<Answer>,
    /// The ids of all verifications that were asked, decided or not.
    asked: BTreeSet<String>,
}

/// What is wrong with a visit.
enum Complaint {
    /// The store knows less than was told.
    Lost(String),
    /// No loss explains it.
    Never(String),
}

/// When an answer may be given.
enum Likelihood {
    Usual,
    AfterLoss,
    Never,
}

/// What became of all visits.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) visits: usize,
    pub(crate) successes: usize,
    pub(crate) not_matched: usize,
    /// Challenges that were told something in one of the given moments, and of which the store knows less than was told.
    pub(crate) lost: Vec<String>,
}

impl Crowd {
    /// People who call these servers of the site.
    pub(crate) async fn start(site: Site, servers: &[Server], seed: u64) -> Self {
        println!("seed {seed}");
        let alone = ALONE.lock().await;
        let mut callers = Vec::new();
        for server in servers {
            callers.push(Caller::of(server).await);
        }
        let street = Arc::new(Street {
            site,
            callers,
            clock: Stopwatch::start(),
            stop: AtomicBool::new(false),
            heard: Mutex::default(),
            mail: Mutex::default(),
        });
        let people = (0..PEOPLE).map(|n| Arc::clone(&street).live(n, Dice(seed * PEOPLE + n)));
        let crowd = Self { _alone: alone, people: people.collect(), street };
        crowd.wait_busy().await;
        crowd
    }

    /// Settings of a site for a crowd. What is in doubt stays acquired, so an outage may use up a quota of few sends.
    pub(crate) fn settings(site: Site) -> Site {
        site.with("OTPD__POLICY__RESEND_GAPS", "[]")
            .with("OTPD__POLICY__QUOTAS__DESTINATION_SENDS", r#"["1000 per 1h"]"#)
            .with("OTPD__POLICY__QUOTAS__ACCOUNT_CREATIONS", r#"["1000 per 1h"]"#)
            .with("OTPD__SERVER__MAX_IN_FLIGHT", "4096")
            // A machine with busy cores is no trouble of the store.
            .with("OTPD__STORE__TIMEOUT", "3s")
    }

    /// The time since the start.
    pub(crate) fn now(&self) -> Duration {
        self.street.clock.elapsed()
    }

    /// How many answers so far have decided nothing because of the store.
    pub(crate) fn troubles(&self) -> usize {
        let heard = self.street.heard();
        TROUBLE.iter().filter_map(|word| heard.words.get(*word)).sum()
    }

    /// Waits until so many further answers have decided something.
    pub(crate) async fn wait_busy(&self) {
        let decided = || self.street.heard().words.values().sum::<usize>();
        let goal = decided() + 500;
        crate::site::until("the crowd is busy", async || decided() >= goal).await;
    }

    /// Waits until service is without trouble. Returns how long after `since` the last trouble was.
    pub(crate) async fn wait_quiet(&self, since: Duration) -> Duration {
        let deadline = Deadline::after(PERSISTENCE);
        loop {
            let (trouble, decision) = {
                let heard = self.street.heard();
                (heard.last_trouble.max(since), heard.last_decision)
            };
            if decision >= trouble + QUIET {
                return trouble.saturating_sub(since);
            }
            assert!(!deadline.remaining().is_zero(), "still in trouble: {:?}", self.street.heard().words);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Lets all people end their visits, and compares what they were told with what the store knows. What was told in one of
    /// the moments may be lost; nothing else.
    pub(crate) async fn judge(mut self, moments: &[Range<Duration>]) -> Verdict {
        self.street.stop.store(true, Ordering::SeqCst);
        let mut visits = Vec::new();
        while let Some(walked) = self.people.join_next().await {
            visits.extend(walked.unwrap());
        }
        println!("{} visits: {:?}", visits.len(), self.street.heard().words);
        let mut verdict = Verdict::default();
        for (visit, seen) in self.street.look_at(visits).await {
            verdict.visits += 1;
            verdict.successes += visit.told("success").len();
            verdict.not_matched += visit.told("otp_not_matched").len();
            match visit.compare(&seen) {
                Ok(()) => {}
                Err(Complaint::Lost(text)) if visit.was_told_in(moments) => verdict.lost.push(text),
                Err(Complaint::Lost(text) | Complaint::Never(text)) => panic!("{text}"),
            }
        }
        let Verdict { successes, not_matched, lost, .. } = &verdict;
        println!(
            "{successes} successes, {not_matched} not matched, {} visits lost something: {:?}",
            lost.len(),
            lost.first()
        );
        assert!(verdict.successes > 50 && verdict.not_matched > 50, "too few visits show nothing");
        verdict
    }
}

/// What a challenge and its lockout look like in the end.
type Seen = (Told<GetChallengeResponse>, Told<GetAccountResponse>);

impl Street {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One visit after the other.
    async fn live(self: Arc<Self>, person: u64, mut dice: Dice) -> Vec<Visit> {
        let mut visits = Vec::new();
        while !self.stop.load(Ordering::SeqCst) {
            let number = format!("+1415{:07}", 2_000_000 + person * 1_000 + u64::try_from(visits.len()).unwrap());
            let challenge = format!("c{number}").replace('+', "");
            let mut visit = Visit { challenge, number, answers: Vec::new(), asked: BTreeSet::new() };
            self.walk(&mut visit, &mut dice).await;
            visits.push(visit);
        }
        visits
    }

    /// A creation with a send, wrong codes, perhaps another send, the right code, and too much of everything.
    async fn walk(&self, visit: &mut Visit, dice: &mut Dice) -> Option<()> {
        let create =
            CreateChallengeRequest { send_otp: true, ..login(&visit.challenge, &visit.challenge, &visit.number) };
        let word = self.ask(dice, &Call::Create(create)).await?;
        visit.hear("creation", &word, self.clock.elapsed());
        let mut code = self.code(&visit.number, 1)?;
        for n in 0..dice.below(4) {
            self.verify(visit, dice, &format!("w{n}"), &wrong(&code, u32::try_from(n).unwrap())).await?;
            if dice.below(1_000) < 300 {
                // The same again, as after an answer that was lost.
                self.verify(visit, dice, &format!("w{n}"), &wrong(&code, u32::try_from(n).unwrap())).await?;
            }
        }
        if dice.below(1_000) < 300 {
            let word = self.ask(dice, &Call::Send(send("s", &visit.challenge))).await?;
            visit.hear("resend", &word, self.clock.elapsed());
            code = self.code(&visit.number, 2)?;
        }
        if dice.below(1_000) < 700 {
            // Two tabs of a browser, on both servers.
            let calls = ["r0", "r1"].map(|id| Call::Verify(verify(id, &visit.challenge, &code)));
            visit.asked.extend(["r0", "r1"].map(str::to_owned));
            let mut other = Dice(dice.next());
            let (one, two) = tokio::join!(self.ask(dice, &calls[0]), self.ask(&mut other, &calls[1]),);
            let now = self.clock.elapsed();
            visit.hear("r0", &one?, now);
            visit.hear("r1", &two?, now);
        }
        for n in 0..dice.below(4) {
            self.verify(visit, dice, &format!("x{n}"), &wrong(&code, 5)).await?;
        }
        self.verify(visit, dice, "r2", &code).await
    }

    async fn verify(&self, visit: &mut Visit, dice: &mut Dice, id: &str, otp: &str) -> Option<()> {
        let call = Call::Verify(verify(id, &visit.challenge, otp));
        visit.asked.insert(id.to_owned());
        let word = self.ask(dice, &call).await?;
        visit.hear(id, &word, self.clock.elapsed());
        Some(())
    }

    /// Asks until something is decided. Nothing, if this caller gives up.
    async fn ask(&self, dice: &mut Dice, call: &Call) -> Option<String> {
        let deadline = Deadline::after(PERSISTENCE);
        let mut replica = usize::try_from(dice.next() >> 32).unwrap();
        loop {
            // People take their time, and callers back off.
            tokio::time::sleep(Duration::from_millis(100 + dice.below(500))).await;
            let word = call.of(&self.callers[replica % self.callers.len()]).await;
            let in_trouble = TROUBLE.contains(&&*word);
            {
                let (mut heard, now) = (self.heard(), self.clock.elapsed());
                *heard.words.entry(word.clone()).or_default() += 1;
                if in_trouble {
                    heard.last_trouble = now;
                } else {
                    heard.last_decision = now;
                }
            }
            if !in_trouble && word != IN_PROGRESS {
                return Some(word);
            }
            assert!(!deadline.remaining().is_zero(), "never decided: {word}");
            if dice.below(1_000) < 50 {
                return None;
            }
            replica += 1;
        }
    }

    /// The code that was sent last to a number. None where a send was cut off before its message left: nobody has its code.
    fn code(&self, number: &str, sends: usize) -> Option<String> {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        mail.read(&self.site);
        mail.codes.get(number).filter(|codes| codes.len() >= sends)?.last().cloned()
    }

    /// What the store knows of each, several at a time.
    async fn look_at(&self, visits: Vec<Visit>) -> Vec<(Visit, Seen)> {
        let mut lanes: Vec<Vec<Visit>> = (0..16).map(|_| Vec::new()).collect();
        visits.into_iter().enumerate().for_each(|(n, visit)| lanes[n % 16].push(visit));
        let looks = lanes.into_iter().zip(self.callers.iter().cycle().cloned()).map(async |(visits, caller)| {
            let mut seen = Vec::new();
            for visit in visits {
                let told = tokio::join!(caller.challenge(&visit.challenge), caller.account(&visit.challenge));
                seen.push((visit, told));
            }
            seen
        });
        looks.collect::<JoinSet<_>>().join_all().await.into_iter().flatten().collect()
    }
}

impl Call {
    async fn of(&self, caller: &Caller) -> String {
        match self {
            Self::Create(request) => created(&caller.create(request.clone()).await),
            Self::Send(request) => sent(&caller.send(request.clone()).await),
            Self::Verify(request) => verified(&caller.verify(request.clone()).await),
        }
    }
}

impl Mail {
    fn read(&mut self, site: &Site) {
        let Ok(mut file) = File::open(site.folder().join("messages")) else { return };
        file.seek(SeekFrom::Start(self.offset)).expect("a file");
        let read = file.read_to_string(&mut self.rest).expect("text");
        self.offset += u64::try_from(read).expect("a length");
        // The last line may still be on its way.
        let Some(end) = self.rest.rfind('\n') else { return };
        for line in self.rest[..end].lines() {
            let message: Value = serde_json::from_str(line).expect("a message");
            let field = |name: &str| message[name].as_str().expect("a text").to_owned();
            self.codes.entry(field("destination")).or_default().push(field("code"));
        }
        self.rest.drain(..=end);
    }
}

impl Visit {
    fn hear(&mut self, request: &str, word: &str, at: Duration) {
        self.answers.push(Answer { request: request.to_owned(), word: word.to_owned(), at });
    }

    /// The verifications that were told so.
    fn told(&self, word: &str) -> BTreeSet<&str> {
        let told = self.answers.iter().filter(|answer| answer.word == word && self.asked.contains(&answer.request));
        told.map(|answer| answer.request.as_str()).collect()
    }

    fn was_told_in(&self, moments: &[Range<Duration>]) -> bool {
        self.answers.iter().any(|answer| moments.iter().any(|moment| moment.contains(&answer.at)))
    }

    /// Whether what was told agrees with itself and with what the store knows.
    fn compare(&self, (challenge, account): &Seen) -> Result<(), Complaint> {
        let text = |what: &str| {
            let told: Vec<_> = self.answers.iter().map(|answer| (&answer.request, &answer.word, answer.at)).collect();
            let seen = challenge.as_ref().map(|seen| (seen.state(), seen.verification_attempts)).map_err(failed);
            let failures = account.as_ref().map(GetAccountResponse::failures).map_err(failed);
            format!("{what}: {} was told {told:?}; is {seen:?}, failures {failures:?}", self.challenge)
        };
        let lost = |what: &str| Err(Complaint::Lost(text(what)));
        let never = |what: &str| Err(Complaint::Never(text(what)));
        for answer in &self.answers {
            match answer.likelihood() {
                Likelihood::Usual => {}
                Likelihood::AfterLoss => return lost("an answer that needs a loss"),
                Likelihood::Never => return never("an answer that cannot be"),
            }
        }
        let (matched, refused) = (self.told("success"), self.told("otp_not_matched"));
        if matched.len() > 1 {
            return lost("two successes");
        }
        let (Ok(seen), Ok(account)) = (challenge, account) else {
            let was_created = self.answers.first().is_some_and(|answer| answer.request == "creation");
            return if was_created { lost("no challenge") } else { Ok(()) };
        };
        let attempts = usize::try_from(seen.verification_attempts).expect("a count");
        if attempts > self.asked.len().min(5) {
            return never("too many attempts");
        }
        // A challenge and its lockout are written together, whatever happens.
        let is_verified = seen.state() == ChallengeState::Verified;
        if usize::try_from(account.failures()).ok() != Some(if is_verified { 0 } else { attempts }) {
            return never("other failures than the challenge's");
        }
        if attempts < matched.len() + refused.len() {
            return lost("uncounted attempts");
        }
        if !matched.is_empty() && !is_verified {
            return lost("a success that is not on record");
        }
        Ok(())
    }
}

impl Answer {
    /// When a request may be answered so.
    fn likelihood(&self) -> Likelihood {
        const UNKNOWN: &str = "NotFound INVALID_IDENTIFIER";
        const UNSENT: &str = "FailedPrecondition PRECONDITION_VIOLATION";
        const ENDED: [&str; 2] = ["otp_already_used", "verification_attempts_exceeded"];
        let (right, after_loss): (&str, &[&str]) = match self.request.as_str() {
            "creation" => ("success with success", &[]),
            "resend" => ("success", &[UNKNOWN]),
            id if id.starts_with('r') => ("success", &[UNKNOWN, UNSENT, "otp_not_matched"]),
            _ => ("otp_not_matched", &[UNKNOWN, UNSENT]),
        };
        let word = self.word.as_str();
        let has_ended = match self.request.as_str() {
            "creation" => false,
            "resend" => word == "challenge_option_expired",
            _ => ENDED.contains(&word),
        };
        if word == right || has_ended {
            Likelihood::Usual
        } else if after_loss.contains(&word) {
            Likelihood::AfterLoss
        } else {
            Likelihood::Never
        }
    }
}
