//! One message at a time: lengths, contents, and headers that are none.

use std::time::{Duration, Instant};

use trust_cli::framing::Framing;
use trust_cli::text::grouped;

use crate::case::{Case, Isolation, Needs};
use crate::request::Request;
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Judged, Verdict};
use crate::wire::{ConnectionEnd, Pace, Wire};
use crate::{answer, hint};

/// The cases of this group.
pub const CASES: &[Case] = &[
    Case {
        id: "framing/1",
        title: "one small message is answered",
        requirement: "A message is answered, by an echo server with the same bytes",
        source: "RFC 862; docs/PROTOCOL.md",
        bug: "the server speaks another framing or protocol, or does not echo",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: small_message,
    },
    Case {
        id: "framing/2",
        title: "an empty message comes back",
        requirement: "A length of 0 is a whole message, answered like any other",
        source: "docs/PROTOCOL.md",
        bug: "a receive of 0 bytes for the payload is taken for the end of the stream",
        needs: Needs::Messages,
        isolation: Isolation::Beside,
        run: |trial| echo_of(trial, 0),
    },
    Case {
        id: "framing/3",
        title: "a message of one byte comes back",
        requirement: "A length of 1 is a message like any other",
        source: "docs/PROTOCOL.md",
        bug: "a length is compared with < where <= belongs",
        needs: Needs::Messages,
        isolation: Isolation::Beside,
        run: |trial| echo_of(trial, 1),
    },
    Case {
        id: "framing/4",
        title: "the longest message comes back",
        requirement: "The largest payload is a legal one, inclusive",
        source: "docs/PROTOCOL.md",
        bug: "the limit is exclusive, or counts the header, or one receive is taken for the whole \
              payload",
        needs: Needs::Messages,
        isolation: Isolation::Beside,
        run: |trial| longest(trial, 0),
    },
    Case {
        id: "framing/5",
        title: "a message one byte shorter than the longest comes back",
        requirement: "A payload of one byte less than the limit is a legal one",
        source: "docs/PROTOCOL.md",
        bug: "the limit counts the header as well",
        needs: Needs::Messages,
        isolation: Isolation::Beside,
        run: |trial| longest(trial, 1),
    },
    Case {
        id: "framing/6",
        title: "one byte more than the limit is refused",
        requirement: "A length above the limit ends the connection, and nothing of it is echoed",
        source: "docs/PROTOCOL.md",
        bug: "the limit is not enforced, or off by one",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: one_more_than_the_limit,
    },
    Case {
        id: "framing/7",
        title: "a length with the sign bit set is refused",
        requirement: "A length is unsigned; one far above the limit ends the connection",
        source: "docs/PROTOCOL.md; CWE-195",
        bug: "the length is read as a signed number, becomes negative and passes the check",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| refused_value(trial, |bits| 1 << (bits - 1)),
    },
    Case {
        id: "framing/8",
        title: "a length of all ones is refused",
        requirement: "A length of all ones is one far above the limit, and no sign of anything \
                      else",
        source: "docs/PROTOCOL.md; CWE-190",
        bug: "the length is -1, which stands for something else, or header and payload together \
              overflow",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| refused_value(trial, |bits| u64::MAX >> (u64::BITS - bits)),
    },
    Case {
        id: "framing/9",
        title: "a length in the wrong byte order is taken at its word",
        requirement: "The length field has one byte order; a header of the other one says another \
                      length",
        source: "docs/PROTOCOL.md",
        bug: "the server guesses the byte order, or reads the length in that of its machine",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: the_other_byte_order,
    },
    Case {
        id: "framing/10",
        title: "a payload that looks like messages comes back unchanged",
        requirement: "A payload may hold anything, also headers and whole messages",
        source: "docs/PROTOCOL.md",
        bug: "a payload is looked at for headers, or decoded twice",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: payloads_like_messages,
    },
    Case {
        id: "framing/11",
        title: "payloads of zeros, of ones and of control characters come back unchanged",
        requirement: "No byte of a payload means anything to the framing",
        source: "docs/PROTOCOL.md; RFC 862",
        bug: "the payload goes through string functions or a text mode: cut at a NUL, trimmed, \
              newlines translated",
        needs: Needs::Anything,
        isolation: Isolation::Beside,
        run: payloads_of_special_bytes,
    },
    Case {
        id: "framing/12",
        title: "lengths around powers of two come back",
        requirement: "Every length up to the limit is as good as any other",
        source: "docs/PROTOCOL.md",
        bug: "a length is kept in a type that is too small, or a buffer has room for a round \
              number of bytes",
        needs: Needs::Messages,
        isolation: Isolation::Beside,
        run: lengths_around_powers_of_two,
    },
    Case {
        id: "framing/13",
        title: "random messages come back",
        requirement: "Any payload of any length up to the limit is echoed, one after the other on \
                      one connection",
        source: "docs/PROTOCOL.md",
        bug: "some lengths or bytes are treated unlike the others",
        needs: Needs::Messages,
        isolation: Isolation::Beside,
        run: random_messages,
    },
    Case {
        id: "framing/14",
        title: "a length that is less than what it counts is refused",
        requirement: "A length that counts its own header, or more, cannot be smaller than that; \
                      it ends the connection",
        source: "docs/PROTOCOL.md; CWE-191",
        bug: "the subtraction goes below zero: an empty message, or one of almost 4 GiB",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: less_than_it_counts,
    },
    Case {
        id: "framing/15",
        title: "text where a header belongs is not echoed",
        requirement: "Bytes that are no message are refused as the length that they spell, and the \
                      next client is served",
        source: "docs/PROTOCOL.md",
        bug: "whatever comes is sent back, or a wrong client takes the server down",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: text_for_a_header,
    },
    Case {
        id: "framing/16",
        title: "a message is answered although what follows it is refused",
        requirement: "What is whole before a refused header is answered first, also when both come \
                      with one receive",
        source: "docs/PROTOCOL.md",
        bug: "answers are collected for a receive, and dropped when its end is refused",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| bad_after_good(trial, Together::OneSegment),
    },
    Case {
        id: "framing/17",
        title: "a message is answered although a refused header comes later",
        requirement: "What is whole before a refused header is answered first",
        source: "docs/PROTOCOL.md",
        bug: "answers wait in a buffer that an error throws away",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: |trial| bad_after_good(trial, Together::Apart),
    },
    Case {
        id: "framing/18",
        title: "bytes after a refused header are not taken for messages",
        requirement: "After a refused header the place of the next one is not known: nothing more \
                      is echoed",
        source: "docs/PROTOCOL.md",
        bug: "the server skips the header and goes on, out of step from then on",
        needs: Needs::Length,
        isolation: Isolation::Beside,
        run: good_after_bad,
    },
    Case {
        id: "framing/19",
        title: "messages that are as long as a segment, or a round number with their header, come \
                back",
        requirement: "Every length up to the limit is as good as any other, with and without the \
                      header",
        source: "docs/PROTOCOL.md; RFC 9293, 3.7.1",
        bug: "a total is kept in 16 bits, a buffer has room for a round number of bytes with the \
              header, or a receive of a whole segment is taken as a sign that more is waiting",
        needs: Needs::Messages,
        isolation: Isolation::Beside,
        run: lengths_around_segments,
    },
];

