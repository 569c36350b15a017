//! What two answers do not have in common, in words.

use trust_cli::text::grouped;

/// Bytes that are shown of an answer.
const SHOWN_MAX: usize = 40;

/// Bytes that are shown before the first that differs.
const SHOWN_BEFORE: usize = 8;

/// What is left of both without the lines that they have in common at the beginning and at the end.
pub(super) fn different_lines<'b>(expected: &'b [u8], got: &'b [u8]) -> (&'b [u8], &'b [u8]) {
    let pairs = expected.iter().zip(got);
    let same = pairs.take_while(|(expected, got)| expected == got).count();
    let begin = expected[..same].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (expected, got) = (&expected[begin..], &got[begin..]);
    let pairs = expected.iter().rev().zip(got.iter().rev());
    let same = pairs.take_while(|(expected, got)| expected == got).count();
    let tail = &expected[expected.len() - same..];
    let lines = tail.iter().position(|byte| *byte == b'\n').map_or(0, |at| same - at - 1);
    (&expected[..expected.len() - lines], &got[..got.len() - lines])
}

/// In words, where the second one differs; `None` if it does not.
pub(super) fn first_difference(expected: &[u8], got: &[u8], was: &str) -> Option<String> {
    if expected == got {
        return None;
    }
    let same = expected.iter().zip(got).take_while(|(expected, got)| expected == got).count();
    let from = same.saturating_sub(SHOWN_BEFORE);
    Some(match got.get(from..).filter(|rest| !rest.is_empty()) {
        None => format!("it ends before {}", shown(&expected[from..])),
        Some(rest) if from == 0 => format!("it is {}, and {was} {}", shown(rest), shown(expected)),
        Some(rest) => format!(
            "after {} bytes it is {}, and {was} {}",
            grouped(from as u64),
            shown(rest),
            shown(&expected[from..])
        ),
    })
}

/// The beginning of some bytes, as text with escapes.
pub fn shown(bytes: &[u8]) -> String {
    let more = if bytes.len() > SHOWN_MAX { "…" } else { "" };
    let text = bytes[..bytes.len().min(SHOWN_MAX)].escape_ascii().to_string();
    // It stands between single quotes.
    format!("'{}{more}'", text.replace(r#"\""#, "\""))
}
