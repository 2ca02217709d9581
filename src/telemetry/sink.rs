//! Where log lines go: through a bounded queue to a thread that writes them, so that a bad stderr harms nothing but the
//! log.
//!
//! A stderr can fail (its disk is full, the reader of its pipe is gone) and it can block (the reader lives but does not
//! read). A thread that logs must notice neither: a line that finds the queue full, or that cannot be written, is
//! dropped and counted, and once writing works again a further line says how many were lost.
//!
//! The crate tracing-appender has such a thread, but its guard calls `eprintln!` if the last lines are not written in
//! time: on the very stderr that is full or gone, where that macro blocks or panics.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Most lines that may wait: enough for a reader that is absent for seconds at the default level, and some hundred KiB
/// of memory when it never returns.
pub(super) const QUEUE_LINES: usize = 1024;

/// The sending end of the queue. Clones feed the same queue.
#[derive(Debug, Clone)]
pub(super) struct Sink {
    queue: Sender<Message>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Message {
    /// Text to write, with its line break.
    Line(Vec<u8>),
    /// Asks for an answer once all lines before it are written or dropped, and no other line waits.
    Flush(Sender<()>),
}

impl Sink {
    /// Starts the thread that writes to `out`. Once writing works again and no line waits, the thread calls `report`
    /// with the number of lines lost since its last call; a line that `report` logs is queued like any other.
    ///
    /// # Errors
    ///
    /// When the system refuses a thread.
    pub(super) fn start(
        out: impl io::Write + Send + 'static,
        lines_max: usize,
        report: impl FnMut(u64) + Send + 'static,
    ) -> io::Result<Self> {
        let (queue, lines) = bounded(lines_max);
        let dropped = Arc::new(AtomicU64::new(0));
        let drain = Drain {
            lines,
            out,
            dropped: Arc::clone(&dropped),
            reported: 0,
            is_torn: false,
            report,
        };
        // Nobody joins the thread: it may hang in a write for ever, which must not delay the exit.
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || drain.run())?;
        Ok(Self { queue, dropped })
    }

