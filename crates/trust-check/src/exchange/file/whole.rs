//! Whether what is sent, and what is wanted, are whole messages. Others would never be answered, or
//! never come.

use trust_cli::exchange_file::fields::{Fields, Mistake};
use trust_cli::text::count;
use trust_wire::Found;

use super::exchanges::{SEND_KEYS, WANT_KEYS};
use super::message::Messages;
use crate::exchange::protocol::{Exchange, Want};

/// Checks an exchange, which `table` describes.
pub(super) fn check(
    messages: &Messages,
    exchange: &Exchange,
    table: &Fields<'_>,
) -> Result<(), Mistake> {
    let send = exchange.send.bytes(0);
    if let Some(end) = &messages.request_end {
        // Only the first request of a connection is unlike the others, if at all.
        let first_ends = [Some(end), messages.first_request_end.as_ref()];
        let mut faults = first_ends.into_iter().flatten().map(|first_end| {
            let end_at = |at| if at == 0 { first_end } else { end };
            fault(&send, |at, rest| end_at(at).find(rest, None))
        });
        let fault = faults.next().flatten().filter(|_| faults.all(|fault| fault.is_some()));
        told(table, SEND_KEYS, fault)?;
    }
    if let (Some(end), Some(Want::Bytes(want))) = (&messages.answer_end, &exchange.want) {
        let fault = fault(&want.bytes(0), |_, rest| end.message.find(rest, Some(&send)));
        told(table, WANT_KEYS, fault)?;
    }
    Ok(())
}

/// The same, and that what is sent is one message.
pub(super) fn check_one(
    messages: &Messages,
    exchange: &Exchange,
    table: &Fields<'_>,
) -> Result<(), Mistake> {
    check(messages, exchange, table)?;
    let Some(end) = &messages.request_end else { return Ok(()) };
    let send = exchange.send.bytes(0);
    match end.find(&send, None) {
        Found::End(len) if len < send.len() => {
            let what = format!(
                "the first message ends after {}: expected one message",
                count(len as u64, "byte")
            );
            told(table, SEND_KEYS, Some(what))
        }
        _ => Ok(()),
    }
}

fn told(table: &Fields<'_>, keys: &[&'static str], fault: Option<String>) -> Result<(), Mistake> {
    match fault {
        None => Ok(()),
        Some(fault) => Err(table.mistake(table.one_of(keys)?.unwrap_or_default(), fault)),
    }
}

/// Why these bytes are not messages, one after the other. `find` finds the end of the one at an
/// offset.
fn fault(bytes: &[u8], find: impl Fn(usize, &[u8]) -> Found) -> Option<String> {
    let mut at = 0;
    while at < bytes.len() {
        match find(at, &bytes[at..]) {
            Found::End(len) => at += len,
            Found::AtClose => break,
            Found::More => {
                let expected = "expected more bytes, or another end in [message]";
                return Some(format!("the message from byte {at} on is not whole: {expected}"));
            }
            Found::Wrong(place) => {
                let expected = "expected another one, or another end in [message]";
                return Some(format!("byte {} cannot be in a message: {expected}", at + place));
            }
        }
    }
    None
}
