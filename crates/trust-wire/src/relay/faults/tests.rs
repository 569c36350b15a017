use alloc::collections::VecDeque;
use alloc::vec;
use core::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::format::LengthFormat;

/// What has become of a stream so far.
#[derive(Default)]
struct Model {
    output: Vec<u8>,
    gates: Vec<(u64, Gate)>,
    fired: Vec<FiredFault>,
    /// Frames that are kept: which one, what for, and their bytes.
    kept: Vec<(u64, KeptFor, Vec<u8>)>,
    /// What goes on, by its rule.
    begun: Vec<(usize, Begun)>,
}

/// What a rule has begun.
#[derive(Clone, Copy, PartialEq)]
enum Begun {
    /// So many bytes are dropped.
    Drop(u64),
    /// Frames before this one are dropped.
    DropBefore(u64),
    BlackHole,
    Pace,
    /// What does not change the output.
    Other,
}

impl Model {
    /// The output waits here.
    fn gate(&mut self, gate: Gate) {
        self.gates.push((self.output.len() as u64, gate));
    }

    /// What comes out from here on is sent at a pace.
    fn pace(&mut self, rule: usize, pace: SendPace) {
        self.gate(Gate::Pace(rule, pace));
        self.begun.push((rule, Begun::Pace));
    }

    /// So many more bytes are dropped.
    fn drop(&mut self, rule: usize, count: u64) {
        for (of, begun) in &mut self.begun {
            if let (true, Begun::Drop(left)) = (*of == rule, begun) {
                *left = left.saturating_add(count);
                return;
            }
        }
        self.begun.push((rule, Begun::Drop(count)));
    }

    /// Whether the next byte, which is of that frame, is dropped.
    fn drops_next(&mut self, frame: u64) -> bool {
        let mut is_dropped = false;
        for (_, begun) in &mut self.begun {
            match begun {
                Begun::DropBefore(before) => is_dropped |= frame < *before,
                Begun::BlackHole => is_dropped = true,
                Begun::Drop(_) | Begun::Pace | Begun::Other => {}
            }
        }
        let mut counts = self.begun.iter_mut().filter_map(|(_, begun)| match begun {
            Begun::Drop(left) if *left > 0 => Some(left),
            _ => None,
        });
        if let Some(left) = counts.next() {
            *left -= 1;
            is_dropped = true;
        }
        self.begun.retain(|(_, begun)| *begun != Begun::Drop(0));
        is_dropped
    }

    /// What a rule has begun ends in that frame; whether there was something.
    fn lift(&mut self, rule: usize, frame: u64) -> bool {
        let is_over = |begun: Begun| matches!(begun, Begun::DropBefore(it) if it <= frame);
        self.begun.retain(|(_, begun)| !is_over(*begun));
        let ended = self.begun.extract_if(.., |(of, _)| *of == rule);
        let ended: Vec<Begun> = ended.map(|(_, begun)| begun).collect();
        if ended.contains(&Begun::Pace) {
            self.gate(Gate::Unpace(rule));
        }
        !ended.is_empty()
    }

    /// A byte of that frame comes out, unless a frame from `keeper` on keeps it.
    fn put(&mut self, byte: u8, frame: u64, keeper: usize) {
        for (number, kept_for, bytes) in self.kept.iter_mut().skip(keeper) {
            if *number == frame {
                bytes.push(byte);
                if *kept_for != KeptFor::Duplicate {
                    return;
                }
            }
        }
        self.output.push(byte);
    }

    /// The header that is kept comes out, with its length changed if it is whole.
    fn release_header(&mut self, frame: u64, is_whole: bool) {
        for index in 0..self.kept.len() {
            let (_, kept_for, bytes) = &mut self.kept[index];
            let KeptFor::Length(by) = *kept_for else { continue };
            let mut bytes = core::mem::take(bytes);
            if is_whole && let Some(len) = bytes.get_mut(1) {
                *len = len.wrapping_add(by as u8);
            }
            bytes.into_iter().for_each(|byte| self.put(byte, frame, index + 1));
        }
        self.kept.retain(|(_, kept_for, _)| !matches!(kept_for, KeptFor::Length(_)));
    }

