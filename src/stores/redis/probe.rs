//! The health check: every command is rehearsed, and the servers' time is told.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{task::JoinSet, time::timeout_at};

use super::{
    Redis,
    connection::{Connection, Master},
    fault,
    layout::Layout,
    link::Link,
    rehearsal,
};
use crate::{
    domain::time::Timestamp,
    ports::{clock::Deadline, store::StoreError},
};

/// How often another node of a cluster is asked for the layout where one does not answer.
const LAYOUT_TRIES: u32 = 3;

impl Redis {
    pub(super) async fn check_one(&self, deadline: Deadline) -> Result<Timestamp, StoreError> {
        let (master, wanted) = (&Master::one(), self.wanted);
        let rehearse =
            |mut connection: Connection| async move { rehearsal::rehearse(&mut connection, master, wanted).await };
        let error = match self.link.ask("check", deadline, rehearse).await {
            Ok(time) => {
                if let Some(confirmed) = &self.confirmed {
                    confirmed.follow(self.link.generation());
                    confirmed.check(master, deadline).await?;
                }
                return Ok(time);
            }
            Err(error) => error,
        };
        let missing =
            |mut connection: Connection| async move { Ok(rehearsal::missing(&mut connection, master, wanted).await) };
        match self.link.ask("check", deadline, missing).await {
            Ok(denied) if !denied.is_empty() => Err(rehearsal::refused(&denied)),
            _ => Err(error),
        }
    }

    /// A cluster serves as long as most of its masters do: the accounts of the others fail, and no replica of otpd could serve
    /// them. Its time is the median of the masters', so that one wrong clock among them does no harm.
    pub(super) async fn check_cluster(&self, deadline: Deadline) -> Result<Timestamp, StoreError> {
        let probe = self.probe.as_ref().unwrap_or(&self.link);
        let connection = probe.connection("check")?;
        let layout = self.layout(probe, &connection, deadline).await?;
        // A master that does not answer must leave time to tell that the others do.
        let deadline = Deadline::after(deadline.remaining() / 4 * 3);
        let mut masters = 0;
        let mut asked = JoinSet::new();
        for master in layout.masters() {
            masters += 1;
            let (mut connection, confirmed, wanted) = (connection.clone(), self.confirmed.clone(), self.wanted);
            asked.spawn(async move {
                let checked = async {
                    let time = rehearsal::run(&mut connection, &master, wanted).await.map_err(|failed| failed.error)?;
                    if let Some(confirmed) = confirmed {
                        confirmed.check(&master, deadline).await?;
                    }
                    Ok(time)
                };
                let checked = timeout_at(deadline.instant(), checked).await;
                checked.unwrap_or_else(|_| Err(StoreError::timed_out("check"))).map_err(|error| error.at(master.name()))
            });
        }
        let (mut times, mut last_error) = (Vec::with_capacity(masters), None);
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(time)) => times.push(time),
                Ok(Err(error)) => last_error = Some(error),
                Err(cause) => last_error = Some(StoreError::new("check", cause)),
            }
        }
        self.tell_trouble(masters - times.len(), masters, last_error.as_ref());
        times.sort_unstable();
        let is_majority = times.len() * 2 > masters;
        match (is_majority, times.get(times.len() / 2), last_error) {
            (true, Some(median), _) => Ok(*median),
            (_, _, Some(error)) => Err(error),
            _ => Err(StoreError::new("check", "no master is known")),
        }
    }

    /// The masters as a node of the cluster knows them now. All connections follow, where others are masters than when they
    /// were made: redis-rs learns of it by an answer of an old master, and one that hangs gives none.
    async fn layout(&self, probe: &Link, connection: &Connection, deadline: Deadline) -> Result<Layout, StoreError> {
        let Connection::Cluster(cluster, known) = connection else { return Ok(Layout::default()) };
        let mut last_error = StoreError::timed_out("check");
        for tries_left in (1..=LAYOUT_TRIES).rev() {
            // Half of the time is left for the masters.
            let part: Duration = deadline.remaining() / (tries_left + LAYOUT_TRIES);
            let mut cluster = cluster.clone();
            let asked = Connection::layout_now(&mut cluster, known.seed());
            match timeout_at(Deadline::after(part).instant(), asked).await {
                Ok(Ok(now)) => {
                    probe.follow(&now);
                    self.link.follow(&now);
                    if let Some(confirmed) = &self.confirmed {
                        confirmed.follow_layout(&now);
                    }
                    return Ok(now);
                }
                Ok(Err(error)) => last_error = StoreError::new("check", fault::words(&error)),
                Err(_) => {}
            }
        }
        probe.renew();
        Err(last_error)
    }

    /// One line whenever the number of masters that do not serve changes.
    fn tell_trouble(&self, troubled: usize, masters: usize, error: Option<&StoreError>) {
        if self.troubled.swap(troubled, Ordering::Relaxed) == troubled {
            return;
        }
        if let Some(error) = error {
            tracing::warn!(troubled, masters, cause = error.cause, "masters of the cluster do not serve");
        } else {
            tracing::info!(masters, "all masters of the cluster serve again");
        }
    }
}
