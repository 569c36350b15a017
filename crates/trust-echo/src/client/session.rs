//! The loop between standard input, the connection and standard output.

use std::io::ErrorKind;
use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use trust_cli::echo::link::{Link, LinkEnd, LinkInput};
use trust_cli::echo::round_trips::{RoundTrips, millis};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::output::tell;
use trust_cli::signals::{Signals, Stopped};
use trust_cli::target::Target;
use trust_cli::text::{grouped, reason};
use trust_cli::wait::wait;

use crate::client::output::Output;
use crate::client::source::Source;

/// Bytes that are received at once.
const RECEIVE_MAX: usize = 256 * 1024;

/// How long to leave a socket alone that was ready twice and neither took nor gave a byte. While
/// the kernel is short of memory for TCP it calls sockets writable that take nothing, and poll(2)
/// does not sleep. Two sends come after each pause: ten per second.
const PAUSE: Duration = Duration::from_millis(200);

/// One run of the echo client after it has connected.
pub struct Session<'a> {
    target: &'a Target,
    signals: &'a Signals,
    /// The longest wait for an answer; `None`: no limit.
    limit: Option<Duration>,
    source: Source<'a>,
    link: Link,
    output: Output<'a>,
    buffer: Vec<u8>,
    state: SessionState,
    /// Why the input was not sent to its end; told after what was sent is echoed.
    input_failure: Option<Failure>,
    round_trips: RoundTrips,
    /// Payload bytes of the echo that is being printed.
    echo_len: u64,
    idle_wakeups: IdleWakeups,
}

/// How often in a row the socket was ready for nothing.
#[derive(Default)]
struct IdleWakeups {
    count: u32,
    /// The bytes that had been sent and received when it was last ready.
    moved: u64,
}

#[derive(Debug)]
enum SessionState {
    /// Messages go out and echoes come in.
    Talking,
    /// That is over, with this result; the last echoes are still to be printed.
    Printing(Result<(), Failure>),
}

