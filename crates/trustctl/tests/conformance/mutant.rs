//! A small echo server with one thread per connection, right or wrong in a chosen way.
//!
//! Each possible bug is a field of [`Behaviour`] and has effect in one place. [`HEALTHY`] has none.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use trust_cli::framing::Framing;

use super::amounts::{self, Count, Next};
use super::conduct::{self, Visit};
use super::constraints::{self, Constraints};
use super::input::{self, Frames, Received};
use super::keeps::Keeps;
use super::lapses::{self, Ended};
use super::owing::{self, Output};

/// Bytes received per call.
pub(crate) const RECEIVE_BYTES: usize = 64 * 1024;

/// Longest time between two bytes of a client, and for one send.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(1500);

/// How long to read and ignore a refused client, so that it gets a FIN and no RST.
const LINGER: Duration = Duration::from_millis(500);

/// Everything that the server may do wrong; all `false` is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// Bugs in its limit, its length field and its handling of contents.
    pub(crate) framing: Option<input::Bug>,
    /// Bugs in handling connections.
    pub(crate) conduct: Option<conduct::Bug>,
    /// Bugs with large amounts.
    pub(crate) amounts: Option<amounts::Bug>,
    /// Bugs with answers that the kernel does not take immediately.
    pub(crate) owing: owing::Bugs,
    /// Bugs while a client is silent, and with the timers of clients that have left.
    pub(crate) lapses: lapses::Bugs,
    /// It never ends an idle client.
    pub(crate) no_timeout: bool,
    /// It reads header and payload with `read_exact` instead of a buffer: not a bug.
    pub(crate) exact: bool,
    /// What it is short of: not a bug.
    pub(crate) constraints: Constraints,
    /// All answers to a receive go out with one send, and what the kernel does not take is lost.
    pub(crate) one_send: bool,
    /// Answers wait for a moment without input, and are lost if the next input is refused.
    pub(crate) answers_late: bool,
    /// Answers to one receive are sent in order of size.
    pub(crate) small_answers_first: bool,
    /// Answers to one receive have room for this many bytes; the rest is lost.
    pub(crate) answer_room: Option<usize>,
    /// Answers to bytes before a refused length are lost with it.
    pub(crate) refusal_drops_answers: bool,
    /// Part of a message is dropped if the rest does not come for this long.
    pub(crate) forgets_after: Option<Duration>,
    /// Answers wait for the client in memory without limit, while more is read.
    pub(crate) answers_without_bound: bool,
    /// It closes a refused connection while bytes may be unread.
    pub(crate) closes_unread: bool,
    /// The same if the answers to the last receive are larger than [`SMALL_ANSWERS`].
    pub(crate) closes_unread_behind_large: bool,
    /// What it keeps of every client that has left.
    pub(crate) keeps: Option<Keeps>,
    /// What it keeps of a client that the timeout has ended.
    pub(crate) keeps_of_idle: Option<Keeps>,
}

/// The server that does nothing wrong.
pub(crate) const HEALTHY: Behaviour = Behaviour {
    framing: None,
    conduct: None,
    amounts: None,
    owing: owing::NO_BUGS,
    lapses: lapses::NO_BUGS,
    no_timeout: false,
    exact: false,
    constraints: constraints::NONE,
    one_send: false,
    answers_late: false,
    small_answers_first: false,
    answer_room: None,
    refusal_drops_answers: false,
    forgets_after: None,
    answers_without_bound: false,
    closes_unread: false,
    closes_unread_behind_large: false,
    keeps: None,
    keeps_of_idle: None,
};

/// Bytes that a kernel has sent before a close, whether or not the client reads them.
const SMALL_ANSWERS: usize = 32 * 1024;

/// How long answers wait in a server that sends them late.
const LATE: Duration = Duration::from_millis(60);

/// A server's framing, limit and bugs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) framing: Framing,
    /// Largest payload, inclusive.
    pub(crate) max_frame: u64,
    pub(crate) behaviour: Behaviour,
}

impl Server {
    /// Listens on a port chosen by the system, prints it, and serves until its standard input ends,
    /// which means that its parent is gone.
    pub(crate) fn run(self) -> io::Result<()> {
        let constraints = self.behaviour.constraints;
        let listener = constraints.listen()?;
        writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
        thread::Builder::new().spawn(|| {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            std::process::exit(0)
        })?;
        conduct::begin(self.behaviour.conduct)?;
        loop {
            // A client that has already left is no reason to end.
            let Some(stream) = conduct::accept(self.behaviour.conduct, &listener) else {
                continue;
            };
            let stream = Arc::new(stream);
            lapses::begin(&self.behaviour.lapses, &stream);
            constraints.serve(stream, move |stream| {
                let is_broken = self.visit(stream).is_err();
                self.behaviour.keeps.inspect(|keeps| keeps.keep(stream, is_broken));
                let ended = if is_broken { Ended::Broken } else { Ended::InOrder };
                lapses::end(&self.behaviour.lapses, stream, ended);
            });
        }
    }

