//! What happens to a relay: a seed becomes two peers, their paths and faults, which can be shrunk.

use std::time::Duration;

use trust_wire::LengthFormat;
use trust_wire::relay::{Chance, FaultAction, FaultPlace, FrameFormat, FramePart, RelayFault};

use crate::rng::Rng;
use crate::script::{Action, ClientScript, Message, Step, spread};
use crate::shrink::{Change, Shrink, client_changes, halve};

/// The most bytes that one peer sends.
const UPLOAD_MAX: usize = 150_000;

/// About the most receives of a peer, and packets of a path: who is slow needs minutes, not hours.
const PIECES_MAX: usize = 100;

/// The frames of a script; most streams are not made for them.
const FORMATS: [&str; 4] = ["u8", "u8+incl", "u16be", "u32be"];

// Many fields: each can be varied on its own.
/// A whole simulation of one relayed connection.
#[derive(Clone, Debug)]
pub struct RelayScript {
    /// The client and the upstream.
    pub peers: [ClientScript; 2],
    /// There is no upstream.
    pub is_refused: bool,
    /// How frames are told apart.
    pub format: Option<FrameFormat>,
    /// The faults of what goes to the client, and of what goes to the upstream.
    pub faults: [Vec<RelayFault>; 2],
    /// Longest wait for delivery without progress.
    pub linger_timeout: Duration,
    /// Bytes received per call.
    pub receive_len: usize,
    /// Receives per turn.
    pub receives_per_turn: u32,
    /// Longest time between readiness and the relay noticing it.
    pub wake_delay: Duration,
    /// Longest time by which a deadline is noticed late.
    pub timer_delay: Duration,
    /// One in this many reports of readiness says more than is true.
    pub spurious_one_in: u64,
}

impl RelayScript {
    /// The script of `seed`.
    pub fn of(seed: u64) -> RelayScript {
        let mut rng = Rng::new(seed);
        let format = format(&mut rng);
        RelayScript::with_format(&mut rng, format)
    }

    /// One with these frames.
    pub(super) fn with_format(rng: &mut Rng, format: Option<FrameFormat>) -> RelayScript {
        let peers = [(); 2].map(|()| {
            let messages = messages(rng, format.as_ref());
            let mut peer = ClientScript::with_messages(rng, messages, true);
            peer.connects_at = Duration::ZERO;
            peer
        });
        let is_peaceful = rng.one_in(3);
        let mut script = RelayScript {
            peers,
            is_refused: rng.one_in(100),
            format,
            faults: [vec![], vec![]],
            linger_timeout: Duration::from_millis(rng.pick(&[0, 30, 2_000, 2_000, 10_000, 60_000])),
            receive_len: rng.pick(&[1, 7, 100, 1500, 65_536, 65_536]),
            receives_per_turn: rng.pick(&[1, 2, 16, 16]),
            wake_delay: spread(rng, &[0, 1, 1, 20, 3_000]),
            timer_delay: spread(rng, &[0, 1, 1, 20, 3_000]),
            spurious_one_in: rng.pick(&[2, 10, u64::MAX, u64::MAX]),
        };
        if is_peaceful {
            script.peers.iter_mut().for_each(|peer| make_peaceful(peer, rng));
        }
        let uploads = [0, 1].map(|peer: usize| script.peers[peer].upload());
        // A relay that receives single bytes needs some thousand calls, not a million.
        let longest = uploads.iter().map(Vec::len).max().unwrap_or(0);
        script.receive_len = script.receive_len.max(longest / 200);
        for (faults, upload) in script.faults.iter_mut().zip(uploads.iter().rev()) {
            *faults = random_faults(rng, upload, script.format.as_ref());
        }
        if rng.one_in(2) {
            for (faults, upload) in script.faults.iter_mut().zip(uploads.iter().rev()) {
                add_faults(rng, faults, upload, script.format.as_ref());
                if rng.one_in(2) {
                    faults.push(timing(rng, faults.len(), upload, script.format.is_some()));
                }
            }
        }
        script.keep_short(longest);
        for (faults, upload) in script.faults.iter_mut().zip(uploads.iter().rev()) {
            if rng.one_in(2) {
                limit_faults(rng, faults, upload, script.format.is_some());
            }
        }
        if script.is_refused {
            (script.faults, script.format) = ([vec![], vec![]], None);
        }
        script
    }
}

