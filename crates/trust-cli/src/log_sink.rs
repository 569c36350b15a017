//! One destination of the event log's lines: a bounded queue and a thread that writes.
//!
//! Logging only appends to memory. Lines that do not fit, because the disk is full or stdout has no
//! reader, are counted and reported in a `log_gap` line in their place.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::{Errno, ioctl_fionread};
use rustix::param;
use rustix::pipe::fcntl_getpipe_size;

use crate::colours::Colours;
use crate::event_text;
use crate::log_queue::Queue;
use crate::report_file::FileId;

/// Bytes that may wait to be written; as many again may be in progress. With a busy server's 20 MB
/// of lines per second this covers a writer that is not scheduled for 200 ms.
pub(crate) const QUEUE_BYTES: usize = 4 * 1024 * 1024;

/// Pauses between two looks whether a pipe has room for a line longer than it takes at once: the
/// shortest, and the longest.
const ROOM_PAUSE: Duration = Duration::from_millis(1);
const ROOM_PAUSE_MAX: Duration = Duration::from_millis(100);

/// Bytes per write to stdout and to a FIFO: what a pipe takes either completely or not at all
/// (PIPE_BUF, `pipe(7)`), so that it is known which lines a reader missed when it stopped reading.
const PIPE_PIECE_BYTES: usize = 4096;

/// How long to wait for another process that writes to the same file, and how often to check. No
/// writer of lines holds the lock longer than that.
const LOCK_PATIENCE: Duration = Duration::from_millis(50);
/// The same for a stdout that is a pipe, to which many children may write at the same time: a
/// little less than the exit waits for a sink. If the lock is held longer than that, it is not
/// tried again.
const STDOUT_LOCK_PATIENCE: Duration = Duration::from_millis(700);
/// The same for a line longer than a pipe takes at once, which would be mixed with others without
/// the lock: when the process ends, it gives up such a line and counts it.
const LONG_LINE_LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_micros(200);

/// Time between two writes, which is the longest that a line waits before being written. The first
/// line after a pause does not wait, nor does one that someone is waiting for.
const GATHERING: Duration = Duration::from_millis(1);

/// Pause before retrying after an error: a full disk does not empty faster for being asked more
/// often.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How often to check whether the log file still has its name, while there is something to write.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The name of the log file's sink in `log_gap`.
pub const FILE: &str = "file";
/// The name of standard output's sink in `log_gap`.
pub const STDOUT: &str = "stdout";

/// The destination of one sink's lines.
#[derive(Debug)]
pub(crate) enum SinkOutput {
    /// The log file.
    File(LogFile),
    /// Standard output. If it is a pipe, with another descriptor for the same pipe, used only for
    /// locking.
    Stdout(Option<File>),
}

/// A log file, with a second descriptor to read its last byte. Only that byte shows whether a torn
/// line must be closed before the next one, because other processes also write to the file.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    file: File,
    /// `None` if it is not a regular file, or cannot be read.
    reader: Option<File>,
}

impl LogFile {
    /// Opens a log file for appending and creates its directory. A torn last line is closed by the
    /// first line written.
    ///
    /// # Errors
    ///
    /// If the system refuses the directory or the file. A FIFO without a reader is an error too,
    /// instead of an endless wait; writes to it never wait either.
    pub fn open(path: &Path) -> io::Result<LogFile> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        LogFile::open_in_place(path)
    }

    fn open_in_place(path: &Path) -> io::Result<LogFile> {
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let mut options = OpenOptions::new();
        options.append(true).create(true).custom_flags(nonblocking);
        Ok(LogFile::new(path, options.open(path)?))
    }

    fn new(path: &Path, file: File) -> LogFile {
        let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let own_path = || Path::new("/proc/self/fd").join(file.as_raw_fd().to_string());
        let reader = is_regular.then(|| File::open(own_path()).ok()).flatten();
        LogFile { path: path.to_owned(), file, reader }
    }

    /// The file that now has the name, if it is another one: this one was moved or removed. If its
    /// directory is gone too, it is not created again, and this file is kept.
    fn successor(&self) -> Option<LogFile> {
        let own = FileId::of(&self.file.metadata().ok()?);
        let is_another = FileId::of_path(&self.path) != own;
        is_another.then(|| LogFile::open_in_place(&self.path).ok()).flatten()
    }

    /// Whether the file ends in a partial line; `None` if that is unknown.
    fn is_torn(&self) -> Option<bool> {
        let reader = self.reader.as_ref()?;
        let Some(last) = reader.metadata().ok()?.len().checked_sub(1) else { return Some(false) };
        let mut byte = [0];
        reader.read_exact_at(&mut byte, last).ok()?;
        Some(byte != *b"\n")
    }
}

