//! A request to the server, and the answer that has to come back.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use trust_cli::framing::Framing;
use trust_cli::text::grouped;

use crate::answer;
use crate::exchange::learned::{Checked, Learned, LearnedExchange};

/// A message to the server, and the answer that has to come back.
#[derive(Clone, Debug)]
pub struct Request {
    /// As it goes over the wire.
    pub bytes: Vec<u8>,
    /// Where in it the payload is.
    payload: Range<usize>,
    answer: Answer,
}

/// What has to come back.
#[derive(Clone, Debug)]
enum Answer {
    /// The message itself.
    Echo,
    /// What the server answered before, to the copy of the exchange with that number.
    Learned(Arc<LearnedExchange>, u64),
}

impl Request {
    /// A message that an echo server sends back.
    ///
    /// # Panics
    ///
    /// As [`Framing::encode`].
    pub fn echo(framing: &Framing, payload: &[u8]) -> Request {
        let (bytes, begin) = (framing.encode(payload), framing.header_len());
        Request { bytes, payload: begin..begin + payload.len(), answer: Answer::Echo }
    }

    /// A copy of an exchange, unlike all others if it has a number or an id.
    pub fn copy_of(exchange: &Arc<LearnedExchange>, learned: &Learned) -> Request {
        let number = learned.next_copy();
        let answer = Answer::Learned(Arc::clone(exchange), number);
        let bytes = exchange.request(number);
        let payload = exchange.header_len().min(bytes.len())..bytes.len();
        Request { bytes, payload, answer }
    }

    /// What follows the header: all of it in a protocol without lengths.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.payload.clone()]
    }

    /// Length of the answer in bytes, or about that where it may vary.
    pub fn answer_len(&self) -> usize {
        match &self.answer {
            Answer::Echo => self.bytes.len(),
            Answer::Learned(exchange, _) => exchange.answer_len(),
        }
    }

    /// Whether another one can follow on the same connection.
    pub fn is_repeatable(&self) -> bool {
        match &self.answer {
            Answer::Echo => true,
            Answer::Learned(exchange, _) => exchange.is_repeatable(),
        }
    }

    /// Whether its bytes are not to be shown.
    pub fn is_secret(&self) -> bool {
        match &self.answer {
            Answer::Echo => false,
            Answer::Learned(exchange, _) => exchange.is_secret(),
        }
    }

    fn check(&self, got: &[u8], is_over: bool) -> Checked {
        match &self.answer {
            Answer::Echo if got.starts_with(&self.bytes) => Checked::Right(self.bytes.len()),
            Answer::Echo if self.bytes.starts_with(got) => Checked::More,
            Answer::Echo => Checked::Wrong(String::new()),
            Answer::Learned(exchange, number) => exchange.check(&self.bytes, *number, got, is_over),
        }
    }

    /// What came, with what belongs together side by side, where answers can be interleaved.
    fn grouped_by_id(&self, got: &[u8]) -> Option<Vec<u8>> {
        match &self.answer {
            Answer::Echo => None,
            Answer::Learned(exchange, _) => exchange.grouped_by_id(got),
        }
    }

    /// Whether that answer says that there will be no other.
    fn ends_with(&self, answer: &[u8]) -> bool {
        match &self.answer {
            Answer::Echo => false,
            Answer::Learned(exchange, _) => exchange.is_last(answer),
        }
    }

    /// The name of its exchange, if it is one of several.
    fn name(&self) -> Option<&str> {
        match &self.answer {
            Answer::Echo => None,
            Answer::Learned(exchange, _) => Some(exchange.name()),
        }
    }
}

/// These messages as they go over the wire, one after the other.
pub fn concat(messages: &[Request]) -> Vec<u8> {
    messages.iter().flat_map(|message| &message.bytes).copied().collect()
}

/// Bytes of the answers to these messages, or about that where they may vary.
pub fn answers_len(messages: &[Request]) -> usize {
    messages.iter().map(Request::answer_len).sum()
}

/// Whether what came is the beginning of the answers to these messages.
pub fn is_beginning(messages: &[&Request], got: &[u8]) -> bool {
    let mut answers = Answers::to(messages);
    answers.add(got);
    !answers.is_wrong()
}

/// What was to come back.
pub fn expectation(messages: &[&Request]) -> String {
    match messages {
        [] => "nothing".to_owned(),
        [message] => match message.name() {
            None => {
                let len = grouped(message.payload().len() as u64);
                format!("the echo of a message of {len} bytes")
            }
            Some(name) => format!("the answer to {name}, as to the whole request alone"),
        },
        messages => {
            let what = if messages[0].name().is_none() { "echoes of" } else { "answers to" };
            format!("the {what} {} messages, in order", grouped(messages.len() as u64))
        }
    }
}

