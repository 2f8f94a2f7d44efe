//! The thread that writes the log. A call leaves its line in memory and goes on; the thread writes what has gathered
//! every few milliseconds. A reader of standard error that falls behind costs lines, which are counted, and no time of
//! calls.

use std::{
    io::{self, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long lines gather. A process that is killed loses as much.
const GATHERING: Duration = Duration::from_millis(5);
/// The most that waits to be written; lines beyond are dropped.
const MAX_WAITING: usize = 1024 * 1024;
/// What the thread keeps of its buffer between two writes.
const KEPT_WHEN_IDLE: usize = 64 * 1024;
/// How long the line of an error holds up its thread until it is written.
const ERROR_TIMEOUT: Duration = Duration::from_millis(100);
/// How long the end of the process waits for the last lines.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A handle on the thread.
#[derive(Clone)]
pub(super) struct LogWriter(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told to the thread: there are lines, or somebody waits for them.
    added: Condvar,
    /// Told by the thread: lines have been written.
    written: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lines dropped since this was last told, and ever.
    dropped: u64,
    ever_dropped: u64,
    /// Bytes ever added, and ever written: a flush waits until the second has reached what the first was.
    added: u64,
    written: u64,
    /// Somebody waits: do not gather any longer.
    urgent: bool,
    /// The last flush has waited in vain, and nothing was written since. Nobody waits again before something is.
    stuck: bool,
}

impl LogWriter {
    /// Starts the thread. It lives as long as the process.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Self(Arc::clone(&shared));
        thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_for_ever(output))?;
        Ok(writer)
    }

    /// Waits until the lines so far are written, or until it is clear that they will not be soon.
    pub(super) fn flush(&self) {
        self.0.flush(FLUSH_TIMEOUT);
    }

    /// How many lines were ever dropped.
    pub(super) fn ever_dropped(&self) -> u64 {
        self.0.queue().ever_dropped
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.lines.len() + line.len() > MAX_WAITING {
            queue.dropped += 1;
            queue.ever_dropped += 1;
            return;
        }
        let was_empty = queue.lines.is_empty();
        queue.lines.extend_from_slice(line);
        queue.added += line.len() as u64;
        drop(queue);
        if was_empty {
            self.added.notify_one();
        }
    }

    fn flush(&self, timeout: Duration) {
        let mut queue = self.queue();
        let goal = queue.added;
        if queue.written >= goal || queue.stuck {
            return;
        }
        queue.urgent = true;
        self.added.notify_one();
        let waited = self.written.wait_timeout_while(queue, timeout, |queue| queue.written < goal);
        let (mut queue, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.stuck = waited.timed_out();
    }

    fn write_for_ever(&self, mut output: impl Write) {
        let mut lines = Vec::new();
        loop {
            let dropped = self.next(&mut lines);
            // An output that is closed loses the log and nothing else.
            let _ = output.write_all(&lines).and_then(|()| output.flush());
            self.note_written(lines.len());
            lines.clear();
            lines.shrink_to(KEPT_WHEN_IDLE);
            if dropped > 0 {
                tracing::warn!(dropped, "lines of the log are missing: standard error is not read fast enough");
            }
        }
    }

    /// Waits for lines and moves them over. Tells how many were dropped.
    fn next(&self, lines: &mut Vec<u8>) -> u64 {
        let queue = self.queue();
        let queue = self.added.wait_while(queue, |queue| queue.lines.is_empty());
        let queue = queue.unwrap_or_else(PoisonError::into_inner);
        let gathered = self.added.wait_timeout_while(queue, GATHERING, |queue| !queue.urgent);
        let (mut queue, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        queue.urgent = false;
        mem::swap(&mut queue.lines, lines);
        mem::take(&mut queue.dropped)
    }

    fn note_written(&self, bytes: usize) {
        let mut queue = self.queue();
        queue.written += bytes as u64;
        queue.stuck = false;
        self.written.notify_all();
    }
}

/// Where one line goes.
pub(super) struct LineWriter<'a> {
    shared: &'a Shared,
    is_error: bool,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.shared.add(line);
        if self.is_error {
            // What comes after an error may be the end of the process.
            self.shared.flush(ERROR_TIMEOUT);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { shared: &self.0, is_error: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter { shared: &self.0, is_error: *metadata.level() == Level::ERROR }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Writes only when it is told to, and passes on what it was given.
    struct Gate {
        open: Receiver<()>,
        written: Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.open.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.written.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (LogWriter, Sender<()>, Receiver<Vec<u8>>) {
        let (opening, open) = channel();
        let (written, seen) = channel();
        (LogWriter::start(Gate { open, written }).unwrap(), opening, seen)
    }

    #[test]
    fn a_flush_ends_when_all_lines_are_written() {
        let (log, open, seen) = gate();
        open.send(()).unwrap();
        log.make_writer().write_all(b"one\n").unwrap();
        log.0.flush(Duration::from_secs(60));
        assert_eq!(seen.try_recv().unwrap(), b"one\n");
        // Nothing is left to wait for.
        log.0.flush(Duration::from_secs(60));
    }

    #[test]
    fn an_output_that_nobody_reads_costs_lines_and_no_time() {
        let (log, open, seen) = gate();
        log.make_writer().write_all(b"first\n").unwrap();
        log.0.flush(Duration::from_millis(1));
        assert!(log.0.queue().stuck);
        // What is added from here on is another write.
        while !log.0.queue().lines.is_empty() {
            thread::yield_now();
        }
        // Does not wait again.
        log.0.flush(Duration::from_secs(3600));
        let line = [b'x'; 1024];
        for _ in 0..2 * MAX_WAITING / line.len() {
            log.make_writer().write_all(&line).unwrap();
        }
        let waiting = log.0.queue().lines.len();
        let dropped = log.0.queue().dropped;
        assert!(waiting <= MAX_WAITING);
        assert!(dropped >= (MAX_WAITING / line.len()) as u64);
        assert_eq!(log.ever_dropped(), dropped);
        open.send(()).unwrap();
        open.send(()).unwrap();
        let next = || seen.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(next().starts_with(b"first\n"));
        assert_eq!(next().len(), waiting);
    }
}