impl SinkOutput {
    /// Standard output. If it is a pipe, other processes may write lines to it too, such as those
    /// that serve one client each, and a line longer than PIPE_BUF would be mixed with theirs. So
    /// there is a lock (`flock(2)`), which needs a descriptor that is not inherited.
    pub(crate) fn stdout() -> SinkOutput {
        let is_pipe = rustix::fs::fstat(rustix::stdio::stdout())
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
        // Do not wait for a pipe without a reader.
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let open = || {
            OpenOptions::new().write(true).custom_flags(nonblocking).open("/proc/self/fd/1").ok()
        };
        SinkOutput::Stdout(is_pipe.then(open).flatten())
    }

    /// Its name in `log_gap`.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            SinkOutput::File(_) => FILE,
            SinkOutput::Stdout(_) => STDOUT,
        }
    }
}

/// A queue with its writer thread.
#[derive(Debug)]
pub(crate) struct Sink {
    name: &'static str,
    queue: Arc<Queue<LogFile>>,
}

/// Builds the line that reports a gap: how many lines are missing, in which sink.
pub(crate) type GapLine = Box<dyn Fn(u64, &'static str) -> Vec<u8> + Send>;

impl Sink {
    /// A sink with its own thread, which writes lines unchanged, or rewritten as text.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub(crate) fn start(
        output: SinkOutput,
        rewriting: Option<Colours>,
        gap_line: GapLine,
    ) -> io::Result<Sink> {
        let (name, queue) = (output.name(), Arc::new(Queue::new(QUEUE_BYTES)));
        let mut writer = Writer::new(output, rewriting, Arc::clone(&queue));
        thread::Builder::new().name(format!("log-{name}")).spawn(move || writer.run(&gap_line))?;
        Ok(Sink { name, queue })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Queues one whole line without waiting.
    pub(crate) fn push(&self, line: &[u8]) {
        self.queue.push(line);
    }

    /// Waits until everything queued so far is written, at most until `until`. Returns how many
    /// lines were lost or are still waiting.
    pub(crate) fn settle(&self, until: Instant) -> u64 {
        self.queue.settle(until)
    }

    /// Prevents further writes, and waits for one in progress, at most until `until`. Returns how
    /// many lines are lost for good; if there are none, writing goes on.
    pub(crate) fn give_up(&self, until: Instant) -> u64 {
        self.queue.give_up(until)
    }

    /// Reports lines that were lost on their way here.
    pub(crate) fn add_missing(&self, lines: u64) {
        self.queue.add_missing(lines);
    }

    /// Switches to another file, from the next line written.
    pub(crate) fn replace_file(&self, file: LogFile) {
        self.queue.replace(file);
    }
}

/// The thread's end of a queue.
struct Writer {
    output: SinkOutput,
    /// If set, lines become text in these colours.
    rewriting: Option<Colours>,
    queue: Arc<Queue<LogFile>>,
    state: WriterState,
    /// When to check next whether the file still has its name.
    next_look: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriterState {
    /// The next byte starts a line.
    AtLineStart,
    /// Only part of the last line could be written.
    Torn,
    /// It has no reader any longer.
    Gone,
    /// Nothing more may be written.
    GivenUp,
}

impl Writer {
    fn new(output: SinkOutput, rewriting: Option<Colours>, queue: Arc<Queue<LogFile>>) -> Writer {
        let (state, next_look) = (WriterState::AtLineStart, Instant::now());
        Writer { output, rewriting, queue, state, next_look }
    }

    fn run(&mut self, gap_line: &GapLine) {
        let mut batch = Vec::new();
        loop {
            let (missing, replacement) = self.queue.take(&mut batch);
            self.use_replacement(replacement);
            if missing > 0 {
                batch.extend_from_slice(&gap_line(missing, self.output.name()));
            }
            match self.rewriting {
                // One line becomes one line, so that the counts stay right.
                Some(colours) => self.write_batch(&event_text::rewrite(&batch, colours)),
                None => self.write_batch(&batch),
            }
            if self.state == WriterState::GivenUp {
                // The lines in hand stay there, and count as missing.
                return;
            }
            // Let the next lines accumulate: a busy server would otherwise pay for a write, and for
            // waking this thread, with every line.
            self.queue.rest(GATHERING);
        }
    }

    /// Writes whole lines, retrying as often as necessary.
    fn write_batch(&mut self, batch: &[u8]) {
        let mut rest = batch;
        let is_over = |state| matches!(state, WriterState::Gone | WriterState::GivenUp);
        while !rest.is_empty() && !is_over(self.state) {
            let piece = self.output.next_piece(rest);
            let unwritten = self.write_some(piece).len();
            if is_over(self.state) {
                self.queue.note_written(0);
                return;
            }
            let (written, left) = rest.split_at(piece.len() - unwritten);
            self.queue.note_written(count_lines(written));
            rest = left;
            if unwritten > 0 {
                thread::park_timeout(RETRY_PAUSE);
                let replacement = self.queue.take_replacement();
                self.use_replacement(replacement);
            }
        }
    }

    /// Writes until an error; returns the lines that are not completely written.
    fn write_some<'a>(&mut self, lines: &'a [u8]) -> &'a [u8] {
        let is_locked = match &self.output {
            SinkOutput::File(file) if file.reader.is_some() => lock(&file.file, LOCK_PATIENCE),
            SinkOutput::Stdout(Some(pipe)) => {
                let is_long = lines.len() > PIPE_PIECE_BYTES;
                lock(pipe, if is_long { LONG_LINE_LOCK_PATIENCE } else { STDOUT_LOCK_PATIENCE })
            }
            SinkOutput::File(_) | SinkOutput::Stdout(None) => false,
        };
        if !is_locked && let SinkOutput::Stdout(pipe) = &mut self.output {
            *pipe = None;
        }
        if is_locked
            && let SinkOutput::File(file) = &self.output
            && let Some(is_torn) = file.is_torn()
        {
            self.state = if is_torn { WriterState::Torn } else { WriterState::AtLineStart };
        }
        if is_locked
            && lines.len() > PIPE_PIECE_BYTES
            && let SinkOutput::Stdout(Some(pipe)) = &self.output
        {
            wait_for_room(pipe, lines.len());
        }
        let rest = if self.queue.begin_write() {
            self.write_lines(lines)
        } else {
            self.state = WriterState::GivenUp;
            lines
        };
        if is_locked {
            // Fails only for a descriptor that is not open.
            let _ = match &self.output {
                SinkOutput::File(LogFile { file, .. }) | SinkOutput::Stdout(Some(file)) => {
                    file.unlock()
                }
                SinkOutput::Stdout(None) => Ok(()),
            };
        }
        rest
    }

    fn write_lines<'a>(&mut self, lines: &'a [u8]) -> &'a [u8] {
        if self.state == WriterState::Torn {
            // The newline and a line in one write, so that no other process can write between them.
            let first_len =
                lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1);
            let closing = [b"\n", &lines[..first_len]].concat();
            match self.write_all(&closing) {
                0 => return lines,
                written if written < closing.len() => return lines,
                _ => self.state = WriterState::AtLineStart,
            }
            return self.write_lines(&lines[first_len..]);
        }
        let written = self.write_all(lines);
        let whole = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if self.state != WriterState::Gone && written > whole {
            self.state = WriterState::Torn;
        }
        &lines[whole..]
    }

    /// Writes as much as it can; returns the number of bytes. An append may be short.
    fn write_all(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match rustix::io::write(self.output.descriptor(), &bytes[written..]) {
                Ok(0) => break,
                Ok(count) => written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.output.wait_until_writable() => {}
                // A FIFO in place of the log file may get a reader again, so it is retried like a
                // full disk.
                Err(Errno::PIPE) if matches!(self.output, SinkOutput::Stdout(_)) => {
                    self.state = WriterState::Gone;
                    break;
                }
                Err(_) => break,
            }
        }
        written
    }

    /// Switches to the replacement, or to the file that now has the name.
    fn use_replacement(&mut self, replacement: Option<LogFile>) {
        let now = Instant::now();
        let is_due = self.next_look <= now;
        let file = replacement.or_else(|| match &self.output {
            SinkOutput::File(file) if is_due => file.successor(),
            SinkOutput::File(_) | SinkOutput::Stdout(_) => None,
        });
        if is_due {
            self.next_look = now + LOOK_INTERVAL;
        }
        if let Some(file) = file {
            self.output = SinkOutput::File(file);
            self.state = WriterState::AtLineStart;
        }
    }
}