/// Payloads of segments over common paths, in bytes: the least that IPv4 and IPv6 promise, Ethernet
/// with and without timestamps, with IPv6 too, and with jumbo frames.
const SEGMENTS: [u64; 7] = [536, 1220, 1428, 1440, 1448, 1460, 8948];

/// Longest time for messages of these lengths.
const SEGMENTS_TIME_MAX: Duration = Duration::from_secs(4);

/// Text of another protocol, whose first bytes are a length far above any limit in most formats.
const TEXT: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Powers of two around whose values lengths are tried: sizes of small integers, of common buffers
/// and of pages.
const POWERS: [u64; 12] = [
    1 << 6,
    1 << 7,
    1 << 8,
    1 << 9,
    1 << 10,
    1 << 11,
    1 << 12,
    1 << 13,
    1 << 14,
    1 << 15,
    1 << 16,
    1 << 17,
];

/// Messages with random lengths: enough to meet what is wrong with one length in ten, almost
/// surely.
const RANDOM_MESSAGES: usize = 48;

/// The longest random message, in bytes.
const RANDOM_MAX: u64 = 128 * 1024;

/// One message of about that length, and its echo.
fn echo_of(trial: &mut CaseTrial<'_>, len: u64) -> Judged {
    let message = trial.message(len);
    let mut wire = trial.connect()?;
    wire.send(&message.bytes)?;
    wire.expect_answers(&[&message])?;
    wire.expect_no_more()?;
    Ok(Verdict::Pass)
}

