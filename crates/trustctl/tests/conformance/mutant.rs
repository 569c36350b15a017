//! A little echo server with a thread a connection, right or wrong in a chosen way.
//!
//! What is wrong is a field of [`Behaviour`], each looked at in one place. Right is [`HEALTHY`].

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

/// Bytes received with one call.
pub(crate) const RECEIVE_BYTES: usize = 64 * 1024;

/// Longest time between two bytes of a client, and for one send.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(1500);

/// Longest time that a refused client is read and ignored, so that it gets a FIN and no RST.
const LINGER: Duration = Duration::from_millis(500);

/// Everything that the server may do wrong: all `false` is right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// What it takes for its limit, its length field and its contents.
    pub(crate) framing: Option<input::Bug>,
    /// What it does with its connections.
    pub(crate) conduct: Option<conduct::Bug>,
    /// What it does when there is much of something.
    pub(crate) amounts: Option<amounts::Bug>,
    /// What it does with answers that the kernel does not take at once.
    pub(crate) owing: owing::Bugs,
    /// What it does while a client is silent, and with the timers of those that have left.
    pub(crate) lapses: lapses::Bugs,
    /// It ends an idle client only when that client does.
    pub(crate) no_timeout: bool,
    /// It reads with `read_exact`, header and payload, in place of a buffer: no bug.
    pub(crate) exact: bool,
    /// What it is short of: no bug.
    pub(crate) constraints: Constraints,
    /// One send for all answers to a receive, whose rest is lost if the kernel does not take all of it.
    pub(crate) one_send: bool,
    /// Answers wait for a moment without input, and are lost if what comes next is refused.
    pub(crate) answers_late: bool,
    /// Answers to one receive go out by size.
    pub(crate) small_answers_first: bool,
    /// Answers to one receive have room for so many bytes; what is beyond is lost.
    pub(crate) answer_room: Option<usize>,
    /// Answers to what came before a refused length are lost with it.
    pub(crate) refusal_drops_answers: bool,
    /// Part of a message is given up when the rest does not come for so long.
    pub(crate) forgets_after: Option<Duration>,
    /// Answers wait for the client in memory, however many there are, while more is read.
    pub(crate) answers_without_bound: bool,
    /// Closes a refused connection while bytes may be unread.
    pub(crate) closes_unread: bool,
    /// The same if the answers to the last receive are more than [`SMALL_ANSWERS`].
    pub(crate) closes_unread_behind_large: bool,
    /// What is left of every client when it has gone.
    pub(crate) keeps: Option<Keeps>,
    /// What is left of a client that the timeout has ended.
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

/// Bytes that a kernel has sent before a close, whoever reads them.
const SMALL_ANSWERS: usize = 32 * 1024;

/// How long answers wait in a server that sends them late.
const LATE: Duration = Duration::from_millis(60);

/// What a server speaks, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server {
    pub(crate) framing: Framing,
    /// Largest payload, inclusive.
    pub(crate) max_frame: u64,
    pub(crate) behaviour: Behaviour,
}

impl Server {
    /// Listens on a port that the system chooses, prints it, and serves until its standard input ends, which is when
    /// whoever started it is gone.
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
            // A client that has gone again is no reason to end.
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
                // A client that is gone is noticed by the next receive.
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
                    // What an output that stays stopped has not sent by now is never sent.
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

    /// FIN first, then the client's, so that nothing of what was sent is lost to a RST.
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
