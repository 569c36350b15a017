//! Bytes in the same segment as a request after which the connection speaks another protocol.

use trust_cli::text::grouped;

use crate::case::{Case, Isolation, Needs};
use crate::exchange::difference::shown;
use crate::exchange::learned::{Checked, Learned};
use crate::exchange::protocol::{Upgrade, UpgradeTo};
use crate::learning;
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Judged, Verdict};
use crate::wire::Wire;

/// The most bytes that are looked at of an answer.
const ANSWER_MAX: usize = 256 * 1024;

/// Settle times without a byte after which no more is expected.
const QUIET_SETTLES: u32 = 5;

/// First bytes of TLS records: an alert, and what belongs to a handshake (RFC 8446, section 5.1).
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];

/// The cases of this group.
pub const CASES: &[Case] = &[
    Case {
        id: "upgrade/1",
        title: "bytes sent with a request for TLS are not answered in plain text",
        requirement: "After it has accepted TLS, a server answers nothing that came in plain text",
        source: "RFC 3207, 4.2; RFC 2595, 3.1; CVE-2011-0411; CVE-2021-23222",
        bug: "what is in the buffer after STARTTLS is taken for commands of the client: an \
              attacker in between puts them there",
        needs: Needs::Upgrade,
        isolation: Isolation::Beside,
        run: to_tls,
    },
    Case {
        id: "upgrade/2",
        title: "bytes sent with a request to upgrade",
        requirement: "Measured only: RFC 6455 makes the client wait for the answer",
        source: "RFC 6455, 4.1; RFC 9110, 7.8",
        bug: "what is in the buffer after the request is dropped with the old protocol",
        needs: Needs::Upgrade,
        isolation: Isolation::Beside,
        run: to_another,
    },
    Case {
        id: "upgrade/3",
        title: "a message in the same segment as the PROXY header is answered",
        requirement: "What follows the PROXY header belongs to the stream, whether it comes with \
                      the header or after it",
        source: "The PROXY protocol, versions 1 & 2, section 2",
        bug: "the header is read with one receive, and what came with it is dropped",
        needs: Needs::Preface,
        isolation: Isolation::Beside,
        run: with_preface,
    },
];

fn to_tls(trial: &mut CaseTrial<'_>) -> Judged {
    let Some((learned, upgrade)) = known(trial) else { return Err(no_upgrade()) };
    if upgrade.to != UpgradeTo::Tls {
        return Err(Verdict::skipped("[upgrade] is not to TLS"));
    }
    let after = learned.unanswered(&upgrade.after);
    let mut wire = connect(trial, upgrade)?;
    let answer = learning::answer_to(trial.setup, &mut wire, &after, learned);
    wire.close();
    let Ok(answer) = answer else {
        return Err(Verdict::skipped("what follows is not answered in plain text in any case"));
    };
    accept(trial, upgrade, &[])?.0.close_at_once();
    let number = learned.next_copy();
    let bytes = after.request(number);
    let (mut wire, mut rest) = match accept(trial, upgrade, &bytes) {
        Err(Verdict::Skipped(_)) => {
            let said = "it does not accept the request if bytes come with it".to_owned();
            return Ok(Verdict::Info(said));
        }
        accepted => accepted?,
    };
    let quiet = QUIET_SETTLES * trial.setup.settle;
    while rest.len() < ANSWER_MAX && wire.receive_into(&mut rest, ANSWER_MAX, quiet)? {}
    let is_over = wire.end().is_some();
    // The pattern may leave out the end of the line.
    let line_ends = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    let rest = &rest[line_ends..];
    match after.with_answer(answer).check(&bytes, number, rest, is_over) {
        Checked::Right(_) => Err(Verdict::fail_by(
            Evidence::Bytes,
            "what came in plain text with a request for TLS is not answered in plain text",
            format!("its answer came in plain text: {}", shown(rest)),
        )),
        _ if !rest.is_empty() && !TLS_RECORDS.contains(&rest[0]) => Err(Verdict::warn(
            "what came in plain text with a request for TLS is not answered in plain text",
            format!("another answer came in plain text: {}", shown(rest)),
        )),
        _ => Ok(Verdict::Info(
            "nothing is answered in plain text; whether it is answered inside of TLS is not \
             looked at"
                .to_owned(),
        )),
    }
}

