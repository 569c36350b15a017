//! What a server does with its connections, beside reading messages from them: right or wrong.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::process;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Resource, Rlimit, setrlimit};
use socket2::SockRef;

use super::input::{Frames, Received};
use super::mutant::TIMEOUT;

/// What handling connections may get wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bugs {
    /// An accept that fails ends it, and it has no more than so many descriptors.
    pub(crate) accepts_at_most: Option<u64>,
    /// It asks every new socket for its peer's address and expects one.
    pub(crate) expects_an_address: bool,
    /// The first receive has to bring something.
    pub(crate) expects_a_byte: bool,
    /// A receive that fails ends the process.
    pub(crate) failed_receive_is_fatal: bool,
    /// A send that fails ends the process, as SIGPIPE does.
    pub(crate) failed_send_is_fatal: bool,
    /// A length that is refused ends the process.
    pub(crate) refusal_is_fatal: bool,
    /// After a length that is refused it reads on, and ignores what comes.
    pub(crate) refusal_is_ignored: bool,
    /// A client's FIN changes nothing.
    pub(crate) fin_is_ignored: bool,
    /// A client's FIN inside a message changes nothing.
    pub(crate) fin_inside_is_ignored: bool,
    /// A client's FIN before its first message changes nothing.
    pub(crate) first_fin_is_ignored: bool,
    /// A client's FIN is only noticed when its timeout is over.
    pub(crate) fin_waits_for_timeout: bool,
    /// What there is of a message when a FIN comes is echoed.
    pub(crate) part_is_echoed: bool,
    /// A client that has sent FIN gets no answers any more.
    pub(crate) half_close_is_close: bool,
    /// A client's FIN is answered by a RST, which takes what the kernel still has to send.
    pub(crate) fin_is_aborted: bool,
    /// What there was of a message when a connection broke is the beginning of the next one's.
    pub(crate) leaves_a_part: bool,
    /// Unfinished messages of all connections are in the same buffer.
    pub(crate) one_part_buffer: bool,
    /// So many clients are served at the same time; others wait.
    pub(crate) workers: Option<usize>,
    /// So many clients are served at the same time, and the place of one that broke is never free again.
    pub(crate) broken_keep_their_place: bool,
    /// The same of every client that left.
    pub(crate) all_keep_their_place: bool,
    /// All unfinished messages together may declare so many bytes; who is beyond that waits.
    pub(crate) declared_max: Option<u64>,
    /// While a message is unfinished no other connection is looked at.
    pub(crate) one_message_at_a_time: bool,
    /// While an answer is being sent no other one is.
    pub(crate) one_send_at_a_time: bool,
    /// All connections put their answers into the same buffer.
    pub(crate) one_answer_buffer: bool,
    /// Nagle's algorithm is left on.
    pub(crate) delays_small_answers: bool,
    /// It has a timeout of another length.
    pub(crate) timeout: Option<Duration>,
    /// A client that has sent nothing may do so for ever.
    pub(crate) no_first_timeout: bool,
    /// A client that is inside a message may be silent for ever.
    pub(crate) no_timeout_inside: bool,
    /// A client may be silent for ever, except inside a message.
    pub(crate) no_timeout_outside: bool,
    /// A client may leave its answers unread for ever.
    pub(crate) no_send_timeout: bool,
    /// The timeout is that of the connection, whatever comes.
    pub(crate) timeout_of_the_whole: bool,
    /// The timeout ends a connection with a RST.
    pub(crate) timeout_aborts: bool,
}

/// Nothing wrong.
pub(crate) const NO_BUGS: Bugs = Bugs {
    accepts_at_most: None,
    expects_an_address: false,
    expects_a_byte: false,
    failed_receive_is_fatal: false,
    failed_send_is_fatal: false,
    refusal_is_fatal: false,
    refusal_is_ignored: false,
    fin_is_ignored: false,
    fin_inside_is_ignored: false,
    first_fin_is_ignored: false,
    fin_waits_for_timeout: false,
    part_is_echoed: false,
    half_close_is_close: false,
    fin_is_aborted: false,
    leaves_a_part: false,
    one_part_buffer: false,
    workers: None,
    broken_keep_their_place: false,
    all_keep_their_place: false,
    declared_max: None,
    one_message_at_a_time: false,
    one_send_at_a_time: false,
    one_answer_buffer: false,
    delays_small_answers: false,
    timeout: None,
    no_first_timeout: false,
    no_timeout_inside: false,
    no_timeout_outside: false,
    no_send_timeout: false,
    timeout_of_the_whole: false,
    timeout_aborts: false,
};