    /// Frames that wait for the start of this one come out.
    fn begin_frame(&mut self, frame: u64) {
        let is_due = |number: u64, kept_for: KeptFor| match kept_for {
            KeptFor::Duplicate => number < frame,
            KeptFor::Swap => number + 1 < frame,
            KeptFor::Length(_) => false,
        };
        for (number, kept_for, bytes) in core::mem::take(&mut self.kept) {
            match is_due(number, kept_for) {
                true => self.output.extend(bytes),
                false => self.kept.push((number, kept_for, bytes)),
            }
        }
    }

    /// What is kept comes out, because the stream goes no further.
    fn release(&mut self, frame: u64) {
        self.release_header(frame, false);
        for (_, kept_for, bytes) in core::mem::take(&mut self.kept) {
            if kept_for == KeptFor::Swap {
                self.output.extend(bytes);
            }
        }
    }
}

/// What becomes of a whole stream, byte by byte: the output with its gates, and what happened
/// where.
fn model(
    faults: &[RelayFault],
    stream: &[u8],
    ends: bool,
) -> (Vec<u8>, Vec<(u64, Gate)>, Vec<FiredFault>) {
    let mut model = Model::default();
    let mut is_over = false;
    let frames = frames_of(stream);
    // What is done to the next bytes, by each of those that are not done; `None`: nothing.
    let mut changes: Vec<VecDeque<Option<Changed>>> = vec![];
    // How often each of them can still happen, and where the next occurrence of a match can begin.
    let mut left: Vec<u64> = faults.iter().map(|fault| each(fault).1).collect();
    let mut search_from = vec![0; faults.len()];
    let mut lifted: Vec<usize> = vec![];
    for at in 0..=stream.len() {
        if let Some(index) = frames.iter().position(|(start, _)| start + 2 == at) {
            model.release_header(index as u64 + 1, true);
        }
        let current = frames.iter().rposition(|(start, _)| *start <= at).expect("the first one");
        let (number, in_frame) = (current as u64 + 1, (at - frames[current].0) as u64);
        if in_frame == 0 {
            model.begin_frame(number);
        }
        let mut due: Vec<(usize, &RelayFault)> = vec![];
        for (index, fault) in faults.iter().enumerate() {
            let (place, _) = each(fault);
            let cut_at = if let FaultAction::TruncateFrame(kept) = fault.action { kept } else { 0 };
            let is_due = match place {
                FaultPlace::Byte(place) => *place == at as u64,
                FaultPlace::EveryBytes(step) => at > 0 && (at as u64).is_multiple_of(*step),
                FaultPlace::RandomBytes(chance) => {
                    let part = at as u64 / 1024;
                    chance.hits(part) && draw(chance.seed, !part) % 1024 == at as u64 % 1024
                }
                FaultPlace::EveryFrames(step) => in_frame == cut_at && number.is_multiple_of(*step),
                FaultPlace::RandomFrames(chance) => in_frame == cut_at && chance.hits(number),
                FaultPlace::Match(bytes) => {
                    let searched = stream.get(search_from[index]..at).unwrap_or_default();
                    let is_here = !bytes.is_empty() && searched.ends_with(bytes);
                    if is_here {
                        search_from[index] = at;
                    }
                    is_here
                }
                FaultPlace::Frame { number, part: FramePart::Byte(0) } => {
                    let part = FramePart::Byte(cut_at);
                    place_in(&frames, *number, part, stream.len()) == Some(at)
                }
                FaultPlace::Frame { number, part } => {
                    place_in(&frames, *number, *part, stream.len()) == Some(at)
                }
                FaultPlace::End
                | FaultPlace::Time(_)
                | FaultPlace::Idle(_)
                | FaultPlace::First { .. } => false,
            };
            if is_due && left[index] > 0 {
                left[index] -= 1;
                due.push((fault.rule, fault));
            }
        }
        due.sort_by_key(|(_, fault)| order(fault));
        if at == stream.len() && ends {
            // What is due at the last byte comes before that.
            due.push((usize::MAX, &RELEASE));
            let is_at_end = |fault: &&RelayFault| {
                let (place, times) = each(fault);
                *place == FaultPlace::End && times > 0
            };
            let at_end = faults.iter().filter(is_at_end);
            let mut at_end: Vec<_> = at_end.map(|fault| (fault.rule, fault)).collect();
            at_end.sort_by_key(|(_, fault)| order(fault));
            due.extend(at_end);
        }
        for (rule, fault) in due {
            if is_over {
                continue;
            }
            if rule == usize::MAX {
                model.release(number);
                continue;
            }
            if matches!(fault.action, FaultAction::TruncateFrame(kept) if kept != in_frame) {
                continue;
            }
            if lifted.contains(&rule) {
                continue;
            }
            let is_lifted = fault.action == FaultAction::Lift;
            if is_lifted {
                lifted.push(rule);
            }
            if !is_lifted || model.lift(rule, number) {
                let (position, frame) = (at as u64, Some((number, in_frame)));
                model.fired.push(FiredFault { rule, position, frame, is_lifted });
            }
            if ends_all(&fault.action) || fault.action == FaultAction::BlackHole {
                model.release(number);
            }
            let mut keep = |kept_for: KeptFor| {
                if in_frame == 0 {
                    let before =
                        model.kept.partition_point(|(_, it, _)| it.rank() <= kept_for.rank());
                    model.kept.insert(before, (number, kept_for, vec![]));
                }
            };
            match &fault.action {
                FaultAction::Reset => model.gate(Gate::Reset),
                FaultAction::ResetSides(sides) => model.gate(Gate::ResetSides(*sides)),
                FaultAction::Finish => model.gate(Gate::Finish),
                FaultAction::Close => model.gate(Gate::Close),
                FaultAction::Stall(time) => model.gate(Gate::Stall(rule, *time)),
                FaultAction::Hold => model.gate(Gate::Hold),
                FaultAction::HoldUntil(time) => {
                    model.gate(Gate::Until(rule, Timestamp::default() + *time));
                }
                FaultAction::Lift => {}
                FaultAction::BlackHole => model.begun.push((rule, Begun::BlackHole)),
                FaultAction::Drop(0) => {}
                FaultAction::Drop(count) => model.drop(rule, *count),
                FaultAction::DropFrames(count) => {
                    model.begun.push((rule, Begun::DropBefore(number + count)));
                }
                FaultAction::TruncateFrame(_) => {
                    model.begun.push((rule, Begun::DropBefore(number + 1)));
                }
                FaultAction::Flip { bits, seed } => {
                    let mask = flip_mask(*bits, *seed, at as u64);
                    changes.push([Some(Changed::Xor(mask))].into());
                }
                FaultAction::Xor(bytes) => {
                    changes.push(bytes.iter().map(|it| Some(Changed::Xor(*it))).collect());
                }
                FaultAction::Set(bytes) => {
                    changes.push(bytes.iter().map(|it| Some(Changed::Set(*it))).collect());
                }
                FaultAction::Insert(bytes) => {
                    let keeper = if in_frame == 0 { usize::MAX } else { 0 };
                    bytes.iter().for_each(|byte| model.put(*byte, number, keeper));
                }
                FaultAction::SwallowFin | FaultAction::Window(_) => {
                    model.begun.push((rule, Begun::Other));
                }
                FaultAction::SetLength(value) => {
                    changes.push([None, Some(Changed::Set(*value as u8))].into());
                }
                FaultAction::AddLength(by) => keep(KeptFor::Length(*by)),
                FaultAction::DuplicateFrame => keep(KeptFor::Duplicate),
                FaultAction::SwapFrame => keep(KeptFor::Swap),
                FaultAction::Rate(bytes) => model.pace(rule, SendPace::rate(*bytes)),
                FaultAction::SharedRate(rate) => model.pace(rule, SendPace::shared(rate.clone())),
                FaultAction::Dribble { bytes, per } => {
                    model.pace(rule, SendPace::dribble(*bytes, *per));
                }
                FaultAction::Split { first, every } => {
                    let start = model.output.len() as u64;
                    model.pace(rule, SendPace::Split { first: *first, every: *every, start });
                }
                FaultAction::Slice { size, vary, per, seed } => {
                    model.pace(rule, SendPace::slice(*size, *vary, *per, *seed));
                }
                FaultAction::Merge { bytes, within } => {
                    model.pace(rule, SendPace::merge(*bytes, *within));
                }
                FaultAction::Delay { .. } => unreachable!("it depends on the time"),
            }
            is_over = model.gates.last().is_some_and(|(_, gate): &(u64, Gate)| gate.is_last());
        }
        let Some(byte) = stream.get(at) else { break };
        let mut byte = *byte;
        for change in &mut changes {
            match change.pop_front().flatten() {
                Some(Changed::Xor(with)) => byte ^= with,
                Some(Changed::Set(with)) => byte = with,
                None => {}
            }
        }
        if is_over {
            continue;
        }
        if !model.drops_next(number) {
            model.put(byte, number, 0);
        }
    }
    (model.output, model.gates, model.fired)
}

