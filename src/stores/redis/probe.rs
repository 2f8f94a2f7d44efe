//! The health check: every command is rehearsed, and the servers' time is told.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{task::JoinSet, time::timeout_at};

use super::{
    Redis,
    connection::{Connection, Master},
    fault, rehearsal,
};
use crate::{
    domain::time::Timestamp,
    ports::{clock::Deadline, store::StoreError},
};

/// How often another node of a cluster is asked for the layout where one does not answer.
const LAYOUT_TRIES: u32 = 3;

impl Redis {
    pub(super) async fn check_one(&self, deadline: Deadline) -> Result<Timestamp, StoreError> {
        let master = &Master::one();
        let rehearse = |mut connection: Connection| async move { rehearsal::rehearse(&mut connection, master).await };
        let error = match self.link.ask("check", deadline, rehearse).await {
            Ok(time) => return Ok(time),
            Err(error) => error,
        };
        let missing = |mut connection: Connection| async move { Ok(rehearsal::missing(&mut connection, master).await) };
        match self.link.ask("check", deadline, missing).await {
            Ok(denied) if !denied.is_empty() => Err(rehearsal::refused(&denied)),
            _ => Err(error),
        }
    }

    /// A cluster serves as long as most of its masters do: the accounts of the others fail, and no replica of otpd could serve
    /// them. Its time is the median of the masters', so that one wrong clock among them does no harm.
    pub(super) async fn check_cluster(&self, deadline: Deadline) -> Result<Timestamp, StoreError> {
        let connection = self.link.connection("check")?;
        self.compare_layout(&connection, deadline).await?;
        let masters = connection.masters();
        let mut asked = JoinSet::new();
        for master in masters.iter().cloned() {
            let mut connection = connection.clone();
            asked.spawn(async move {
                let rehearsed = timeout_at(deadline.instant(), rehearsal::run(&mut connection, &master)).await;
                match rehearsed {
                    Ok(Ok(time)) => Ok(time),
                    Ok(Err(failed)) => Err(named(&master, failed.error)),
                    Err(_) => Err(named(&master, StoreError::timed_out("check"))),
                }
            });
        }
        let (mut times, mut last_error) = (Vec::with_capacity(masters.len()), None);
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(time)) => times.push(time),
                Ok(Err(error)) => last_error = Some(error),
                Err(cause) => last_error = Some(StoreError::new("check", cause)),
            }
        }
        self.tell_trouble(masters.len() - times.len(), masters.len(), last_error.as_ref());
        times.sort_unstable();
        let is_majority = times.len() * 2 > masters.len();
        match (is_majority, times.get(times.len() / 2), last_error) {
            (true, Some(median), _) => Ok(*median),
            (_, _, Some(error)) => Err(error),
            _ => Err(StoreError::new("check", "no master is known")),
        }
    }

    /// Connects anew where other nodes are masters than when the connection was made. redis-rs learns of it by an answer of an
    /// old master, and one that hangs gives none.
    async fn compare_layout(&self, connection: &Connection, deadline: Deadline) -> Result<(), StoreError> {
        let Connection::Cluster(cluster, known) = connection else { return Ok(()) };
        let mut last_error = StoreError::timed_out("check");
        for tries_left in (1..=LAYOUT_TRIES).rev() {
            // The last third is for the masters.
            let part: Duration = deadline.remaining() / (tries_left + 1);
            let mut cluster = cluster.clone();
            let asked = Connection::layout_now(&mut cluster, "");
            match timeout_at(Deadline::after(part).instant(), asked).await {
                Ok(Ok(now)) => {
                    if !now.has_same_masters(known) {
                        self.link.renew(known);
                    }
                    return Ok(());
                }
                Ok(Err(error)) => last_error = StoreError::new("check", fault::words(&error)),
                Err(_) => {}
            }
        }
        self.link.renew(known);
        Err(last_error)
    }

    /// One line whenever the number of masters that do not serve changes.
    fn tell_trouble(&self, troubled: usize, masters: usize, error: Option<&StoreError>) {
        if self.troubled.swap(troubled, Ordering::Relaxed) == troubled {
            return;
        }
        match error {
            Some(error) => {
                tracing::warn!(troubled, masters, cause = error.cause, "masters of the cluster do not serve")
            }
            None => tracing::info!(masters, "all masters of the cluster serve again"),
        }
    }
}

fn named(master: &Master, error: StoreError) -> StoreError {
    StoreError { cause: format!("{}{}", master.shown(), error.cause), ..error }
}
