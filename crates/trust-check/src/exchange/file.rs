//! The exchange file: a protocol in TOML.
//!
//! Only one `[[exchange]]` with a `send` is needed. Keys that are not known, values of the wrong
//! type and contradictions are errors.
//!
//! Text is sent as the UTF-8 of a TOML string, so `"\r\n"` needs double quotes, and bytes from 0x80
//! on need `send_hex`. Places in it are filled in (see [`Template`]). Patterns are in the syntax of
//! [`Pattern`].
//!
//! | key | value |
//! |---|---|
//! | `name` | the protocol's name; the file's name if it is missing |
//! | `warm_up` | whole exchanges after the start of the server before its answers count, to 1000 |
//!
//! `[message]` says where a message ends. Without it, an answer ends after as many bytes as were
//! learned. `[message.request]` and `[message.answer]` say it for one direction alone.
//!
//! | key | value |
//! |---|---|
//! | `length` | `"u32be"` or another name of a [`LengthFormat`](trust_wire::LengthFormat) |
//! | `offset`, `adjust` | bytes before the length; what to add to its value |
//! | `varint = true` | a length as in MQTT, after `offset` bytes |
//! | `end` | `"resp"`, `"http"`, or `"line"`: after LF |
//! | `end_hex` | the message's last bytes: `"1c 0d"` |
//! | `counted` | lines, after some of which come as many bytes as a word says: see below |
//! | `max` | the longest payload that the server takes |
//! | `id` | where request and answer have the request's id: `{ send = "2..4", want = "2..4" }` |
//! | `ignore` | patterns of what differs between right answers |
//! | `last` | an answer goes on until a message that begins so; in `[message.answer]` too |
//! | `more` | an answer goes on after messages that begin so; in `[message.answer]` too |
//! | `first` | in `[message.request]` alone: where the first request of a connection ends |
//!
//! `counted = { set = 4, VALUE = 3 }`: after a line that begins with `set` come as many bytes
//! as its word 4 says, counted from 0, and then CR LF; -1 is the last word.
//!
//! `[allow]` says what a right server may do instead of what a case wants: `half_close`,
//! `truncated`, `early`, `pipelining`, `pieces`, `order`, `overtaken`, `goodbye`, `login` (see
//! [`Allowed`](super::protocol::Allowed)).
//!
//! | key | value |
//! |---|---|
//! | `any = true` | anything |
//! | `instead` | `"close"`, `"first"`, `"nothing"`, or a pattern with which the answer begins |
//! | `verdict` | `"allowed"`, `"warn"` or `"info"` |
//! | `why` | the reason, for the report; always needed |
//!
//! `[[before]]` is sent whole at the beginning of each connection; without a `send` the server
//! speaks first. `[[exchange]]` is what is tried. `[refused]` is a request that has to be refused.
//! `[effect]` is a request of which each copy changes the state of the server, and `[effect.read]`
//! one whose answer shows that state. `[upgrade]` is a request after which the connection speaks
//! another protocol.
//!
//! | key | value |
//! |---|---|
//! | `name` | for people; `exchange 1` and so on if it is missing |
//! | `send` | a text, or `{ framed = 'TEXT' }` for a payload, which gets the length in front |
//! | `send_hex`, `send_file` | bytes; the bytes of a file, from the exchange file's directory |
//! | `want`, `want_hex`, `want_file` | the same for the answer; see below |
//! | `want_pattern` | a pattern that the whole answer matches; in `[refused]` it is `want` |
//! | `ignore` | patterns of what differs between right answers to this request |
//! | `secret = true` | its bytes are not shown |
//! | `once = true` | it can come once per connection; in `[[exchange]]` alone |
//! | `closes = true` | the server closes the connection after the answer; in `[[exchange]]` alone |
//!
//! With `[message]`, what is sent and wanted has to be whole messages, except in `[refused]` and
//! `[upgrade]`. In `want_hex`, `??` is any byte, and `..` any bytes, even none.
//!
//! `[upgrade]` has keys of its own beside `send`:
//!
//! | key | value |
//! |---|---|
//! | `to` | `"tls"`, or the name of another protocol |
//! | `want` | a pattern: the whole answer of a server that accepts |
//! | `after`, `after_hex` | what is sent in the same segment, after the request |
//! | `first = true` | it is the first request of a connection, before `[[before]]` |

