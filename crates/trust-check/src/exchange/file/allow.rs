//! `[allow]`: what a right server may do instead.

use trust_cli::exchange_file::fields::{Fields, Mistake};
use trust_cli::exchange_file::nearest::nearest;
use trust_cli::values::quoted;

use super::one_line;
use crate::exchange::pattern::Pattern;
use crate::exchange::protocol::{Allowance, Allowed, AllowedVerdict, Instead};

const KEYS: &[&str] = &["any", "instead", "verdict", "why"];
const INSTEAD: &[&str] = &["close", "first", "nothing"];
const INSTEAD_EXPECTED: &str = "'close', 'first', 'nothing' or a pattern, or a list of them";

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
        Some("any") => fields.only_true("any").map(|_| vec![Instead::Anything])?,
        Some(_) => fields.one_or_more("instead", INSTEAD_EXPECTED, instead)?,
        None => {
            let what = "missing: expected what a server may do, or any = true";
            return Err(fields.mistake("instead", what));
        }
    };
    let is_pattern = |instead: &Instead| matches!(instead, Instead::Pattern(_));
    if of == Allowed::Login && !instead.iter().all(is_pattern) {
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

fn instead(text: &str) -> Result<Instead, String> {
    match text {
        "close" => Ok(Instead::Close),
        "first" => Ok(Instead::First),
        "nothing" => Ok(Instead::Nothing),
        "" => Err(format!("empty: expected {INSTEAD_EXPECTED}")),
        other => match nearest(other, INSTEAD) {
            Some(nearest) => Err(format!("{}: expected {}", quoted(other), quoted(nearest))),
            None => Pattern::parse(other).map(Instead::Pattern),
        },
    }
}