/// Where it happens, and how often at most.
fn each(fault: &RelayFault) -> (&FaultPlace, u64) {
    match &fault.place {
        FaultPlace::First { times, of } => (of, *times),
        place @ FaultPlace::Match(_) => (place, 1),
        place => (place, u64::MAX),
    }
}

/// In which order faults at one place happen.
fn order(fault: &RelayFault) -> (usize, bool) {
    (fault.rule, fault.action != FaultAction::Lift)
}

/// Stands for what comes out at the end of a stream.
static RELEASE: RelayFault =
    RelayFault { rule: usize::MAX, place: FaultPlace::End, action: FaultAction::SwallowFin };

/// Whether nothing comes after it.
fn ends_all(action: &FaultAction) -> bool {
    matches!(
        action,
        FaultAction::Reset
            | FaultAction::ResetSides(_)
            | FaultAction::Finish
            | FaultAction::Close
            | FaultAction::Hold
    )
}

/// What is done to a byte.
enum Changed {
    Xor(u8),
    Set(u8),
}

/// Where each frame begins, and ends if it is whole: its second byte is the length after that.
fn frames_of(stream: &[u8]) -> Vec<(usize, Option<usize>)> {
    let (mut frames, mut at) = (vec![], 0);
    loop {
        let end = stream.get(at + 1).map(|len| at + 2 + usize::from(*len));
        frames.push((at, end));
        match end {
            Some(end) if end <= stream.len() => at = end,
            _ => return frames,
        }
    }
}

