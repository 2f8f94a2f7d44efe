//! A connection, and the task that renews it.
//!
//! All operations share one connection. When it breaks, operations fail at once while one task connects anew in the
//! background, so that servers that are gone cost their callers no waiting, and no storm of connections comes upon them.
//! No operation is repeated here: whether it was applied is not known.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{ErrorKind, RedisError, RedisResult};
use tokio::{
    sync::Notify,
    time::{sleep, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::AbortOnDropHandle,
};

use super::{
    connection::{Connection, Opened},
    connector::Connector,
    fault::{self, LinkHealth},
    layout::Layout,
    stream::{Heard, InFlight},
};
use crate::ports::{
    clock::{Deadline, Stopwatch},
    store::{StoreError, StoreFault},
};

/// After so many late answers in a row the server is asked whether it is still there.
const LATE_MAX: u32 = 3;
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// Between connects that examine nothing, and so may succeed to no use.
const UNEXAMINED_PAUSE: Duration = Duration::from_millis(250);
/// At most one line about failed connects in this time.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// The shared connection. Ends its task when dropped.
pub(super) struct Link {
    state: Arc<LinkState>,
    in_flight: InFlight,
    ended: CancellationToken,
    operation_timeout: Duration,
    _ends_on_drop: DropGuard,
}

/// One connection; the generation tells it from those before and after.
#[derive(Clone)]
struct Live {
    connection: Connection,
    generation: u64,
    heard: Heard,
}

struct LinkState {
    is_cluster: bool,
    /// Whether late answers make this connection suspect. What waits for replicas may be late.
    judges_lateness: bool,
    /// The address as it may be shown.
    shown: Arc<str>,
    /// The connection, and the task behind it: giving the one up ends the other, and what still waits fails at once.
    live: RwLock<Option<(Live, Option<AbortOnDropHandle<()>>)>>,
    /// Why there is no connection.
    failed: RwLock<Option<(String, bool)>>,
    /// The last generation that was given up.
    given_up: AtomicU64,
    broken: Notify,
    suspected: Notify,
    late: AtomicU32,
}

impl Link {
    /// Keeps up a connection from now on. Without an open one it is made first.
    pub(super) fn keep(connector: Connector, opened: Option<Opened>) -> Self {
        let state = Arc::new(LinkState::new(&connector));
        if let Some(opened) = opened {
            state.set(opened, 1);
        }
        let ended = CancellationToken::new();
        let operation_timeout = connector.operation_timeout;
        let (tracker, in_flight) = (connector.tracker.clone(), connector.in_flight.clone());
        tracker.spawn(ended.clone().run_until_cancelled_owned(renew(connector, Arc::clone(&state))));
        Self { state, in_flight, operation_timeout, _ends_on_drop: ended.clone().drop_guard(), ended }
    }

    /// Asks over the connection, waits until the deadline, and draws conclusions about the connection.
    pub(super) async fn ask<T, F: Future<Output = RedisResult<T>>>(
        &self,
        operation: &'static str,
        deadline: Deadline,
        ask: impl FnOnce(Connection) -> F,
    ) -> Result<T, StoreError> {
        let Live { connection, generation, .. } = self.live(operation)?;
        let asked = ask(connection);
        let deadline = deadline.at_most(self.operation_timeout);
        if deadline.remaining().is_zero() {
            return Err(StoreError::timed_out(operation));
        }
        let mut handed_over = false;
        let answered = timeout_at(deadline.instant(), async {
            // Waiting here is our own lateness, and says nothing about the server.
            let _permit = self.in_flight.permit().await;
            handed_over = true;
            asked.await
        });
        let Ok(answer) = answered.await else {
            if handed_over {
                self.state.note(LinkHealth::Slow, generation);
            }
            return Err(StoreError::timed_out(operation));
        };
        self.state.note_answer(answer.as_ref().err(), generation);
        answer.map_err(|error| {
            let cause = format!("{}: {}", self.state.shown, fault::words(&error));
            StoreError::new(operation, cause).by(fault::kind(&error))
        })
    }

    /// The connection, or an error at once while there is none.
    pub(super) fn connection(&self, operation: &'static str) -> Result<Connection, StoreError> {
        self.live(operation).map(|live| live.connection)
    }

    /// The longest that an operation may take.
    pub(super) fn operation_timeout(&self) -> Duration {
        self.operation_timeout
    }

    /// Whether there is a connection.
    pub(super) fn is_up(&self) -> bool {
        self.state.get().is_some()
    }

    /// Connects to the cluster anew, if other nodes are masters now. The old connection serves until then.
    pub(super) fn follow(&self, now: &Layout) {
        if let Some(Live { connection: Connection::Cluster(_, known), generation, .. }) = self.state.get()
            && !known.has_same_masters(now)
        {
            self.state.give_up(generation);
        }
    }

    /// Connects anew.
    pub(super) fn renew(&self) {
        if let Some(Live { generation, .. }) = self.state.get() {
            self.state.give_up(generation);
        }
    }

    /// Which connection it is, to be told from those before and after; zero while there is none.
    pub(super) fn generation(&self) -> u64 {
        self.state.get().map_or(0, |live| live.generation)
    }

    fn live(&self, operation: &'static str) -> Result<Live, StoreError> {
        self.state.get().ok_or_else(|| self.state.not_connected(operation))
    }

    /// Gives the connection up for good.
    pub(super) fn close(&self) {
        self.ended.cancel();
        self.state.clear();
    }
}

impl LinkState {
    fn new(connector: &Connector) -> Self {
        Self {
            is_cluster: connector.is_cluster(),
            judges_lateness: connector.examines,
            shown: Arc::clone(&connector.shown),
            live: RwLock::default(),
            failed: RwLock::default(),
            given_up: AtomicU64::new(0),
            broken: Notify::new(),
            suspected: Notify::new(),
            late: AtomicU32::new(0),
        }
    }

    fn get(&self) -> Option<Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(live, _)| live.clone())
    }

    fn set(&self, Opened { connection, driver, heard }: Opened, generation: u64) {
        self.late.store(0, Ordering::Relaxed);
        *self.failed.write().unwrap_or_else(PoisonError::into_inner) = None;
        let live = (Live { connection, generation, heard }, driver);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(live);
    }

    fn clear(&self) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn fail(&self, error: &StoreError) {
        *self.failed.write().unwrap_or_else(PoisonError::into_inner) = Some((error.cause.clone(), error.is_final));
    }

    fn not_connected(&self, operation: &'static str) -> StoreError {
        let failed = self.failed.read().unwrap_or_else(PoisonError::into_inner);
        let (cause, is_final) =
            failed.as_ref().map_or((&*self.shown, false), |(cause, is_final)| (cause.as_str(), *is_final));
        let error = StoreError::new(operation, format!("not connected to redis: {cause}"));
        StoreError { is_final, fault: StoreFault::NotConnected, ..error }
    }

    fn note_answer(&self, error: Option<&RedisError>, generation: u64) {
        let health = match error {
            Some(error) if !self.is_cluster => fault::health(error),
            // redis-rs looks after the connections to the nodes, as long as it knows one.
            Some(error) if error.kind() == ErrorKind::ClusterConnectionNotFound => LinkHealth::Broken,
            _ => LinkHealth::Healthy,
        };
        self.note(health, generation);
    }

    /// Notes what an operation learnt about the connection of a generation.
    fn note(&self, health: LinkHealth, generation: u64) {
        match health {
            LinkHealth::Healthy if self.late.load(Ordering::Relaxed) == 0 => {}
            LinkHealth::Healthy => self.late.store(0, Ordering::Relaxed),
            LinkHealth::Slow if self.late.fetch_add(1, Ordering::Relaxed) + 1 < LATE_MAX => {}
            LinkHealth::Slow => self.suspected.notify_one(),
            LinkHealth::Broken => self.give_up(generation),
        }
    }

    /// Returns once the connection is given up. Late answers alone are no reason: they may have been late on a busy machine of
    /// ours, or have had little time. The server is then asked, and given up if nothing at all comes for twice the time that a
    /// connection may take to be made: the answer may stand behind a thousand others, which show that the server lives.
    /// Of a cluster, the health check learns which nodes are there.
    async fn until_given_up(&self, silence_max: Duration) {
        while let Some(Live { mut connection, generation, heard }) = self.get() {
            if self.given_up.load(Ordering::Acquire) >= generation {
                return;
            }
            tokio::select! {
                () = self.broken.notified() => continue,
                () = self.suspected.notified() => {}
            }
            if self.is_cluster || !self.judges_lateness {
                continue;
            }
            let before = heard.count();
            let ping = redis::cmd("PING");
            let answered = ping.query_async::<()>(&mut connection);
            match timeout_at(Deadline::after(silence_max).instant(), answered).await {
                Ok(answer) => {
                    self.late.store(0, Ordering::Relaxed);
                    self.note_answer(answer.as_ref().err(), generation);
                }
                Err(_) if heard.count() > before => self.late.store(0, Ordering::Relaxed),
                Err(_) => self.give_up(generation),
            }
        }
    }

    /// Later operations on the same connection find it given up already, or replaced.
    fn give_up(&self, generation: u64) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if live.as_ref().is_some_and(|(live, _)| live.generation == generation) {
            self.given_up.store(generation, Ordering::Release);
            // Most nodes of a cluster may still serve.
            if !self.is_cluster {
                *live = None;
            }
            self.broken.notify_one();
        }
    }
}

