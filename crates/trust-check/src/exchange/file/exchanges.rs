//! `[[before]]`, `[[exchange]]` and `[refused]`: what is sent, and what has to come back.

use std::cell::Cell;
use std::collections::HashSet;

use toml::de::DeValue;
use trust_cli::exchange_file::fields::{Fields, Mistake, kind};
use trust_cli::exchange_file::hex::parse_hex;
use trust_cli::values::quoted;
use trust_wire::MessageEnd;

use super::message::{NO_END, several};
use super::patterns::PatternFields as _;
use super::{FILES_BYTES_MAX, one_line};
use crate::exchange::escapes::{WantedBytes, parse_wanted_hex};
use crate::exchange::protocol::{Exchange, Want};
use crate::exchange::template::Template;

/// Keys of `[[before]]`.
pub(super) const BEFORE_KEYS: &[&str] = &[
    "name",
    "send",
    "send_hex",
    "send_file",
    "want",
    "want_hex",
    "want_file",
    "want_pattern",
    "last",
    "more",
    "ignore",
    "secret",
];

/// Keys of `[[exchange]]`.
pub(super) const EXCHANGE_KEYS: &[&str] = &[
    "name",
    "send",
    "send_hex",
    "send_file",
    "want",
    "want_hex",
    "want_file",
    "want_pattern",
    "last",
    "more",
    "ignore",
    "once",
    "closes",
    "secret",
];

/// Keys of `[refused]`.
pub(super) const REFUSED_KEYS: &[&str] =
    &["name", "send", "send_hex", "send_file", "want", "want_hex", "ignore", "secret"];

/// Ways to say what is sent, of which there can be one.
pub(super) const SEND_KEYS: &[&str] = &["send", "send_hex", "send_file"];

/// Ways to say what has to come back.
pub(super) const WANT_KEYS: &[&str] = &["want", "want_hex", "want_file", "want_pattern"];

/// The most exchanges of a kind.
pub(super) const EXCHANGES_MAX: usize = 1000;

/// Reads a file beside the exchange file.
pub(super) type ReadFile<'a> = &'a dyn Fn(&str) -> Result<Vec<u8>, String>;

/// Reads exchanges of one file.
pub(super) struct Exchanges<'a> {
    pub(super) request_end: Option<&'a MessageEnd>,
    pub(super) answer_end: Option<&'a MessageEnd>,
    read_file: ReadFile<'a>,
    /// How many bytes may still come from files.
    room: Cell<usize>,
}

