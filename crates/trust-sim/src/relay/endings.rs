//! What each peer must have got once everything is over.

use trust_wire::relay::{FiredFault, RelayClose, RelaySide};

use super::model::{GateKind, StreamModel};
use super::script::RelayScript;
use super::witness::RelayWitness;
use crate::check::{Violation, require};
use crate::link::Link;
use crate::network::Side;
use crate::peer::{PeerEnd, SimulatedPeer};
use crate::script::{Action, ClientScript, Message};

/// How a peer may have seen the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenEnd {
    /// Not at all.
    Open,
    /// As FIN.
    Fin,
    /// As RST.
    Rst,
}

/// What a peer must get, foretold from the script alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foretold {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether it gets all of them, or a prefix.
    pub is_exact: bool,
    /// The faults of what goes to it: all of them, or the first ones.
    pub fired: Vec<FiredFault>,
    /// How it sees the end; `None`: as FIN or as RST.
    pub seen: Option<SeenEnd>,
}

/// What becomes of a direction if nothing comes in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Its end was passed on, or dropped by a rule; whether the source has ended.
    Ended { is_fin_seen: bool, has_ended: bool },
    /// It goes on, or stands still.
    Open,
    /// It ends the connection.
    Imposed(SeenEnd),
}

impl SeenEnd {
    fn of(peer: &SimulatedPeer) -> SeenEnd {
        match peer.end {
            None => SeenEnd::Open,
            Some(PeerEnd::EndOfStream) if peer.is_told_of_reset => SeenEnd::Rst,
            Some(PeerEnd::EndOfStream) => SeenEnd::Fin,
            Some(PeerEnd::Error(_)) => SeenEnd::Rst,
        }
    }
}

/// Checks what the peers got; returns whether it was foretold from the script alone.
///
/// # Errors
///
/// If a property does not hold.
pub fn check(
    script: &RelayScript,
    witness: &RelayWitness,
    links: &[Link; 2],
) -> Result<bool, Violation> {
    for side in RelaySide::BOTH {
        if !script.is_refused || side == RelaySide::Client {
            check_side(side, script, witness, &links[side.index()])?;
        }
    }
    let is_as_planned = RelaySide::BOTH.into_iter().all(|side| {
        let planned = planned(&script.peers[side.index()]);
        planned.is_some_and(|(len, _)| len == links[side.index()].path.written(Side::Client))
    });
    let is_given_up = witness.closed().is_some_and(|closed| closed.is_given_up);
    if !is_as_planned || is_given_up {
        return Ok(false);
    }
    let uploads = [0, 1].map(|peer: usize| links[peer].peer.upload());
    let Some(foretold) = foretell(script, uploads) else { return Ok(false) };
    for (side, Foretold { bytes, is_exact, seen, .. }) in RelaySide::BOTH.into_iter().zip(foretold)
    {
        let peer = &links[side.index()].peer;
        let has_all = peer.received == bytes.len();
        let is_prefix =
            peer.received <= bytes.len() && peer.owed[..peer.received] == bytes[..peer.received];
        let property = "each side gets exactly what is foretold";
        require(is_prefix && (has_all || !is_exact), property, || {
            format!("{side:?}: {} of {} bytes", peer.received, bytes.len())
        })?;
        let got = SeenEnd::of(peer);
        let is_right = seen.map_or(got != SeenEnd::Open, |seen| seen == got);
        require(is_right, "each side ends as foretold", || {
            format!("{side:?}: {got:?} in place of {seen:?}")
        })?;
    }
    Ok(true)
}

/// Checks what a peer got against what was sent to it.
fn check_side(
    side: RelaySide,
    script: &RelayScript,
    witness: &RelayWitness,
    link: &Link,
) -> Result<(), Violation> {
    let Link { peer, path, .. } = link;
    let (_, sent) = witness.counts(side);
    let got = SeenEnd::of(peer);
    let detail = || format!("{side:?}: {} of {sent} bytes, {got:?}, {path:?}", peer.received);
    require(peer.received <= sent, "no one gets more than was sent", detail)?;
    let is_reading = !peer.is_careless && peer.reads_on() && !witness.is_failing(side);
    if !is_reading {
        return Ok(());
    }
    let is_fin_sent = witness.is_fin_sent(side);
    let (is_exact, may_see): (bool, &[SeenEnd]) = match witness.closed() {
        None if is_fin_sent => (true, &[SeenEnd::Fin]),
        None => (true, &[SeenEnd::Open]),
        Some(closed) => match closed.closes[side.index()] {
            RelayClose::Close if closed.is_given_up => (false, &[SeenEnd::Fin, SeenEnd::Rst]),
            // What it sends after its own FIN was not waited for is answered by RST.
            RelayClose::Close if witness.is_reset_by_sides() => {
                (false, &[SeenEnd::Fin, SeenEnd::Rst])
            }
            RelayClose::Close => (true, &[SeenEnd::Fin]),
            // One that reset the other way round may have lost what was under way.
            RelayClose::Reset if closed.is_given_up || witness.is_imposed() => {
                (false, if is_fin_sent { &[SeenEnd::Fin, SeenEnd::Rst] } else { &[SeenEnd::Rst] })
            }
            RelayClose::Reset => {
                (true, if is_fin_sent { &[SeenEnd::Fin] } else { &[SeenEnd::Rst] })
            }
        },
    };
    let has_all = peer.received == sent;
    require(has_all || !is_exact, "what was sent arrives before the end", detail)?;
    // A RST is sent once, and can be lost.
    let is_lossy = script.peers[side.index()]
        .steps
        .iter()
        .any(|step| matches!(step.action, Action::Outage(..)));
    let may_be_lost = is_lossy && may_see.contains(&SeenEnd::Rst);
    let is_right = may_see.contains(&got) || may_be_lost && got == SeenEnd::Open;
    require(is_right, "a peer sees the end that it was sent", detail)
}