mod allow;
mod effect;
mod exchanges;
mod message;
mod patterns;
#[cfg(test)]
mod tests;
mod upgrade;
mod whole;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use toml::de::DeTable;
use trust_cli::config_file::printable;
use trust_cli::exchange_file::fields::{Fields, Mistake};
use trust_cli::exchange_file::message_ends;
use trust_cli::text::reason;
use trust_cli::values::quoted;

use self::exchanges::{
    BEFORE_KEYS, EXCHANGE_KEYS, EXCHANGES_MAX, Exchanges, REFUSED_KEYS, ReadFile, SEND_KEYS,
    WANT_KEYS, check_names,
};
use self::message::Messages;
use super::protocol::{Exchange, IdPlaces, Protocol, Want};

#[cfg(doc)]
use super::{pattern::Pattern, template::Template};

/// The largest exchange file, in bytes.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The most bytes from other files that one exchange file names.
const FILES_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The most characters of a name or a reason.
const LINE_CHARACTERS_MAX: usize = 200;

/// The most exchanges to warm up with.
const WARM_UP_MAX: i64 = 1000;

const KEYS: &[&str] =
    &["name", "warm_up", "message", "allow", "before", "exchange", "refused", "effect", "upgrade"];

/// Reads an exchange file, and the files that it names.
///
/// # Errors
///
/// One line: that a file cannot be read, or what is wrong in it, and where.
pub fn read(path: &Path) -> Result<Protocol, String> {
    let file = printable(path);
    let read = read_bounded(path, FILE_BYTES_MAX);
    let bytes = read.map_err(|error| format!("cannot read {file}: {error}"))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    parse(&bytes, &file, &|name| read_bounded(&directory.join(name), FILES_BYTES_MAX))
}

/// Reads a protocol from the bytes of an exchange file, named `file` in errors. `read_file` is
/// given the names of other files as they are in it, and returns their bytes.
///
/// # Errors
///
/// One line, `FILE:LINE: KEY in [TABLE]: PROBLEM`. With the column after the line if the mistake is
/// at one character.
pub fn parse(
    bytes: &[u8],
    file: &str,
    read_file: &dyn Fn(&str) -> Result<Vec<u8>, String>,
) -> Result<Protocol, String> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err(format!("{file}: {} bytes: expected at most 1 MiB", bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let lines = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        format!("{file}:{}: not UTF-8", 1 + lines)
    })?;
    read_text(text, file, read_file).map_err(|mistake| mistake.told(file, text))
}

