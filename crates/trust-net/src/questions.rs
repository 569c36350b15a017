//! Asks the kernel whether a socket is ready after all ([`Asked`]), by registering the socket anew.

use std::collections::VecDeque;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use trust_wire::Timestamp;
use trust_wire::turn::{Asked, Question};

/// How long the next question waits, as long as accepting pauses: at most ten per second for each
/// socket.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// Sockets to ask about after one pause. Each of them brings a wait and a call that fails, and
/// together they must cost next to nothing. The others go on waiting.
const ASKED_PER_PAUSE: usize = 256;

/// A socket as it is registered.
pub struct Registered<'a> {
    /// Itself.
    pub socket: BorrowedFd<'a>,
    /// Where.
    pub registry: &'a Registry,
    /// As which events are reported.
    pub token: Token,
    /// For which readiness.
    pub interest: Interest,
}

impl Registered<'_> {
    /// Lets the kernel report readiness once more.
    pub fn ask(self) {
        // Fails only for a socket that is not registered, and that one has been given an error
        // then.
        let mut source = SourceFd(&self.socket.as_raw_fd());
        let _ = self.registry.reregister(&mut source, self.token, self.interest);
    }
}

/// The sockets of a worker about which the kernel is asked later, those that have waited longest
/// first.
#[derive(Debug)]
pub struct Questions {
    waiting: VecDeque<Token>,
    /// [`Timestamp::NEVER`] if none waits.
    due_at: Timestamp,
}

impl Default for Questions {
    fn default() -> Questions {
        Questions { waiting: VecDeque::new(), due_at: Timestamp::NEVER }
    }
}

impl Questions {
    /// Asks about a socket, now or after a pause.
    pub fn ask(&mut self, question: Question, socket: Registered<'_>, now: Timestamp) {
        match question {
            Question::Now => socket.ask(),
            Question::Later => {
                self.waiting.push_back(socket.token);
                if self.due_at == Timestamp::NEVER {
                    self.due_at = now + PAUSE;
                }
            }
        }
    }

    /// A call for this socket has said EAGAIN.
    pub fn handle_would_block(
        &mut self,
        asked: &mut Asked,
        socket: Registered<'_>,
        now: Timestamp,
    ) {
        if let Some(question) = asked.handle_would_block() {
            self.ask(question, socket, now);
        }
    }

    /// The pause is over: asks about a socket that was waiting for that.
    pub fn ask_again(asked: &mut Asked, socket: Registered<'_>) {
        asked.ask_again();
        socket.ask();
    }

    /// When the next questions are due.
    pub fn next(&self) -> Timestamp {
        self.due_at
    }

    /// Takes the sockets whose questions are due by now, leaving out those that are gone.
    pub fn take_due(
        &mut self,
        now: Timestamp,
        mut is_there: impl FnMut(Token) -> bool,
    ) -> Vec<Token> {
        let mut due = Vec::new();
        if now < self.due_at {
            return due;
        }
        while due.len() < ASKED_PER_PAUSE
            && let Some(token) = self.waiting.pop_front()
        {
            if is_there(token) {
                due.push(token);
            }
        }
        self.due_at = if self.waiting.is_empty() { Timestamp::NEVER } else { now + PAUSE };
        due
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use mio::{Events, Poll};

    use super::*;

    /// A socket that the kernel always calls writable.
    struct Writable {
        poll: Poll,
        socket: UdpSocket,
        asked: Asked,
    }

    impl Writable {
        fn new() -> Writable {
            let poll = Poll::new().expect("a descriptor");
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a descriptor and a port");
            let registry = poll.registry();
            let mut source = SourceFd(&socket.as_raw_fd());
            registry.register(&mut source, Token(7), Interest::WRITABLE).expect("a socket");
            Writable { poll, socket, asked: Asked::default() }
        }

        fn registered(&mut self) -> (&mut Asked, Registered<'_>) {
            let (registry, socket) = (self.poll.registry(), self.socket.as_fd());
            let interest = Interest::WRITABLE;
            (&mut self.asked, Registered { socket, registry, token: Token(7), interest })
        }

        fn is_reported(&mut self) -> bool {
            let mut events = Events::with_capacity(8);
            self.poll.poll(&mut events, Some(Duration::ZERO)).expect("it waits for nothing");
            !events.is_empty()
        }
    }

    fn ms(count: u64) -> Timestamp {
        Timestamp::from_start(Duration::from_millis(count))
    }

    #[test]
    fn a_socket_that_is_ready_and_takes_nothing_is_asked_about_ten_times_a_second() {
        let (mut questions, mut socket) = (Questions::default(), Writable::new());
        let mut calls = 0;
        for now in 0..1000 {
            for token in questions.take_due(ms(now), |_| true) {
                assert_eq!(token, Token(7));
                let (asked, registered) = socket.registered();
                Questions::ask_again(asked, registered);
            }
            // Each call fails.
            while socket.is_reported() {
                calls += 1;
                let (asked, registered) = socket.registered();
                questions.handle_would_block(asked, registered, ms(now));
            }
        }
        // The first edge, the first question, and nine pauses.
        assert_eq!(calls, 11);
    }

    #[test]
    fn a_call_that_succeeds_has_the_next_question_asked_at_once() {
        let (mut questions, mut socket) = (Questions::default(), Writable::new());
        for _ in 0..100 {
            assert!(socket.is_reported());
            let (asked, registered) = socket.registered();
            questions.handle_would_block(asked, registered, ms(0));
            assert!(socket.is_reported(), "the answer to the question");
            socket.asked.handle_success();
            let (asked, registered) = socket.registered();
            questions.handle_would_block(asked, registered, ms(0));
            socket.asked.handle_success();
        }
        assert_eq!(questions.next(), Timestamp::NEVER);
    }

    #[test]
    fn who_waits_is_listed_once_and_asked_about_in_turn() {
        const SOCKETS: usize = 2 * ASKED_PER_PAUSE + 10;
        let (mut questions, mut socket) = (Questions::default(), Writable::new());
        for number in 0..SOCKETS {
            let mut asked = Asked::Once;
            for _ in 0..3 {
                let (_, registered) = socket.registered();
                let registered = Registered { token: Token(number), ..registered };
                questions.handle_would_block(&mut asked, registered, ms(0));
                asked.handle_success();
            }
        }
        assert_eq!(questions.next(), ms(100));
        assert!(questions.take_due(ms(99), |_| true).is_empty());
        let mut taken = questions.take_due(ms(100), |_| true);
        assert_eq!((taken.len(), questions.next()), (ASKED_PER_PAUSE, ms(200)));
        // Who is gone is no reason for others to wait.
        taken.extend(questions.take_due(ms(200), |token| token.0 >= 2 * ASKED_PER_PAUSE));
        let expected: Vec<Token> =
            (0..ASKED_PER_PAUSE).chain(2 * ASKED_PER_PAUSE..SOCKETS).map(Token).collect();
        assert_eq!((taken, questions.next()), (expected, Timestamp::NEVER));
    }
}