/// One message and its echo; then, on another connection, half a header, which is not answered. To
/// a server with a narrower length field it is a whole empty message, so that everything else would
/// look right.
fn small_message(trial: &mut CaseTrial<'_>) -> Judged {
    echo_of(trial, 32)?;
    if trial.setup.exchanges.is_some() {
        return echo_of(trial, 32);
    }
    let header_len = match trial.setup.framing {
        Framing::Length(format) if format.header_len() > 1 => format.header_len(),
        _ => return Ok(Verdict::Pass),
    };
    let message = trial.message(32);
    let frame = &message.bytes;
    let (half, rest) = frame.split_at(header_len / 2);
    let mut wire = trial.connect()?;
    let since = Instant::now();
    wire.send(frame)?;
    wire.expect_answers(&[&message])?;
    // To such a server the message was two or more, so the answer to one takes no longer.
    let time = trial.setup.settle.max(since.elapsed() * 2);
    if hint::answers_part(&mut wire, half, time)? {
        return Err(Verdict::fail_by(
            Evidence::Bytes,
            format!("no answer to {} of the {header_len} bytes of a header", half.len()),
            format!("they came back: {}", answer::shown(half)),
        ));
    }
    // What becomes of a message in pieces is for other cases to judge, but not the end of the
    // server itself.
    wire.try_send(rest, time)?;
    wire.receive_into(&mut vec![], frame.len(), time)?;
    if wire.end().is_some() {
        trial.expect_service("half a header")?;
    }
    Ok(Verdict::Pass)
}

/// The longest message but for so many bytes.
fn longest(trial: &mut CaseTrial<'_>, less: u64) -> Judged {
    let (longest, limit) = (trial.setup.payload_len(u64::MAX) as u64, trial.setup.payload_max());
    let echoed = echo_of(trial, longest.saturating_sub(less))?;
    if longest == limit {
        return Ok(echoed);
    }
    Ok(Verdict::Info(format!(
        "a message of {} bytes came back; the limit of {} is more than is sent here",
        grouped(longest - less),
        grouped(limit)
    )))
}

fn one_more_than_the_limit(trial: &mut CaseTrial<'_>) -> Judged {
    let too_large = trial.setup.max_frame.saturating_add(1);
    let header = trial.refused()?;
    refused(trial, &header, &format!("a length of {too_large} is above the limit"))
}

/// A length field with this value, which depends on its bits, is refused.
fn refused_value(trial: &mut CaseTrial<'_>, value: fn(u32) -> u64) -> Judged {
    let format = trial.length_format()?;
    let mut header = vec![];
    format.encode_raw(value(format.width() as u32 * 8), &mut header);
    if format.decode(&header).is_ok_and(|len| len <= trial.setup.max_frame) {
        return Ok(Verdict::skipped("that value is a legal length here"));
    }
    refused(trial, &header, "its header says a length above the limit")
}

fn the_other_byte_order(trial: &mut CaseTrial<'_>) -> Judged {
    let format = trial.length_format()?;
    let swapped = format.swapped();
    if swapped == format {
        return Ok(Verdict::skipped("a length field of one byte has no byte order"));
    }
    // The first length that the other order makes too large, or else any.
    let lengths = [32, 1, 127, 255].map(|wanted| trial.setup.payload_len(wanted) as u64);
    let meaning = |len: u64| {
        let mut header = vec![];
        swapped.encode(len, &mut header).ok()?;
        let meant = format.decode(&header);
        Some((header, meant.ok().filter(|meant| *meant <= trial.setup.payload_max())))
    };
    let meanings = || lengths.iter().filter_map(|len| Some((*len, meaning(*len)?)));
    let too_large =
        meanings().find(|(_, (_, meant))| meant.is_none()).or_else(|| meanings().next());
    let Some((len, (header, meant))) = too_large else {
        return Ok(Verdict::skipped("no length can be said in the other order"));
    };
    match meant {
        None => {
            let bytes = [header, trial.payload(len)].concat();
            refused(
                trial,
                &bytes,
                "in the server's byte order its header says a length above the limit",
            )
        }
        Some(meant) => echo_of(trial, meant),
    }
}