fn to_another(trial: &mut CaseTrial<'_>) -> Judged {
    let Some((_, upgrade)) = known(trial) else { return Err(no_upgrade()) };
    let UpgradeTo::Other(name) = &upgrade.to else {
        return Err(Verdict::skipped("[upgrade] is to TLS"));
    };
    let after = upgrade.after.send.bytes(0);
    let (mut wire, mut alone) = accept(trial, upgrade, &[])?;
    let unasked = alone.len();
    wire.send(&after)?;
    let patience = wire.patience();
    wire.receive_into(&mut alone, ANSWER_MAX, patience)?;
    if alone.len() == unasked {
        return Err(Verdict::skipped("what follows is not answered after the upgrade either"));
    }
    wire.close();
    let (mut wire, mut together) = accept(trial, upgrade, &after)?;
    while together.len() < alone.len() && wire.receive_into(&mut together, ANSWER_MAX, patience)? {}
    let count = grouped(after.len() as u64);
    Ok(Verdict::Info(match together.len() < alone.len() {
        false => format!("the {count} bytes of {name} with it are answered as those after it"),
        true => {
            format!("the {count} bytes of {name} with it are lost; those after it are answered")
        }
    }))
}

fn known<'s>(trial: &CaseTrial<'s>) -> Option<(&'s Learned, &'s Upgrade)> {
    let learned = trial.setup.exchanges.as_ref()?;
    Some((learned, learned.protocol.upgrade.as_ref()?))
}

fn no_upgrade() -> Verdict {
    Verdict::skipped(Needs::Upgrade.lacking())
}

fn connect<'s>(trial: &mut CaseTrial<'s>, upgrade: &Upgrade) -> Judged<Wire<'s>> {
    if upgrade.is_first { trial.connect_alone() } else { trial.connect() }
}

/// Asks for the upgrade, with these bytes in the same segment, and returns what came after the
/// answer that accepts it.
fn accept<'s>(
    trial: &mut CaseTrial<'s>,
    upgrade: &Upgrade,
    after: &[u8],
) -> Judged<(Wire<'s>, Vec<u8>)> {
    let mut wire = connect(trial, upgrade)?;
    wire.send(&[&upgrade.request.send.bytes(0)[..], after].concat())?;
    let (mut got, mut patience) = (vec![], wire.patience());
    loop {
        if let Some(len) = upgrade.accepted.len_at_start(&got) {
            let rest = got.split_off(len);
            return Ok((wire, rest));
        }
        if got.len() >= ANSWER_MAX || !wire.receive_into(&mut got, ANSWER_MAX, patience)? {
            return Err(Verdict::skipped(format!(
                "the server does not accept the upgrade: it answers {}",
                shown(&got)
            )));
        }
        patience = patience.min(QUIET_SETTLES * trial.setup.settle);
    }
}

fn with_preface(trial: &mut CaseTrial<'_>) -> Judged {
    if trial.greeting().is_ok() {
        return Err(Verdict::skipped("the server speaks first"));
    }
    for is_cut in [false, true] {
        let message = trial.first_request();
        let (mut wire, header) = trial.connect_before_preface()?;
        let all = [&header[..], &message.bytes].concat();
        // With all of the message, or a part of it.
        let with_header = match is_cut {
            true => header.len() + message.bytes.len().div_ceil(2),
            false => all.len(),
        };
        let (first, rest) = all.split_at(with_header);
        wire.sending_secret(message.is_secret(), |wire| wire.send_apart([first, rest]))?;
        wire.expect_answers(&[&message])?;
        wire.exchange_beginning_from(1)?;
        let next = trial.message(32);
        if next.is_repeatable() {
            wire.send(&next.bytes)?;
            wire.expect_answers(&[&next])?;
        }
    }
    Ok(Verdict::Pass)
}
