//! What the server answers when it is asked in one piece, and whether something is that answer.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use trust_wire::{Found, MessageEnd};

use super::body::without_lengths;
use super::difference::{different_lines, first_difference, shown};
use super::pattern::Pattern;
use super::protocol::{Allowance, Allowed, AnswerEnd, Exchange, IdPlaces, Instead, Protocol, Want};

/// Bytes of a long answer. Below them a server that does more for a message than to send it back
/// takes too many messages, and it may have a limit on the messages of a connection.
pub const LONG_ANSWER_MIN: usize = 4096;

/// A protocol, and what its exchanges are answered.
#[derive(Debug)]
pub struct Learned {
    /// The protocol.
    pub protocol: Protocol,
    /// What each connection begins with.
    pub before: Vec<Arc<LearnedExchange>>,
    /// The exchanges to try.
    pub exchanges: Vec<Arc<LearnedExchange>>,
    copies: AtomicU64,
}

/// An exchange, and what it is answered.
#[derive(Clone, Debug)]
pub struct LearnedExchange {
    exchange: Exchange,
    header_len: usize,
    end: Option<AnswerEnd>,
    ignore: Vec<Pattern>,
    id: Option<IdPlaces>,
    is_in_any_order: bool,
    /// The answer to the first copy; empty until it is known.
    first: Vec<u8>,
}

/// What some bytes are as the beginning of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Nothing is wrong with them, and they are not all of it.
    More,
    /// The answer is right, and has this length in bytes.
    Right(usize),
    /// They are the answer to another message, if to any.
    Another,
    /// They are no right answer, for this reason.
    Wrong(String),
}

impl Learned {
    /// Of which no answer is known.
    pub fn new(protocol: Protocol) -> Learned {
        let of = |exchanges: &[Exchange]| -> Vec<_> {
            let each = exchanges.iter();
            each.map(|it| Arc::new(LearnedExchange::new(&protocol, it.clone()))).collect()
        };
        let (before, exchanges) = (of(&protocol.before), of(&protocol.exchanges));
        Learned { protocol, before, exchanges, copies: AtomicU64::new(0) }
    }

    /// The same protocol, with what is known to be answered.
    #[must_use]
    pub fn with_answers(
        &self,
        before: Vec<Arc<LearnedExchange>>,
        exchanges: Vec<Arc<LearnedExchange>>,
    ) -> Learned {
        let copies = AtomicU64::new(self.copies.load(Ordering::Relaxed));
        Learned { protocol: self.protocol.clone(), before, exchanges, copies }
    }

    /// Another exchange of the protocol, of which no answer is known.
    pub fn unanswered(&self, exchange: &Exchange) -> Arc<LearnedExchange> {
        Arc::new(LearnedExchange::new(&self.protocol, exchange.clone()))
    }

    /// Those that can come again on the same connection, and after others.
    pub fn repeatable(&self) -> Vec<Arc<LearnedExchange>> {
        self.exchanges.iter().filter(|exchange| exchange.is_repeatable()).cloned().collect()
    }

    /// Those, or all if there are none.
    pub fn usual(&self) -> Vec<Arc<LearnedExchange>> {
        let repeatable = self.repeatable();
        if repeatable.is_empty() { self.exchanges.clone() } else { repeatable }
    }

