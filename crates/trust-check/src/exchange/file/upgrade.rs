//! `[upgrade]`: a request after which the connection speaks another protocol.

use trust_cli::exchange_file::fields::{Fields, Mistake};

use super::exchanges::{Exchanges, SEND_KEYS, no_send};
use super::one_line;
use super::patterns::PatternFields as _;
use crate::exchange::protocol::{Upgrade, UpgradeTo};

const KEYS: &[&str] =
    &["to", "send", "send_hex", "send_file", "want", "after", "after_hex", "first"];

/// Reads the table.
pub(super) fn read(file: &Fields<'_>, reader: &Exchanges<'_>) -> Result<Option<Upgrade>, Mistake> {
    let Some(fields) = file.table("upgrade", KEYS)? else { return Ok(None) };
    let missing =
        |key, expected: &str| Err(fields.mistake(key, format!("missing: expected {expected}")));
    let to = match one_line(&fields, "to")? {
        Some(tls) if tls.eq_ignore_ascii_case("tls") => UpgradeTo::Tls,
        Some(other) => UpgradeTo::Other(other.to_owned()),
        None => return missing("to", "'tls' or the name of another protocol"),
    };
    let Some(accepted) = fields.pattern("want")? else {
        return missing("want", "a pattern of the answer of a server that accepts");
    };
    let request = reader.alone(&fields, SEND_KEYS, "upgrade")?;
    let request = request.ok_or_else(|| no_send(&fields))?;
    let Some(after) = reader.alone(&fields, &["after", "after_hex"], "after")? else {
        return missing("after", "what is sent after the request, in the same segment");
    };
    Ok(Some(Upgrade { to, request, accepted, after, is_first: fields.flag("first")? }))
}