impl RelayScript {
    /// Has so many bytes, and those that faults add, go in not too many pieces.
    fn keep_short(&mut self, longest: usize) {
        let inserted = |fault: &RelayFault| match &fault.action {
            FaultAction::Insert(bytes) => {
                bytes.len() * if is_repeated(&fault.place) { 40 } else { 1 }
            }
            FaultAction::DuplicateFrame => longest,
            _ => 0,
        };
        let most = longest + self.faults.iter().flatten().map(inserted).sum::<usize>();
        let least = most / PIECES_MAX;
        for ClientScript { path, read_len, .. } in &mut self.peers {
            for len in [
                read_len,
                &mut path.segment,
                &mut path.server_send_buffer,
                &mut path.server_receive_buffer,
                &mut path.client_receive_buffer,
            ] {
                *len = (*len).max(least);
            }
        }
    }
}

/// Leaves a peer nothing but to send, to pause and to end with FIN.
fn make_peaceful(peer: &mut ClientScript, rng: &mut Rng) {
    let is_harmless = |step: &Step| {
        matches!(step.action, Action::Send(_) | Action::StopReading | Action::StartReading)
    };
    peer.steps.retain(is_harmless);
    let last = peer.steps.iter().rposition(|step| matches!(step.action, Action::StartReading));
    let mut index = 0;
    peer.steps.retain(|step| {
        index += 1;
        !matches!(step.action, Action::StopReading) || Some(index) <= last
    });
    if rng.one_in(8) {
        peer.closes_after = None;
    } else {
        let after = spread(rng, &[0, 0, 50, 10_000]);
        peer.steps.push(Step { after, action: Action::HalfClose });
    }
}

fn format(rng: &mut Rng) -> Option<FrameFormat> {
    if rng.one_in(3) {
        return None;
    }
    if rng.one_in(4) {
        return Some(FrameFormat::Line);
    }
    let format = LengthFormat::parse(rng.pick(&FORMATS)).expect("a format");
    let format = format.with_offset(rng.pick(&[0, 0, 0, 1, 3])).unwrap_or(format);
    let format = format.with_adjust(rng.pick(&[0, 0, 0, -1, -4, 2])).unwrap_or(format);
    Some(FrameFormat::Length(format))
}

fn messages(rng: &mut Rng, format: Option<&FrameFormat>) -> Vec<Message> {
    let (mut messages, mut left) = (vec![], UPLOAD_MAX);
    let longest = rng.pick(&[1, 20, 20, 600, 3_000, 3_000]);
    let longest = if rng.one_in(16) { 70_000 } else { longest };
    for _ in 0..rng.pick(&[0, 1, 1, 2, 5, 5, 20]) {
        let len = rng.size(0..=longest);
        let message = match (format, rng.within(0..=11)) {
            (_, 0) => Message::Text(len),
            (None, 1..=6) => Message::Letters(len),
            (Some(FrameFormat::Line), 1..=9) => Message::Line(len),
            (Some(FrameFormat::Length(format)), 1..=9) if format.width() == 4 => {
                Message::Frame(len)
            }
            (_, 11) => Message::Header(rng.bits() as u32),
            _ => Message::Bytes(len),
        };
        if message.wire_len() > left {
            break;
        }
        left -= message.wire_len();
        messages.push(message);
    }
    messages
}

fn random_faults(rng: &mut Rng, upload: &[u8], format: Option<&FrameFormat>) -> Vec<RelayFault> {
    let count = rng.pick(&[0, 0, 0, 1, 1, 2, 3, 6]);
    let mut faults: Vec<RelayFault> = (0..count)
        .map(|rule| {
            let action = action(rng);
            let place = match action {
                FaultAction::SetLength(_) => {
                    FaultPlace::Frame { number: rng.within(1..=6), part: FramePart::Byte(0) }
                }
                _ => place(rng, upload, format.is_some()),
            };
            RelayFault { rule, place, action }
        })
        .collect();
    // A length has to be that of a frame.
    let has_length = matches!(format, Some(FrameFormat::Length(_)));
    faults.retain(|fault| has_length || !matches!(fault.action, FaultAction::SetLength(_)));
    faults
}

/// Whether there can be many of them.
fn is_repeated(place: &FaultPlace) -> bool {
    matches!(
        place,
        FaultPlace::EveryBytes(_)
            | FaultPlace::EveryFrames(_)
            | FaultPlace::RandomBytes(_)
            | FaultPlace::RandomFrames(_)
    )
}