    fn visit(&self, stream: &TcpStream) -> io::Result<()> {
        let timeout = (!self.behaviour.no_timeout).then_some(TIMEOUT);
        let mut visit = Visit::begin(self.behaviour.conduct, stream, timeout)?;
        let served = self.serve(stream, &mut visit);
        visit.end(served.is_err());
        served
    }

    fn serve(&self, stream: &TcpStream, visit: &mut Visit) -> io::Result<()> {
        let behaviour = &self.behaviour;
        let mut frames = Frames::new(self);
        visit.begin_input(&mut frames);
        let (mut answers, mut count) = (vec![], Count::default());
        let output = Output::of(&behaviour.owing, stream)?;
        let writer = behaviour.answers_without_bound.then(|| write_behind(stream)).transpose()?;
        loop {
            let is_late = behaviour.answers_late && !answers.is_empty();
            let forgets_after = behaviour.forgets_after.filter(|_| frames.is_inside());
            let patience = if is_late {
                Some(LATE)
            } else {
                forgets_after.or(visit.patience(frames.is_inside()))
            };
            stream.set_read_timeout(patience)?;
            visit.prepare(&mut frames, stream);
            if behaviour.lapses.asks.is_some_and(|silent| frames.is_silent(silent)) {
                lapses::ask(stream, patience);
            }
            let received = frames.receive(stream, &mut answers);
            if visit.handle(&received, &mut frames, stream, &mut answers)?.is_break() {
                return Ok(());
            }
            if let Received::Frames = received {
                match count.handle(behaviour.amounts, &mut answers) {
                    Next::GoOn => {}
                    Next::Forget => frames.forget(),
                    Next::End => {
                        visit.send(stream, &answers.concat())?;
                        return self.close(stream);
                    }
                }
            }
            if let (Some(writer), Received::Frames) = (&writer, &received) {
                // The next receive notices a client that is gone.
                let _ = writer.send(std::mem::take(&mut answers).concat());
                continue;
            }
            if let (Some(output), Received::Frames) = (&output, &received) {
                output.send(stream, &mut answers)?;
                continue;
            }
            if let (Some(output), Received::Fin | Received::Refused) = (&output, &received) {
                output.finish(stream, &mut answers)?;
            }
            match received {
                Received::Frames if behaviour.answers_late => {}
                Received::Frames => self.answer(visit, stream, &mut answers)?,
                Received::Timeout if is_late => self.answer(visit, stream, &mut answers)?,
                Received::Timeout if forgets_after.is_some() => frames.forget(),
                Received::Fin => return self.answer(visit, stream, &mut answers),
                Received::Refused if behaviour.refusal_drops_answers || behaviour.answers_late => {
                    return self.close(stream);
                }
                Received::Refused if behaviour.owing.refusal_drops_the_rest => {
                    owing::send_some(stream, &answers.concat())?;
                    return self.close(stream);
                }
                Received::Refused if behaviour.closes_unread_behind_large => {
                    let is_large = answers.iter().map(Vec::len).sum::<usize>() > SMALL_ANSWERS;
                    self.answer(visit, stream, &mut answers)?;
                    return if is_large { Ok(()) } else { self.close(stream) };
                }
                Received::Timeout => {
                    // If the output is still stopped now, the rest is never sent.
                    if output.is_none() {
                        self.answer(visit, stream, &mut answers)?;
                    }
                    behaviour.keeps_of_idle.inspect(|keeps| keeps.keep(stream, false));
                    return self.close(stream);
                }
                Received::Refused => {
                    self.answer(visit, stream, &mut answers)?;
                    return self.close(stream);
                }
                Received::Failed(error) => return Err(error),
            }
        }
    }

    fn answer(
        &self,
        visit: &Visit,
        stream: &TcpStream,
        answers: &mut Vec<Vec<u8>>,
    ) -> io::Result<()> {
        let behaviour = &self.behaviour;
        if behaviour.small_answers_first {
            answers.sort_by_key(Vec::len);
        }
        if !behaviour.constraints.service_time.is_zero() {
            return answers.drain(..).try_for_each(|answer| {
                behaviour.constraints.work();
                visit.send(stream, &answer)
            });
        }
        let mut bytes = answers.concat();
        answers.clear();
        bytes.truncate(behaviour.answer_room.unwrap_or(usize::MAX));
        if behaviour.one_send {
            let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
            let _ = rustix::net::send(stream, &bytes, flags)?;
            return Ok(());
        }
        visit.send(stream, &bytes)
    }

    /// FIN first, then wait for the client's, so that nothing sent is lost to an RST.
    fn close(&self, mut stream: &TcpStream) -> io::Result<()> {
        if self.behaviour.closes_unread {
            return Ok(());
        }
        stream.shutdown(Shutdown::Write)?;
        let until = Instant::now() + LINGER;
        let mut buffer = vec![0; RECEIVE_BYTES];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Ok(()),
            }
        }
    }
}

/// A thread that sends what it is given.
fn write_behind(stream: &TcpStream) -> io::Result<mpsc::Sender<Vec<u8>>> {
    let (answers, waiting) = mpsc::channel::<Vec<u8>>();
    let mut stream = stream.try_clone()?;
    thread::Builder::new()
        .spawn(move || waiting.into_iter().try_for_each(|answer| stream.write_all(&answer)))?;
    Ok(answers)
}