impl SinkOutput {
    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            SinkOutput::File(file) => file.file.as_fd(),
            SinkOutput::Stdout(_) => rustix::stdio::stdout(),
        }
    }

    /// The whole lines at the front of `lines` that go into one write.
    fn next_piece<'a>(&self, lines: &'a [u8]) -> &'a [u8] {
        match self {
            SinkOutput::File(LogFile { reader: None, .. }) | SinkOutput::Stdout(_)
                if lines.len() > PIPE_PIECE_BYTES =>
            {
                let is_end = |byte: &u8| *byte == b'\n';
                let within = lines[..PIPE_PIECE_BYTES].iter().rposition(is_end);
                let end = within.or_else(|| lines.iter().position(is_end));
                &lines[..end.map_or(lines.len(), |at| at + 1)]
            }
            SinkOutput::File(_) | SinkOutput::Stdout(_) => lines,
        }
    }

    /// Waits for room in a FIFO, or in a stdout that another program made non-blocking; returns
    /// whether to write again. It waits for a stalled reader in steps, between which another file
    /// may take over.
    fn wait_until_writable(&self) -> bool {
        let mut polled = [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::OUT)];
        let patience = Timespec::try_from(RETRY_PAUSE).expect("a part of a second");
        // The next write reports an error too.
        poll(&mut polled, Some(&patience)) != Ok(0)
    }
}

