//! One case being tried: its connections, payloads and transcript.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use trust_cli::framing::Framing;
use trust_cli::random::{SplitMix, mix};
use trust_wire::format::LengthFormat;

use crate::exchange::learned::{Learned, LearnedExchange};
use crate::request::Request;
use crate::setup::{LARGE_MAX, Setup};
use crate::transcript::{Transcript, What};
use crate::verdict::{Evidence, Finding, Judged, Verdict};
use crate::watch::Watch;
use crate::wire::{self, PathKind, Wire};

/// How long a server may turn new clients away after others have left, and how often it is asked.
const ROOM_MAX: Duration = Duration::from_millis(500);
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// Bytes of an answer below which a server takes seconds for the messages that fill the buffers of
/// two kernels.
const UNREAD_ANSWER_MIN: usize = 64;

/// Messages with long answers on one connection to such a server: dnsmasq takes 100 of any kind.
const LEARNED_MESSAGES_MAX: usize = 64;

/// Bytes of their answers, but for the last one: more than the 1 to 2 MiB that two kernels hold
/// over a narrow path.
const LEARNED_ANSWERS_MAX: u64 = LARGE_MAX;

/// One case being tried.
#[derive(Debug)]
pub struct CaseTrial<'s> {
    /// Which case.
    pub id: &'static str,
    /// What all cases have in common.
    pub setup: &'s Setup,
    transcript: Transcript,
    /// The server's process, if it can be looked at.
    pub watch: Option<&'s Watch>,
    connections: u32,
    random: SplitMix,
    /// The exchanges that messages are copies of, in turn; none for an echo server.
    exchanges: Vec<Arc<LearnedExchange>>,
    drawn: usize,
}

impl<'s> CaseTrial<'s> {
    /// A trial of the case with that id. Its payloads depend on the run's seed and the id alone.
    pub fn new(setup: &'s Setup, id: &'static str, watch: Option<&'s Watch>) -> CaseTrial<'s> {
        let name = id.bytes().fold(setup.seed, |state, byte| mix(state ^ u64::from(byte)));
        let (transcript, random) = (Transcript::default(), SplitMix::new(name));
        let exchanges = setup.exchanges.as_ref().map_or_else(Vec::new, Learned::usual);
        CaseTrial { id, setup, transcript, watch, connections: 0, random, exchanges, drawn: 0 }
    }

    /// The same trial with messages that are copies of these exchanges, in turn.
    #[must_use]
    pub fn drawing_from(mut self, exchanges: Vec<Arc<LearnedExchange>>) -> CaseTrial<'s> {
        (self.exchanges, self.drawn) = (exchanges, 0);
        self
    }

