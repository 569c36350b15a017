//! How a server handles connections, other than reading messages from them: rightly or wrongly.

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

/// What may be wrong about handling connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A failed accept ends it, and it has no more than this many descriptors.
    AcceptsAtMost(u64),
    /// It asks for every new socket's peer address and expects one.
    ExpectsAnAddress,
    /// The first receive must return something.
    ExpectsAByte,
    /// A failed receive ends the process.
    FailedReceiveIsFatal,
    /// A failed send ends the process, as SIGPIPE does.
    FailedSendIsFatal,
    /// A refused length ends the process.
    RefusalIsFatal,
    /// After a refused length it reads on, and ignores what it reads.
    RefusalIsIgnored,
    /// A client's FIN has no effect.
    FinIsIgnored,
    /// A client's FIN inside a message has no effect.
    FinInsideIsIgnored,
    /// A client's FIN before its first message has no effect.
    FirstFinIsIgnored,
    /// A client's FIN is only noticed when the client's timeout is over.
    FinWaitsForTimeout,
    /// The received part of a message is echoed when a FIN comes.
    PartIsEchoed,
    /// A client that has sent FIN gets no more answers.
    HalfCloseIsClose,
    /// A client's FIN is answered with an RST, which discards everything the kernel still has to
    /// send.
    FinIsAborted,
    /// The part of a message received before a connection broke becomes the beginning of the next
    /// connection's first message.
    LeavesAPart,
    /// Unfinished messages of all connections share one buffer.
    OnePartBuffer,
    /// This many clients are served at the same time; others wait.
    FewWorkers(usize),
    /// This many clients are served at the same time, and the slot of a client whose connection
    /// broke is never released.
    BrokenKeepTheirPlace(usize),
    /// The same for every client that left.
    AllKeepTheirPlace(usize),
    /// All unfinished messages together may declare this many bytes; clients beyond that wait.
    DeclaredMax(u64),
    /// While a message is unfinished no other connection is served.
    OneMessageAtATime,
    /// While an answer is being sent no other one is, and that may take forever.
    OneSendAtATime,
    /// All connections put their answers into one shared buffer.
    OneAnswerBuffer,
    /// The answer for a client whose connection broke goes to the next one.
    LeavesAnAnswer,
    /// Nagle's algorithm is left enabled.
    DelaysSmallAnswers,
    /// Its timeout has another length.
    Timeout(Duration),
    /// A client that has sent nothing may stay idle forever.
    NoFirstTimeout,
    /// A client inside a message may stay silent forever.
    NoTimeoutInside,
    /// A client may stay silent forever, except inside a message.
    NoTimeoutOutside,
    /// A client may leave its answers unread forever.
    NoSendTimeout,
    /// The timeout limits the whole connection, whatever arrives.
    TimeoutOfTheWhole,
    /// The timeout ends a connection with an RST.
    TimeoutAborts,
}

/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(3600);

/// How long a client that resets immediately takes to do so.
const HASTE: Duration = Duration::from_millis(2);

/// How often to ask again for something that others hold.
const ASK: Duration = Duration::from_millis(1);

/// Held by the client inside a message; held while sending; the parts of broken messages; the
/// answers of all connections.
static INSIDE: Mutex<()> = Mutex::new(());
static SENDING: Mutex<()> = Mutex::new(());
static LEFT: Mutex<Vec<u8>> = Mutex::new(vec![]);
static ANSWERS: Mutex<Vec<u8>> = Mutex::new(vec![]);

/// How many clients have a worker, and how many bytes are declared.
static WORKING: AtomicUsize = AtomicUsize::new(0);
static DECLARED: AtomicU64 = AtomicU64::new(0);