impl<'a> Session<'a> {
    /// A session that has not begun.
    pub fn new(
        target: &'a Target,
        limit: Option<Duration>,
        signals: &'a Signals,
        source: Source<'a>,
        link: Link,
        output: BorrowedFd<'a>,
    ) -> Session<'a> {
        Session {
            target,
            signals,
            limit,
            source,
            link,
            output: Output::new(output),
            buffer: vec![0; RECEIVE_MAX],
            state: SessionState::Talking,
            input_failure: None,
            round_trips: RoundTrips::default(),
            echo_len: 0,
            idle_wakeups: IdleWakeups::default(),
        }
    }

    /// Talks until everything is echoed and printed, or the output has no reader left.
    ///
    /// # Errors
    ///
    /// A signal; 65 and 74 for the input and the output; 69, 75 and 76 for the connection.
    pub fn run(mut self) -> Result<(), Stopped> {
        let result = self.run_to_end();
        if result.is_ok() && self.source.is_empty() {
            tell("standard input was empty: nothing was sent");
        }
        if self.source.repeats() && self.round_trips.count() > 0 {
            let count = grouped(self.round_trips.count());
            tell(&format!("{count} echoes  rtt {}", self.round_trips));
        }
        result
    }

    fn run_to_end(&mut self) -> Result<(), Stopped> {
        loop {
            // Printing first, as it makes room for what is sent next.
            self.print_echoes();
            if let SessionState::Talking = self.state {
                self.talk();
            }
            if let SessionState::Printing(result) = &self.state
                && self.output.is_empty()
            {
                return Ok(result.clone()?);
            }
            if self.step()?.is_break() {
                return Ok(());
            }
        }
    }

    /// Sends what there is to send; ends the conversation when it is complete.
    fn talk(&mut self) {
        if self.input_failure.is_none()
            && let Err(error) = self.source.fill(&mut self.link.conversation)
        {
            let message = format!("{error} (--max-frame); use --chunk for input without lines");
            self.input_failure = Some(Failure::new(ExitCode::DataError, message));
        }
        self.link.send();
        let has_all = self.source.is_done() || self.input_failure.is_some();
        if self.source.is_raw() {
            // The server may be waiting for the end of the input. Its answer goes on until it ends
            // its own side.
            if has_all && self.link.has_sent_all() {
                self.link.half_close();
            }
        } else if has_all && self.link.conversation.is_settled() {
            self.state = SessionState::Printing(self.input_failure.take().map_or(Ok(()), Err));
        }
    }

    /// Moves echoes that have arrived whole to the output, as far as it has room.
    fn print_echoes(&mut self) {
        while self.output.room() > 0 {
            let Some(part) = self.link.conversation.poll_echo(self.output.room()) else { return };
            self.output.push(part.bytes);
            self.echo_len += part.bytes.len() as u64;
            if !part.is_last {
                continue;
            }
            if self.source.prints_lines() {
                self.output.push(b"\n");
            }
            if self.source.repeats() {
                let round_trip = self.source.begun().elapsed();
                self.round_trips.add(round_trip);
                let (count, len) = (self.round_trips.count(), grouped(self.echo_len));
                tell(&format!("echo {count}: {len} bytes  rtt={}", millis(round_trip)));
            }
            self.echo_len = 0;
        }
    }

    /// Waits for something to do, and does it. `Break`: the output has no reader left.
    fn step(&mut self) -> Result<ControlFlow<()>, Stopped> {
        let is_talking = matches!(self.state, SessionState::Talking);
        // Without room for echoes none are received, and then the server cannot be late.
        let is_reading = is_talking && self.output.room() > 0;
        if !is_reading {
            self.link.touch();
        }
        let is_broken = is_reading && self.link.is_broken();
        let patience_end = self.link.patience_end(self.limit).filter(|_| is_reading);
        let due = self.source.due(&self.link.conversation).filter(|_| is_talking);
        let has_more = is_talking && self.source.has_more_to_generate(&self.link.conversation);
        let at_once = (is_broken || has_more).then(Instant::now);
        let pause_end = self.pause_end();
        let until = [patience_end, due, at_once, pause_end].into_iter().flatten().min();
        let input = self.source.interest(&self.link.conversation);
        let input = input.filter(|_| is_talking && self.input_failure.is_none());
        let socket = self.link.interest(is_reading);
        let socket = socket.filter(|_| is_talking && pause_end.is_none());
        let [has_input, has_answer, has_reader] =
            wait(self.signals, [input, socket, self.output.interest()], until)?;
        self.idle_wakeups.count += u32::from(has_answer);
        if is_reading && (has_answer || is_broken) {
            self.receive();
        } else if let Some(limit) = self.limit.filter(|_| is_reading)
            && let Some(end) = self.link.check_patience(limit)
        {
            self.handle_end(&end);
        }
        if has_input && let Err(error) = self.source.read(&mut self.link.conversation) {
            let message = format!("cannot read standard input: {}", reason(&error));
            self.input_failure = Some(Failure::new(ExitCode::Io, message));
        }
        match has_reader {
            true => Ok(self.write()?),
            false => Ok(ControlFlow::Continue(())),
        }
    }

    /// When to look at the socket again, if it is left alone now.
    fn pause_end(&mut self) -> Option<Instant> {
        let moved = self.link.bytes_moved();
        if moved != self.idle_wakeups.moved {
            self.idle_wakeups = IdleWakeups { count: 0, moved };
        }
        if self.idle_wakeups.count < 2 {
            return None;
        }
        // The next time is one for nothing again, or moves something.
        self.idle_wakeups.count = 1;
        Some(Instant::now() + PAUSE)
    }

    fn receive(&mut self) {
        match self.link.receive(&mut self.buffer) {
            LinkInput::Nothing | LinkInput::Echo => {}
            LinkInput::Wrong(wrong, unmatched) => {
                if self.source.is_raw() {
                    // Raw bytes are shown as they came, also those that tell why they are wrong.
                    while let Some(part) = self.link.conversation.poll_echo(usize::MAX) {
                        self.output.push(part.bytes);
                    }
                    self.output.push(&self.buffer[unmatched]);
                }
                let failure = self.link.wrong_echo(self.target, &wrong);
                let message = format!("{}: {}", self.target, failure.message);
                self.state = SessionState::Printing(Err(Failure { message, ..failure }));
            }
            LinkInput::End(end) => self.handle_end(&end),
        }
    }

    fn handle_end(&mut self, end: &LinkEnd) {
        let conversation = &mut self.link.conversation;
        let is_complete = matches!(end, LinkEnd::Closed)
            && conversation.is_settled()
            && self.source.find_out_if_done(conversation)
            && conversation.is_settled();
        self.state = SessionState::Printing(match is_complete {
            true => self.input_failure.take().map_or(Ok(()), Err),
            false => Err(self.link.failure(self.target, end)),
        });
    }

    fn write(&mut self) -> Result<ControlFlow<()>, Failure> {
        match (self.output.write(), &self.state) {
            (Ok(()), _) => Ok(ControlFlow::Continue(())),
            // The reader has seen enough, as head(1) does.
            (Err(error), SessionState::Talking | SessionState::Printing(Ok(())))
                if error.kind() == ErrorKind::BrokenPipe =>
            {
                Ok(ControlFlow::Break(()))
            }
            (Err(_), SessionState::Printing(Err(failure))) => Err(failure.clone()),
            (Err(error), _) => {
                let message = format!("cannot write to standard output: {}", reason(&error));
                Err(Failure::new(ExitCode::Io, message))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::input::Cut;
    use crate::client::source::{PlannedMessage, SendPlan};
    use std::io::{self, PipeWriter, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::thread;

    use rustix::net::SendFlags;
    use trust_net::stream::ClientStream;

    const LINES: SendPlan = SendPlan::Frames(Cut::Lines { max: 100 });

    /// Runs a session against `serve`, with what `feed` writes as standard input: its result, and
    /// what it printed.
    fn session(
        plan: SendPlan,
        limit: impl Into<Option<Duration>>,
        feed: impl FnOnce(PipeWriter) + Send,
        serve: impl FnOnce(TcpStream) + Send,
    ) -> (Result<(), Stopped>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let signals = Signals::never();
        let (stdin, to_stdin) = io::pipe().unwrap();
        let (mut from_stdout, stdout) = io::pipe().unwrap();
        thread::scope(|scope| {
            scope.spawn(move || serve(listener.accept().unwrap().0));
            let feeder = scope.spawn(move || feed(to_stdin));
            let reader = scope.spawn(move || {
                let mut printed = String::new();
                from_stdout.read_to_string(&mut printed).unwrap();
                printed
            });
            let stream = ClientStream::begin_connecting(&address.into(), |_| ()).unwrap();
            let target = Target::new("server", 7);
            let source = Source::new(plan, stdin.as_fd());
            let link = Link::new(stream, source.conversation());
            let limit = limit.into();
            let session = Session::new(&target, limit, &signals, source, link, stdout.as_fd());
            let result = session.run();
            feeder.join().unwrap();
            drop(stdout);
            (result, reader.join().unwrap())
        })
    }

    const PATIENT: Duration = Duration::from_secs(60);

    fn echo(mut stream: TcpStream) {
        let mut buffer = [0; 1000];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..count]).unwrap();
        }
    }

    /// Echoes the first so many bytes, then sends FIN and reads on, as an orderly server does.
    fn echo_and_close(len: usize) -> impl FnOnce(TcpStream) + Send {
        move |mut stream| {
            let mut bytes = vec![0; len];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read_to_end(&mut bytes);
        }
    }

    fn text(text: &str) -> impl FnOnce(PipeWriter) + Send {
        move |mut to_stdin| to_stdin.write_all(text.as_bytes()).unwrap()
    }

    fn failure(result: Result<(), Stopped>) -> Failure {
        match result {
            Err(Stopped::Failed(failure)) => failure,
            other => panic!("no failure: {other:?}"),
        }
    }

    #[test]
    fn every_line_is_echoed_and_printed() {
        let (result, printed) = session(LINES, PATIENT, text("one\n\nlast"), echo);
        assert_eq!((result, &*printed), (Ok(()), "one\n\nlast\n"));
    }

    #[test]
    fn an_echo_that_comes_as_urgent_data_is_whole() {
        let urgent = |mut stream: TcpStream| {
            let mut frame = [0; 7];
            while stream.read_exact(&mut frame).is_ok() {
                rustix::net::send(&stream, &frame, SendFlags::OOB).unwrap();
            }
        };
        let (result, printed) = session(LINES, PATIENT, text("one\ntwo\n"), urgent);
        assert_eq!((result, &*printed), (Ok(()), "one\ntwo\n"));
    }

    #[test]
    fn more_than_fits_anywhere_streams_through() {
        let input: String = (0..500_000).map(|number| format!("{number}\n")).collect();
        let expected = input.clone();
        let feed = move |mut to_stdin: PipeWriter| to_stdin.write_all(input.as_bytes()).unwrap();
        let chunks = SendPlan::Frames(Cut::Chunks { len: 70_000 });
        let (result, printed) = session(chunks, PATIENT, feed, echo);
        assert_eq!(result, Ok(()));
        assert!(printed == expected, "{} bytes of {}", printed.len(), expected.len());
    }

    #[test]
    fn a_generated_payload_of_any_size_is_sent_without_waiting_for_anything() {
        let len = 3 * 1024 * 1024;
        let messages = SendPlan::Messages(vec![PlannedMessage::Generated(len)], None);
        let whole_then_echo = move |mut stream: TcpStream| {
            let mut frame = vec![0; 4 + len as usize];
            stream.read_exact(&mut frame).unwrap();
            stream.write_all(&frame).unwrap();
        };
        // Without a limit nothing but the socket wakes the client.
        let (result, printed) = session(messages, None, drop, whole_then_echo);
        assert_eq!((result, printed.len()), (Ok(()), len as usize + 1));
    }

    #[test]
    fn raw_bytes_go_both_ways_until_the_server_ends() {
        let (result, printed) = session(SendPlan::Raw, PATIENT, text("a\nb"), echo);
        assert_eq!((result, &*printed), (Ok(()), "a\nb"));
    }

    #[test]
    fn raw_input_that_ends_is_a_half_close_also_for_a_server_that_waits_for_it() {
        let answers_at_the_end = |mut stream: TcpStream| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
        };
        let raw = session(SendPlan::Raw, PATIENT, text("question"), answers_at_the_end);
        assert_eq!(raw, (Ok(()), "question".into()));
    }

    #[test]
    fn a_server_that_closes_after_the_last_echo_is_no_failure() {
        let (input_lasts, input_ended) = std::sync::mpsc::channel::<()>();
        let feed = move |to_stdin: PipeWriter| {
            text("abc")(to_stdin);
            drop(input_lasts);
        };
        let serve = move |mut stream: TcpStream| {
            let mut bytes = [0; 3];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
            // While there may be more input, the close would come too early.
            assert!(input_ended.recv().is_err());
        };
        let raw = session(SendPlan::Raw, PATIENT, feed, serve);
        assert_eq!(raw, (Ok(()), "abc".into()));
    }

    #[test]
    fn a_server_that_closes_while_nobody_types_is_noticed_at_once() {
        let start = Instant::now();
        let (client_is_there, client_left) = std::sync::mpsc::channel::<()>();
        let types_no_more = move |mut to_stdin: PipeWriter| {
            to_stdin.write_all(b"abc\n").unwrap();
            // Standard input has no end as long as the client looks at it.
            assert!(client_left.recv().is_err());
        };
        let serve = move |stream: TcpStream| {
            echo_and_close(7)(stream);
            drop(client_is_there);
        };
        let (result, printed) = session(LINES, PATIENT, types_no_more, serve);
        assert_eq!((failure(result).exit, &*printed), (ExitCode::Unavailable, "abc\n"));
        assert!(start.elapsed() < PATIENT);
    }

    #[test]
    fn a_server_that_closes_while_it_owes_an_answer_breaks_the_protocol() {
        let messages = SendPlan::Messages(
            vec![PlannedMessage::Generated(3), PlannedMessage::Generated(90_000)],
            None,
        );
        let (result, printed) = session(messages, PATIENT, drop, echo_and_close(11));
        assert_eq!(printed, "012\n");
        let failure = failure(result);
        assert_eq!(failure.exit, ExitCode::Protocol);
        assert!(failure.message.ends_with("(got 4 of 90,004 bytes of echo 2)"), "{failure:?}");
    }

    #[test]
    fn a_silent_server_is_given_up_after_the_limit() {
        let silent = |mut stream: TcpStream| {
            let _ = stream.read_to_end(&mut vec![]);
        };
        let (result, _) = session(LINES, Duration::from_millis(50), text("abc"), silent);
        assert_eq!(failure(result).exit, ExitCode::TimedOut);
    }

    #[test]
    fn lines_before_one_that_is_too_long_are_still_echoed() {
        let input = format!("short\n{}\nnever\n", "x".repeat(101));
        let feed = move |mut to_stdin: PipeWriter| to_stdin.write_all(input.as_bytes()).unwrap();
        let (result, printed) = session(LINES, PATIENT, feed, echo);
        assert_eq!(printed, "short\n");
        let failure = failure(result);
        assert_eq!(failure.exit, ExitCode::DataError);
        assert!(failure.message.starts_with("line 2 of standard input"), "{failure:?}");
    }

    #[test]
    fn raw_bytes_that_are_no_echo_are_printed_before_the_verdict() {
        let refuse = |mut stream: TcpStream| {
            stream.read_exact(&mut [0; 2]).unwrap();
            stream.write_all(b"hello, too many clients").unwrap();
        };
        let (result, printed) = session(SendPlan::Raw, PATIENT, text("hi"), refuse);
        assert_eq!(
            (failure(result).exit, &*printed),
            (ExitCode::Protocol, "hello, too many clients")
        );
    }
}
