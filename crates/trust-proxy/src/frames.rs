//! How frames are told apart, in each direction.

use trust_cli::exchange_file::dialects::Dialect;
use trust_cli::exchange_file::message_ends::MessageEnds;
use trust_cli::settings::ValueKind;
use trust_wire::relay::{FrameFormat, FrameOpening, RelaySide};
use trust_wire::{LengthFormat, MessageEnd};

/// What a connection of HTTP/2 begins with (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The longest message, without its length, with which a client of PostgreSQL can begin
/// (`MAX_STARTUP_PACKET_LENGTH` in its `pqcomm.h`).
const STARTUP_MAX: u64 = 10_000;

/// That of a request for encryption (`SSLRequest` and `GSSENCRequest`: protocol 3.0, section 55.7).
/// All others are longer.
const ENCRYPTION_REQUEST: u64 = 4;

const NAMES: &str = "dns, ftp, http2, kafka, line, memcached, modbus, mqtt, mysql, postgres, \
                     redis, smtp or tls";

/// A protocol whose messages are the frames.
pub(crate) const DIALECT: ValueKind<FrameFormats> = ValueKind::of_parts("NAME", NAMES, |name| {
    FrameFormats::of_dialect(name).map_err(|why| format!("{why}expected {NAMES}"))
});

/// How the frames of both directions are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameFormats {
    up: FrameFormat,
    down: FrameFormat,
}

impl FrameFormats {
    /// The same format in both directions.
    pub(crate) fn same(format: FrameFormat) -> FrameFormats {
        FrameFormats { up: format.clone(), down: format }
    }

    /// That of the direction that leads to this side.
    pub(crate) const fn towards(&self, receiver: RelaySide) -> &FrameFormat {
        match receiver {
            RelaySide::Upstream => &self.up,
            RelaySide::Client => &self.down,
        }
    }

    /// The messages of the protocol of that name.
    ///
    /// # Errors
    ///
    /// Why they cannot be frames, with a colon after it; nothing for an unknown name.
    fn of_dialect(name: &str) -> Result<FrameFormats, &'static str> {
        match (name, Dialect::named(name)) {
            ("tls", _) => FrameFormats::tls().ok_or(""),
            ("http2", _) => FrameFormats::http2().ok_or(""),
            ("http", _) => Err("where an answer of HTTP/1.1 ends depends on its request: "),
            (_, Some(dialect)) => FrameFormats::of_messages(dialect.message_ends()).ok_or(""),
            (_, None) => Err(""),
        }
    }

    /// The records of TLS (RFC 8446, section 5.1).
    fn tls() -> Option<FrameFormats> {
        let format = LengthFormat::parse("u16be")?.with_offset(3)?;
        Some(FrameFormats::same(FrameFormat::Length(format)))
    }

    /// The frames of HTTP/2, whose length does not count the rest of the header (RFC 9113, section
    /// 4.1).
    fn http2() -> Option<FrameFormats> {
        let format = LengthFormat::parse("u24be")?.with_adjust(6)?;
        let preface = FrameOpening::Preface(HTTP2_PREFACE);
        let (up, down) = (FrameFormat::Opened(preface, format), FrameFormat::Length(format));
        Some(FrameFormats { up, down })
    }

    fn of_messages(ends: MessageEnds) -> Option<FrameFormats> {
        let up = FrameFormat::of_messages(&ends.request?, true)?;
        let down = FrameFormat::of_messages(&ends.answer?, false)?;
        match (ends.first_request, up, down) {
            (None, up, down) => Some(FrameFormats { up, down }),
            // Of all dialects PostgreSQL alone has a first request unlike the others.
            (
                Some(MessageEnd::Length(format)),
                FrameFormat::Length(others),
                FrameFormat::Length(answers),
            ) => {
                let (max, again) = (STARTUP_MAX, ENCRYPTION_REQUEST);
                let startup = FrameOpening::Startup { format, max, again };
                let answer = FrameOpening::SingleBytes { refused: b'N', accepted: b"SG" };
                let up = FrameFormat::Opened(startup, others);
                Some(FrameFormats { up, down: FrameFormat::Opened(answer, answers) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use trust_cli::exchange_file::dialects::DIALECTS;

    use super::*;

    fn names() -> Vec<&'static str> {
        NAMES.split([',', ' ']).filter(|name| !matches!(*name, "" | "or")).collect()
    }

    #[test]
    fn every_name_is_known_and_every_dialect_of_check_is_named_or_explained() {
        for name in names() {
            let FrameFormats { up, down } = FrameFormats::of_dialect(name).unwrap();
            assert_eq!(up.has_header(), down.has_header(), "{name}");
        }
        for dialect in DIALECTS.iter().filter(|dialect| !names().contains(&dialect.name)) {
            assert_ne!(FrameFormats::of_dialect(dialect.name), Err(""), "{}", dialect.name);
        }
        assert_eq!(FrameFormats::of_dialect("postgers"), Err(""));
    }

    #[test]
    fn frames_are_where_the_protocols_have_them() {
        let length = |name: &str, offset, adjust| {
            let format = LengthFormat::parse(name).unwrap().with_offset(offset).unwrap();
            FrameFormat::Length(format.with_adjust(adjust).unwrap())
        };
        let of = |name| FrameFormats::of_dialect(name).unwrap();
        assert_eq!(of("tls"), FrameFormats::same(length("u16be", 3, 0)));
        assert_eq!(of("http2").down, length("u24be", 0, 6));
        assert_eq!(of("kafka"), FrameFormats::same(length("u32be", 0, 0)));
        assert_eq!(of("mysql"), FrameFormats::same(length("u24le", 0, 1)));
        assert_eq!(of("mqtt"), FrameFormats::same(FrameFormat::Varint { offset: 1 }));
        assert_eq!(of("smtp"), FrameFormats::same(FrameFormat::Line));
        assert_eq!(of("redis").up, FrameFormat::Resp { is_request: true });
        assert_eq!(of("redis").down, FrameFormat::Resp { is_request: false });
    }
}
