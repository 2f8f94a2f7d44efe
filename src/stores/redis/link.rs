//! The connection, and the task that renews it.
//!
//! All operations share one multiplexed connection. When it breaks, operations fail at once while one task connects anew in
//! the background, so that a server that is gone costs its callers no waiting and the server no storm of connections.
//! No operation is repeated here: whether it was applied is not known.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use redis::{Client, Cmd, RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{sleep, timeout_at},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::{AbortOnDropHandle, TaskTracker},
};

use super::{
    fault::{self, LinkHealth},
    keys,
    stream::{self, InFlight, Opened},
};
use crate::ports::{clock::Deadline, store::StoreError};

/// After so many late answers in a row the server is asked whether it is still there.
const LATE_MAX: u32 = 3;
const BACK_OFF_MIN: Duration = Duration::from_millis(50);
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

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
pub(super) struct Live {
    pub(super) connection: MultiplexedConnection,
    pub(super) generation: u64,
}

#[derive(Default)]
struct LinkState {
    /// The connection, and the task behind it: giving the one up ends the other, and what still waits fails at once.
    live: RwLock<Option<(Live, Option<AbortOnDropHandle<()>>)>>,
    broken: Notify,
    suspected: Notify,
    late: AtomicU32,
}

/// How to connect.
pub(super) struct Connector {
    pub(super) client: Client,
    pub(super) connect_timeout: Duration,
    pub(super) operation_timeout: Duration,
    /// Tells the stream how many operations are under way.
    pub(super) in_flight: InFlight,
    /// Runs the tasks of connections.
    pub(super) tracker: TaskTracker,
}

impl Connector {
    /// Connects, and makes sure that the server takes writes.
    pub(super) async fn connect(&self) -> Result<Opened, RedisError> {
        let connecting = async {
            let mut opened = stream::open(&self.client, &self.in_flight, &self.tracker).await?;
            match probe().query_async::<()>(&mut opened.connection).await {
                // A server that answers, if only to say that its memory is full, is the right server.
                Err(error) if fault::health(&error) != LinkHealth::Healthy => Err(error),
                _ => Ok(opened),
            }
        };
        let late = |_| Err(RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)));
        timeout_at(Deadline::after(self.connect_timeout).instant(), connecting).await.unwrap_or_else(late)
    }
}

/// Writes something that is gone soon: the only way to learn whether the server takes writes.
pub(super) fn probe() -> Cmd {
    let mut write = redis::cmd("SET");
    write.arg(keys::CHECK).arg("").arg("PX").arg(1_000);
    write
}

impl Link {
    /// Keeps up the connection, which is established, from now on.
    pub(super) fn keep(connector: Connector, opened: Opened) -> Self {
        let state = Arc::new(LinkState::default());
        state.set(opened, 0);
        let ended = CancellationToken::new();
        let operation_timeout = connector.operation_timeout;
        let (tracker, in_flight) = (connector.tracker.clone(), connector.in_flight.clone());
        tracker.spawn(ended.clone().run_until_cancelled_owned(renew(connector, Arc::clone(&state))));
        Self { state, in_flight, operation_timeout, _ends_on_drop: ended.clone().drop_guard(), ended }
    }

    /// The connection, or an error at once while there is none.
    pub(super) fn live(&self, operation: &'static str) -> Result<Live, StoreError> {
        self.state.get().ok_or_else(|| StoreError::new(operation, "not connected to redis"))
    }

    /// Waits for an answer until the deadline, and draws conclusions about the connection.
    pub(super) async fn bounded<T>(
        &self,
        operation: &'static str,
        deadline: Deadline,
        generation: u64,
        asked: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, StoreError> {
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
        self.state.note(answer.as_ref().err().map_or(LinkHealth::Healthy, fault::health), generation);
        answer.map_err(|error| StoreError::new(operation, fault::words(&error)))
    }

    /// Gives the connection up for good.
    pub(super) fn close(&self) {
        self.ended.cancel();
        self.state.clear();
    }
}

impl LinkState {
    fn get(&self) -> Option<Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(live, _)| live.clone())
    }

    fn set(&self, Opened { connection, driver }: Opened, generation: u64) {
        self.late.store(0, Ordering::Relaxed);
        let live = (Live { connection, generation }, driver);
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(live);
    }

    fn clear(&self) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = None;
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
    /// ours, or have had little time. The server is then asked, and given up if it stays silent for as long as a connection
    /// may take to be made.
    async fn until_broken(&self, silence_max: Duration) {
        loop {
            tokio::select! {
                () = self.broken.notified() => return,
                () = self.suspected.notified() => {}
            }
            let Some(Live { mut connection, generation }) = self.get() else { continue };
            let ping = redis::cmd("PING");
            let answered = ping.query_async::<()>(&mut connection);
            match timeout_at(Deadline::after(silence_max).instant(), answered).await {
                Ok(answer) => {
                    self.late.store(0, Ordering::Relaxed);
                    self.note(answer.as_ref().err().map_or(LinkHealth::Healthy, fault::health), generation);
                }
                Err(_) => self.give_up(generation),
            }
        }
    }

    fn give_up(&self, generation: u64) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        // Later operations on the same connection find it given up already, or replaced.
        if live.as_ref().is_some_and(|(live, _)| live.generation == generation) {
            *live = None;
            self.broken.notify_one();
        }
    }
}

/// Connects anew whenever the connection was given up.
async fn renew(connector: Connector, state: Arc<LinkState>) {
    for generation in 1.. {
        state.until_broken(connector.connect_timeout).await;
        tracing::warn!("the connection to redis is lost");
        let mut back_off = BACK_OFF_MIN;
        let opened = loop {
            match connector.connect().await {
                Ok(opened) => break opened,
                Err(error) => tracing::warn!(cause = fault::words(&error), "cannot connect to redis"),
            }
            sleep(back_off).await;
            back_off = (back_off * 2).min(BACK_OFF_MAX);
        };
        state.set(opened, generation);
        tracing::info!("connected to redis again");
    }
}