/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(3600);

/// How long a client that resets at once takes to do so.
const HASTE: Duration = Duration::from_millis(2);

/// How often something that others have is asked for again.
const ASK: Duration = Duration::from_millis(1);

/// Who is inside a message, who sends, what is left of broken messages, answers of all connections.
static INSIDE: Mutex<()> = Mutex::new(());
static SENDING: Mutex<()> = Mutex::new(());
static LEFT: Mutex<Vec<u8>> = Mutex::new(vec![]);
static ANSWERS: Mutex<Vec<u8>> = Mutex::new(vec![]);

/// Clients that have a worker, and bytes that are declared.
static WORKING: AtomicUsize = AtomicUsize::new(0);
static DECLARED: AtomicU64 = AtomicU64::new(0);

/// What holds for the process.
pub(crate) fn begin(bugs: &Bugs) -> io::Result<()> {
    if let Some(most) = bugs.accepts_at_most {
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// The next client, if it is still there; where there are few workers, once one is free.
pub(crate) fn accept(bugs: &Bugs, listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept() {
        Ok((stream, _)) => {
            if bugs.expects_an_address {
                thread::sleep(HASTE);
                if stream.peer_addr().is_err() {
                    process::abort();
                }
            }
            // Not in the client's own thread: which of those runs first nobody knows.
            let is_free =
                |working| (working < bugs.workers.unwrap_or(usize::MAX)).then_some(working + 1);
            while WORKING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_free).is_err() {
                thread::sleep(ASK);
            }
            Some(stream)
        }
        Err(_) if bugs.accepts_at_most.is_some() => process::abort(),
        Err(_) => None,
    }
}

/// One connection, as far as it matters beside its messages.
#[derive(Debug)]
pub(crate) struct Visit<'b> {
    bugs: &'b Bugs,
    timeout: Option<Duration>,
    since: Instant,
    /// Nothing has come yet.
    is_new: bool,
    declared: u64,
    inside: Option<MutexGuard<'static, ()>>,
}

