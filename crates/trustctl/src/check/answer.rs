//! What a wrong answer says about the server.

use crate::check::framing::Framing;
use crate::text::grouped;

/// Bytes that are shown of a payload or an answer.
const SHOWN_MAX: usize = 16;

/// What was to come back.
pub fn expectation(payloads: &[&[u8]]) -> String {
    match payloads {
        [] => "nothing".to_owned(),
        [payload] => format!("the echo of a message of {} bytes", grouped(payload.len() as u64)),
        payloads => format!("the echoes of {} messages, in order", grouped(payloads.len() as u64)),
    }
}

/// Says what is wrong with `got` as the answer to these payloads: which message is missing, changed, split, merged or
/// out of order. `got` may be anything.
pub fn diagnose(framing: &Framing, payloads: &[&[u8]], got: &[u8]) -> String {
    if got.is_empty() {
        return "nothing came back".to_owned();
    }
    let mut at = 0;
    for (index, payload) in payloads.iter().enumerate() {
        let frame = framing.encode(payload);
        let rest = &got[at..];
        if rest.starts_with(&frame) {
            at += frame.len();
            continue;
        }
        let before = match index {
            0 => String::new(),
            1 => "1 message came back right, then ".to_owned(),
            _ => format!("{index} messages came back right, then "),
        };
        return format!("{before}{}", diagnose_one(framing, payloads, index, &frame, rest));
    }
    let extra = &got[at..];
    format!("all of it, and {} bytes more: {}", extra.len(), shown(extra))
}

/// What is wrong with `rest` as the beginning of `frame`.
fn diagnose_one(
    framing: &Framing,
    payloads: &[&[u8]],
    index: usize,
    frame: &[u8],
    rest: &[u8],
) -> String {
    if rest.is_empty() {
        return format!("message {} did not come", index + 1);
    }
    if frame.starts_with(rest) {
        return format!(
            "{} of the {} bytes of message {} came",
            rest.len(),
            frame.len(),
            index + 1
        );
    }
    let is_that =
        |payload: &&&[u8]| !payload.is_empty() && rest.starts_with(&framing.encode(payload));
    if let Some(later) = payloads[index + 1..].iter().position(|payload| is_that(&payload)) {
        return format!("message {} came where message {} belongs", index + 2 + later, index + 1);
    }
    let payload = &frame[framing.overhead().min(frame.len())..];
    if let Framing::Length(format) = framing {
        if !payload.is_empty() && rest.starts_with(payload) {
            return format!("message {} came back without its header", index + 1);
        }
        let header_len = format.header_len();
        if let Some(declared) = rest.get(..header_len).map(|header| format.decode(header))
            && rest[..header_len] != frame[..header_len]
        {
            let declared = declared.map_or_else(
                |_| "a length that cannot be".to_owned(),
                |declared| format!("a length of {}", grouped(declared)),
            );
            return format!(
                "a header with {declared} came where message {} with {} bytes belongs: {}",
                index + 1,
                grouped((frame.len() - header_len) as u64),
                shown(rest)
            );
        }
    }
    let same = frame.iter().zip(rest).take_while(|(sent, came)| sent == came).count();
    format!(
        "byte {same} of message {} is {} and should be {}",
        index + 1,
        rest.get(same).map_or_else(|| "missing".to_owned(), |byte| format!("{byte:02x}")),
        frame.get(same).map_or_else(|| "no more".to_owned(), |byte| format!("{byte:02x}"))
    )
}

/// The beginning of some bytes, in hexadecimal.
pub fn shown(bytes: &[u8]) -> String {
    let mut text: Vec<String> =
        bytes.iter().take(SHOWN_MAX).map(|byte| format!("{byte:02x}")).collect();
    if bytes.len() > SHOWN_MAX {
        text.push("…".to_owned());
    }
    text.join(" ")
}