    /// Queues one line, its line break included, or counts it as dropped. Never waits.
    pub(super) fn send(&self, line: &[u8]) {
        match self.queue.try_send(Message::Line(line.to_vec())) {
            Ok(()) => {}
            // The receiver is gone only if its thread panicked: the server goes on without a log.
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits until the lines sent so far are written or dropped, but no longer than `time_max`.
    pub(super) fn flush(&self, time_max: Duration) {
        let deadline = Instant::now() + time_max;
        let (done, is_done) = bounded(1);
        let asked = self.queue.send_deadline(Message::Flush(done), deadline);
        if asked.is_ok() {
            // Too late or never: the caller goes on either way.
            is_done.recv_deadline(deadline).ok();
        }
    }

    /// Lines lost so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// For the formatter, which writes each line with one call. No error is ever returned: tracing would print it to
/// stderr.
impl io::Write for Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.send(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The receiving end of the queue, owned by the log thread.
struct Drain<W, R> {
    lines: Receiver<Message>,
    out: W,
    dropped: Arc<AtomicU64>,
    /// How many of the dropped lines were reported.
    reported: u64,
    /// Whether the last write failed. It may have left a part of its line.
    is_torn: bool,
    report: R,
}

impl<W: io::Write, R: FnMut(u64)> Drain<W, R> {
    fn run(mut self) {
        let mut asked = Vec::new();
        while let Ok(message) = self.lines.recv() {
            match message {
                Message::Line(line) => self.write(&line),
                Message::Flush(done) => asked.push(done),
            }
            // Not while lines wait: a reader that is always slow would get a report after each line.
            if self.lines.is_empty() {
                self.report_dropped();
            }
            // The report may be in the queue now, and a flush waits for it too.
            if self.lines.is_empty() {
                for done in asked.drain(..) {
                    // The caller of `flush` may have stopped waiting.
                    done.try_send(()).ok();
                }
            }
        }
    }

    fn write(&mut self, line: &[u8]) {
        self.is_torn = self.try_write(line).is_err();
        if self.is_torn {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Says how many lines were lost, if any were and writing works again.
    fn report_dropped(&mut self) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let unreported = dropped - self.reported;
        if unreported > 0 && !self.is_torn {
            self.reported = dropped;
            (self.report)(unreported);
        }
    }

    fn try_write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.is_torn {
            // Ends the failed line, which may be there in part, so that a parser can still read this one.
            self.out.write_all(b"\n")?;
        }
        self.out.write_all(line)?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use crossbeam_channel::unbounded;

    use super::*;

    /// Far longer than anything here takes. `make mutants` shortens it.
    const LONG: Duration = Duration::from_secs(60);

    /// Passes lines on, or fails, or blocks until `gate` lets it go on.
    struct Out {
        fails: Arc<AtomicBool>,
        gate: Receiver<()>,
        written: Sender<String>,
    }

    impl io::Write for Out {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            // A gate whose sender was dropped is open.
            self.gate.recv().ok();
            if self.fails.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let text = String::from_utf8(line.to_vec()).unwrap();
            self.written.send(text).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Bench {
        sink: Sink,
        fails: Arc<AtomicBool>,
        gate: Sender<()>,
        written: Receiver<String>,
        reports: Receiver<u64>,
    }

    fn bench(lines_max: usize) -> Bench {
        let fails = Arc::new(AtomicBool::new(false));
        let (gate, gate_of_out) = unbounded();
        let (written_by_out, written) = unbounded();
        let (reported, reports) = unbounded();
        let out = Out {
            fails: Arc::clone(&fails),
            gate: gate_of_out,
            written: written_by_out,
        };
        let sink = Sink::start(out, lines_max, move |lost| reported.send(lost).unwrap()).unwrap();
        Bench {
            sink,
            fails,
            gate,
            written,
            reports,
        }
    }

    #[test]
    fn lines_arrive_in_order_and_flush_waits_for_them() {
        let Bench {
            sink,
            gate,
            written,
            reports,
            ..
        } = bench(16);
        drop(gate);
        for number in 0..10 {
            sink.send(format!("{number}\n").as_bytes());
        }
        sink.flush(LONG);
        let lines: Vec<_> = written.try_iter().collect();
        assert_eq!(lines.concat(), "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
        assert_eq!(sink.dropped(), 0);
        assert!(reports.is_empty());
    }

    #[test]
    fn a_line_that_cannot_be_written_is_counted_and_reported_once_writing_works() {
        let Bench {
            mut sink,
            fails,
            gate,
            written,
            reports,
        } = bench(16);
        drop(gate);
        fails.store(true, Ordering::Relaxed);
        for _ in 0..3 {
            io::Write::write_all(&mut sink, b"lost\n").unwrap();
        }
        sink.flush(LONG);
        assert_eq!(sink.dropped(), 3);
        assert!(reports.is_empty(), "nothing can be reported yet");
        fails.store(false, Ordering::Relaxed);
        sink.send(b"back\n");
        assert_eq!(reports.recv_timeout(LONG), Ok(3));
        sink.send(b"again\n");
        sink.flush(LONG);
        let lines: Vec<_> = written.try_iter().collect();
        assert_eq!(lines.concat(), "\nback\nagain\n");
        assert!(reports.is_empty(), "they were reported");
        assert_eq!(sink.dropped(), 3);
    }

    #[test]
    fn a_writer_that_blocks_holds_up_nobody() {
        let Bench {
            sink,
            gate,
            written,
            reports,
            ..
        } = bench(4);
        // The writer holds one line, or has not taken it yet: four or five of the 20 find room.
        let (sent, are_sent) = bounded(0);
        let sender = sink.clone();
        // On a thread of its own, so that a `send` that waits fails the test instead of hanging it.
        thread::spawn(move || {
            for _ in 0..20 {
                sender.send(b"line\n");
            }
            sent.send(())
        });
        assert_eq!(are_sent.recv_timeout(LONG), Ok(()));
        let dropped = sink.dropped();
        assert!((15..=16).contains(&dropped), "{dropped}");
        // Returns although nothing is written.
        sink.flush(Duration::from_millis(10));
        assert!(written.is_empty());
        drop(gate);
        assert_eq!(reports.recv_timeout(LONG), Ok(dropped));
        sink.flush(LONG);
        assert_eq!(written.try_iter().count() as u64, 20 - dropped);
    }
}