impl<'b> Visit<'b> {
    /// `timeout` is that of the server.
    pub(crate) fn begin(
        bugs: &'b Bugs,
        stream: &TcpStream,
        timeout: Option<Duration>,
    ) -> io::Result<Visit<'b>> {
        let timeout = bugs.timeout.or(timeout);
        stream.set_nodelay(!bugs.delays_small_answers)?;
        stream.set_write_timeout(timeout.filter(|_| !bugs.no_send_timeout))?;
        let since = Instant::now();
        Ok(Visit { bugs, timeout, since, is_new: true, declared: 0, inside: None })
    }

    /// How long the next bytes are waited for.
    pub(crate) fn patience(&self, is_inside: bool) -> Option<Duration> {
        let bugs = self.bugs;
        let is_for_ever = bugs.no_timeout_inside && is_inside
            || bugs.no_timeout_outside && !is_inside
            || bugs.no_first_timeout && self.is_new;
        let timeout = self.timeout.filter(|_| !is_for_ever)?;
        match bugs.timeout_of_the_whole {
            // Zero would mean no timeout at all.
            true => Some(timeout.saturating_sub(self.since.elapsed()).max(ASK)),
            false => Some(timeout),
        }
    }

    /// What it does before it receives anything.
    pub(crate) fn begin_input(&self, frames: &mut Frames<'_>) {
        if self.bugs.leaves_a_part {
            frames.begin_with(std::mem::take(&mut lock(&LEFT)));
        }
    }

    /// What it does before it receives.
    pub(crate) fn prepare(&self, frames: &mut Frames<'_>, stream: &TcpStream) {
        if self.bugs.one_part_buffer {
            // The receive that follows says what comes of it.
            let _ = stream.peek(&mut [0]);
            frames.begin_with(std::mem::take(&mut lock(&LEFT)));
        }
    }

    /// What it makes of what came, before any answer; whether the connection goes on.
    pub(crate) fn handle(
        &mut self,
        received: &Received,
        frames: &mut Frames<'_>,
        stream: &TcpStream,
        answers: &mut Vec<Vec<u8>>,
    ) -> io::Result<ControlFlow<()>> {
        match received {
            Received::Frames => return self.handle_bytes(frames, stream),
            Received::Fin => self.handle_fin(frames, stream, answers)?,
            Received::Refused if self.bugs.refusal_is_fatal => process::abort(),
            Received::Refused if self.bugs.refusal_is_ignored => thread::sleep(FOREVER),
            Received::Timeout if self.bugs.timeout_aborts => {
                abort_on_close(stream)?;
                return Ok(ControlFlow::Break(()));
            }
            Received::Failed(_) if self.bugs.failed_receive_is_fatal => process::abort(),
            Received::Failed(_) => self.leave_a_part(frames),
            Received::Refused | Received::Timeout => {}
        }
        Ok(ControlFlow::Continue(()))
    }

    fn handle_bytes(
        &mut self,
        frames: &mut Frames<'_>,
        stream: &TcpStream,
    ) -> io::Result<ControlFlow<()>> {
        let bugs = self.bugs;
        self.is_new = false;
        if bugs.half_close_is_close {
            let mut polled = [PollFd::new(stream, PollFlags::RDHUP)];
            let moment = Timespec::try_from(HASTE).ok();
            if poll(&mut polled, moment.as_ref())? > 0 {
                return Ok(ControlFlow::Break(()));
            }
        }
        if bugs.one_part_buffer {
            *lock(&LEFT) = frames.take_part();
        }
        if bugs.one_message_at_a_time {
            match (frames.is_inside(), self.inside.is_some()) {
                (true, false) => self.inside = Some(lock(&INSIDE)),
                (true, true) => {}
                (false, _) => {
                    self.inside = None;
                    drop(lock(&INSIDE));
                }
            }
        }
        if let Some(most) = bugs.declared_max {
            // Who declares nothing unfinished waits for room too.
            self.charge(frames.declares().max(1), most);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn handle_fin(
        &self,
        frames: &mut Frames<'_>,
        stream: &TcpStream,
        answers: &mut Vec<Vec<u8>>,
    ) -> io::Result<()> {
        let bugs = self.bugs;
        if bugs.expects_a_byte && self.is_new {
            process::abort();
        }
        if bugs.fin_is_ignored
            || bugs.fin_inside_is_ignored && frames.is_inside()
            || bugs.first_fin_is_ignored && self.is_new
        {
            thread::sleep(FOREVER);
        }
        if bugs.fin_waits_for_timeout {
            thread::sleep(self.timeout.unwrap_or(TIMEOUT));
        }
        if bugs.part_is_echoed && frames.is_inside() {
            answers.push(frames.take_part());
        }
        if bugs.fin_is_aborted {
            abort_on_close(stream)?;
        }
        self.leave_a_part(frames);
        Ok(())
    }

    fn leave_a_part(&self, frames: &mut Frames<'_>) {
        if self.bugs.leaves_a_part {
            lock(&LEFT).append(&mut frames.take_part());
        }
    }

    /// Waits until the bytes that a message declares are within what all may declare.
    fn charge(&mut self, declared: u64, most: u64) {
        DECLARED.fetch_sub(std::mem::take(&mut self.declared), Ordering::SeqCst);
        let is_within = |sum: u64| (sum + declared <= most).then_some(sum + declared);
        while DECLARED.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_within).is_err() {
            thread::sleep(ASK);
        }
        self.declared = declared;
    }

    /// Sends an answer.
    pub(crate) fn send(&self, mut stream: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        let bugs = self.bugs;
        let _sending = bugs.one_send_at_a_time.then(|| lock(&SENDING));
        let sent = match bugs.one_answer_buffer {
            false => stream.write_all(bytes),
            true => {
                lock(&ANSWERS).extend_from_slice(bytes);
                thread::sleep(HASTE);
                let all = std::mem::take(&mut *lock(&ANSWERS));
                stream.write_all(&all)
            }
        };
        if sent.is_err() && bugs.failed_send_is_fatal {
            process::abort();
        }
        sent
    }

    /// Gives back what it took.
    pub(crate) fn end(self, is_broken: bool) {
        DECLARED.fetch_sub(self.declared, Ordering::SeqCst);
        let keeps =
            self.bugs.all_keep_their_place || self.bugs.broken_keep_their_place && is_broken;
        if !keeps {
            WORKING.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Closing is a RST from now on (SO_LINGER with a time of zero, socket(7)).
fn abort_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