/// Connects, and connects anew whenever the connection was given up.
async fn renew(connector: Connector, state: Arc<LinkState>) {
    let store = Arc::clone(&connector.shown);
    let mut generation = 1;
    if state.get().is_none() {
        state.set(connect(&connector, &state).await, generation);
        if connector.is_told {
            tracing::info!(%store, "connected to redis");
        }
    }
    loop {
        // Twice: our own lateness on a busy machine is not the server's.
        state.until_given_up(connector.connect_timeout * 2).await;
        generation += 1;
        if connector.is_told {
            tracing::warn!(%store, "the connection to redis is lost or out of date");
        }
        state.set(connect(&connector, &state).await, generation);
        if connector.is_told {
            tracing::info!(%store, "connected to redis again");
        }
        // However soon it is given up again, connecting is no loop without a pause.
        sleep(if connector.examines { BACK_OFF_MIN } else { UNEXAMINED_PAUSE }).await;
    }
}

/// Tries until it is connected.
async fn connect(connector: &Connector, state: &LinkState) -> Opened {
    let mut back_off = BACK_OFF_MIN;
    let mut logged: Option<Stopwatch> = None;
    loop {
        let error = match connector.connect().await {
            Ok(opened) => return opened,
            Err(error) => error,
        };
        state.fail(&error);
        if connector.is_told && logged.as_ref().is_none_or(|watch| watch.elapsed() >= LOG_EVERY) {
            tracing::warn!(cause = error.cause, "cannot connect to redis");
            logged = Some(Stopwatch::start());
        }
        sleep(back_off).await;
        back_off = (back_off * 2).min(BACK_OFF_MAX);
    }
}
