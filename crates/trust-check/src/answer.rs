//! What a wrong answer says about the server.

use trust_cli::framing::Framing;
use trust_cli::text::grouped;
use trust_wire::format::LengthFormat;

/// Bytes that are shown of a payload or an answer.
const SHOWN_MAX: usize = 16;

/// Says what is wrong with `got` as the answer to these payloads: which message is missing,
/// changed, cut, merged or out of order. `None` if nothing is. `got` may be anything.
///
/// # Panics
///
/// As [`Framing::encode`].
pub fn diagnose(framing: &Framing, payloads: &[&[u8]], got: &[u8]) -> Option<String> {
    let mut rest = got;
    for (index, payload) in payloads.iter().enumerate() {
        let frame = framing.encode(payload);
        if let Some(after) = rest.strip_prefix(&frame[..]) {
            rest = after;
            continue;
        }
        if got.is_empty() {
            return Some("nothing came back".to_owned());
        }
        let before = match index {
            0 => String::new(),
            1 => "1 message came back right, then ".to_owned(),
            _ => format!("{} messages came back right, then ", grouped(index as u64)),
        };
        return Some(before + &diagnose_one(framing, payloads, index, &frame, rest));
    }
    let count = rest.len() as u64;
    (count > 0).then(|| format!("all of it, and {} bytes more: {}", grouped(count), shown(rest)))
}

/// What is wrong with `rest` as the beginning of `frame`, which is the message at `index`.
fn diagnose_one(
    framing: &Framing,
    payloads: &[&[u8]],
    index: usize,
    frame: &[u8],
    rest: &[u8],
) -> String {
    let number = grouped(index as u64 + 1);
    if rest.is_empty() {
        return format!("message {number} did not come");
    }
    if frame.starts_with(rest) {
        let (came, all) = (grouped(rest.len() as u64), grouped(frame.len() as u64));
        return format!("{came} of the {all} bytes of message {number} came");
    }
    let is_that =
        |payload: &&[u8]| !payload.is_empty() && rest.starts_with(&framing.encode(payload));
    if let Some(later) = payloads[index + 1..].iter().position(is_that) {
        let later = grouped((index + 2 + later) as u64);
        let as_if = match lacks_empty_ones(framing, &payloads[index..], rest) {
            true => ", as if no empty message had been sent",
            false => "",
        };
        return format!("message {later} came where message {number} belongs{as_if}");
    }
    if index > 0 && is_that(&payloads[index - 1]) {
        return format!("message {} came a second time", grouped(index as u64));
    }
    let is_behind = |count: &usize| rest.get(*count..).is_some_and(|rest| rest.starts_with(frame));
    if let Some(count) = (1..=SHOWN_MAX).find(is_behind)
        && !payloads[index].is_empty()
    {
        return format!(
            "{count} bytes that were not sent came in front of message {number}: {}",
            shown(&rest[..count])
        );
    }
    let (header_len, wrong) = match framing {
        Framing::Length(format) => {
            (format.header_len(), wrong_header(format, payloads, index, rest))
        }
        Framing::Raw | Framing::Line => (0, None),
    };
    wrong.unwrap_or_else(|| wrong_byte(frame, rest, header_len, &number))
}

/// Whether the first of these messages is empty, and `rest` is what comes back of the others. Of a
/// longer one that may only be late: who answers messages out of order answers the short ones
/// first.
fn lacks_empty_ones(framing: &Framing, payloads: &[&[u8]], rest: &[u8]) -> bool {
    let others = payloads.iter().filter(|payload| !payload.is_empty());
    let expected: Vec<u8> = others.flat_map(|payload| framing.encode(payload)).collect();
    payloads.first().is_some_and(|payload| payload.is_empty()) && expected.starts_with(rest)
}

/// What a header that is not that of message `index` makes of it, if there is such a header.
fn wrong_header(
    format: &LengthFormat,
    payloads: &[&[u8]],
    index: usize,
    rest: &[u8],
) -> Option<String> {
    let (payload, number) = (payloads[index], grouped(index as u64 + 1));
    if !payload.is_empty() && rest.starts_with(payload) {
        return Some(format!("message {number} came back without its header"));
    }
    let (header, body) = rest.split_at_checked(format.header_len())?;
    let len = payload.len() as u64;
    let declared = match format.decode(header) {
        Ok(declared) if declared == len => return None,
        Ok(declared) => declared,
        Err(error) => {
            return Some(format!("{error}, where message {number} belongs: {}", shown(rest)));
        }
    };
    let mut sum = len;
    for (later, next) in payloads.iter().enumerate().skip(index + 1) {
        sum += next.len() as u64;
        if sum == declared && !next.is_empty() {
            let (last, declared) = (grouped(later as u64 + 1), grouped(declared));
            return Some(format!(
                "messages {number} to {last} came back as one of {declared} bytes"
            ));
        }
        if sum > declared {
            break;
        }
    }
    let (declared_text, len_text) = (grouped(declared), grouped(len));
    if declared > 0 && declared < len && body.starts_with(&payload[..declared as usize]) {
        return Some(format!(
            "message {number} came back cut to {declared_text} of its {len_text} bytes"
        ));
    }
    Some(format!(
        "a header with a length of {declared_text} came where message {number} with {len_text} \
         bytes belongs: {}",
        shown(rest)
    ))
}