/// Waits until a pipe takes that many bytes without blocking, if it is large enough: the next
/// writer could not see that a line is torn, because this process ended in the middle of it.
fn wait_for_room(pipe: &File, bytes: usize) {
    let mut pause = ROOM_PAUSE;
    while let (Ok(size), Ok(queued)) = (fcntl_getpipe_size(pipe), ioctl_fionread(pipe)) {
        // Each page of a pipe holds what one or more writes left there. Two neighbours hold more
        // than a page, or they would be one, and the last one may be begun.
        let taken = 2 * queued as usize + 2 * param::page_size();
        if queued == 0 || taken + bytes <= size {
            return;
        }
        // Without flags only a reader that has gone ends the wait.
        let mut polled = [PollFd::new(pipe, PollFlags::empty())];
        let patience = Timespec::try_from(pause).expect("a part of a second");
        if poll(&mut polled, Some(&patience)) != Ok(0) {
            return;
        }
        pause = (pause * 2).min(ROOM_PAUSE_MAX);
    }
}

/// Keeps other processes that log to the same file or pipe from writing (`flock(2)`), because a
/// line being written looks like a torn one. Returns whether that worked; not every file system
/// supports it.
fn lock(file: &File, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return true,
            Err(TryLockError::WouldBlock) if Instant::now() < until => {
                thread::park_timeout(LOCK_PAUSE);
            }
            Err(_) => return false,
        }
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests;
