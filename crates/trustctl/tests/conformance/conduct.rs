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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// An accept that fails ends it, and it has no more than so many descriptors.
    AcceptsAtMost(u64),
    /// It asks every new socket for its peer's address and expects one.
    ExpectsAnAddress,
    /// The first receive has to bring something.
    ExpectsAByte,
    /// A receive that fails ends the process.
    FailedReceiveIsFatal,
    /// A send that fails ends the process, as SIGPIPE does.
    FailedSendIsFatal,
    /// A length that is refused ends the process.
    RefusalIsFatal,
    /// After a length that is refused it reads on, and ignores what comes.
    RefusalIsIgnored,
    /// A client's FIN changes nothing.
    FinIsIgnored,
    /// A client's FIN inside a message changes nothing.
    FinInsideIsIgnored,
    /// A client's FIN before its first message changes nothing.
    FirstFinIsIgnored,
    /// A client's FIN is only noticed when its timeout is over.
    FinWaitsForTimeout,
    /// What there is of a message when a FIN comes is echoed.
    PartIsEchoed,
    /// A client that has sent FIN gets no answers any more.
    HalfCloseIsClose,
    /// A client's FIN is answered by a RST, which takes what the kernel still has to send.
    FinIsAborted,
    /// What there was of a message when a connection broke is the beginning of the next one's.
    LeavesAPart,
    /// Unfinished messages of all connections are in the same buffer.
    OnePartBuffer,
    /// So many clients are served at the same time; others wait.
    FewWorkers(usize),
    /// So many clients are served at the same time, and the place of one that broke is never free again.
    BrokenKeepTheirPlace(usize),
    /// The same of every client that left.
    AllKeepTheirPlace(usize),
    /// All unfinished messages together may declare so many bytes; who is beyond that waits.
    DeclaredMax(u64),
    /// While a message is unfinished no other connection is looked at.
    OneMessageAtATime,
    /// While an answer is being sent no other one is, and that may take for ever.
    OneSendAtATime,
    /// All connections put their answers into the same buffer.
    OneAnswerBuffer,
    /// Nagle's algorithm is left on.
    DelaysSmallAnswers,
    /// It has a timeout of another length.
    Timeout(Duration),
    /// A client that has sent nothing may do so for ever.
    NoFirstTimeout,
    /// A client that is inside a message may be silent for ever.
    NoTimeoutInside,
    /// A client may be silent for ever, except inside a message.
    NoTimeoutOutside,
    /// A client may leave its answers unread for ever.
    NoSendTimeout,
    /// The timeout is that of the connection, whatever comes.
    TimeoutOfTheWhole,
    /// The timeout ends a connection with a RST.
    TimeoutAborts,
}

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
pub(crate) fn begin(bug: Option<Bug>) -> io::Result<()> {
    if let Some(Bug::AcceptsAtMost(most)) = bug {
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// The next client, if it is still there; where there are few workers, once one is free.
pub(crate) fn accept(bug: Option<Bug>, listener: &TcpListener) -> Option<TcpStream> {
    let workers = match bug {
        Some(
            Bug::FewWorkers(count)
            | Bug::AllKeepTheirPlace(count)
            | Bug::BrokenKeepTheirPlace(count),
        ) => count,
        _ => usize::MAX,
    };
    match listener.accept() {
        Ok((stream, _)) => {
            if bug == Some(Bug::ExpectsAnAddress) {
                thread::sleep(HASTE);
                if stream.peer_addr().is_err() {
                    process::abort();
                }
            }
            // Not in the client's own thread: which of those runs first nobody knows.
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

/// One connection, as far as it matters beside its messages.
#[derive(Debug)]
pub(crate) struct Visit {
    bug: Option<Bug>,
    timeout: Option<Duration>,
    since: Instant,
    /// Nothing has come yet.
    is_new: bool,
    declared: u64,
    inside: Option<MutexGuard<'static, ()>>,
}

impl Visit {
    /// `timeout` is that of the server.
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

    /// How long the next bytes are waited for.
    pub(crate) fn patience(&self, is_inside: bool) -> Option<Duration> {
        let is_for_ever = self.has(Bug::NoTimeoutInside) && is_inside
            || self.has(Bug::NoTimeoutOutside) && !is_inside
            || self.has(Bug::NoFirstTimeout) && self.is_new;
        let timeout = self.timeout.filter(|_| !is_for_ever)?;
        match self.has(Bug::TimeoutOfTheWhole) {
            // Zero would mean no timeout at all.
            true => Some(timeout.saturating_sub(self.since.elapsed()).max(ASK)),
            false => Some(timeout),
        }
    }

    /// What it does before it receives anything.
    pub(crate) fn begin_input(&self, frames: &mut Frames<'_>) {
        if self.has(Bug::LeavesAPart) {
            frames.begin_with(std::mem::take(&mut lock(&LEFT)));
        }
    }

    /// What it does before it receives.
    pub(crate) fn prepare(&self, frames: &mut Frames<'_>, stream: &TcpStream) {
        if self.has(Bug::OnePartBuffer) {
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
        let _sending = self.has(Bug::OneSendAtATime).then(|| lock(&SENDING));
        let sent = match self.has(Bug::OneAnswerBuffer) {
            false => stream.write_all(bytes),
            true => {
                lock(&ANSWERS).extend_from_slice(bytes);
                thread::sleep(HASTE);
                let all = std::mem::take(&mut *lock(&ANSWERS));
                stream.write_all(&all)
            }
        };
        if sent.is_err() && self.has(Bug::FailedSendIsFatal) {
            process::abort();
        }
        sent
    }

    /// Gives back what it took.
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

/// Closing is a RST from now on (SO_LINGER with a time of zero, socket(7)).
fn abort_on_close(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