/// How much a peer sends, and whether FIN follows; `None` if that is not in its script alone.
fn planned(script: &ClientScript) -> Option<(usize, bool)> {
    let (mut told, mut is_reading, mut has_ended) = (0, true, false);
    for step in &script.steps {
        match step.action {
            Action::Send(count) if !has_ended => told += count,
            Action::Send(_) => {}
            Action::StopReading => is_reading = false,
            Action::StartReading => is_reading = true,
            Action::HalfClose => has_ended = true,
            Action::Close
            | Action::Reset
            | Action::Vanish
            | Action::Reboot
            | Action::Outage(..) => return None,
        }
    }
    let is_certain = is_reading && (has_ended || script.closes_after.is_none());
    let upload = script.messages.iter().map(Message::wire_len).sum();
    is_certain.then(|| (told.min(upload), has_ended))
}

/// What both peers get, if the script says so: if they only send, end with FIN or not at all, and
/// read everything, and at most one rule ends the connection. The peers have these bytes to send.
pub fn foretell(script: &RelayScript, uploads: [&[u8]; 2]) -> Option<[Foretold; 2]> {
    if script.is_refused {
        return None;
    }
    let mut directions = vec![];
    for to in RelaySide::BOTH {
        let source = to.other().index();
        let (len, has_ended) = planned(&script.peers[source])?;
        let (upload, faults) = (uploads[source], &script.faults[to.index()]);
        let mut model = StreamModel::of(&upload[..len], faults, script.format.as_ref());
        if has_ended {
            model.finish(len);
        }
        let (course, fired) = (course(&model, to, len, has_ended)?, model.fired(len).collect());
        directions.push((model.output, fired, course));
    }
    let courses: Vec<Course> = directions.iter().map(|(.., course)| *course).collect();
    let (ends, seen) = match (courses[0], courses[1]) {
        (Course::Imposed(_), Course::Imposed(_)) => return None,
        (Course::Imposed(seen), _) => (Some(RelaySide::Client), seen),
        (_, Course::Imposed(seen)) => (Some(RelaySide::Upstream), seen),
        _ => (None, SeenEnd::Fin),
    };
    let is_closed =
        courses.iter().all(|course| matches!(course, Course::Ended { has_ended: true, .. }));
    let foretold = RelaySide::BOTH.into_iter().zip(directions).map(|(side, direction)| {
        let (bytes, fired, course) = direction;
        let (is_exact, seen) = match (ends, course) {
            (Some(receiver), _) => {
                let is_receiver = receiver == side;
                (is_receiver, (is_receiver || seen == SeenEnd::Fin).then_some(seen))
            }
            (None, Course::Ended { is_fin_seen: true, .. }) => (true, Some(SeenEnd::Fin)),
            (None, _) => (true, Some(if is_closed { SeenEnd::Fin } else { SeenEnd::Open })),
        };
        Foretold { bytes, is_exact, fired, seen }
    });
    foretold.collect::<Vec<_>>().try_into().ok()
}

/// `None`: what the receiver sees of the end depends on what it still sends.
fn course(model: &StreamModel, to: RelaySide, len: usize, has_ended: bool) -> Option<Course> {
    let course = match model.gates().last().map(|gate| gate.kind) {
        Some(GateKind::Reset) => Course::Imposed(SeenEnd::Rst),
        Some(GateKind::Close) => Course::Imposed(SeenEnd::Fin),
        Some(GateKind::ResetSides(sides)) if sides[to.index()] => Course::Imposed(SeenEnd::Rst),
        // What it still sends is answered by RST.
        Some(GateKind::ResetSides(_)) => return None,
        Some(GateKind::Finish) => Course::Ended { is_fin_seen: true, has_ended },
        Some(GateKind::Hold) => Course::Open,
        Some(GateKind::Stall(_) | GateKind::Pattern(..) | GateKind::PatternEnd(_)) | None
            if has_ended =>
        {
            Course::Ended { is_fin_seen: !model.swallows_fin(len), has_ended }
        }
        Some(GateKind::Stall(_) | GateKind::Pattern(..) | GateKind::PatternEnd(_)) | None => {
            Course::Open
        }
    };
    Some(course)
}