impl<'a> Exchanges<'a> {
    pub(super) fn new(
        request_end: Option<&'a MessageEnd>,
        answer_end: Option<&'a MessageEnd>,
        read_file: ReadFile<'a>,
    ) -> Exchanges<'a> {
        Exchanges { request_end, answer_end, read_file, room: Cell::new(FILES_BYTES_MAX) }
    }

    /// An exchange at the beginning of each connection.
    pub(super) fn before(&self, fields: &Fields<'_>, number: usize) -> Result<Exchange, Mistake> {
        let send = self.send(fields)?.unwrap_or_default();
        self.exchange(fields, send, || format!("before {number}"))
    }

    /// An exchange to try.
    pub(super) fn to_try(&self, fields: &Fields<'_>, number: usize) -> Result<Exchange, Mistake> {
        let send = self.send(fields)?.ok_or_else(|| no_send(fields))?;
        let exchange = self.exchange(fields, send, || format!("exchange {number}"))?;
        if exchange.send.is_empty() && !exchange.once {
            let what = "nothing is sent, so the server can speak once: expected once = true too";
            return Err(fields.mistake("send", what));
        }
        Ok(exchange)
    }

    /// A request that has to be refused.
    pub(super) fn refused(&self, fields: &Fields<'_>) -> Result<Exchange, Mistake> {
        let send = self.send(fields)?.ok_or_else(|| no_send(fields))?;
        if send.is_empty() {
            return Err(fields.mistake("send", "empty: expected a request that is refused"));
        }
        let want = match fields.one_of(&["want", "want_hex"])? {
            Some("want") => fields.pattern("want")?.map(Want::Pattern),
            _ => self.want(fields)?,
        };
        let name = one_line(fields, "name")?.unwrap_or("refused").to_owned();
        let (ignore, secret) = (fields.patterns("ignore")?, fields.flag("secret")?);
        Ok(Exchange { name, send, want, several: None, ignore, once: true, closes: true, secret })
    }

    fn exchange(
        &self,
        fields: &Fields<'_>,
        send: Template,
        name: impl Fn() -> String,
    ) -> Result<Exchange, Mistake> {
        let several = several(fields)?;
        if let (Some(several), None) = (&several, self.answer_end) {
            return Err(fields.mistake(several.key().0, NO_END));
        }
        Ok(Exchange {
            name: one_line(fields, "name")?.map_or_else(name, str::to_owned),
            send,
            want: self.want(fields)?,
            several,
            ignore: fields.patterns("ignore")?,
            once: fields.flag("once")?,
            closes: fields.flag("closes")?,
            secret: fields.flag("secret")?,
        })
    }

    /// A request in a table of its own, if its bytes are there, under one of these keys.
    pub(super) fn alone(
        &self,
        fields: &Fields<'_>,
        keys: &[&'static str],
        name: &str,
    ) -> Result<Option<Exchange>, Mistake> {
        let Some(send) = self.bytes(fields, keys)?.filter(|send| !send.is_empty()) else {
            return Ok(None);
        };
        let name = one_line(fields, "name")?.unwrap_or(name).to_owned();
        let (ignore, secret) = (fields.patterns("ignore")?, fields.flag("secret")?);
        Ok(Some(Exchange {
            name,
            send,
            want: None,
            several: None,
            ignore,
            once: false,
            closes: false,
            secret,
        }))
    }

    fn send(&self, fields: &Fields<'_>) -> Result<Option<Template>, Mistake> {
        self.bytes(fields, SEND_KEYS)
    }

    /// What is sent, by the one of these keys that is there: a text, or hexadecimal digits or the
    /// name of a file where the key ends with `_hex` or `_file`.
    pub(super) fn bytes(
        &self,
        fields: &Fields<'_>,
        keys: &[&'static str],
    ) -> Result<Option<Template>, Mistake> {
        match fields.one_of(keys)? {
            Some(key) if key.ends_with("_hex") => {
                let text = hex_text(fields, key)?;
                let bytes =
                    parse_hex(text).map_err(|error| fields.mistake_in_text(key, text, error))?;
                Ok(Some(Template::of_bytes(bytes)))
            }
            Some(key) if key.ends_with("_file") => self.file(fields, key).map(Some),
            Some(key) => self.text(fields, key, self.request_end).map(Some),
            None => Ok(None),
        }
    }

    fn want(&self, fields: &Fields<'_>) -> Result<Option<Want>, Mistake> {
        match fields.one_of(WANT_KEYS)? {
            Some("want") => {
                self.text(fields, "want", self.answer_end).map(|text| Some(Want::Bytes(text)))
            }
            Some("want_hex") => {
                let text = hex_text(fields, "want_hex")?;
                let wanted = parse_wanted_hex(text)
                    .map_err(|error| fields.mistake_in_text("want_hex", text, error))?;
                Ok(Some(match wanted {
                    WantedBytes::Exact(bytes) => Want::Bytes(Template::of_bytes(bytes)),
                    WantedBytes::Pattern(pattern) => Want::Pattern(pattern),
                }))
            }
            Some("want_pattern") => {
                let pattern = fields.text("want_pattern", "a pattern")?;
                if pattern.is_some_and(|pattern| pattern.contains("{n}") || pattern.contains("{n:"))
                {
                    let what = "a pattern has no number of the request: expected want with {n}, \
                                and ignore for what may differ";
                    return Err(fields.mistake("want_pattern", what));
                }
                Ok(fields.pattern("want_pattern")?.map(Want::Pattern))
            }
            Some(key) => self.file(fields, key).map(|bytes| Some(Want::Bytes(bytes))),
            None => Ok(None),
        }
    }

    /// A text, or the payload of a frame.
    fn text(
        &self,
        fields: &Fields<'_>,
        key: &str,
        end: Option<&MessageEnd>,
    ) -> Result<Template, Mistake> {
        let expected = "a text, or { framed = '…' }";
        match fields.value(key).map(|value| value.get_ref()) {
            Some(DeValue::String(text)) => Ok(Template::parse(text.as_bytes())),
            Some(DeValue::Table(_)) => {
                let fields = fields.table(key, &["framed"])?;
                let framed = fields.as_ref().map(|fields| framed(fields, end)).transpose()?;
                Ok(framed.unwrap_or_default())
            }
            other => {
                let found = other.map_or("nothing", kind);
                Err(fields.mistake(key, format!("{found}: expected {expected}")))
            }
        }
    }

    fn file(&self, fields: &Fields<'_>, key: &str) -> Result<Template, Mistake> {
        let name = fields.text(key, "the name of a file")?.unwrap_or_default();
        let wrong = |what: String| fields.mistake(key, format!("{}: {what}", quoted(name)));
        let bytes = (self.read_file)(name).map_err(wrong)?;
        let Some(room) = self.room.get().checked_sub(bytes.len()) else {
            let max = FILES_BYTES_MAX / 1024 / 1024;
            return Err(wrong(format!("too large: expected at most {max} MiB in all files")));
        };
        self.room.set(room);
        Ok(Template::of_bytes(bytes))
    }
}

/// Checks that no two exchanges have the same name.
pub(super) fn check_names<'a>(
    exchanges: impl Iterator<Item = (&'a Exchange, &'a Fields<'a>)>,
) -> Result<(), Mistake> {
    let mut names = HashSet::new();
    for (exchange, fields) in exchanges {
        if !names.insert(&exchange.name) {
            let shown = quoted(&exchange.name);
            return Err(fields.mistake("name", format!("a second {shown}: expected another name")));
        }
    }
    Ok(())
}

/// The message with this payload.
fn framed(fields: &Fields<'_>, end: Option<&MessageEnd>) -> Result<Template, Mistake> {
    let expected = "the text of a payload";
    let missing = || fields.mistake("framed", format!("missing: expected {expected}"));
    let text = fields.text("framed", expected)?.ok_or_else(missing)?;
    let payload = Template::parse(text.as_bytes());
    let wrong = |what: String| Err(fields.mistake("framed", what));
    let Some(MessageEnd::Length(format)) = end else {
        return wrong("no length to put in front: expected length in [message]".to_owned());
    };
    if !payload.is_fixed_length() {
        let what =
            "{n} has as many digits as it needs: expected {n:04}, so that the length is known";
        return wrong(what.to_owned());
    }
    let mut header = vec![];
    match format.encode(payload.bytes(0).len() as u64, &mut header) {
        Ok(()) => Ok(payload.after(header)),
        Err(error) => wrong(format!("{error}: expected another payload or length")),
    }
}

fn hex_text<'a>(fields: &Fields<'a>, key: &str) -> Result<&'a str, Mistake> {
    let text = fields.text(key, "hexadecimal digits, as '00 1f'")?;
    Ok(text.unwrap_or_default())
}

pub(super) fn no_send(fields: &Fields<'_>) -> Mistake {
    fields.mistake("send", "missing: expected send, send_hex or send_file")
}