fn payloads_like_messages(trial: &mut CaseTrial<'_>) -> Judged {
    let inner = trial.message(8);
    let frame = &inner.bytes;
    let mut payloads = vec![frame.clone(), frame.repeat(3)];
    payloads.extend(trial.refused().ok().map(|header| [&header, &frame[..]].concat()));
    payloads.retain(|payload| payload.len() as u64 <= trial.setup.payload_max());
    let messages: Vec<Request> = payloads.iter().map(|payload| trial.echo(payload)).collect();
    if messages.is_empty() {
        return Ok(Verdict::skipped("not one message fits into a payload"));
    }
    echoes_in_turn(trial, &messages)
}

fn payloads_of_special_bytes(trial: &mut CaseTrial<'_>) -> Judged {
    let len = trial.setup.payload_len(64);
    let payloads: Vec<Vec<u8>> = match trial.setup.framing {
        // A newline is the end of a line, and what is no text is for its server to decide.
        Framing::Line => [&b" "[..], b"\t", b" a\tb "].map(|text| repeated(text, len)).into(),
        Framing::Length(_) | Framing::Raw => {
            [&[0][..], &[0xff], b"\n", b"\r\n", b"\r\n\0\x03\x04\x1a\x1b", b" \t"]
                .map(|bytes| repeated(bytes, len))
                .into()
        }
    };
    let messages: Vec<Request> = payloads.iter().map(|payload| trial.echo(payload)).collect();
    echoes_in_turn(trial, &messages)
}

fn lengths_around_powers_of_two(trial: &mut CaseTrial<'_>) -> Judged {
    let (min, max) = (trial.setup.payload_min(), trial.setup.payload_max());
    let near = POWERS.iter().flat_map(|power| [power - 1, *power, power + 1]);
    let lengths: Vec<u64> = near.filter(|len| (min..=max).contains(len)).collect();
    if lengths.is_empty() {
        return Ok(Verdict::skipped("no such length is a legal one here"));
    }
    let messages: Vec<Request> = lengths.into_iter().map(|len| trial.message(len)).collect();
    echoes_in_turn(trial, &messages)
}

fn lengths_around_segments(trial: &mut CaseTrial<'_>) -> Judged {
    let mut wire = trial.connect()?;
    let (min, max) = (trial.setup.payload_min(), trial.setup.payload_max());
    let (overhead, own) = (trial.setup.framing.overhead() as u64, wire.segment());
    let own = [own, 2 * own].into_iter().filter(|len| *len <= RANDOM_MAX);
    let segments = SEGMENTS.into_iter().chain(own);
    // The totals first: so near to the payload that the case before has tried, only they matter.
    let totals = segments.clone().chain(POWERS).map(|len| len.saturating_sub(overhead));
    let near = totals.chain(segments).flat_map(|len| [len.saturating_sub(1), len, len + 1]);
    let lengths: Vec<u64> = near.filter(|len| (min..=max).contains(len)).collect();
    let mut pace = Pace::within(SEGMENTS_TIME_MAX, trial.setup);
    for len in lengths {
        let message = trial.message(len);
        wire.exchange_at(&[&message], 0, &mut pace)?;
    }
    wire.expect_no_more()?;
    Ok(Verdict::Pass)
}

fn random_messages(trial: &mut CaseTrial<'_>) -> Judged {
    let mut messages = vec![];
    for _ in 0..RANDOM_MESSAGES {
        // Short ones are as likely as long ones.
        let below = RANDOM_MAX.min(trial.setup.payload_max()) >> trial.below(16);
        let len = trial.below(below + 1);
        messages.push(trial.message(len));
    }
    echoes_in_turn(trial, &messages)
}