/// Adds faults to frames as a whole, and at places of which there are many.
fn add_faults(
    rng: &mut Rng,
    faults: &mut Vec<RelayFault>,
    upload: &[u8],
    format: Option<&FrameFormat>,
) {
    let has_length = matches!(format, Some(FrameFormat::Length(_)));
    for _ in 0..rng.pick(&[0, 1, 1, 2, 3]) {
        let mut action = match rng.within(0..=10) {
            0 => FaultAction::ResetSides(rng.pick(&[[true, false], [false, true], [true; 2]])),
            1 if rng.one_in(2) => FaultAction::DropFrames(rng.pick(&[1, 1, 2, 5])),
            1 => FaultAction::TruncateFrame(rng.pick(&[1, 2, 4, 5, 20, 300])),
            2 => FaultAction::Flip { bits: rng.pick(&[1, 2, 8]), seed: rng.bits() },
            3 | 4 if has_length => FaultAction::AddLength(rng.pick(&[1, -1, 3, 256, i64::MIN])),
            5 | 6 => FaultAction::DuplicateFrame,
            7 | 8 => FaultAction::SwapFrame,
            9 => FaultAction::Window(rng.pick(&[100, 1500, 30_000])),
            _ => action(rng),
        };
        let chance =
            Chance { per_million: rng.pick(&[1_000, 200_000, 1_000_000]), seed: rng.bits() };
        let is_of_a_frame = matches!(
            action,
            FaultAction::SetLength(_)
                | FaultAction::AddLength(_)
                | FaultAction::DuplicateFrame
                | FaultAction::SwapFrame
                | FaultAction::TruncateFrame(_)
        );
        let place = match rng.within(0..=5) {
            0 | 1 if format.is_some() => FaultPlace::EveryFrames(rng.pick(&[1, 2, 2, 3, 10])),
            2 if format.is_some() => FaultPlace::RandomFrames(chance),
            _ if is_of_a_frame => {
                FaultPlace::Frame { number: rng.within(1..=6), part: FramePart::Byte(0) }
            }
            3 => FaultPlace::RandomBytes(chance),
            4 => FaultPlace::EveryBytes(rng.pick(&[1, 7, 100, 1000]).max(upload.len() as u64 / 40)),
            _ => place(rng, upload, format.is_some()),
        };
        if matches!(action, FaultAction::SetLength(_)) && !has_length {
            continue;
        }
        if is_repeated(&place) {
            bound(&mut action);
        }
        let index = rng.size(0..=faults.len());
        faults.insert(index, RelayFault { rule: 0, place, action });
    }
    for (rule, fault) in faults.iter_mut().enumerate() {
        fault.rule = rule;
    }
}

/// Has some faults happen a few times only, and end somewhere.
fn limit_faults(rng: &mut Rng, faults: &mut Vec<RelayFault>, upload: &[u8], has_frames: bool) {
    let mut lifts = vec![];
    for fault in faults.iter_mut() {
        let can_repeat = is_repeated(&fault.place) || matches!(fault.place, FaultPlace::Match(_));
        if can_repeat && rng.one_in(3) {
            bound(&mut fault.action);
            let of = Box::new(fault.place.clone());
            fault.place = FaultPlace::First { times: rng.pick(&[0, 1, 2, 3, 10]), of };
        }
        if rng.one_in(3) {
            let (rule, place) = (fault.rule, place(rng, upload, has_frames));
            lifts.push(RelayFault { rule, place, action: FaultAction::Lift });
        }
    }
    faults.append(&mut lifts);
}

/// Has bytes wait, or sends them in other pieces, but not in more than a few hundred.
fn timing(rng: &mut Rng, rule: usize, upload: &[u8], has_frames: bool) -> RelayFault {
    let len = upload.len() as u64;
    let bytes = rng.pick(&[1, 2, 100, 3_000]).max(len / 100);
    let action = match rng.within(0..=5) {
        0 | 1 => {
            let time = spread(rng, &[1, 100, 5_000]);
            FaultAction::Delay { time, jitter: Duration::ZERO, seed: 0 }
        }
        2 => FaultAction::Rate(rng.pick(&[1, 30, 2_000, 100_000]).max(if len > 200 {
            5 * len
        } else {
            1
        })),
        3 => FaultAction::Dribble { bytes, per: spread(rng, &[1, 100, 2_000]) },
        4 => FaultAction::Split { first: bytes, every: bytes * rng.pick(&[1, 2, 5]) },
        _ => FaultAction::Merge { bytes, within: spread(rng, &[1, 100, 2_000]) },
    };
    RelayFault { rule, place: place(rng, upload, has_frames), action }
}