/// The first byte that is another one.
fn wrong_byte(frame: &[u8], rest: &[u8], header_len: usize, number: &str) -> String {
    let same = frame.iter().zip(rest).take_while(|(sent, came)| sent == came).count();
    // Neither is the beginning of the other one.
    let (sent, came) = (frame[same], rest[same]);
    let place = match same.checked_sub(header_len) {
        Some(place) => format!("byte {} of message {number}", grouped(place as u64 + 1)),
        None => format!("byte {} of the header of message {number}", same + 1),
    };
    format!("{place} is {came:02x} and should be {sent:02x}")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(name: &str) -> Framing {
        Framing::parse(name).expect("a framing")
    }

    /// What is wrong with `got` as the answer of a server of the default framing.
    #[track_caller]
    fn diagnosed(payloads: &[&[u8]], got: &[u8], expected: &str) {
        assert_eq!(diagnose(&framing("u32be"), payloads, got).as_deref(), Some(expected));
    }

    fn frames(payloads: &[&[u8]]) -> Vec<u8> {
        payloads.iter().flat_map(|payload| framing("u32be").encode(payload)).collect()
    }

    const THREE: [&[u8]; 3] = [b"one", b"two two", b"three"];

    #[test]
    fn nothing_is_wrong_with_what_is_equal() {
        for name in ["u8", "u16le", "u24be+incl", "u32be", "u64le", "raw", "line"] {
            let framing = framing(name);
            let mut all = vec![];
            THREE.iter().for_each(|payload| all.extend(framing.encode(payload)));
            assert_eq!(diagnose(&framing, &THREE, &all), None, "{name}");
            assert_eq!(diagnose(&framing, &[], b""), None, "{name}");
        }
        assert_eq!(diagnose(&framing("u32be"), &[b""], &[0; 4]), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        diagnosed(&THREE, b"", "nothing came back");
        diagnosed(
            &THREE,
            &frames(&THREE[..1]),
            "1 message came back right, then message 2 did not come",
        );
        diagnosed(
            &THREE,
            &frames(&THREE[..2]),
            "2 messages came back right, then message 3 did not come",
        );
    }

    #[test]
    fn what_is_truncated_says_how_much_came() {
        let all = frames(&THREE);
        diagnosed(&THREE, &all[..2], "2 of the 7 bytes of message 1 came");
        diagnosed(
            &THREE,
            &all[..all.len() - 1],
            "2 messages came back right, then 8 of the 9 bytes of message 3 came",
        );
    }

    #[test]
    fn what_is_out_of_order_says_which_came_instead() {
        let swapped = frames(&[THREE[0], THREE[2], THREE[1]]);
        diagnosed(
            &THREE,
            &swapped,
            "1 message came back right, then message 3 came where message 2 belongs",
        );
        let with_empty = [THREE[0], b"", THREE[1], b"", THREE[2]];
        diagnosed(
            &with_empty,
            &frames(&[THREE[0], THREE[1], THREE[2]]),
            "1 message came back right, then message 3 came where message 2 belongs, as if no \
             empty message had been sent",
        );
        diagnosed(
            &with_empty,
            &frames(&[THREE[0], THREE[1], b"", b"", THREE[2]]),
            "1 message came back right, then message 3 came where message 2 belongs",
        );
        let twice = frames(&[THREE[0], THREE[0]]);
        diagnosed(&THREE, &twice, "1 message came back right, then message 1 came a second time");
    }

    #[test]
    fn a_payload_without_its_header_is_recognised() {
        let bare = [&frames(&THREE[..1])[..], THREE[1]].concat();
        diagnosed(
            &THREE,
            &bare,
            "1 message came back right, then message 2 came back without its header",
        );
    }

    #[test]
    fn messages_that_were_merged_are_counted() {
        let merged = frames(&[b"onetwo two", b"three"]);
        diagnosed(&THREE, &merged, "messages 1 to 2 came back as one of 10 bytes");
    }

    #[test]
    fn a_message_that_was_cut_is_recognised_behind_its_shorter_header() {
        let cut = frames(&[b"one", b"two"]);
        diagnosed(
            &THREE,
            &cut,
            "1 message came back right, then message 2 came back cut to 3 of its 7 bytes",
        );
    }

    #[test]
    fn another_header_is_read() {
        diagnosed(
            &THREE,
            &[3, 0, 0, 0, b'o'],
            "a header with a length of 50,331,648 came where message 1 with 3 bytes belongs: 03 00 \
             00 00 6f",
        );
        let bad = diagnose(&framing("u16be+incl"), &THREE, &[0, 1, 9]);
        assert_eq!(
            bad.as_deref(),
            Some(
                "a length field of 1 is no length of a payload, where message 1 belongs: 00 01 09"
            )
        );
    }

    #[test]
    fn a_wrong_byte_is_found() {
        let mut got = frames(&THREE);
        got[4 + 3 + 4 + 2] = 0xfe;
        diagnosed(
            &THREE,
            &got,
            "1 message came back right, then byte 3 of message 2 is fe and should be 6f",
        );
        let offset = LengthFormat::parse("u8").and_then(|format| format.with_offset(2));
        let framing = Framing::Length(offset.expect("a format"));
        assert_eq!(
            diagnose(&framing, &[b"x"], &[0, 7, 1, b'x']).as_deref(),
            Some("byte 2 of the header of message 1 is 07 and should be 00")
        );
        assert_eq!(
            diagnose(&Framing::Line, &[b"ab"], b"ab\r\n").as_deref(),
            Some("byte 3 of message 1 is 0d and should be 0a")
        );
    }

    #[test]
    fn extra_bytes_are_shown() {
        let between = [&frames(&THREE[..1])[..], b"\r\n", &frames(&THREE[1..])].concat();
        diagnosed(
            &THREE,
            &between,
            "1 message came back right, then 2 bytes that were not sent came in front of message \
             2: 0d 0a",
        );
        let got = [&frames(&THREE)[..], &[0xaa; 20]].concat();
        let shown = ["aa"; 16].join(" ");
        diagnosed(&THREE, &got, &format!("all of it, and 20 bytes more: {shown} …"));
    }
}
