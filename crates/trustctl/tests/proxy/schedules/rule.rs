//! The faults of a script as rules of the proxy.

use std::fmt::Write;

use trust_sim::relay::script::RelayScript;
use trust_wire::relay::{FaultAction, FaultPlace, FramePart, RelayFault};

/// The rules of a connection, one per line.
pub(super) fn texts(connection: u64, script: &RelayScript) -> String {
    let mut texts = String::new();
    for (direction, faults) in ["down", "up"].into_iter().zip(&script.faults) {
        let is_lift = |fault: &&RelayFault| fault.action == FaultAction::Lift;
        for RelayFault { rule, action, place } in faults.iter().filter(|fault| !is_lift(fault)) {
            let (action, place) = (action_text(action), place_text(place));
            let lift = faults.iter().filter(is_lift).find(|lift| lift.rule == *rule);
            let until = lift.map(|lift| format!("until {} ", place_text(&lift.place)));
            let until = until.unwrap_or_default();
            writeln!(texts, "conn {connection}: {action} @ {place} {until}{direction}")
                .expect("memory");
        }
    }
    texts
}

fn action_text(action: &FaultAction) -> String {
    match action {
        FaultAction::Reset => "rst".to_owned(),
        FaultAction::Finish => "fin early".to_owned(),
        FaultAction::Close => "close".to_owned(),
        FaultAction::Stall(time) => format!("stall {}ms", time.as_millis()),
        FaultAction::Hold => "hold".to_owned(),
        FaultAction::BlackHole => "black-hole".to_owned(),
        FaultAction::Drop(count) => format!("drop {count} bytes"),
        FaultAction::Xor(bytes) => format!("xor {}", hexadecimal(bytes)),
        FaultAction::Set(bytes) => format!("set {}", hexadecimal(bytes)),
        FaultAction::Insert(bytes) => format!("insert {}", hexadecimal(bytes)),
        FaultAction::SwallowFin => "swallow fin".to_owned(),
        FaultAction::SetLength(value) => format!("length = {value}"),
        FaultAction::ResetSides([true, true]) => "rst both".to_owned(),
        FaultAction::ResetSides([true, _]) => "rst client".to_owned(),
        FaultAction::ResetSides(_) => "rst server".to_owned(),
        FaultAction::DropFrames(count) => format!("drop {count} frames"),
        FaultAction::TruncateFrame(kept) => format!("truncate {kept}"),
        FaultAction::AddLength(by) if *by < 0 => format!("length - {}", by.unsigned_abs()),
        FaultAction::AddLength(by) => format!("length + {by}"),
        FaultAction::DuplicateFrame => "dup frame".to_owned(),
        FaultAction::SwapFrame => "swap frame".to_owned(),
        FaultAction::Window(bytes) => format!("window {bytes}"),
        FaultAction::HoldUntil(_)
        | FaultAction::Lift
        | FaultAction::Flip { .. }
        | FaultAction::Delay { .. }
        | FaultAction::Rate(_)
        | FaultAction::SharedRate(_)
        | FaultAction::Dribble { .. }
        | FaultAction::Split { .. }
        | FaultAction::Slice { .. }
        | FaultAction::Merge { .. } => unreachable!("no schedule has such actions"),
    }
}

fn place_text(place: &FaultPlace) -> String {
    match place {
        FaultPlace::Byte(at) => format!("byte {at}"),
        FaultPlace::Match(bytes) => format!("match {}", hexadecimal(bytes)),
        FaultPlace::End => "eof".to_owned(),
        FaultPlace::Frame { number, part } => match part {
            FramePart::Byte(at) => format!("frame {number} byte {at}"),
            FramePart::Payload => format!("frame {number} payload"),
            FramePart::BeforeEnd(count) => format!("frame {number} -{count}"),
            FramePart::End => format!("frame {number} end"),
        },
        FaultPlace::EveryBytes(step) => format!("every {step} bytes"),
        FaultPlace::EveryFrames(step) => format!("every {step} frames"),
        FaultPlace::First { times, of } => format!("{} {times} times", place_text(of)),
        FaultPlace::RandomBytes(_)
        | FaultPlace::RandomFrames(_)
        | FaultPlace::Time(_)
        | FaultPlace::Idle(_) => unreachable!("no schedule has such places"),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = "0x".to_owned();
    bytes.iter().for_each(|byte| write!(text, "{byte:02x}").expect("memory"));
    text
}
