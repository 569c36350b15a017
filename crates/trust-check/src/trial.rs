//! One case being tried: its connections, payloads and transcript.

use std::ops::Range;
use std::time::{Duration, Instant};

use trust_cli::framing::Framing;
use trust_cli::random::{SplitMix, mix};

use crate::setup::Setup;
use crate::transcript::{Transcript, What};
use crate::verdict::{Evidence, Finding, Judged, Verdict};
use crate::watch::Watch;
use crate::wire::{self, PathKind, Wire};

/// How long a server may turn new clients away after others have left, and how often it is asked.
const ROOM_MAX: Duration = Duration::from_millis(500);
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// Bytes of a payload below which a server takes seconds for the messages that fill the buffers of
/// two kernels.
const UNREAD_PAYLOAD_MIN: usize = 64;

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
}

impl<'s> CaseTrial<'s> {
    /// A trial of the case with that id. Its payloads depend on the run's seed and the id alone.
    pub fn new(setup: &'s Setup, id: &'static str, watch: Option<&'s Watch>) -> CaseTrial<'s> {
        let name = id.bytes().fold(setup.seed, |state, byte| mix(state ^ u64::from(byte)));
        let transcript = Transcript::default();
        CaseTrial { id, setup, transcript, watch, connections: 0, random: SplitMix::new(name) }
    }

    /// What went over its wires.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// A new connection.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn connect(&mut self) -> Judged<Wire<'s>> {
        self.connections += 1;
        Wire::connect(self.setup, self.connections, &self.transcript)
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
        Wire::connect(self.setup, number, &self.transcript)
    }

    /// The same over a narrow path, where a server has to wait for a client that does not read much
    /// sooner.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn connect_narrow(&mut self) -> Judged<Wire<'s>> {
        self.connections += 1;
        Wire::connect_over(self.setup, self.connections, &self.transcript, PathKind::Narrow)
    }

    /// A payload of about that length: as long as the server takes.
    pub fn payload(&mut self, wanted: u64) -> Vec<u8> {
        let len = self.setup.payload_len(wanted);
        let mut payload = Vec::with_capacity(len + 8);
        while payload.len() < len {
            payload.extend_from_slice(&self.random.next_u64().to_le_bytes());
        }
        payload.truncate(len);
        if self.setup.framing == Framing::Line {
            // Text without a newline.
            payload.iter_mut().for_each(|byte| *byte = b' ' + *byte % 95);
        }
        payload
    }

    /// A payload for answers that are left unread.
    ///
    /// # Errors
    ///
    /// Skipped if messages are so short that a server is busy with them long before it has to wait
    /// for its client.
    pub fn unread_payload(&mut self, wanted: u64) -> Judged<Vec<u8>> {
        let payload = self.payload(wanted);
        match payload.len() < UNREAD_PAYLOAD_MIN {
            true => Err(Verdict::skipped(
                "messages are too short here: a server is busy with them and not kept waiting",
            )),
            false => Ok(payload),
        }
    }

    /// The payload as it goes over the wire.
    pub fn frame(&self, payload: &[u8]) -> Vec<u8> {
        self.setup.framing.encode(payload)
    }

    /// Payloads of at most `each` bytes that are about `total` bytes together.
    pub fn payloads(&mut self, each: u64, total: u64) -> Vec<Vec<u8>> {
        let count = total.div_ceil(self.setup.payload_len(each).max(1) as u64).max(1);
        (0..count).map(|_| self.payload(each)).collect()
    }

    /// A header that declares one byte more than the server takes.
    ///
    /// # Errors
    ///
    /// Skipped if there is no such header.
    pub fn refused_header(&self) -> Judged<Vec<u8>> {
        let Framing::Length(format) = self.setup.framing else {
            return Err(Verdict::skipped("this framing has no length field"));
        };
        let mut header = vec![];
        format
            .encode(self.setup.max_frame.saturating_add(1), &mut header)
            .map_err(|_| Verdict::skipped("the length field cannot say more than the limit"))?;
        Ok(header)
    }

    /// The header of the longest message that the server takes.
    ///
    /// # Errors
    ///
    /// Skipped without a length field.
    pub fn longest_header(&self) -> Judged<Vec<u8>> {
        let Framing::Length(format) = self.setup.framing else {
            return Err(Verdict::skipped("this framing has no length field"));
        };
        let mut header = vec![];
        format
            .encode(self.setup.payload_max(), &mut header)
            .expect("a length that the field can say");
        Ok(header)
    }

    /// A part of a header, of about half of it.
    ///
    /// # Errors
    ///
    /// Skipped if a header cannot be cut.
    pub fn cut_header(&mut self) -> Judged<Vec<u8>> {
        let header = self.longest_header()?;
        match header.len() / 2 {
            0 => Err(Verdict::skipped("a header of one byte cannot be cut")),
            half => Ok(header[..half].to_vec()),
        }
    }

    /// The header of a message of about `wanted` bytes, and half of its payload.
    ///
    /// # Errors
    ///
    /// Skipped if a payload cannot be cut, and without a length field: what is a message without
    /// its newline differs from server to server.
    pub fn cut_payload(&mut self, wanted: u64) -> Judged<Vec<u8>> {
        let Framing::Length(format) = self.setup.framing else {
            return Err(Verdict::skipped("this framing has no length field"));
        };
        let payload = self.payload(wanted);
        match payload.len() / 2 {
            0 => Err(Verdict::skipped("a payload of one byte cannot be cut")),
            half => Ok(self.frame(&payload)[..format.header_len() + half].to_vec()),
        }
    }

    /// The payloads as they go over the wire, one after the other.
    pub fn frames(&self, payloads: &[Vec<u8>]) -> Vec<u8> {
        payloads.iter().flat_map(|payload| self.frame(payload)).collect()
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
    /// that others have left.
    ///
    /// # Errors
    ///
    /// A failure that names what the server did not survive.
    pub fn expect_service(&mut self, after: &str) -> Judged<()> {
        let until = Instant::now() + ROOM_MAX.min(self.setup.patience);
        self.note(format!("a new client, after {after}"));
        loop {
            match self.greet() {
                Err(Verdict::Fail(Finding { evidence: Evidence::Refusal { .. }, .. }))
                    if Instant::now() < until =>
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

    /// A client has one message echoed and leaves.
    fn greet(&mut self) -> Judged<()> {
        let hello = self.payload(32);
        let mut wire = self.connect()?;
        wire.send(&self.frame(&hello))?;
        wire.expect_echo(&[&hello])?;
        wire.close();
        Ok(())
    }
}