    /// The same trial, which goes on with that transcript.
    #[must_use]
    pub fn with_transcript(self, transcript: &Transcript) -> CaseTrial<'s> {
        CaseTrial { transcript: transcript.clone(), ..self }
    }

    /// What went over its wires.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// A new connection, on which everything was exchanged that is before the first message.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`] and [`Wire::exchange_beginning`].
    pub fn connect(&mut self) -> Judged<Wire<'s>> {
        let mut wire = self.connect_alone()?;
        wire.exchange_beginning()?;
        Ok(wire)
    }

    /// A new connection on which nothing was exchanged.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn connect_alone(&mut self) -> Judged<Wire<'s>> {
        self.connections += 1;
        Wire::connect(self.setup, self.connections, &self.transcript)
    }

    /// A new connection on which not even the preface was sent, and that preface.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn connect_before_preface(&mut self) -> Judged<(Wire<'s>, Vec<u8>)> {
        self.connections += 1;
        Wire::connect_before_preface(self.setup, self.connections, &self.transcript)
    }

    /// Reserves numbers for `count` connections that threads of the case will make with
    /// [`CaseTrial::connect_as`].
    pub fn reserve(&mut self, count: usize) -> Range<u32> {
        let first = self.connections + 1;
        self.connections += count as u32;
        first..self.connections + 1
    }

    /// A new connection of that name.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn connect_as(&self, number: u32) -> Judged<Wire<'s>> {
        let mut wire = Wire::connect(self.setup, number, &self.transcript)?;
        wire.exchange_beginning()?;
        Ok(wire)
    }

    /// The same over a narrow path, where a server has to wait for a client that does not read much
    /// sooner.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn connect_narrow(&mut self) -> Judged<Wire<'s>> {
        self.connections += 1;
        let (setup, number) = (self.setup, self.connections);
        let mut wire = Wire::connect_over(setup, number, &self.transcript, PathKind::Narrow)?;
        wire.exchange_beginning()?;
        Ok(wire)
    }

    /// A new connection on which answers fill what kernels hold. Those of a server that does not
    /// echo are too few for it, unless the path is narrow.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn connect_to_fill(&mut self) -> Judged<Wire<'s>> {
        match self.setup.exchanges {
            None => self.connect(),
            Some(_) => self.connect_narrow(),
        }
    }

    /// A payload of about that length: as long as the server takes.
    pub fn payload(&mut self, wanted: u64) -> Vec<u8> {
        let mut payload = self.garbage(self.setup.payload_len(wanted));
        if self.setup.framing == Framing::Line {
            // Text without a newline.
            payload.iter_mut().for_each(|byte| *byte = b' ' + *byte % 95);
        }
        payload
    }

    /// A message with that payload to an echo server.
    pub fn echo(&self, payload: &[u8]) -> Request {
        Request::echo(&self.setup.framing, payload)
    }

    /// A message with a payload of about that length, or the next of the exchanges.
    pub fn message(&mut self, wanted: u64) -> Request {
        let Some(learned) = &self.setup.exchanges else {
            let payload = self.payload(wanted);
            return self.echo(&payload);
        };
        let exchange = &self.exchanges[self.drawn % self.exchanges.len()];
        self.drawn += 1;
        Request::copy_of(exchange, learned)
    }

    /// What a server that speaks first says, before anything is sent.
    ///
    /// # Errors
    ///
    /// Skipped if it does not.
    pub fn greeting(&self) -> Judged<Request> {
        let greeting = self.setup.exchanges.as_ref().and_then(|learned| {
            let mut said = learned.before.iter().take(1).chain(&learned.exchanges);
            Some(Request::copy_of(said.find(|exchange| exchange.is_greeting())?, learned))
        });
        greeting.ok_or_else(|| Verdict::skipped("the server does not speak first"))
    }

    /// The first request of a connection, after the greeting if there is one.
    pub fn first_request(&mut self) -> Request {
        let first = self.setup.exchanges.as_ref().and_then(|learned| {
            let first = learned.before.iter().find(|exchange| !exchange.is_greeting())?;
            Some(Request::copy_of(first, learned))
        });
        first.unwrap_or_else(|| self.message(32))
    }

    /// A message whose answer is left unread.
    ///
    /// # Errors
    ///
    /// Skipped if answers are so short that a server is busy with messages long before it has to
    /// wait for its client.
    pub fn unread_message(&mut self, wanted: u64) -> Judged<Request> {
        let message = self.long_answer(wanted)?;
        match message.answer_len() < UNREAD_ANSWER_MIN {
            true => Err(Verdict::skipped(
                "messages are too short here: a server is busy with them and not kept waiting",
            )),
            false => Ok(message),
        }
    }

    /// A message that is sent again and again.
    ///
    /// # Errors
    ///
    /// Skipped if a server that does not echo answers so little that it may end the connection
    /// first, as it takes a limited number of messages.
    pub fn long_answer(&mut self, wanted: u64) -> Judged<Request> {
        Ok(self.long_answers(wanted, 1)?.swap_remove(0))
    }

    /// Messages of at most `each` bytes whose answers have about `total` bytes together. Of a
    /// server that does not echo each answer is long, and there are no more than it takes on one
    /// connection.
    ///
    /// # Errors
    ///
    /// Skipped if the first of the exchanges has no long answer: the case is tried with each of
    /// them as the first.
    pub fn long_answers(&mut self, each: u64, total: u64) -> Judged<Vec<Request>> {
        let Some(learned) = &self.setup.exchanges else { return Ok(self.messages(each, total)) };
        let is_long = |it: &&Arc<LearnedExchange>| it.is_long();
        if !self.exchanges.first().is_some_and(|first| is_long(&first)) {
            return Err(Verdict::skipped("no exchange has a long answer"));
        }
        let (mut messages, mut bytes) = (vec![], 0);
        for exchange in self.exchanges.iter().filter(is_long).cycle().take(LEARNED_MESSAGES_MAX) {
            messages.push(Request::copy_of(exchange, learned));
            bytes += exchange.answer_len() as u64;
            if bytes >= total.min(LEARNED_ANSWERS_MAX) {
                break;
            }
        }
        Ok(messages)
    }

    /// Messages of at most `each` bytes that are about `total` bytes together.
    pub fn messages(&mut self, each: u64, total: u64) -> Vec<Request> {
        let each_len = match self.setup.exchanges {
            None => self.setup.payload_len(each).max(1) as u64,
            Some(_) => each,
        };
        (0..total.div_ceil(each_len).max(1)).map(|_| self.message(each)).collect()
    }

    /// That number of bytes, which are no message.
    pub fn garbage(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.random.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Bytes that the server has to refuse: a header that declares one byte more than it takes, or
    /// what the protocol names.
    ///
    /// # Errors
    ///
    /// Skipped if there are no such bytes.
    pub fn refused(&self) -> Judged<Vec<u8>> {
        if let Some(refused) = self.setup.exchanges.as_ref().and_then(Learned::refused) {
            return Ok(refused);
        }
        let format = self.length_format()?;
        let (Some(above), true) = (self.setup.max_frame.checked_add(1), self.setup.has_limit())
        else {
            return Err(Verdict::skipped("no message is known that has to be refused"));
        };
        let mut header = vec![];
        format
            .encode(above, &mut header)
            .map_err(|_| Verdict::skipped("the length field cannot say more than the limit"))?;
        Ok(header)
    }

    /// The length field that messages have.
    ///
    /// # Errors
    ///
    /// Skipped if they have none.
    pub fn length_format(&self) -> Judged<LengthFormat> {
        match self.setup.framing {
            Framing::Length(format) => Ok(format),
            Framing::Raw | Framing::Line => {
                Err(Verdict::skipped("this framing has no length field"))
            }
        }
    }

    /// A part of a header, of about half of it.
    ///
    /// # Errors
    ///
    /// Skipped if a header cannot be cut.
    pub fn cut_header(&mut self) -> Judged<Vec<u8>> {
        let header = match self.setup.exchanges {
            None => self.declaration(self.setup.payload_max())?.header,
            Some(_) => {
                let mut header = self.message(0).bytes;
                header.truncate(self.length_format()?.header_len());
                header
            }
        };
        match header.len() / 2 {
            0 => Err(Verdict::skipped("a header of one byte cannot be cut")),
            half => Ok(header[..half].to_vec()),
        }
    }

    /// The header of a message of about `wanted` bytes, and half of its payload.
    ///
    /// # Errors
    ///
    /// Skipped if a payload cannot be cut, and from an echo server without a length field: what is
    /// a message without its newline differs from one to the other.
    pub fn cut_payload(&mut self, wanted: u64) -> Judged<Vec<u8>> {
        let message = self.message(wanted);
        let begin = match (self.length_format(), &self.setup.exchanges) {
            (Ok(format), _) => format.header_len(),
            (Err(_), Some(_)) => 0,
            (Err(why), None) => return Err(why),
        };
        let whole = match &self.setup.exchanges {
            None => message.bytes.len(),
            Some(learned) => learned.first_request_len(&message.bytes),
        };
        match whole.saturating_sub(begin) / 2 {
            0 => Err(Verdict::skipped("a payload of one byte cannot be cut")),
            half => Ok(message.bytes[..begin + half].to_vec()),
        }
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.random.next_u64() % end.max(1)
    }

    /// Says something in the transcript.
    pub fn note(&self, text: impl Into<String>) {
        self.transcript.add(0, What::Note(text.into()));
    }

    /// Does nothing for that long.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn pause(&self, time: Duration) -> Judged<()> {
        wire::pause(self.setup, time)
    }

    /// A new client has one message echoed and leaves: the server serves. `after` says what it was
    /// put through before. It may be turned away for a moment, while the server has not noticed yet
    /// that others have left; but something must listen, as what had to be started again has ended.
    ///
    /// # Errors
    ///
    /// A failure that names what the server did not survive.
    pub fn expect_service(&mut self, after: &str) -> Judged<()> {
        let until = Instant::now() + ROOM_MAX.min(self.setup.patience);
        self.note(format!("a new client, after {after}"));
        loop {
            let refused_before = self.setup.rate.refused_connects();
            match self.greet() {
                Err(Verdict::Fail(Finding { evidence: Evidence::Refusal { .. }, .. }))
                    if Instant::now() < until
                        && self.setup.rate.refused_connects() == refused_before =>
                {
                    self.pause(ROOM_LOOK)?;
                }
                served => {
                    return served.map_err(|verdict| {
                        verdict
                            .retold(format!("the next client is served after {after}"), |got| got)
                    });
                }
            }
        }
    }

    /// A new client has the exchange answered, sent in one piece, and leaves.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`] and [`Wire::expect_answers`].
    pub fn exchange_whole(&mut self, exchange: &Arc<LearnedExchange>) -> Judged<()> {
        let Some(learned) = &self.setup.exchanges else { return Ok(()) };
        let message = Request::copy_of(exchange, learned);
        self.ask_whole(&message)
    }

    /// A new client that has one message answered, each answer within that time, and stays.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`] and [`Wire::expect_answers`].
    pub fn served_within(&mut self, patience: Duration) -> Judged<Wire<'s>> {
        let message = self.message(32);
        let mut wire = self.connect_alone()?;
        wire.be_patient_for(patience);
        wire.exchange_beginning()?;
        wire.send(&message.bytes)?;
        wire.expect_answers(&[&message])?;
        Ok(wire)
    }

    /// A client has one message answered and leaves.
    fn greet(&mut self) -> Judged<()> {
        let hello = self.message(32);
        self.ask_whole(&hello)
    }

    fn ask_whole(&mut self, message: &Request) -> Judged<()> {
        let mut wire = self.connect()?;
        wire.send(&message.bytes)?;
        wire.expect_answers(&[message])?;
        wire.close();
        Ok(())
    }
}