/// Has what happens again and again be short.
fn bound(action: &mut FaultAction) {
    match action {
        FaultAction::Stall(time) => *time = (*time).min(Duration::from_millis(10)),
        FaultAction::Xor(bytes) | FaultAction::Set(bytes) | FaultAction::Insert(bytes) => {
            *bytes = bytes[..bytes.len().min(5)].into();
        }
        _ => {}
    }
}

fn place(rng: &mut Rng, upload: &[u8], has_frames: bool) -> FaultPlace {
    match rng.within(0..=9) {
        0 => FaultPlace::End,
        1 | 2 if !upload.is_empty() => {
            let start = rng.size(0..=upload.len() - 1);
            let len = rng.size(1..=8).min(upload.len() - start);
            FaultPlace::Match(upload[start..start + len].into())
        }
        3..=6 if has_frames => {
            let part = match rng.within(0..=5) {
                0 => FramePart::End,
                1 => FramePart::Payload,
                2 => FramePart::BeforeEnd(rng.within(0..=6)),
                _ => FramePart::Byte(rng.pick(&[0, 0, 1, 2, 4, 5, 20, 300])),
            };
            FaultPlace::Frame { number: rng.pick(&[1, 1, 2, 3, 5]), part }
        }
        7 => FaultPlace::Byte(rng.pick(&[0, 0, 1, 2, 100, 65_536])),
        _ => FaultPlace::Byte(rng.size(0..=upload.len() + 1) as u64),
    }
}

fn action(rng: &mut Rng) -> FaultAction {
    let bytes = |rng: &mut Rng| -> Box<[u8]> {
        let len = rng.pick(&[1, 2, 5, 5, 300, 3_000]);
        (0..len).map(|_| rng.bits() as u8).collect()
    };
    match rng.within(0..=15) {
        0 | 1 => FaultAction::Reset,
        2 => FaultAction::Finish,
        3 => FaultAction::Close,
        4 | 5 => FaultAction::Stall(spread(rng, &[0, 10, 1_000, 10_000])),
        6 => FaultAction::Hold,
        7 => FaultAction::BlackHole,
        8 | 9 => FaultAction::Drop(rng.pick(&[0, 1, 2, 100, 10_000])),
        10 => FaultAction::Xor(bytes(rng)),
        11 => FaultAction::Set(bytes(rng)),
        12 | 13 => FaultAction::Insert(bytes(rng)),
        14 => FaultAction::SwallowFin,
        _ => FaultAction::SetLength(rng.pick(&[0, 1, 255, 65_536, u64::MAX])),
    }
}

impl Shrink for RelayScript {
    fn changes(&self) -> Vec<Change<RelayScript>> {
        let mut changes: Vec<Change<RelayScript>> = vec![];
        let mut add = |change: Change<RelayScript>| changes.push(change);
        for (to, faults) in self.faults.iter().enumerate() {
            for fault in 0..faults.len() {
                add(Box::new(move |script| {
                    script.faults[to].remove(fault);
                }));
            }
        }
        add(Box::new(|script| script.format = None));
        add(Box::new(|script| script.spurious_one_in = u64::MAX));
        add(Box::new(|script| script.wake_delay = Duration::ZERO));
        add(Box::new(|script| script.timer_delay = Duration::ZERO));
        add(Box::new(|script| script.receive_len = 1 << 16));
        add(Box::new(|script| script.receives_per_turn = 16));
        let peers: Vec<&ClientScript> = self.peers.iter().collect();
        changes.extend(client_changes(&peers));
        for (to, faults) in self.faults.iter().enumerate() {
            for fault in 0..faults.len() {
                changes.push(Box::new(move |script| {
                    let RelayFault { place, action, .. } = &mut script.faults[to][fault];
                    match place {
                        FaultPlace::Byte(at) => *at /= 2,
                        FaultPlace::Frame { part: FramePart::Byte(at), .. } => *at /= 2,
                        _ => {}
                    }
                    if let FaultAction::Stall(time) = action {
                        halve(time);
                    }
                }));
            }
        }
        changes
    }

    fn client_mut(&mut self, index: usize) -> &mut ClientScript {
        &mut self.peers[index]
    }
}
