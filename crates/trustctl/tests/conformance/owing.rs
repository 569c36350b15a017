//! What a server does with answers that the kernel does not take immediately.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SendFlags;
use socket2::SockRef;

use super::mutant::TIMEOUT;

/// What may go wrong with owed answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bugs {
    /// Messages received while the output is full stay in the input buffer until more is received.
    pub(crate) stays_stopped: Option<Full>,
    /// Owed answers of all connections share one place.
    pub(crate) place: Option<Place>,
    /// The kernel takes little, and the rest is lost if the connection ends with a refusal.
    pub(crate) refusal_drops_the_rest: bool,
}

/// Nothing wrong.
pub(crate) const NO_BUGS: Bugs =
    Bugs { stays_stopped: None, place: None, refusal_drops_the_rest: false };

/// When the output counts as full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The kernel takes no more.
    Kernel,
    /// A queue, from which another thread sends, holds [`QUEUE_BYTES`].
    Queue,
}

/// A place for answers owed to several clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A buffer, sent to the first client that can be sent to.
    Buffer,
    /// Room for one client's answers: those of the previous client are lost.
    Slot,
}

/// Bytes in a full queue.
const QUEUE_BYTES: usize = 256 * 1024;

/// Size of the kernel's buffer when it is meant to take little.
const LITTLE: usize = 16 * 1024;

/// How often to check a full queue.
const ASK: Duration = Duration::from_millis(1);

/// Owed answers of all connections; the slot has the number of its connection.
static BUFFER: Mutex<Vec<u8>> = Mutex::new(vec![]);
static SLOT: Mutex<(usize, Vec<u8>)> = Mutex::new((0, vec![]));
static CONNECTIONS: AtomicUsize = AtomicUsize::new(1);

/// The output of one connection.
#[derive(Debug)]
pub(crate) struct Output {
    bugs: Bugs,
    number: usize,
    queue: Option<Queue>,
}

#[derive(Debug)]
struct Queue {
    bytes: Arc<AtomicUsize>,
    input: mpsc::Sender<Vec<u8>>,
}

impl Output {
    /// `None` if nothing is wrong with it.
    pub(crate) fn of(bugs: &Bugs, stream: &TcpStream) -> io::Result<Option<Output>> {
        if bugs.refusal_drops_the_rest {
            SockRef::from(stream).set_send_buffer_size(LITTLE)?;
        }
        if bugs.stays_stopped.is_none() && bugs.place.is_none() {
            return Ok(None);
        }
        let queue = (bugs.stays_stopped == Some(Full::Queue)).then(|| Queue::begin(stream));
        let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Output { bugs: *bugs, number, queue: queue.transpose()? }))
    }

    /// Sends answers; those that are left wait for the next receive.
    pub(crate) fn send(&self, stream: &TcpStream, answers: &mut Vec<Vec<u8>>) -> io::Result<()> {
        match (&self.queue, self.bugs.place) {
            (Some(queue), _) => queue.send(answers),
            (None, Some(place)) => self.send_from_one_place(place, stream, answers),
            (None, None) => send_until_full(stream, answers),
        }
    }

    /// Sends everything left, at the end of the connection.
    pub(crate) fn finish(&self, stream: &TcpStream, answers: &mut Vec<Vec<u8>>) -> io::Result<()> {
        while !answers.is_empty() {
            self.send(stream, answers)?;
        }
        // A client that does not read is ended by the sending thread's timeout.
        while self.queue.as_ref().is_some_and(|queue| queue.bytes.load(Ordering::SeqCst) > 0) {
            thread::sleep(ASK);
        }
        Ok(())
    }

    fn send_from_one_place(
        &self,
        place: Place,
        stream: &TcpStream,
        answers: &mut Vec<Vec<u8>>,
    ) -> io::Result<()> {
        let bytes = std::mem::take(answers).concat();
        let sent = send_some(stream, &bytes)?;
        if sent == bytes.len() {
            return Ok(());
        }
        match place {
            Place::Buffer => lock(&BUFFER).extend_from_slice(&bytes[sent..]),
            Place::Slot => *lock(&SLOT) = (self.number, bytes[sent..].to_vec()),
        }
        loop {
            wait_for_room(stream)?;
            let mut owed = match place {
                Place::Buffer => std::mem::take(&mut *lock(&BUFFER)),
                Place::Slot => {
                    let mut slot = lock(&SLOT);
                    if slot.0 != self.number {
                        return Ok(());
                    }
                    std::mem::take(&mut slot.1)
                }
            };
            let sent = send_some(stream, &owed)?;
            owed.drain(..sent);
            if owed.is_empty() {
                return Ok(());
            }
            match place {
                Place::Buffer => drop(lock(&BUFFER).splice(..0, owed)),
                Place::Slot => *lock(&SLOT) = (self.number, owed),
            }
        }
    }
}

impl Queue {
    fn begin(stream: &TcpStream) -> io::Result<Queue> {
        let (input, waiting) = mpsc::channel::<Vec<u8>>();
        let bytes = Arc::new(AtomicUsize::new(0));
        let (mut stream, queued) = (stream.try_clone()?, Arc::clone(&bytes));
        thread::Builder::new().spawn(move || {
            let sent = waiting.into_iter().try_for_each(|answer| {
                stream.write_all(&answer)?;
                queued.fetch_sub(answer.len(), Ordering::SeqCst);
                Ok::<(), io::Error>(())
            });
            queued.store(0, Ordering::SeqCst);
            sent
        })?;
        Ok(Queue { bytes, input })
    }

    fn send(&self, answers: &mut Vec<Vec<u8>>) -> io::Result<()> {
        let mut sent = 0;
        for answer in &*answers {
            if self.bytes.load(Ordering::SeqCst) >= QUEUE_BYTES {
                break;
            }
            self.bytes.fetch_add(answer.len(), Ordering::SeqCst);
            let gone = |_| io::Error::from(ErrorKind::BrokenPipe);
            self.input.send(answer.clone()).map_err(gone)?;
            sent += 1;
        }
        let is_full = sent < answers.len();
        answers.drain(..sent);
        while is_full && self.bytes.load(Ordering::SeqCst) >= QUEUE_BYTES / 2 {
            thread::sleep(ASK);
        }
        Ok(())
    }
}

/// Sends answers one after another, up to and including the one that fills the kernel's buffer.
fn send_until_full(mut stream: &TcpStream, answers: &mut Vec<Vec<u8>>) -> io::Result<()> {
    for index in 0..answers.len() {
        let answer = &answers[index];
        let sent = send_some(stream, answer)?;
        if sent < answer.len() {
            stream.write_all(&answer[sent..])?;
            answers.drain(..=index);
            return Ok(());
        }
    }
    answers.clear();
    Ok(())
}

/// As much as the kernel takes immediately.
pub(crate) fn send_some(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return Ok(0);
    }
    match rustix::net::send(stream, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
        Err(rustix::io::Errno::AGAIN) => Ok(0),
        sent => Ok(sent?),
    }
}

fn wait_for_room(stream: &TcpStream) -> io::Result<()> {
    let mut polled = [PollFd::new(stream, PollFlags::OUT)];
    let most = Timespec::try_from(TIMEOUT).ok();
    match poll(&mut polled, most.as_ref())? {
        0 => Err(ErrorKind::TimedOut.into()),
        _ => Ok(()),
    }
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
