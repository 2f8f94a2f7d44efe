//! Answers that the other side has not taken yet. An answer waits in memory while the other side opens no window for it
//! or does not read; all of them together are bounded, and where they are too many, the connection with the most of them
//! is closed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::limit::OpenConnection;

/// Answers that wait on all connections of a listener. With its stream, one takes about 5 KiB.
pub(super) const MAX_UNTAKEN: usize = 8192;

/// The answers of one connection.
#[derive(Debug, Default)]
pub(super) struct UntakenAnswers {
    here: AtomicUsize,
    /// Those among them that HTTP/2 has taken, and that are written with its next flush.
    leaving: AtomicUsize,
    /// The same of all connections.
    everywhere: Arc<AtomicUsize>,
}

/// An answer, from when it is made until it is written.
pub(crate) struct Untaken(Arc<OpenConnection>);

impl UntakenAnswers {
    pub(super) fn among(everywhere: &Arc<AtomicUsize>) -> Self {
        Self { everywhere: Arc::clone(everywhere), ..Self::default() }
    }

    pub(super) fn count(&self) -> usize {
        self.here.load(Ordering::Relaxed)
    }

    /// One more. Tells whether there are too many of all connections.
    fn add(&self) -> bool {
        self.here.fetch_add(1, Ordering::Relaxed);
        self.everywhere.fetch_add(1, Ordering::Relaxed) >= MAX_UNTAKEN
    }

    fn remove(&self, count: usize) {
        let subtract = |now: usize| Some(now.saturating_sub(count));
        // Never fails: there is always a new value.
        let before = self.here.fetch_update(Ordering::Relaxed, Ordering::Relaxed, subtract).unwrap_or(0);
        self.everywhere.fetch_sub(before.min(count), Ordering::Relaxed);
    }

    /// The connection is about to end, and all that waits with it.
    pub(super) fn forget(&self) {
        self.everywhere.fetch_sub(self.here.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// What was leaving is written.
    pub(super) fn note_flushed(&self) {
        if self.leaving.load(Ordering::Relaxed) != 0 {
            self.remove(self.leaving.swap(0, Ordering::Relaxed));
        }
    }
}

impl Untaken {
    pub(crate) fn on(connection: &Arc<OpenConnection>) -> Self {
        // What a closing connection still answers goes with it.
        if !connection.is_closing() && connection.untaken().add() {
            connection.close_the_heaviest();
        }
        Self(Arc::clone(connection))
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.0.untaken().leaving.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::limit::{ConnectionLimit, GivesWay},
        *,
    };

    #[test]
    fn the_connection_with_the_most_is_closed() {
        let limit = ConnectionLimit::new(3, GivesWay::Idle, None);
        let [good, bad, worse] = [(); 3].map(|()| limit.admit(None).unwrap());
        let answers = |connection: &Arc<OpenConnection>, count: usize| -> Vec<Untaken> {
            (0..count).map(|_| Untaken::on(connection)).collect()
        };
        let waiting = (answers(&good, 2), answers(&bad, MAX_UNTAKEN / 2 - 2), answers(&worse, MAX_UNTAKEN / 2));
        assert!(!worse.is_closing());
        let more = answers(&good, 3);
        assert!(worse.is_closing() && !bad.is_closing() && !good.is_closing());
        // What the closed one had does not count any longer, also once it is dropped.
        let (of_good, of_bad, of_worse) = waiting;
        drop(of_worse);
        assert_eq!(limit.untaken(), MAX_UNTAKEN / 2 + 3);
        drop((of_good, of_bad, more));
        for connection in [&good, &bad, &worse] {
            connection.note_flushed();
        }
        assert_eq!(limit.untaken(), 0);
    }

    #[test]
    fn what_is_made_while_nobody_reads_waits_until_somebody_does() {
        let limit = ConnectionLimit::new(1, GivesWay::Idle, None);
        let connection = limit.admit(None).unwrap();
        drop(Untaken::on(&connection));
        assert_eq!(limit.untaken(), 1);
        connection.note_flushed();
        assert_eq!(limit.untaken(), 0);
        drop(Untaken::on(&connection));
        drop(connection);
        assert_eq!(limit.untaken(), 0);
    }
}
