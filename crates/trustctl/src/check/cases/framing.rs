//! One message at a time: lengths, contents, and headers that are none.

use crate::check::case::{Case, Manners, Needs};
use crate::check::framing::Framing;
use crate::check::trial::Trial;
use crate::check::verdict::{Judged, Verdict};
use crate::check::wire::{End, Wire};

/// The cases of this group.
pub const CASES: &[Case] = &[
    Case {
        id: "framing/1",
        title: "one small message comes back",
        requirement: "A message is answered with its echo, byte for byte",
        source: "RFC 862; docs/PROTOCOL.md",
        bug: "the server speaks another framing, or does not echo",
        needs: Needs::Anything,
        manners: Manners::Beside,
        run: |trial| echo_of(trial, 32),
    },
    Case {
        id: "framing/2",
        title: "an empty message comes back",
        requirement: "A length of 0 is a whole message, answered like any other",
        source: "docs/PROTOCOL.md",
        bug: "a receive of 0 bytes for the payload is taken for the end of the stream",
        needs: Needs::Messages,
        manners: Manners::Beside,
        run: |trial| echo_of(trial, 0),
    },
    Case {
        id: "framing/3",
        title: "a message of one byte comes back",
        requirement: "A length of 1 is a message like any other",
        source: "docs/PROTOCOL.md",
        bug: "a length is compared with < where <= belongs",
        needs: Needs::Messages,
        manners: Manners::Beside,
        run: |trial| echo_of(trial, 1),
    },
    Case {
        id: "framing/4",
        title: "the longest message comes back",
        requirement: "The largest payload is a legal one, inclusive",
        source: "docs/PROTOCOL.md",
        bug: "the limit is exclusive, or counts the header, or one receive is taken for the whole payload",
        needs: Needs::Messages,
        manners: Manners::Beside,
        run: |trial| echo_of(trial, u64::MAX),
    },
    Case {
        id: "framing/6",
        title: "one byte more than the limit is refused",
        requirement: "A length above the limit ends the connection, and nothing of it is echoed",
        source: "docs/PROTOCOL.md",
        bug: "the limit is not enforced, or off by one",
        needs: Needs::Length,
        manners: Manners::Beside,
        run: one_more_than_the_limit,
    },
    Case {
        id: "framing/7",
        title: "a length with the sign bit set is refused",
        requirement: "A length is unsigned; one far above the limit ends the connection",
        source: "docs/PROTOCOL.md; CWE-195",
        bug: "the length is read as a signed number, becomes negative and passes the check",
        needs: Needs::Length,
        manners: Manners::Beside,
        run: |trial| refused_value(trial, |bits| 1 << (bits - 1)),
    },
];

/// One message of about that length, and its echo.
fn echo_of(trial: &mut Trial<'_>, len: u64) -> Judged {
    let payload = trial.payload(len);
    let mut wire = trial.connect()?;
    wire.send(&trial.frame(&payload))?;
    wire.expect_echo(&[&payload])?;
    wire.finish();
    Ok(Verdict::Pass)
}

fn one_more_than_the_limit(trial: &mut Trial<'_>) -> Judged {
    let Framing::Length(format) = trial.setup.framing else {
        return Ok(Verdict::skipped("this framing has no length field"));
    };
    let too_large = trial.setup.max_frame + 1;
    let mut header = vec![];
    if format.encode(too_large, &mut header).is_err() {
        return Ok(Verdict::skipped("the length field cannot say more than the limit"));
    }
    let mut wire = trial.connect()?;
    wire.send(&header)?;
    expect_refusal(&mut wire, &format!("a length of {too_large} is above the limit"))?;
    trial.expect_service("a length above the limit")?;
    Ok(Verdict::Pass)
}

/// A length field with this value, which depends on its bits, is refused.
fn refused_value(trial: &mut Trial<'_>, value: fn(u32) -> u64) -> Judged {
    let Framing::Length(format) = trial.setup.framing else {
        return Ok(Verdict::skipped("this framing has no length field"));
    };
    let mut header = vec![];
    format.encode_raw(value(format.width() as u32 * 8), &mut header);
    if format.decode(&header).is_ok_and(|len| len <= trial.setup.max_frame) {
        return Ok(Verdict::skipped("that value is a legal length here"));
    }
    let mut wire = trial.connect()?;
    wire.send(&header)?;
    expect_refusal(&mut wire, "its header says a length above the limit")?;
    trial.expect_service("a header with a length above the limit")?;
    Ok(Verdict::Pass)
}

/// The server ends the connection without an answer.
fn expect_refusal(wire: &mut Wire<'_>, why: &str) -> Judged<()> {
    match wire.end() {
        Some(End::Reset) => wire.judge_reset("the server closes the connection"),
        _ => wire.expect_end(&format!("because {why}")),
    }
}