/// Where that place is, if there is one.
fn place_in(
    frames: &[(usize, Option<usize>)],
    number: u64,
    part: FramePart,
    stream_len: usize,
) -> Option<usize> {
    let (start, end) = *frames.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
    let at = match part {
        FramePart::Byte(count) => start + count as usize,
        FramePart::Payload => end.map(|_| start + 2)?,
        FramePart::BeforeEnd(count) => {
            end?.checked_sub(count as usize).filter(|at| *at >= start + 2)?
        }
        FramePart::End => end?,
    };
    (at <= end.unwrap_or(usize::MAX) && at <= stream_len).then_some(at)
}

fn action() -> impl Strategy<Value = FaultAction> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..5).prop_map(Vec::into_boxed_slice);
    prop_oneof![
        1 => Just(FaultAction::Reset),
        1 => Just(FaultAction::Finish),
        1 => Just(FaultAction::Close),
        2 => (1..9_u64).prop_map(|time| FaultAction::Stall(Duration::from_millis(time))),
        1 => Just(FaultAction::Hold),
        1 => (1..9_u64).prop_map(|time| FaultAction::HoldUntil(Duration::from_millis(time))),
        2 => Just(FaultAction::BlackHole),
        4 => (0..9_u64).prop_map(FaultAction::Drop),
        4 => bytes().prop_map(FaultAction::Xor),
        4 => bytes().prop_map(FaultAction::Set),
        4 => bytes().prop_map(FaultAction::Insert),
        1 => Just(FaultAction::SwallowFin),
        1 => any::<u64>().prop_map(FaultAction::SetLength),
        1 => any::<[bool; 2]>().prop_map(FaultAction::ResetSides),
        2 => (1..4_u64).prop_map(FaultAction::DropFrames),
        3 => (0..5_u64).prop_map(FaultAction::TruncateFrame),
        2 => (1..9_u32, any::<u64>()).prop_map(|(bits, seed)| FaultAction::Flip { bits, seed }),
        3 => (-3..4_i64).prop_map(FaultAction::AddLength),
        3 => Just(FaultAction::DuplicateFrame),
        3 => Just(FaultAction::SwapFrame),
        1 => (1..5000_u64).prop_map(FaultAction::Rate),
        1 => (1..5000_u64).prop_map(|bytes| FaultAction::SharedRate(SharedRate::new(bytes))),
        1 => (1..9_u64, 1..9_u64).prop_map(|(first, more)| {
            FaultAction::Split { first, every: first + more }
        }),
        1 => (1..99_u64).prop_map(FaultAction::Window),
    ]
}