    /// Whether the server says something before it is asked, and that is one of the exchanges to
    /// try.
    pub fn has_greeting(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.is_greeting())
    }

    /// Whether the server says something before it is asked.
    pub fn is_greeted(&self) -> bool {
        self.has_greeting() || self.before.first().is_some_and(|first| first.is_greeting())
    }

    /// Whether the answers to copies of the exchanges show which copy they are for: they have an id
    /// or a number, or there are several.
    pub fn are_told_apart(&self) -> bool {
        let answers = self.usual();
        let has_own = |it: &Arc<LearnedExchange>| {
            let has_number = matches!(&it.exchange.want, Some(Want::Bytes(it)) if it.has_number());
            it.id.is_some() || has_number
        };
        let kept = |it: &Arc<LearnedExchange>| it.kept(&it.first);
        answers.iter().all(has_own) || answers.iter().any(|it| kept(it) != kept(&answers[0]))
    }

    /// Whether something of what is cut and repeated is not to be shown: then nothing is.
    pub fn has_secret(&self) -> bool {
        self.exchanges.iter().any(|exchange| exchange.is_secret())
    }

    /// Whether these bytes begin with the answer to a copy of an exchange, by the number in it. One
    /// that was not asked for on this connection was asked for on another one.
    pub fn is_answer_to_a_copy(&self, got: &[u8]) -> bool {
        let end = self.copies.load(Ordering::Relaxed);
        self.exchanges.iter().any(|exchange| exchange.copy_answered(got, end).is_some())
    }

    /// What has to be refused, if that is known.
    pub fn refused(&self) -> Option<Vec<u8>> {
        self.protocol.refused.as_ref().map(|refused| refused.send.bytes(0))
    }

    /// What is wrong with an answer to what has to be refused, where the protocol has one.
    pub fn unlike_refusal(&self, answer: &[u8]) -> Option<String> {
        match self.protocol.refused.as_ref()?.want.as_ref()? {
            Want::Pattern(pattern) if pattern.is_whole(answer) => None,
            Want::Bytes(template) if template.bytes(0) == answer => None,
            _ => Some(format!("it is {}", shown(answer))),
        }
    }

    /// Whether these bytes are what the protocol allows before the server ends a connection.
    pub fn is_goodbye(&self, got: &[u8]) -> bool {
        self.begins(Allowed::Goodbye, got).is_some()
    }

    /// What to do about a server that answers this instead, as it wants a login.
    pub fn asks_for_login(&self, got: &[u8]) -> Option<&str> {
        self.begins(Allowed::Login, got).map(|allowance| allowance.why.as_str())
    }

    /// What allows an answer that begins with these bytes.
    fn begins(&self, of: Allowed, got: &[u8]) -> Option<&Allowance> {
        let is_it = |it: &&Allowance| {
            let is_match = |instead: &Instead| match instead {
                Instead::Pattern(pattern) => !got.is_empty() && pattern.is_at_start(got),
                _ => false,
            };
            it.of == of && it.instead.iter().any(is_match)
        };
        self.protocol.allow.iter().find(is_it)
    }

    /// Length of the first request in these bytes: of all of them where no end is known. The first
    /// request of a connection may be unlike the others.
    pub fn first_request_len(&self, bytes: &[u8]) -> usize {
        match self.first_request_end().map(|end| end.find(bytes, None)) {
            Some(Found::End(len)) => len,
            _ => bytes.len(),
        }
    }

    /// Where the first request after [`Learned::before`] ends.
    fn first_request_end(&self) -> Option<&MessageEnd> {
        let is_first = self.before.iter().all(|before| before.is_greeting());
        let first = self.protocol.first_request_end.as_ref().filter(|_| is_first);
        first.or(self.protocol.request_end.as_ref())
    }

    /// The exchange whose request declares the longest payload, and where that request ends. It may
    /// be one that cannot be repeated.
    pub fn declaring(&self) -> Option<(Arc<LearnedExchange>, &MessageEnd)> {
        let end = self.first_request_end()?;
        let payload_of = |it: &&Arc<LearnedExchange>| end.payload(&it.request(0));
        let declaring = self.exchanges.iter().filter(|it| payload_of(it).is_some());
        // Of several the first.
        let longest = declaring.rev().max_by_key(|it| payload_of(it).map(|payload| payload.len()));
        longest.map(|exchange| (Arc::clone(exchange), end))
    }

    /// The number of the next copy of an exchange.
    pub fn next_copy(&self) -> u64 {
        self.copies.fetch_add(1, Ordering::Relaxed)
    }
}

impl LearnedExchange {
    fn new(protocol: &Protocol, exchange: Exchange) -> LearnedExchange {
        let ignore = protocol.ignore.iter().chain(&exchange.ignore).cloned().collect();
        let is_in_any_order = protocol.allow.iter().any(|allow| allow.of == Allowed::Order);
        let (mut end, id) = (protocol.answer_end.clone(), protocol.id.clone());
        if let (Some(end), Some(several)) = (&mut end, &exchange.several) {
            end.several = Some(several.clone());
        }
        let header_len = match protocol.request_end {
            Some(MessageEnd::Length(format)) => format.header_len(),
            _ => 0,
        };
        LearnedExchange { exchange, header_len, end, ignore, id, is_in_any_order, first: vec![] }
    }

    /// The same, with the answer that is known now.
    #[must_use]
    pub fn with_answer(&self, first: Vec<u8>) -> LearnedExchange {
        LearnedExchange { first, ..self.clone() }
    }