const OF_NO_REQUEST: &str = "it has the id of no request that was open";

/// The answers to some messages, as they arrive.
#[derive(Debug)]
pub struct Answers<'m> {
    messages: &'m [&'m Request],
    /// Those that are not answered yet.
    open: VecDeque<usize>,
    /// What came after the last right answer.
    rest: Vec<u8>,
    /// Bytes of right answers.
    right: u64,
    wrong: Option<String>,
    is_over: bool,
    /// The server has said that it will answer nothing more.
    is_last: bool,
}

impl<'m> Answers<'m> {
    /// Of which none has come.
    pub fn to(messages: &'m [&'m Request]) -> Answers<'m> {
        let open = (0..messages.len()).collect();
        let mut answers = Answers {
            messages,
            open,
            rest: vec![],
            right: 0,
            wrong: None,
            is_over: false,
            is_last: false,
        };
        // Some have no answer at all.
        answers.check();
        answers
    }

    /// Takes what came next.
    pub fn add(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        self.check();
    }

    /// Notes that nothing more will come.
    pub fn end(&mut self) {
        self.is_over = true;
        self.check();
    }

    fn check(&mut self) {
        let is_one_of_many = self.messages.len() > 1;
        let grouped = self.messages.first().filter(|_| is_one_of_many);
        if let Some(rest) = grouped.and_then(|message| message.grouped_by_id(&self.rest)) {
            self.rest = rest;
        }
        let mut at = 0;
        while self.are_awaited() {
            let rest = &self.rest[at..];
            let mut first = None;
            let mut answered = None;
            for (place, message) in self.open.iter().enumerate() {
                match self.messages[*message].check(rest, self.is_over) {
                    Checked::Right(len) => {
                        answered = Some((place, len));
                        break;
                    }
                    // Perhaps of a later one: they are told apart by an id.
                    Checked::Another => {}
                    other => {
                        first = Some(other);
                        break;
                    }
                }
            }
            match (answered, first) {
                (Some((place, len)), _) => {
                    let message = self.open.remove(place).map(|it| self.messages[it]);
                    self.is_last |=
                        message.is_some_and(|it| it.ends_with(&self.rest[at..at + len]));
                    at += len;
                    self.right += len as u64;
                }
                (None, Some(Checked::Wrong(why))) => self.wrong = Some(why),
                (None, Some(_)) => break,
                (None, None) => {
                    self.wrong = Some(OF_NO_REQUEST.to_owned());
                }
            }
        }
        self.rest.drain(..at);
    }

    /// Whether some have not come, and nothing wrong came.
    pub fn are_awaited(&self) -> bool {
        !self.open.is_empty() && self.wrong.is_none() && !self.is_last
    }

    /// Whether the server has said that it will answer nothing more on this connection.
    pub fn is_last(&self) -> bool {
        self.is_last
    }

    /// How many came.
    pub fn count(&self) -> usize {
        self.messages.len() - self.open.len()
    }

    /// How many bytes of right answers came, of unfinished ones too.
    pub fn right(&self) -> u64 {
        self.right + if self.wrong.is_none() { self.rest.len() as u64 } else { 0 }
    }

    /// Whether what came is wrong, and not only too little.
    pub fn is_wrong(&self) -> bool {
        self.wrong.is_some()
    }

    /// What came after all answers.
    pub fn take_excess(&mut self) -> Vec<u8> {
        if self.open.is_empty() { mem::take(&mut self.rest) } else { vec![] }
    }

    /// What came of the first answer that is wrong or not whole.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Says what is wrong: which message is missing, changed, cut, merged or out of order. `None`
    /// if nothing is.
    pub fn diagnosis(&self, framing: &Framing) -> Option<String> {
        let next = *self.open.front().filter(|_| !self.is_last)?;
        let message = self.messages[next];
        if let Answer::Echo = message.answer {
            let came: Vec<&[u8]> = self.messages[..next].iter().map(|it| &it.bytes[..]).collect();
            let payloads: Vec<&[u8]> = self.messages.iter().map(|it| it.payload()).collect();
            return answer::diagnose(
                framing,
                &payloads,
                &[&came.concat(), &self.rest[..]].concat(),
            );
        }
        let before = match self.count() {
            0 => String::new(),
            1 => "1 answer came right, then ".to_owned(),
            count => format!("{} answers came right, then ", grouped(count as u64)),
        };
        // Reports name the first one.
        let first = self.messages[0].name();
        let to = match message.name().filter(|name| Some(*name) != first) {
            Some(name) => format!(" to {name}"),
            None => String::new(),
        };
        let what = match (&self.wrong, self.rest.len()) {
            (Some(why), _) if why == OF_NO_REQUEST => format!("another answer came: {why}"),
            (Some(why), _) => format!("another answer came{to}: {why}"),
            (None, 0) => format!("no answer came{to}"),
            (None, len) => format!(
                "{} bytes of an answer{to} came, which had {} before: {}",
                grouped(len as u64),
                grouped(message.answer_len() as u64),
                answer::shown(&self.rest)
            ),
        };
        Some(before + &what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::file;

    /// What is learned of a protocol, whose exchanges are answered with these in turn.
    fn learned(text: &str, answers: &[&str]) -> Learned {
        let protocol = file::parse(text.as_bytes(), "FILE", &|_| Err("no file".to_owned()));
        let learned = Learned::new(protocol.unwrap());
        let with = learned.exchanges.iter().zip(answers);
        let exchanges = with.map(|(it, answer)| Arc::new(it.with_answer((*answer).into())));
        learned.with_answers(vec![], exchanges.collect())
    }

    const LINES: &str = "[message]\nend = 'line'\n[[exchange]]\nsend = \"a\\n\"\n\
                         [[exchange]]\nsend = \"b\\n\"\n";

    /// A request of HTTP/1.1 as a file has it.
    const GET: &str = "[[exchange]]\nsend = \"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n\"\n";

    fn copies(learned: &Learned) -> Vec<Request> {
        learned.exchanges.iter().map(|it| Request::copy_of(it, learned)).collect()
    }

    /// What is wrong when these pieces come, and nothing more.
    fn diagnosis(messages: &[Request], pieces: &[&[u8]]) -> Option<String> {
        let messages: Vec<&Request> = messages.iter().collect();
        let mut answers = Answers::to(&messages);
        pieces.iter().for_each(|piece| answers.add(piece));
        answers.end();
        answers.diagnosis(&Framing::Raw)
    }

    #[test]
    fn answers_are_right_however_they_are_cut() {
        let messages = copies(&learned(LINES, &["one\n", "two\n"]));
        let all = b"one\ntwo\n";
        for cut in 0..=all.len() {
            let (before, after) = all.split_at(cut);
            assert_eq!(diagnosis(&messages, &[before, after]), None, "{cut}");
        }
        let each: Vec<&[u8]> = all.chunks(1).collect();
        assert_eq!(diagnosis(&messages, &each), None);
    }

    #[test]
    fn what_is_wrong_with_an_answer_is_told() {
        let messages = copies(&learned(LINES, &["one\n", "two\n"]));
        let told = |got: &[u8]| diagnosis(&messages, &[got]).unwrap();
        assert_eq!(told(b""), "no answer came");
        assert_eq!(told(b"one\n"), "1 answer came right, then no answer came to exchange 2");
        assert_eq!(told(b"on"), "2 bytes of an answer came, which had 4 before: 6f 6e");
        assert_eq!(
            told(b"one\none\n"),
            "1 answer came right, then another answer came to exchange 2: it is 'one\\n', and was \
             'two\\n'"
        );
    }

    #[test]
    fn what_comes_after_the_last_answer_is_kept() {
        let messages = copies(&learned(LINES, &["one\n", "two\n"]));
        let messages: Vec<&Request> = messages.iter().collect();
        let mut answers = Answers::to(&messages);
        answers.add(b"one\ntwo\nthr");
        assert!(!answers.are_awaited());
        assert_eq!((answers.count(), answers.right()), (2, 11));
        assert_eq!(answers.take_excess(), b"thr");
        assert_eq!(answers.diagnosis(&Framing::Raw), None);
    }

    #[test]
    fn answers_with_ids_may_come_in_another_order_where_that_is_allowed() {
        let text = "[message]\nlength = 'u8'\nid = { send = '1..2', want = '1..2' }\nALLOW\n\
                    [[exchange]]\nsend_hex = '02 00 61'\n[[exchange]]\nsend_hex = '02 00 62'\n";
        let allow = "[allow]\norder = { any = true, why = 'it has ids' }";
        let answers = ["\x02\x00A", "\x02\x00B"];
        let any_order = copies(&learned(&text.replace("ALLOW", allow), &answers));
        let in_order = copies(&learned(&text.replace("ALLOW", ""), &answers));
        let answer = |message: &Request, text: u8| vec![2, message.bytes[1], text];
        for (messages, is_right) in [(&any_order, true), (&in_order, false)] {
            let [first, second] = &messages[..] else { panic!("two messages") };
            assert_ne!(first.bytes[1], second.bytes[1], "each has an id of its own");
            let swapped = [answer(second, b'B'), answer(first, b'A')].concat();
            assert_eq!(diagnosis(messages, &[&swapped]).is_none(), is_right);
            let crossed = [answer(second, b'A'), answer(first, b'B')].concat();
            assert!(diagnosis(messages, &[&crossed]).is_some());
        }
        let foreign = diagnosis(&any_order, &[&[2, 99, b'A']]);
        let expected = "another answer came: it has the id of no request that was open";
        assert_eq!(foreign.as_deref(), Some(expected));
    }

    #[test]
    fn answers_of_several_messages_with_ids_may_be_interleaved() {
        let text = "[message]\nlength = 'u8'\nid = { send = '1..2', want = '1..2' }\nlast = '..!'\n\
                    [allow]\norder = { any = true, why = 'it has ids' }\n\
                    [[exchange]]\nsend_hex = '02 00 61'\n[[exchange]]\nsend_hex = '02 00 62'\n";
        let answer = |id: u8, word: u8| [[2, id, word], [2, id, b'!']];
        let learned = learned(text, &["\x02\x00A\x02\x00!", "\x02\x00B\x02\x00!"]);
        let messages = copies(&learned);
        let [first, second] = &messages[..] else { panic!("two messages") };
        let [[a, a_last], [b, b_last]] =
            [answer(first.bytes[1], b'A'), answer(second.bytes[1], b'B')];
        let orders = [
            [a, a_last, b, b_last],
            [b, b_last, a, a_last],
            [a, b, a_last, b_last],
            [a, b, b_last, a_last],
            [b, a, b_last, a_last],
        ];
        for order in orders {
            let all = order.concat();
            let each: Vec<&[u8]> = all.chunks(1).collect();
            assert_eq!(diagnosis(&messages, &[&all]), None, "{order:?}");
            assert_eq!(diagnosis(&messages, &each), None, "{order:?}");
            assert!(diagnosis(&messages, &[&all[..11]]).is_some(), "{order:?}");
        }
        let crossed = [a, b, [2, a[1], b'?'], b_last].concat();
        assert!(diagnosis(&messages, &[&crossed]).is_some());
        let foreign = [a, [2, b[1], b'!'], [2, b[1], b'B'], a_last].concat();
        assert!(diagnosis(&messages, &[&foreign]).is_some());
    }

    #[test]
    fn a_server_that_announces_the_end_owes_no_more_answers() {
        let ignore = "ignore = ['(?im)^Connection:[^\\r\\n]*\\r?\\n']";
        let text = &format!("[message]\nend = 'http'\n{ignore}\n{GET}{GET}");
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx";
        let messages = copies(&learned(text, &[answer, answer]));
        let last = answer.replace("OK\r\n", "OK\r\nconnection: Keep-Alive, Close\r\n");
        assert_eq!(diagnosis(&messages, &[last.as_bytes()]), None);
        assert!(diagnosis(&messages, &[answer.as_bytes()]).is_some());
        let kept = answer.replace("OK\r\n", "OK\r\nConnection: keep-alive\r\n");
        assert_eq!(diagnosis(&messages, &[kept.as_bytes(), kept.as_bytes()]), None);
    }

    #[test]
    fn what_may_differ_is_all_that_may_differ() {
        let ignore = "ignore = ['(?im)^(?:date|age):[^\\r\\n]*\\r?\\n']";
        let text = &format!("[message]\nend = 'http'\n{ignore}\n{GET}");
        let answer = "HTTP/1.1 200 OK\r\nDate: 1\r\nContent-Length: 4\r\n\r\na\nb\n";
        let messages = copies(&learned(text, &[answer]));
        let right = |from: &str, to: &str| {
            diagnosis(&messages, &[answer.replace(from, to).as_bytes()]).is_none()
        };
        assert!(right("Date: 1", "Date: 2") && right("Date: 1\r\n", ""));
        assert!(right("Date: 1", "Age: 1\r\nDate: 3") && right("b\n", "b\n"));
        assert!(!right("a\n", "c\n") && !right("b\n", "c\n") && !right("OK", "K"));
        assert!(!right("Date: 1", "Date: 2\r\nServer: x") && !right("Date", "Dated"));
        let both = answer.replace("Date: 1", "Date: 2").replace("b\n", "c\n");
        assert!(diagnosis(&messages, &[both.as_bytes()]).is_some());
    }

    #[test]
    fn an_answer_that_ends_with_the_connection_is_whole_then() {
        let text = &format!("[message]\nend = 'http'\n{GET}");
        let answer = "HTTP/1.0 200 OK\r\n\r\nbody";
        let messages = copies(&learned(text, &[answer]));
        assert_eq!(diagnosis(&messages, &[answer.as_bytes()]), None);
        let messages: Vec<&Request> = messages.iter().collect();
        let mut answers = Answers::to(&messages);
        answers.add(answer.as_bytes());
        assert!(answers.are_awaited());
    }
}
