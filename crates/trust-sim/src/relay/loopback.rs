//! A seed's script, to be played in real time over loopback through a real proxy.

use std::time::Duration;

use trust_wire::relay::{FaultAction, FaultPlace, FrameFormat, FramePart, RelayFault};

use super::script::RelayScript;
use crate::rng::Rng;
use crate::script::{Action, ClientScript};

/// How many times shorter all times are than in the simulation.
const FASTER: u32 = 50;

/// The longest time between two steps of a peer, and the longest stall.
const WAIT_MAX: Duration = Duration::from_millis(50);

impl RelayScript {
    /// The script of `seed` with these frames, and with every time as short as real time can
    /// afford. Nothing happens to hosts and paths, and every peer reads to the end.
    pub fn on_loopback(seed: u64, format: Option<FrameFormat>) -> RelayScript {
        let mut script = RelayScript::with_format(&mut Rng::new(seed), format.clone());
        script.is_refused = false;
        script.peers.iter_mut().for_each(shorten);
        for faults in &mut script.faults {
            faults.retain(|fault| can_be_said(fault, format.as_ref()));
            let can_end: Vec<usize> =
                faults.iter().filter(|fault| can_end(fault)).map(|fault| fault.rule).collect();
            faults.retain(|it| it.action != FaultAction::Lift || can_end.contains(&it.rule));
            for RelayFault { action, place, .. } in faults {
                match action {
                    FaultAction::Stall(time) => *time = whole_ms((*time / FASTER).min(WAIT_MAX)),
                    FaultAction::Drop(count) => *count = (*count).max(1),
                    FaultAction::AddLength(by) => *by = (*by).max(-1000),
                    _ => {}
                }
                if let FaultPlace::Frame { part: FramePart::BeforeEnd(count), .. } = place {
                    *count = (*count).max(1);
                }
            }
        }
        // The FIN of who is held is not seen, so only a RST could end that connection.
        let is_hold = |fault: &RelayFault| fault.action == FaultAction::Hold;
        if script.faults.iter().flatten().any(is_hold) {
            for peer in &mut script.peers {
                peer.closes_after = None;
                peer.steps.retain(|step| !matches!(step.action, Action::Close));
            }
        }
        script
    }
}

fn shorten(peer: &mut ClientScript) {
    peer.read_gap = Duration::ZERO;
    peer.closes_after = peer.closes_after.map(|after| (after / FASTER).min(WAIT_MAX));
    peer.steps.retain(|step| {
        !matches!(step.action, Action::Vanish | Action::Reboot | Action::Outage(..))
    });
    for step in &mut peer.steps {
        step.after = (step.after / FASTER).min(WAIT_MAX);
    }
    let is_start = |action: Action| matches!(action, Action::StartReading);
    let is_stop = |action: Action| matches!(action, Action::StopReading);
    let last = peer.steps.iter().rposition(|step| is_start(step.action)).unwrap_or(0);
    let mut index = 0;
    peer.steps.retain(|step| {
        index += 1;
        !is_stop(step.action) || index <= last
    });
}

/// Whether a rule of the proxy can say it.
fn can_be_said(fault: &RelayFault, format: Option<&FrameFormat>) -> bool {
    // What is drawn depends on the seed of the proxy.
    let (place, times) = match &fault.place {
        FaultPlace::First { times, of } => (&**of, Some(*times)),
        place => (place, None),
    };
    let is_drawn = matches!(fault.action, FaultAction::Flip { .. })
        || matches!(place, FaultPlace::RandomBytes(_) | FaultPlace::RandomFrames(_));
    let is_in_frame = matches!(place, FaultPlace::Frame { .. } | FaultPlace::EveryFrames(_));
    let is_repeated = matches!(place, FaultPlace::EveryBytes(_) | FaultPlace::EveryFrames(_));
    let is_sensible = match fault.action {
        _ if times == Some(0) => false,
        FaultAction::Lift => !is_repeated && *place != FaultPlace::End,
        FaultAction::DropFrames(_) => is_in_frame,
        FaultAction::Window(_) => !is_repeated && times.is_none(),
        // Real time is late.
        FaultAction::Delay { .. }
        | FaultAction::Rate(_)
        | FaultAction::Dribble { .. }
        | FaultAction::Split { .. }
        | FaultAction::Slice { .. }
        | FaultAction::Merge { .. } => false,
        _ => true,
    };
    if is_drawn || !is_sensible || is_in_frame && format.is_none() {
        return false;
    }
    let needs_length =
        matches!(
            place,
            FaultPlace::Frame { part: FramePart::Payload | FramePart::BeforeEnd(_), .. }
        ) || matches!(fault.action, FaultAction::SetLength(_) | FaultAction::AddLength(_));
    !needs_length || matches!(format, Some(FrameFormat::Length(_)))
}

/// Whether a rule of the proxy can say where it ends.
fn can_end(fault: &RelayFault) -> bool {
    match fault.action {
        FaultAction::Hold | FaultAction::Lift => false,
        FaultAction::BlackHole
        | FaultAction::SwallowFin
        | FaultAction::Drop(_)
        | FaultAction::DropFrames(_)
        | FaultAction::Window(_) => true,
        _ => matches!(
            fault.place,
            FaultPlace::First { .. }
                | FaultPlace::Match(_)
                | FaultPlace::EveryBytes(_)
                | FaultPlace::EveryFrames(_)
        ),
    }
}

/// Whole milliseconds, so that a rule can express it exactly.
fn whole_ms(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}