fn part() -> impl Strategy<Value = FramePart> {
    prop_oneof![
        (0..4_u64).prop_map(FramePart::Byte),
        Just(FramePart::Payload),
        (0..4_u64).prop_map(FramePart::BeforeEnd),
        Just(FramePart::End),
    ]
}

fn place() -> impl Strategy<Value = FaultPlace> {
    prop_oneof![
        4 => each_place(),
        1 => (0..4_u64, each_place()).prop_map(|(times, of)| {
            FaultPlace::First { times, of: Box::new(of) }
        }),
    ]
}

fn each_place() -> impl Strategy<Value = FaultPlace> {
    let found = prop::collection::vec(0..3_u8, 0..4).prop_map(Vec::into_boxed_slice);
    prop_oneof![
        4 => (0..50_u64).prop_map(FaultPlace::Byte),
        2 => found.prop_map(FaultPlace::Match),
        5 => (1..12_u64, part()).prop_map(|(number, part)| FaultPlace::Frame { number, part }),
        1 => Just(FaultPlace::End),
        1 => (1..20_u64).prop_map(FaultPlace::EveryBytes),
        2 => (1..5_u64).prop_map(FaultPlace::EveryFrames),
        1 => chance().prop_map(FaultPlace::RandomBytes),
        2 => chance().prop_map(FaultPlace::RandomFrames),
    ]
}

fn chance() -> impl Strategy<Value = Chance> {
    (0..1_000_001_u32, 0..9_u64).prop_map(|(per_million, seed)| Chance { per_million, seed })
}