    /// The same, after which the server is known to end the connection.
    #[must_use]
    pub fn closing(&self) -> LearnedExchange {
        let exchange = Exchange { closes: true, ..self.exchange.clone() };
        LearnedExchange { exchange, ..self.clone() }
    }

    /// Whether it is said what has to come back.
    pub fn has_want(&self) -> bool {
        self.exchange.want.is_some()
    }

    /// Whether each copy has a number of its own.
    pub fn has_number(&self) -> bool {
        self.exchange.send.has_number()
    }

    /// Whether an answer shows where it ends.
    pub fn has_end(&self) -> bool {
        self.end.is_some() || self.exchange.want.is_some()
    }

    /// What the bytes are as an answer to that copy while no answer is known: right if they are
    /// whole and not other than what is wanted.
    pub fn answer_so_far(&self, request: &[u8], number: u64, got: &[u8], is_over: bool) -> Checked {
        if self.exchange.want.is_some() {
            return self.check(request, number, got, is_over);
        }
        match self.answer_end(request, got, is_over) {
            Found::End(len) => Checked::Right(len),
            Found::Wrong(at) => Checked::Wrong(in_no_message(got, at)),
            Found::More | Found::AtClose => Checked::More,
        }
    }

    /// Bytes of a request before its payload.
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// For people.
    pub fn name(&self) -> &str {
        &self.exchange.name
    }

    /// Whether the server says it before it is asked.
    pub fn is_greeting(&self) -> bool {
        self.exchange.send.is_empty()
    }

    /// Whether it can come again on the same connection, and after others.
    pub fn is_repeatable(&self) -> bool {
        !self.exchange.once && !self.exchange.closes
    }

    /// Whether the server ends the connection after it.
    pub fn closes(&self) -> bool {
        self.exchange.closes
    }

    /// Whether its bytes are not to be shown.
    pub fn is_secret(&self) -> bool {
        self.exchange.secret
    }

    /// Length of the answer when it was learned, in bytes.
    pub fn answer_len(&self) -> usize {
        match &self.exchange.want {
            Some(Want::Bytes(template)) => template.bytes(0).len(),
            _ => self.first.len(),
        }
    }

    /// Whether the answer is so long that a few fill the buffers of two kernels over a narrow path.
    pub fn is_long(&self) -> bool {
        self.answer_len() >= LONG_ANSWER_MIN
    }

    /// Whether the answer says that there will be no other on this connection, as that of a server
    /// with a limit on requests does (RFC 9112, section 9.6).
    pub fn is_last(&self, answer: &[u8]) -> bool {
        let is_http = matches!(&self.end, Some(end) if end.message == MessageEnd::Http);
        is_http && has_close_option(answer) && !has_close_option(&self.first)
    }

    /// What is sent in the copy with that number.
    pub fn request(&self, number: u64) -> Vec<u8> {
        let mut bytes = self.exchange.send.bytes(number);
        if let Some(id) = self.id.as_ref().and_then(|id| bytes.get_mut(id.send.clone())) {
            let own = number.wrapping_add(1).to_be_bytes();
            let len = id.len().min(own.len());
            let (before, last) = id.split_at_mut(id.len() - len);
            before.fill(0);
            last.copy_from_slice(&own[own.len() - len..]);
        }
        bytes
    }

    /// Where the answer to `request` ends that begins with these bytes.
    pub fn answer_end(&self, request: &[u8], got: &[u8], is_over: bool) -> Found {
        self.end.as_ref().map_or(Found::More, |end| answer_end(end, request, got, is_over))
    }

    /// What the bytes are as an answer to the copy with that number, which was `request`.
    pub fn check(&self, request: &[u8], number: u64, got: &[u8], is_over: bool) -> Checked {
        let got = self.with_one_id(got);
        let len = match (&self.end, self.expected(number)) {
            (Some(_), expected) => match self.answer_end(request, got, is_over) {
                Found::End(len) => len,
                Found::Wrong(at) => {
                    return Checked::Wrong(in_no_message(got, at));
                }
                Found::More | Found::AtClose => return self.check_beginning(expected, got),
            },
            (None, Some(expected)) if got.len() >= expected.len() => expected.len(),
            (None, None) if self.is_wanted(got) => got.len(),
            (None, expected) => return self.check_beginning(expected, got),
        };
        let answer = &got[..len];
        if !self.is_for(request, answer) {
            return match self.is_in_any_order {
                true => Checked::Another,
                false => Checked::Wrong(
                    "it has the id of another request (order in [allow] may allow it)".to_owned(),
                ),
            };
        }
        match self.expected(number) {
            None if self.is_wanted(answer) => Checked::Right(len),
            None => Checked::Wrong(format!("it is {}", shown(answer))),
            // The usual case, in which nothing has to be searched for.
            Some(expected) if expected == answer => Checked::Right(len),
            Some(expected) => match self.difference(&expected, answer) {
                None => Checked::Right(len),
                Some(difference) => Checked::Wrong(difference),
            },
        }
    }

