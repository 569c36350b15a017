//! `[allow]`: what a right server may do instead.

use trust_cli::values::quoted;

use super::fields::{Fields, Mistake};
use super::nearest::nearest;
use super::one_line;
use crate::exchange::pattern::Pattern;
use crate::exchange::protocol::{Allowance, Allowed, AllowedVerdict, Instead};

const KEYS: &[&str] = &["any", "instead", "verdict", "why"];
const INSTEAD: &[&str] = &["close", "first", "nothing"];

/// Reads the table.
pub(super) fn read(file: &Fields<'_>) -> Result<Vec<Allowance>, Mistake> {
    let known = Allowed::ALL.map(Allowed::key);
    let Some(allow) = file.table("allow", &known)? else { return Ok(vec![]) };
    let mut allowances = vec![];
    for of in Allowed::ALL {
        if let Some(fields) = allow.table(of.key(), KEYS)? {
            allowances.push(allowance(of, &fields)?);
        }
    }
    Ok(allowances)
}

fn allowance(of: Allowed, fields: &Fields<'_>) -> Result<Allowance, Mistake> {
    let instead = match fields.one_of(&["any", "instead"])? {
        Some("any") => fields.only_true("any").map(|_| Instead::Anything)?,
        Some(_) => instead(fields)?,
        None => {
            let what = "missing: expected what a server may do, or any = true";
            return Err(fields.mistake("instead", what));
        }
    };
    if of == Allowed::Login && !matches!(instead, Instead::Pattern(_)) {
        return Err(fields.mistake("instead", "expected a pattern, with which the answer begins"));
    }
    let expected = "'allowed', 'warn' or 'info'";
    let verdict = match fields.text("verdict", expected)? {
        None | Some("allowed") => AllowedVerdict::Allowed,
        Some("warn") => AllowedVerdict::Warn,
        Some("info") => AllowedVerdict::Info,
        Some(other) => {
            let what = format!("{}: expected {expected}", quoted(other));
            return Err(fields.mistake("verdict", what));
        }
    };
    let why = one_line(fields, "why")?.ok_or_else(|| {
        fields.mistake("why", "missing: expected the reason, which the report shows")
    })?;
    Ok(Allowance { of, instead, verdict, why: why.to_owned() })
}

fn instead(fields: &Fields<'_>) -> Result<Instead, Mistake> {
    let text = fields.text("instead", "'close', 'first', 'nothing' or a pattern")?;
    match text.unwrap_or_default() {
        "close" => Ok(Instead::Close),
        "first" => Ok(Instead::First),
        "nothing" => Ok(Instead::Nothing),
        "" => {
            let what = "empty: expected 'close', 'first', 'nothing' or a pattern";
            Err(fields.mistake("instead", what))
        }
        other => {
            if let Some(nearest) = nearest(other, INSTEAD) {
                let what = format!("{}: expected {}", quoted(other), quoted(nearest));
                return Err(fields.mistake("instead", what));
            }
            let pattern = Pattern::parse(other).map_err(|what| fields.mistake("instead", what))?;
            Ok(Instead::Pattern(pattern))
        }
    }
}
