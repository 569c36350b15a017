//! One client: its messages one at a time, then the orderly end.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use trust_cli::echo::conversation::{Conversation, Framing, Window};
use trust_cli::echo::link::{Link, LinkInput};
use trust_cli::echo::round_trips::RoundTrips;
use trust_cli::signals::{Signals, Stopped};
use trust_cli::target::Target;
use trust_cli::wait::wait;
use trust_net::preface::ProxyPreface;
use trust_net::socket::path_info;
use trust_net::stream::ClientStream;

use crate::content::Content;

/// Bytes of a payload: more than tell any two apart.
const PAYLOAD_BYTES: usize = 96;

/// Bytes that are received at once; a payload is much smaller.
const RECEIVE_MAX: usize = 4096;

/// The longest wait for the server's FIN after the client's. So that there is one client at a time
/// also from the server's point of view: it may be one that serves only one.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// What all clients have in common.
pub struct Plan<'a> {
    /// The server.
    pub target: &'a Target,
    /// Messages of each client.
    pub messages: u64,
    /// The longest wait for an answer; `None`: no limit.
    pub limit: Option<Duration>,
    /// What their connections begin with, if with a PROXY header.
    pub preface: Option<ProxyPreface>,
    /// What they send.
    pub content: Content,
    /// Signals that came.
    pub signals: &'a Signals,
}

/// How one client fared.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Messages whose echo was right.
    pub ok: u64,
    /// Their times.
    pub round_trips: RoundTrips,
    /// Those of them that took longer than the limit, which is one on silence.
    pub slow: u64,
    /// Whether it was connected.
    pub connected: bool,
    /// Whether its SYN had to be sent again for that.
    pub syn_repeated: bool,
    /// Why the client did not come to its end.
    pub stop: Option<Stopped>,
}

/// Sends all messages of client `number` over a fresh connection, which has had its preface.
pub fn run(plan: &Plan<'_>, number: u64, stream: ClientStream) -> Outcome {
    let syn_repeated = path_info(stream.as_fd()).retransmits > 0;
    let window = Window { bytes: usize::MAX, frames: 1 };
    let link = Link::new(stream, Conversation::new(Framing::Framed, window));
    let mut link = link.with_preface(plan.preface);
    let mut outcome = Outcome { connected: true, syn_repeated, ..Outcome::default() };
    outcome.stop = talk(plan, number, &mut link, &mut outcome).err();
    outcome
}

fn talk(
    plan: &Plan<'_>,
    number: u64,
    link: &mut Link,
    outcome: &mut Outcome,
) -> Result<(), Stopped> {
    let mut payload = [0; PAYLOAD_BYTES];
    for message in 1..=plan.messages {
        plan.content.payload(plan.content.key(number), message).fill(0, &mut payload);
        let time = exchange(plan, link, &payload)?;
        outcome.round_trips.add(time);
        outcome.slow += u64::from(plan.limit.is_some_and(|limit| time > limit));
        outcome.ok += 1;
    }
    say_goodbye(plan, link).inspect_err(|stop| {
        // The last echo went on after its end.
        outcome.ok -= u64::from(matches!(stop, Stopped::Failed(_)));
    })
}

/// Sends one message and waits for its whole echo; the round-trip time.
fn exchange(plan: &Plan<'_>, link: &mut Link, payload: &[u8]) -> Result<Duration, Stopped> {
    let mut buffer = [0; RECEIVE_MAX];
    let begun = Instant::now();
    link.conversation.push_message(payload);
    loop {
        link.send();
        match link.receive(&mut buffer) {
            LinkInput::Echo => {
                let time = begun.elapsed();
                while link.conversation.poll_echo(usize::MAX).is_some() {}
                if link.conversation.is_settled() {
                    return Ok(time);
                }
            }
            LinkInput::Nothing => {
                let until = link.patience_end(plan.limit);
                let [is_ready] = wait(plan.signals, [link.interest(true)], until)?;
                if !is_ready
                    && let Some(end) = plan.limit.and_then(|limit| link.check_patience(limit))
                {
                    return Err(link.failure(plan.target, &end).into());
                }
            }
            LinkInput::Wrong(wrong, _) => {
                return Err(link.wrong_echo(plan.target, &wrong).into());
            }
            LinkInput::End(end) => return Err(link.failure(plan.target, &end).into()),
        }
    }
}

/// Half-closes and waits for the server's end. Bytes that come instead are a problem; a server that
/// takes its time is none.
fn say_goodbye(plan: &Plan<'_>, link: &mut Link) -> Result<(), Stopped> {
    let until = Instant::now() + FAREWELL_MAX;
    let mut buffer = [0; RECEIVE_MAX];
    link.half_close();
    loop {
        match link.receive(&mut buffer) {
            LinkInput::Nothing => {
                let [is_ready] = wait(plan.signals, [link.interest(true)], Some(until))?;
                if !is_ready && Instant::now() >= until {
                    return Ok(());
                }
            }
            LinkInput::Wrong(wrong, _) => {
                return Err(link.wrong_echo(plan.target, &wrong).into());
            }
            LinkInput::Echo | LinkInput::End(_) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    impl Outcome {
        fn problem(&self) -> Option<&str> {
            match &self.stop {
                Some(Stopped::Failed(failure)) => Some(&failure.message),
                _ => None,
            }
        }
    }

    /// A client with five messages against a server that changes each echo by `change`, which gets
    /// the number of the message.
    fn outcome(change: impl Fn(usize, &mut Vec<u8>) + Send) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = ClientStream::begin_connecting(&address.into(), |_| ()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let signals = Signals::never();
        let target = Target::new("server", 7);
        let plan = Plan {
            target: &target,
            messages: 5,
            limit: Some(Duration::from_secs(1)),
            preface: None,
            content: Content::of_bytes(1),
            signals: &signals,
        };
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut frame = vec![0; 100];
                for number in 1.. {
                    frame.resize(100, 0);
                    if server.read_exact(&mut frame).is_err() {
                        return;
                    }
                    change(number, &mut frame);
                    if server.write_all(&frame).is_err() {
                        return;
                    }
                }
            });
            run(&plan, 1, stream)
        })
    }

    #[test]
    fn every_right_echo_counts() {
        let outcome = outcome(|_, _| {});
        assert_eq!((outcome.ok, outcome.problem()), (5, None));
        assert_eq!(outcome.round_trips.count(), 5);
    }

    #[test]
    fn a_wrong_byte_is_a_problem_of_its_message() {
        let outcome = outcome(|number, frame| frame[50] ^= u8::from(number == 3));
        assert_eq!(outcome.ok, 2);
        assert!(outcome.problem().unwrap().starts_with("wrong echo 3: byte 46 is"));
    }

    #[test]
    fn an_echo_that_does_not_come_is_a_problem_after_the_limit() {
        let outcome = outcome(|number, frame| {
            if number == 4 {
                frame.truncate(10);
            }
        });
        assert_eq!(outcome.ok, 3);
        let expected = "server:7 sent nothing for 1 s while an answer was owed \
                        (got 10 of 100 bytes of echo 4)";
        assert_eq!(outcome.problem(), Some(expected));
    }

    #[test]
    fn bytes_after_the_last_echo_are_a_problem() {
        let outcome = outcome(|number, frame| {
            if number == 5 {
                frame.push(b'!');
            }
        });
        assert_eq!(outcome.ok, 4);
        assert!(outcome.problem().unwrap().contains("bytes that were never sent"));
    }
}