/// Sets up the process.
pub(crate) fn begin(bug: Option<Bug>) -> io::Result<()> {
    if let Some(Bug::AcceptsAtMost(most)) = bug {
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// The next client, if it is still there; with few workers, once one is free.
pub(crate) fn accept(bug: Option<Bug>, listener: &TcpListener) -> Option<TcpStream> {
    let workers = match bug {
        Some(
            Bug::FewWorkers(count)
            | Bug::AllKeepTheirPlace(count)
            | Bug::BrokenKeepTheirPlace(count),
        ) => count,
        _ => usize::MAX,
    };
    if matches!(bug, Some(Bug::AcceptsAtMost(_))) {
        // As on a busy machine: it must be found even if it takes a while to accept a flood.
        thread::sleep(HASTE);
    }
    match listener.accept() {
        Ok((stream, _)) => {
            if bug == Some(Bug::ExpectsAnAddress) {
                thread::sleep(HASTE);
                if stream.peer_addr().is_err() {
                    process::abort();
                }
            }
            // Not in the client's own thread: it is unpredictable which of those runs first.
            let is_free = |working| (working < workers).then_some(working + 1);
            while WORKING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, is_free).is_err() {
                thread::sleep(ASK);
            }
            Some(stream)
        }
        Err(_) if matches!(bug, Some(Bug::AcceptsAtMost(_))) => process::abort(),
        Err(_) => None,
    }
}

/// One connection, apart from its messages.
#[derive(Debug)]
pub(crate) struct Visit {
    bug: Option<Bug>,
    timeout: Option<Duration>,
    since: Instant,
    /// Nothing has arrived yet.
    is_new: bool,
    declared: u64,
    inside: Option<MutexGuard<'static, ()>>,
}

impl Visit {
    /// `timeout` is the server's.
    pub(crate) fn begin(
        bug: Option<Bug>,
        stream: &TcpStream,
        timeout: Option<Duration>,
    ) -> io::Result<Visit> {
        let timeout = match bug {
            Some(Bug::Timeout(other)) => Some(other),
            _ => timeout,
        };
        let since = Instant::now();
        let visit = Visit { bug, timeout, since, is_new: true, declared: 0, inside: None };
        stream.set_nodelay(!visit.has(Bug::DelaysSmallAnswers))?;
        let sends_for_ever = visit.has(Bug::NoSendTimeout) || visit.has(Bug::OneSendAtATime);
        stream.set_write_timeout(timeout.filter(|_| !sends_for_ever))?;
        Ok(visit)
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// How long to wait for the next bytes.
    pub(crate) fn patience(&self, is_inside: bool) -> Option<Duration> {
        let is_for_ever = self.has(Bug::NoTimeoutInside) && is_inside
            || self.has(Bug::NoTimeoutOutside) && !is_inside
            || self.has(Bug::NoFirstTimeout) && self.is_new;
        let timeout = self.timeout.filter(|_| !is_for_ever)?;
        match self.has(Bug::TimeoutOfTheWhole) {
            // Zero would mean no timeout.
            true => Some(timeout.saturating_sub(self.since.elapsed()).max(ASK)),
            false => Some(timeout),
        }
    }

    /// What it does before its first receive.
    pub(crate) fn begin_input(&self, frames: &mut Frames<'_>) {
        if self.has(Bug::LeavesAPart) {
            frames.begin_with(std::mem::take(&mut lock(&LEFT)));
        }
    }

    /// What it does before each receive.
    pub(crate) fn prepare(&self, frames: &mut Frames<'_>, stream: &TcpStream) {
        if self.has(Bug::OnePartBuffer) {
            // The next receive reports the outcome.
            let _ = stream.peek(&mut [0]);
            frames.begin_with(std::mem::take(&mut lock(&LEFT)));
        }
    }

    /// Handles received bytes before any answer; returns whether the connection goes on.
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
            Received::Refused if self.has(Bug::RefusalIsFatal) => process::abort(),
            Received::Refused if self.has(Bug::RefusalIsIgnored) => thread::sleep(FOREVER),
            Received::Timeout if self.has(Bug::TimeoutAborts) => {
                abort_on_close(stream)?;
                return Ok(ControlFlow::Break(()));
            }
            Received::Failed(_) if self.has(Bug::FailedReceiveIsFatal) => process::abort(),
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
        self.is_new = false;
        if self.has(Bug::HalfCloseIsClose) {
            let mut polled = [PollFd::new(stream, PollFlags::RDHUP)];
            let moment = Timespec::try_from(HASTE).ok();
            if poll(&mut polled, moment.as_ref())? > 0 {
                return Ok(ControlFlow::Break(()));
            }
        }
        if self.has(Bug::OnePartBuffer) {
            *lock(&LEFT) = frames.take_part();
        }
        if self.has(Bug::OneMessageAtATime) {
            match (frames.is_inside(), self.inside.is_some()) {
                (true, false) => self.inside = Some(lock(&INSIDE)),
                (true, true) => {}
                (false, _) => {
                    self.inside = None;
                    drop(lock(&INSIDE));
                }
            }
        }
        if let Some(Bug::DeclaredMax(most)) = self.bug {
            // Clients that declare nothing unfinished also wait for room.
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
        if self.has(Bug::ExpectsAByte) && self.is_new {
            process::abort();
        }
        if self.has(Bug::FinIsIgnored)
            || self.has(Bug::FinInsideIsIgnored) && frames.is_inside()
            || self.has(Bug::FirstFinIsIgnored) && self.is_new
        {
            thread::sleep(FOREVER);
        }
        if self.has(Bug::FinWaitsForTimeout) {
            thread::sleep(self.timeout.unwrap_or(TIMEOUT));
        }
        if self.has(Bug::PartIsEchoed) && frames.is_inside() {
            answers.push(frames.take_part());
        }
        if self.has(Bug::FinIsAborted) {
            abort_on_close(stream)?;
        }
        self.leave_a_part(frames);
        Ok(())
    }

    fn leave_a_part(&self, frames: &mut Frames<'_>) {
        if self.has(Bug::LeavesAPart) {
            lock(&LEFT).append(&mut frames.take_part());
        }
    }

    /// Waits until the bytes that a message declares fit into what all may declare together.
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
        let _sending = self.has(Bug::OneSendAtATime).then(|| lock(&SENDING));
        let sent = match self.bug {
            Some(Bug::OneAnswerBuffer | Bug::LeavesAnAnswer) => {
                lock(&ANSWERS).extend_from_slice(bytes);
                thread::sleep(HASTE);
                if self.has(Bug::LeavesAnAnswer) && is_broken(stream) {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                let all = std::mem::take(&mut *lock(&ANSWERS));
                stream.write_all(&all)
            }
            _ => stream.write_all(bytes),
        };
        if sent.is_err() && self.has(Bug::FailedSendIsFatal) {
            process::abort();
        }
        sent
    }

    /// Releases what it took.
    pub(crate) fn end(self, is_broken: bool) {
        DECLARED.fetch_sub(self.declared, Ordering::SeqCst);
        let keeps = match self.bug {
            Some(Bug::AllKeepTheirPlace(_)) => true,
            Some(Bug::BrokenKeepTheirPlace(_)) => is_broken,
            _ => false,
        };
        if !keeps {
            WORKING.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn is_broken(stream: &TcpStream) -> bool {
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
}

/// Makes closing send an RST (SO_LINGER with a time of zero, socket(7)).
fn abort_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
