//! `[effect]`: what changes the state of the server, and what shows it.

use trust_cli::exchange_file::fields::{Fields, Mistake};

use super::exchanges::{Exchanges, SEND_KEYS, no_send};
use super::message::Messages;
use super::{check_id, whole};
use crate::exchange::protocol::Effect;

const KEYS: &[&str] = &["name", "send", "send_hex", "send_file", "secret", "read"];
const READ_KEYS: &[&str] = &["name", "send", "send_hex", "send_file", "ignore", "secret"];

/// Reads the table.
pub(super) fn read(
    file: &Fields<'_>,
    messages: &Messages,
    reader: &Exchanges<'_>,
) -> Result<Option<Effect>, Mistake> {
    let Some(fields) = file.table("effect", KEYS)? else { return Ok(None) };
    let Some(read) = fields.table("read", READ_KEYS)? else {
        let what = "missing: expected [effect.read], and in it a request that shows the state";
        return Err(fields.mistake("read", what));
    };
    if messages.request_end.is_none() || messages.answer_end.is_none() {
        let what = "expected [message] too: a part of a request is known by where it ends";
        return Err(file.mistake("effect", what));
    }
    let request = |fields: &Fields<'_>, name| {
        reader.alone(fields, SEND_KEYS, name)?.ok_or_else(|| no_send(fields))
    };
    let effect = Effect { change: request(&fields, "effect")?, read: request(&read, "read")? };
    for (exchange, table) in [(&effect.change, &fields), (&effect.read, &read)] {
        whole::check_one(messages, exchange, table)?;
        if let Some(id) = &messages.id {
            check_id(id, exchange, table)?;
        }
    }
    Ok(Some(effect))
}