    /// In words, where an answer is not the expected one.
    pub fn difference(&self, expected: &[u8], got: &[u8]) -> Option<String> {
        let is_http = self.end.as_ref().is_some_and(|end| end.message == MessageEnd::Http);
        let [expected, got] = [expected, got].map(|it| match is_http {
            true => without_lengths(it),
            false => Cow::Borrowed(it),
        });
        let (expected, got) = (&*expected, &*got);
        if self.id.is_none() {
            // To search all of a long answer takes longer than a server takes for many.
            let (expected, got) = different_lines(expected, got);
            if self.kept(expected) == self.kept(got) {
                return None;
            }
        }
        let was = if self.has_want() { "should be" } else { "was" };
        first_difference(&self.kept(expected), &self.kept(got), was)
    }

    /// Less than an answer: whether it can still become one, as far as that is simple to see.
    fn check_beginning(&self, expected: Option<Vec<u8>>, got: &[u8]) -> Checked {
        let is_plain = self.ignore.is_empty() && self.id.is_none();
        match expected.filter(|expected| is_plain && !expected.starts_with(got)) {
            None => Checked::More,
            Some(expected) => Checked::Wrong(self.difference(&expected, got).unwrap_or_default()),
        }
    }

    /// The answer to that copy, unless it is a pattern.
    fn expected(&self, number: u64) -> Option<Vec<u8>> {
        match &self.exchange.want {
            None => Some(self.first.clone()),
            Some(Want::Bytes(template)) => Some(template.bytes(number)),
            Some(Want::Pattern(_)) => None,
        }
    }

    fn is_wanted(&self, answer: &[u8]) -> bool {
        matches!(&self.exchange.want, Some(Want::Pattern(pattern)) if pattern.is_whole(answer))
    }

    /// The copy, of those before `end`, whose own answer these bytes begin with: where answers have
    /// a number.
    fn copy_answered(&self, got: &[u8], end: u64) -> Option<u64> {
        let Some(Want::Bytes(want)) = &self.exchange.want else { return None };
        let is_it = |number: &u64| got.starts_with(&want.bytes(*number));
        want.has_number().then(|| (0..end).rev().find(is_it)).flatten()
    }

    /// Whether each message of the answer has the id of the request.
    fn is_for(&self, request: &[u8], answer: &[u8]) -> bool {
        self.id.as_ref().is_none_or(|id| {
            let own = request.get(id.send.clone());
            self.messages(answer).all(|message| answer[message].get(id.want.clone()) == own)
        })
    }

    /// The same bytes with the messages of each id together, in the order in which the ids came,
    /// and at the end a message that is not whole. The messages of one answer may stand between
    /// those of another (LDAP, RFC 4511, section 4.1.1.1). `None` if they cannot.
    pub fn grouped_by_id(&self, got: &[u8]) -> Option<Vec<u8>> {
        let (end, id) = self.interleaved()?;
        let mut groups: Vec<(Option<&[u8]>, Vec<u8>)> = vec![];
        let mut rest = got;
        while let Found::End(len) = end.message.find(rest, Some(&[])) {
            let message;
            (message, rest) = rest.split_at(len);
            let own = message.get(id.want.clone());
            match groups.iter_mut().find(|(id, _)| *id == own) {
                Some((_, group)) => group.extend_from_slice(message),
                None => groups.push((own, message.to_vec())),
            }
        }
        let whole = groups.into_iter().flat_map(|(_, group)| group);
        Some(whole.chain(rest.iter().copied()).collect())
    }

    /// Where messages end and have their id, if those of several answers may be mixed.
    fn interleaved(&self) -> Option<(&AnswerEnd, &IdPlaces)> {
        let end = self.end.as_ref().filter(|end| end.several.is_some())?;
        Some((end, self.id.as_ref().filter(|_| self.is_in_any_order)?))
    }