fn faults() -> impl Strategy<Value = Vec<RelayFault>> {
    let until = prop::option::of(place());
    prop::collection::vec((place(), action(), until), 0..6).prop_map(|faults| {
        let mut all = vec![];
        for (rule, (place, action, until)) in faults.into_iter().enumerate() {
            all.push(RelayFault { rule, place, action });
            let lift = |place| RelayFault { rule, place, action: FaultAction::Lift };
            all.extend(until.map(lift));
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_happens_depends_on_the_bytes_and_not_on_how_they_are_cut(
        faults in faults(),
        stream in prop::collection::vec(0..3_u8, 0..60),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
        ends in any::<bool>(),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let format = LengthFormat::parse("u8").and_then(|format| format.with_offset(1));
        let format = format.map(FrameFormat::Length);
        let (mut flow, mut output) = (FaultFlow::new(faults.clone(), format), vec![]);
        flow.process(&[], &mut output);
        for piece in cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]) {
            if flow.pass(piece) {
                output.extend_from_slice(piece);
            } else {
                flow.process(piece, &mut output);
            }
        }
        if ends {
            flow.process_end(&mut output);
        }
        let gates: Vec<(u64, Gate)> = flow.timing.gates.iter().cloned().collect();
        let expected = model(&faults, &stream, ends);
        prop_assert_eq!((output.clone(), gates, flow.take_fired()), expected);
        prop_assert_eq!(flow.output, output.len() as u64);
        let whole = frames_of(&stream).len() as u64 - 1;
        prop_assert_eq!(flow.frames(), Some(whole));
    }
}

/// Whether a fault is the same wherever a stream begins.
fn is_alike_everywhere(fault: &RelayFault) -> bool {
    let (place, _) = each(fault);
    let is_timed = matches!(fault.action, FaultAction::HoldUntil(_) | FaultAction::Flip { .. });
    matches!(place, FaultPlace::Byte(_) | FaultPlace::Match(_) | FaultPlace::End) && !is_timed
}

proptest! {
    #[test]
    fn faults_that_are_armed_in_a_stream_do_what_they_do_from_its_start(
        faults in faults(),
        before in prop::collection::vec(0..3_u8, 0..20),
        stream in prop::collection::vec(0..3_u8, 0..60),
    ) {
        let faults: Vec<_> = faults.into_iter().filter(is_alike_everywhere).collect();
        let play = |mut flow: FaultFlow, mut output: Vec<u8>| {
            flow.process(&stream, &mut output);
            flow.process_end(&mut output);
            let is_pace = |gate: &Gate| matches!(gate, Gate::Pace(..));
            let gates = flow.timing.gates.iter().filter(|(_, gate)| !is_pace(gate));
            (output, gates.cloned().collect::<Vec<_>>(), flow.take_fired())
        };
        let (mut output, mut gates, mut fired) =
            play(FaultFlow::new(faults.clone(), None), vec![]);
        output.splice(0..0, before.iter().copied());
        gates.iter_mut().for_each(|(at, _)| *at += before.len() as u64);
        fired.iter_mut().for_each(|fired| fired.position += before.len() as u64);

        let (mut flow, mut passed) = (FaultFlow::new(vec![], None), vec![]);
        flow.process(&before, &mut passed);
        let later = |fault: RelayFault| fault.later(before.len() as u64, Duration::ZERO);
        let faults = faults.into_iter().map(later).collect();
        flow.rearm(&[], faults, before.len() as u64, &mut passed);
        prop_assert_eq!(play(flow, passed), (output, gates, fired));
    }

    #[test]
    fn faults_that_are_disarmed_leave_what_follows_as_it_is(
        faults in faults(),
        before in prop::collection::vec(0..3_u8, 0..20),
        stream in prop::collection::vec(0..3_u8, 0..60),
    ) {
        let rules: Vec<usize> = faults.iter().map(|fault| fault.rule).collect();
        let (mut flow, mut output) = (FaultFlow::new(faults, None), vec![]);
        flow.process(&before, &mut output);
        if flow.is_over() {
            return Ok(());
        }
        flow.rearm(&rules, vec![], 0, &mut output);
        flow.changes.clear();
        let passed = output.len();
        flow.process(&stream, &mut output);
        prop_assert_eq!(&output[passed..], &stream[..]);
        prop_assert!(!flow.needs_time() && flow.pass(&stream));
    }
}

#[test]
fn a_fault_that_is_far_away_leaves_bytes_where_they_are() {
    let far = RelayFault { rule: 0, place: FaultPlace::Byte(1 << 60), action: FaultAction::Reset };
    let mut flow = FaultFlow::new(vec![far], None);
    assert!(flow.pass(&[7; 1000]) && flow.pass(&[7; 1000]));
    assert_eq!(flow.output, 2000);
}

#[test]
fn bytes_are_found_across_pieces_and_only_once() {
    let found = RelayFault {
        rule: 7,
        place: FaultPlace::Match((*b"aab").into()),
        action: FaultAction::Insert((*b"!").into()),
    };
    let (mut flow, mut output) = (FaultFlow::new(vec![found], None), vec![]);
    for piece in [&b"xa"[..], b"aa", b"b aab"] {
        flow.process(piece, &mut output);
    }
    assert_eq!(output, b"xaaab! aab");
    assert_eq!(
        flow.take_fired(),
        [FiredFault { rule: 7, position: 5, frame: None, is_lifted: false }]
    );
}

#[test]
fn a_length_that_cannot_be_ends_the_frames_and_is_reported_once() {
    let format = LengthFormat::parse("u8+incl").map(FrameFormat::Length);
    let place = FaultPlace::Frame { number: 2, part: FramePart::Byte(0) };
    let at_second = RelayFault { rule: 0, place, action: FaultAction::Hold };
    let (mut flow, mut output) = (FaultFlow::new(vec![at_second], format), vec![]);
    flow.process(b"\0\x01\x01", &mut output);
    assert_eq!(flow.take_lost(), Some(LostFraming { frame: 1, position: 1 }));
    assert_eq!((flow.take_lost(), flow.frames(), flow.take_fired()), (None, Some(0), vec![]));
    assert!(flow.pass(b"and so on"));
}

#[test]
fn lines_are_frames_that_end_with_a_newline() {
    let end = |number| FaultPlace::Frame { number, part: FramePart::End };
    let insert =
        |rule, place| RelayFault { rule, place, action: FaultAction::Insert((*b"!").into()) };
    let in_second = FaultPlace::Frame { number: 2, part: FramePart::Byte(1) };
    let faults = vec![insert(0, end(1)), insert(1, in_second)];
    let (mut flow, mut output) = (FaultFlow::new(faults, Some(FrameFormat::Line)), vec![]);
    for piece in [&b"on"[..], b"e\ntw", b"o\nthree"] {
        flow.process(piece, &mut output);
    }
    assert_eq!(output, b"one\n!t!wo\nthree");
    assert_eq!(flow.frames(), Some(2));
}

#[test]
fn a_preface_is_no_frame_also_for_rules_about_many_frames() {
    let every = RelayFault {
        rule: 0,
        place: FaultPlace::EveryFrames(2),
        action: FaultAction::Insert((*b"!").into()),
    };
    let format = FrameFormat::Opened(FrameOpening::Preface(b"PRI"), LengthFormat::U32_BE);
    let (mut flow, mut output) = (FaultFlow::new(vec![every], Some(format)), vec![]);
    flow.process(b"PRI\0\0\0\x01a\0\0\0\x01b", &mut output);
    assert_eq!(output, b"PRI\0\0\0\x01a!\0\0\0\x01b");
}

#[test]
fn frames_that_are_only_followed_leave_nothing_to_remember() {
    let place = FaultPlace::EveryFrames(1);
    let every = RelayFault { rule: 0, place, action: FaultAction::Insert((*b"!").into()) };
    let mut flow = FaultFlow::new(vec![every], Some(FrameFormat::Line));
    (0..100).for_each(|_| flow.follow(b"line\n"));
    assert_eq!(flow.places.armed.len(), 0);
}

#[test]
fn the_end_of_the_last_frame_is_a_place_also_if_none_follows() {
    let end = FaultPlace::Frame { number: 1, part: FramePart::End };
    let next = FaultPlace::Frame { number: 2, part: FramePart::Byte(0) };
    let insert =
        |rule, place| RelayFault { rule, place, action: FaultAction::Insert((*b"!").into()) };
    let opening = FrameOpening::SingleBytes { refused: b'N', accepted: b"S" };
    let format = FrameFormat::Opened(opening, LengthFormat::U32_BE);
    let faults = vec![insert(0, end), insert(1, next)];
    let (mut flow, mut output) = (FaultFlow::new(faults, Some(format)), vec![]);
    flow.process(b"S\x16\x03", &mut output);
    assert_eq!(output, b"S!\x16\x03");
    assert_eq!(flow.take_lost(), Some(LostFraming { frame: 2, position: 1 }));
}