fn read_text(text: &str, file: &str, read_file: ReadFile<'_>) -> Result<Protocol, Mistake> {
    let document = DeTable::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start).min(text.len());
        let message: Vec<&str> = error.message().split(char::is_control).collect();
        Mistake::new(offset, message.join(", "))
    })?;
    let fields = Fields::new("", document.get_ref(), 0, KEYS)?;
    let message = fields.table("message", message_ends::KEYS)?;
    let messages = message.as_ref().map(Messages::read).transpose()?.unwrap_or_default();
    let allow = allow::read(&fields)?;

    let answer_end = messages.answer_end.as_ref().map(|end| &end.message);
    let reader = Exchanges::new(messages.request_end.as_ref(), answer_end, read_file);
    let before_tables = fields.tables("before", BEFORE_KEYS, EXCHANGES_MAX)?;
    let before = numbered(&before_tables, |table, number| reader.before(table, number))?;
    let tables = fields.tables("exchange", EXCHANGE_KEYS, EXCHANGES_MAX)?;
    let exchanges = numbered(&tables, |table, number| reader.to_try(table, number))?;
    if exchanges.is_empty() {
        let missing = "missing: expected [[exchange]], and in it what is sent, as send = \"…\"";
        return Err(fields.mistake("exchange", missing));
    }
    let all = before.iter().zip(&before_tables).chain(exchanges.iter().zip(&tables));
    check_names(all.clone())?;
    for (exchange, table) in all {
        whole::check(&messages, exchange, table)?;
    }
    if let Some(id) = &messages.id {
        for (exchange, table) in exchanges.iter().zip(&tables) {
            check_id(id, exchange, table)?;
        }
    }
    let refused = match fields.table("refused", REFUSED_KEYS)? {
        Some(table) => Some(reader.refused(&table)?),
        None => None,
    };
    let effect = effect::read(&fields, &messages, &reader)?;
    let upgrade = upgrade::read(&fields, &reader)?;
    let file_stem = || Path::new(file).file_stem().and_then(OsStr::to_str).unwrap_or(file);
    Ok(Protocol {
        name: one_line(&fields, "name")?.unwrap_or_else(file_stem).to_owned(),
        request_end: messages.request_end,
        first_request_end: messages.first_request_end,
        answer_end: messages.answer_end,
        max: messages.max,
        id: messages.id,
        ignore: messages.ignore,
        unasked: messages.unasked,
        allow,
        before,
        exchanges,
        refused,
        effect,
        upgrade,
        warm_up: warm_up(&fields)?,
    })
}

/// Reads tables, each with its number from 1.
fn numbered(
    tables: &[Fields<'_>],
    read: impl Fn(&Fields<'_>, usize) -> Result<Exchange, Mistake>,
) -> Result<Vec<Exchange>, Mistake> {
    tables.iter().zip(1..).map(|(table, number)| read(table, number)).collect()
}

/// A text of one line, that is not empty.
fn one_line<'a>(fields: &Fields<'a>, key: &str) -> Result<Option<&'a str>, Mistake> {
    let Some(text) = fields.text(key, "a text")? else { return Ok(None) };
    let is_short = text.chars().count() <= LINE_CHARACTERS_MAX;
    match is_short && !text.trim().is_empty() && !text.contains(char::is_control) {
        true => Ok(Some(text)),
        false => {
            let expected = format!("expected one line of 1 to {LINE_CHARACTERS_MAX} characters");
            Err(fields.mistake(key, format!("{}: {expected}", quoted(text))))
        }
    }
}

fn warm_up(fields: &Fields<'_>) -> Result<u32, Mistake> {
    let warm_up = fields.number("warm_up", 0..=WARM_UP_MAX)?;
    Ok(warm_up.and_then(|count| u32::try_from(count).ok()).unwrap_or(0))
}

/// Checks that the id is inside of what is sent and of what is wanted.
fn check_id(id: &IdPlaces, exchange: &Exchange, table: &Fields<'_>) -> Result<(), Mistake> {
    let check = |keys: &[&'static str], len: usize, end: usize| match len >= end {
        true => Ok(()),
        false => {
            let key = table.one_of(keys)?.unwrap_or_default();
            let what = format!("{len} bytes: expected at least {end}, because of id in [message]");
            Err(table.mistake(key, what))
        }
    };
    check(SEND_KEYS, exchange.send.bytes(0).len(), id.send.end)?;
    match &exchange.want {
        Some(Want::Bytes(want)) => check(WANT_KEYS, want.bytes(0).len(), id.want.end),
        Some(Want::Pattern(_)) | None => Ok(()),
    }
}

/// The bytes of a regular file, which has at most `max`.
fn read_bounded(path: &Path, max: usize) -> Result<Vec<u8>, String> {
    // Opening a FIFO would wait for a writer.
    let metadata = fs::metadata(path).map_err(|error| reason(&error))?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = vec![];
    let mut file = File::open(path).map_err(|error| reason(&error))?.take(max as u64 + 1);
    file.read_to_end(&mut bytes).map_err(|error| reason(&error))?;
    match bytes.len() > max {
        true => Err(format!("larger than {} MiB", max / 1024 / 1024)),
        false => Ok(bytes),
    }
}