    /// The bytes up to the first message that has another id than the first one.
    fn with_one_id<'g>(&self, got: &'g [u8]) -> &'g [u8] {
        let Some((end, id)) = self.interleaved() else { return got };
        let (mut at, mut first) = (0, None);
        while let Found::End(len) = end.message.find(&got[at..], Some(&[])) {
            let own = got[at..at + len].get(id.want.clone());
            if *first.get_or_insert(own) != own {
                return &got[..at];
            }
            at += len;
        }
        got
    }

    /// Where the messages of an answer are; the last one, if it is not whole, ends with the bytes.
    fn messages(&self, answer: &[u8]) -> impl Iterator<Item = Range<usize>> {
        let end = self.end.as_ref().filter(|end| end.several.is_some());
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = answer.get(at..).filter(|rest| !rest.is_empty())?;
            let found = end.map_or(Found::More, |end| end.message.find(rest, Some(&[])));
            let start = at;
            at = match found {
                Found::End(len) => start + len,
                _ => answer.len(),
            };
            Some(start..at)
        })
    }

    /// The bytes without those that may differ, or be missing.
    pub fn kept(&self, bytes: &[u8]) -> Vec<u8> {
        let mut places: Vec<_> = self.ignore.iter().flat_map(|it| it.places(bytes)).collect();
        if let Some(id) = &self.id {
            let of_message = |message: Range<usize>| {
                let place = message.start + id.want.start..message.start + id.want.end;
                (place.end <= message.end).then_some(place)
            };
            places.extend(self.messages(bytes).filter_map(of_message));
        }
        places.sort_by_key(|place| (place.start, place.end));
        let (mut kept, mut at) = (vec![], 0);
        for place in places {
            kept.extend_from_slice(&bytes[at..place.start.max(at)]);
            at = at.max(place.end);
        }
        kept.extend_from_slice(&bytes[at..]);
        kept
    }
}

/// Where an answer with such an end ends, if it begins with these bytes and answers `request`.
pub fn answer_end(end: &AnswerEnd, request: &[u8], got: &[u8], is_over: bool) -> Found {
    let mut at = 0;
    loop {
        let len = match end.message.find(&got[at..], Some(request)) {
            Found::End(len) => len,
            Found::Wrong(place) => return Found::Wrong(at + place),
            Found::AtClose if is_over => got.len() - at,
            Found::More | Found::AtClose => return Found::More,
        };
        let message = &got[at..at + len];
        at += len;
        let goes_on = end.several.as_ref().is_some_and(|several| several.goes_on_after(message));
        if !goes_on || len == 0 {
            return Found::End(at);
        }
    }
}

fn in_no_message(got: &[u8], at: usize) -> String {
    format!("byte {} is in no message: {}", at + 1, shown(got))
}

/// Whether a message of HTTP/1.1 has the header `Connection: close`.
fn has_close_option(message: &[u8]) -> bool {
    let lines = message.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let head = lines.skip(1).take_while(|line| !line.is_empty());
    let mut values = head.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        name.eq_ignore_ascii_case(b"connection").then_some(&value[1..])
    });
    values.any(|value| {
        value.split(|byte| *byte == b',').any(|it| it.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::file;

    #[test]
    fn the_first_request_of_a_connection_may_end_otherwise() {
        let message = "[message]\nlength = 'u32be'\noffset = 1\nadjust = -4\n\
                       [message.request]\nfirst = { length = 'u32be+incl' }\n";
        let startup = "send_hex = '00000008 61626364'\n";
        let query = "[[exchange]]\nsend_hex = '51 00000004'\n";
        let learned = |exchanges: String| {
            let text = format!("{message}{exchanges}");
            let no_file = |_: &str| Err("no file".to_owned());
            Learned::new(file::parse(text.as_bytes(), "FILE", &no_file).unwrap())
        };
        let two = b"\0\0\0\x08abcdQ\0\0\0\x04";
        let alone = learned(format!("[[exchange]]\nonce = true\n{startup}"));
        assert_eq!(alone.first_request_len(two), 8);
        assert_eq!(learned(query.to_owned()).first_request_len(&two[8..]), 5);
        let after = learned(format!("[[before]]\n{startup}{query}"));
        assert_eq!(after.first_request_len(&two[8..]), 5);
        assert_eq!(after.first_request_len(b"Q\0\0"), 3);
    }
}