fn less_than_it_counts(trial: &mut CaseTrial<'_>) -> Judged {
    let format = trial.length_format()?;
    if !trial.setup.has_limit() {
        return Ok(Verdict::skipped("it is not known which lengths are refused"));
    }
    let header = |value| {
        let mut header = vec![];
        format.encode_raw(value, &mut header);
        header
    };
    if format.decode(&header(0)).is_ok() {
        return Ok(Verdict::skipped(
            "the length counts no more than the payload, so none is too small",
        ));
    }
    let largest_wrong = (0..).take_while(|value| format.decode(&header(*value)).is_err()).last();
    for value in [Some(0), largest_wrong].into_iter().flatten() {
        let why = format!("a length field of {value} is less than the bytes that it counts");
        refused(trial, &header(value), &why)?;
    }
    Ok(Verdict::Pass)
}

fn text_for_a_header(trial: &mut CaseTrial<'_>) -> Judged {
    let format = trial.length_format()?;
    let header = TEXT.get(..format.header_len());
    let declared = header.and_then(|header| format.decode(header).ok());
    if header.is_none() || declared.is_some_and(|len| len <= trial.setup.max_frame) {
        return Ok(Verdict::skipped("the text is the beginning of a legal message here"));
    }
    refused(trial, TEXT, "it was sent text, which as a header says a length above the limit")
}

/// How a message and what follows it are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Together {
    OneSegment,
    Apart,
}

fn bad_after_good(trial: &mut CaseTrial<'_>, together: Together) -> Judged {
    let bad = trial.refused()?;
    let [hello, good] = [trial.message(16), trial.message(100)];
    let mut wire = trial.connect()?;
    wire.send(&hello.bytes)?;
    wire.expect_answers(&[&hello])?;
    match together {
        Together::OneSegment => wire.send(&[&good.bytes[..], &bad].concat())?,
        Together::Apart => wire.send_apart([&good.bytes[..], &bad])?,
    }
    wire.expect_answers(&[&good])?;
    expect_refusal(
        &mut wire,
        "the header after the last message declares a length above the limit",
    )?;
    Ok(Verdict::Pass)
}

fn good_after_bad(trial: &mut CaseTrial<'_>) -> Judged {
    let bad = trial.refused()?;
    let frame = trial.message(24);
    let frame = &frame.bytes;
    refused(trial, &[&bad, &frame[..], frame].concat(), "its header says a length above the limit")
}

/// Each message alone, one after the other on one connection.
fn echoes_in_turn(trial: &mut CaseTrial<'_>, messages: &[Request]) -> Judged {
    let mut wire = trial.connect()?;
    for message in messages {
        wire.exchange(&[message], 0, Duration::ZERO)?;
    }
    wire.expect_no_more()?;
    Ok(Verdict::Pass)
}

/// A client that was served sends this, and the server ends the connection without an answer and
/// serves the next.
fn refused(trial: &mut CaseTrial<'_>, bytes: &[u8], why: &str) -> Judged {
    // One message first: a server may find out by the first bytes what its client speaks.
    let hello = trial.message(16);
    let mut wire = trial.connect()?;
    wire.send(&hello.bytes)?;
    wire.expect_answers(&[&hello])?;
    wire.send(bytes)?;
    let refusal = expect_refusal(&mut wire, why);
    wire.close();
    if !matches!(refusal, Err(Verdict::Fail(_))) {
        trial.expect_service("a client that was refused")?;
    }
    refusal.map(|()| Verdict::Pass)
}

/// The server ends the connection without an answer.
fn expect_refusal(wire: &mut Wire<'_>, why: &str) -> Judged<()> {
    match wire.end() {
        Some(ConnectionEnd::Reset) => wire.judge_reset("the server closes the connection"),
        _ => wire.expect_refusal(&format!("because {why}")),
    }
}

fn repeated(bytes: &[u8], len: usize) -> Vec<u8> {
    bytes.iter().copied().cycle().take(len).collect()
}
