//! Messages that declare more than is sent of them.

use std::time::Duration;

use crate::request::Request;
use crate::setup::Setup;
use crate::trial::CaseTrial;
use crate::verdict::{Judged, Verdict};

/// How long a server may take, beside the settle time, to refuse a length that it does not take.
const REFUSAL_TIME: Duration = Duration::from_millis(250);

/// What stands for the bytes of a payload that is not known, or over.
const FILL: u8 = b'x';

/// The beginning of a message that declares more than is sent of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declaration {
    /// All that comes before the payload.
    pub header: Vec<u8>,
    /// The payload of the message that it was made from.
    payload: Vec<u8>,
}

impl Declaration {
    /// The byte of the payload at that place, counted from 0.
    pub fn byte(&self, place: usize) -> u8 {
        self.payload.get(place).copied().unwrap_or(FILL)
    }

    /// The header, and a byte of the payload.
    pub fn beginning(&self) -> Vec<u8> {
        [&self.header[..], &[self.byte(0)]].concat()
    }
}

impl CaseTrial<'_> {
    /// The lengths to declare, in bytes: that of the longest message if it is known, and otherwise
    /// those of `wanted`, which begin with the longest, as far as a message can declare them. At
    /// least one.
    ///
    /// # Errors
    ///
    /// Skipped if no message declares a length.
    pub fn lengths_to_declare(&self, wanted: &[u64]) -> Judged<Vec<u64>> {
        let Some(learned) = &self.setup.exchanges else {
            self.length_format()?;
            return Ok(vec![self.setup.payload_max()]);
        };
        let Some((_, end)) = learned.declaring() else { return Err(declares_none()) };
        if self.setup.has_limit() {
            return Ok(vec![self.setup.payload_max()]);
        }
        let mut lengths: Vec<u64> = wanted.iter().map(|it| *it.min(&end.max_payload())).collect();
        lengths.dedup();
        Ok(lengths)
    }

    /// The first of these lengths that the server does not refuse, or the longest that it takes if
    /// that is known.
    ///
    /// # Errors
    ///
    /// As [`CaseTrial::lengths_to_declare`] and [`CaseTrial::takes`]; skipped if it refuses all.
    pub fn length_to_declare(&mut self, wanted: &[u64]) -> Judged<u64> {
        for length in self.lengths_to_declare(wanted)? {
            if self.takes(length)? {
                return Ok(length);
            }
        }
        Err(refuses_all())
    }

    /// Whether the server waits for a payload of that many bytes, and neither ends the connection
    /// nor answers before it comes. Nothing is tried if the longest message is known.
    ///
    /// # Errors
    ///
    /// As [`CaseTrial::connect`] and [`CaseTrial::declaration`].
    pub fn takes(&mut self, length: u64) -> Judged<bool> {
        if self.setup.has_limit() {
            return Ok(true);
        }
        let declaration = self.declaration(length)?;
        let mut wire = self.connect()?;
        wire.try_send(&declaration.beginning(), self.setup.settle)?;
        let time = self.setup.settle + REFUSAL_TIME;
        let has_answered = wire.receive_into(&mut vec![], 1, time)?;
        Ok(!has_answered && wire.end().is_none())
    }

    /// The beginning of a message that declares a payload of that many bytes.
    ///
    /// # Errors
    ///
    /// Skipped if no message declares a length, or none declares this one.
    pub fn declaration(&self, length: u64) -> Judged<Declaration> {
        let declaration = match &self.setup.exchanges {
            None => {
                let mut header = vec![];
                let said = self.length_format()?.encode(length, &mut header);
                said.ok().map(|()| Declaration { header, payload: vec![] })
            }
            Some(_) => copy_declaring(self.setup, Some(length)),
        };
        declaration.ok_or_else(declares_none)
    }

    /// The beginning of a message that is no longer than it says; `None` from an echo server.
    pub fn short_declaration(&self) -> Option<Declaration> {
        copy_declaring(self.setup, None)
    }
}

/// No length was taken.
pub fn refuses_all() -> Verdict {
    Verdict::skipped("it refuses every length that was declared")
}

fn declares_none() -> Verdict {
    Verdict::skipped("no exchange declares a length")
}

/// A copy of the exchange with the longest payload that declares this length, or its own.
fn copy_declaring(setup: &Setup, length: Option<u64>) -> Option<Declaration> {
    let learned = setup.exchanges.as_ref()?;
    let (exchange, end) = learned.declaring()?;
    let bytes = Request::copy_of(&exchange, learned).bytes;
    let payload = end.payload(&bytes)?;
    let header = end.declaring(&bytes, length.unwrap_or(payload.len() as u64))?;
    Some(Declaration { header, payload: bytes[payload].to_vec() })
}

#[cfg(test)]
mod tests {
    use trust_cli::exchange_file::dialects::Dialect;

    use super::*;
    use crate::exchange::dialect;
    use crate::exchange::learned::Learned;

    /// The exchange of a dialect that declares a length.
    fn declaring(dialect: &str) -> Option<String> {
        let dialect = Dialect::named(dialect).unwrap();
        let learned = Learned::new(dialect::protocol(dialect, None).unwrap());
        learned.declaring().map(|(exchange, _)| exchange.name().to_owned())
    }

    #[test]
    fn the_longest_payload_of_a_dialect_declares_another_length() {
        let dialects = [
            ("redis", "GET of a missing key"),
            ("memcached", "set with a line end in the value"),
            ("mqtt", "SUBSCRIBE"),
            ("postgres", "a long answer"),
            ("kafka", "Metadata 1 of no topics"),
            ("dns", "A localhost with EDNS"),
            ("modbus", "read a register"),
        ];
        for (dialect, exchange) in dialects {
            assert_eq!(declaring(dialect).as_deref(), Some(exchange), "{dialect}");
        }
        for dialect in ["http", "smtp", "ftp", "mysql", "line"] {
            assert_eq!(declaring(dialect), None, "{dialect}");
        }
    }

    #[test]
    fn a_declaration_goes_on_with_the_payload_it_was_made_from() {
        let declaration = Declaration { header: b"$9\r\n".to_vec(), payload: b"ab".to_vec() };
        assert_eq!(declaration.beginning(), b"$9\r\na");
        assert_eq!([0, 1, 2].map(|place| declaration.byte(place)), *b"abx");
    }
}
