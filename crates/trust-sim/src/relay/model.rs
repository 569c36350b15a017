//! What becomes of one direction's stream, told a second time: byte by byte, from the whole stream,
//! without pieces and without a clock.

use trust_wire::relay::{
    FaultAction, FaultPlace, FiredFault, FrameFormat, FramePart, LostFraming, RelayFault, draw,
    flip_mask,
};

mod frames;
mod gate;
mod kept;

use self::frames::{FrameSpan, Frames};
use self::kept::{HeldFor, HeldFrames};

pub use self::gate::{GateKind, ModelDelay, ModelGate, SendPattern};

// Many fields: each says one thing that can be compared.
/// One direction of a relay.
#[derive(Debug)]
pub struct StreamModel {
    source: ModelInput,
    /// All bytes that can come out.
    pub output: Vec<u8>,
    /// How many of them after each number of bytes from the source.
    due: Vec<usize>,
    /// What happens, in order.
    fired: Vec<Happening<FiredFault>>,
    /// Where the output waits or ends, in order.
    gates: Vec<Happening<ModelGate>>,
    /// From where on each of these holds.
    drops_all: Option<usize>,
    is_over: Option<usize>,
    swallows_fin: Option<usize>,
    frames: Frames,
    /// Bytes that rules have put in.
    inserted: usize,
    windows: Vec<Happening<u64>>,
    delays: Vec<Happening<ModelDelay>>,
    state: PlayState,
}

/// What the model is of.
#[derive(Clone, Debug)]
struct ModelInput {
    stream: Vec<u8>,
    faults: Vec<RelayFault>,
    format: Option<FrameFormat>,
}

/// How the source's stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceEnd {
    /// Not at all.
    Open,
    Fin,
    Failed,
}

/// What becomes of the next bytes.
#[derive(Debug, Default)]
struct PlayState {
    changes: Vec<ByteEdit>,
    drop: u64,
    /// All of the frames before this one are dropped.
    drop_before: u64,
    held: HeldFrames,
}

/// Something that happens after a number of bytes from the source.
#[derive(Clone, Debug)]
struct Happening<T> {
    position: usize,
    what: T,
}

/// A change of the bytes that come next.
#[derive(Debug)]
struct ByteEdit {
    skip: usize,
    with: Vec<u8>,
    is_xor: bool,
}

impl ByteEdit {
    /// Changes the next byte.
    fn change(&mut self, byte: &mut u8) {
        if self.skip > 0 {
            self.skip -= 1;
        } else if !self.with.is_empty() {
            let with = self.with.remove(0);
            *byte = if self.is_xor { *byte ^ with } else { with };
        }
    }
}

impl StreamModel {
    /// What becomes of a stream with these faults.
    pub fn of(stream: &[u8], faults: &[RelayFault], format: Option<&FrameFormat>) -> StreamModel {
        let (stream, faults, format) = (stream.to_vec(), faults.to_vec(), format.cloned());
        StreamModel::play(ModelInput { stream, faults, format }, SourceEnd::Open)
    }

    /// The source's stream ended with FIN after its first `received` bytes.
    pub fn finish(&mut self, received: usize) {
        self.end(received, SourceEnd::Fin);
    }

    /// The source failed after so many bytes, in place of all of them.
    pub fn fail(&mut self, received: usize) {
        self.end(received, SourceEnd::Failed);
    }

    fn end(&mut self, received: usize, end: SourceEnd) {
        let mut source = self.source.clone();
        source.stream.truncate(received);
        *self = StreamModel::play(source, end);
    }

    fn play(source: ModelInput, end: SourceEnd) -> StreamModel {
        let ModelInput { stream, faults, format } = source.clone();
        let frames = Frames::of(&stream, format.as_ref());
        let mut model = StreamModel {
            source,
            output: vec![],
            due: vec![],
            fired: vec![],
            gates: vec![],
            drops_all: None,
            is_over: None,
            swallows_fin: None,
            frames,
            inserted: 0,
            windows: vec![],
            delays: vec![],
            state: PlayState::default(),
        };
        let mut places: Vec<(usize, usize, &FaultAction)> = vec![];
        for RelayFault { rule, place, action } in &faults {
            let positions = model.places(&stream, place, action);
            places.extend(positions.into_iter().map(|position| (position, *rule, action)));
        }
        places.sort_by_key(|(position, rule, _)| (*position, *rule));
        let mut next = places.into_iter().peekable();
        for position in 0..=stream.len() {
            model.reach(position);
            while let Some((_, rule, action)) = next.next_if(|(at, ..)| *at == position) {
                model.happen(position, rule, action);
            }
            model.due.push(model.output.len());
            if let Some(byte) = stream.get(position) {
                model.pass(position, *byte);
            }
        }
        model.play_end(&faults, end);
        model
    }

    fn play_end(&mut self, faults: &[RelayFault], end: SourceEnd) {
        let last = self.due.len() - 1;
        if end != SourceEnd::Open && self.is_over.is_none() {
            self.release(last);
        }
        if end == SourceEnd::Fin {
            let mut at_end: Vec<&RelayFault> =
                faults.iter().filter(|fault| fault.place == FaultPlace::End).collect();
            at_end.sort_by_key(|fault| fault.rule);
            for RelayFault { rule, action, .. } in at_end {
                self.happen(last, *rule, action);
            }
        }
        self.due[last] = self.output.len();
    }

    /// After how many bytes of the stream an action is to happen, each time.
    fn places(&self, stream: &[u8], place: &FaultPlace, action: &FaultAction) -> Vec<usize> {
        // A frame is cut after the bytes that it keeps.
        let kept = if let FaultAction::TruncateFrame(kept) = action { *kept } else { 0 };
        let begins = |is_hit: &dyn Fn(u64) -> bool| {
            let spans = self.frames.spans.iter().zip(1..);
            let hit = spans.filter(|(_, number)| is_hit(*number));
            hit.map(|(span, _)| span.start + kept as usize).collect()
        };
        match place {
            FaultPlace::Byte(at) => usize::try_from(*at).into_iter().collect(),
            FaultPlace::Match(bytes) if bytes.is_empty() => vec![],
            FaultPlace::Match(bytes) => {
                let found = stream.windows(bytes.len()).position(|window| *window == **bytes);
                found.map(|start| start + bytes.len()).into_iter().collect()
            }
            FaultPlace::Frame { number, part: FramePart::Byte(0) } => {
                self.frames.place(*number, FramePart::Byte(kept)).into_iter().collect()
            }
            FaultPlace::Frame { number, part } => {
                self.frames.place(*number, *part).into_iter().collect()
            }
            FaultPlace::End => vec![],
            FaultPlace::EveryBytes(step) => {
                (1..=stream.len()).filter(|at| (*at as u64).is_multiple_of(*step)).collect()
            }
            FaultPlace::RandomBytes(chance) => {
                let hit = (0..=stream.len() as u64 / 1024).filter(|kib| chance.hits(*kib));
                let at = hit.map(|kib| kib * 1024 + draw(chance.seed, !kib) % 1024);
                at.map(|at| at as usize).filter(|at| *at <= stream.len()).collect()
            }
            FaultPlace::EveryFrames(step) => begins(&|number| number.is_multiple_of(*step)),
            FaultPlace::RandomFrames(chance) => begins(&|number| chance.hits(number)),
            FaultPlace::Time(_) | FaultPlace::Idle(_) => {
                unreachable!("no script has such places")
            }
        }
    }

    /// Has what was held back until here come out.
    fn reach(&mut self, position: usize) {
        let PlayState { held, drop_before, .. } = &mut self.state;
        let before = position.checked_sub(1).and_then(|before| self.frames.number(before));
        if let Some(number) = before {
            let FrameSpan { payload, is_lost, .. } = self.frames.spans[number as usize - 1];
            if payload == Some(position) && !is_lost {
                let format = self.source.format.as_ref();
                held.end_header(Some(number), format, &mut self.output);
            } else if payload == Some(position) {
                held.release(None, &mut self.output);
                *drop_before = 0;
            }
        }
        if let Some((number, 0)) = self.frames.at(position) {
            if *drop_before <= number {
                *drop_before = 0;
            }
            held.begin(number, &mut self.output);
        }
    }

    fn release(&mut self, position: usize) {
        let frame = self.frames.at(position).map(|(number, _)| number);
        self.state.held.release(frame, &mut self.output);
    }

    /// A byte comes.
    fn pass(&mut self, position: usize, byte: u8) {
        if self.drops_all.is_some() {
            return;
        }
        let PlayState { changes, drop, drop_before, held } = &mut self.state;
        let mut byte = byte;
        changes.iter_mut().for_each(|change| change.change(&mut byte));
        changes.retain(|change| !change.with.is_empty());
        let is_dropped = *drop > 0 || *drop_before > 0;
        *drop = drop.saturating_sub(1);
        if !is_dropped {
            let frame = self.frames.at(position).map(|(number, _)| number);
            held.put(byte, frame, &mut self.output);
        }
    }

    /// An action happens, unless all is over.
    fn happen(&mut self, position: usize, rule: usize, action: &FaultAction) {
        if self.is_over.is_some() {
            return;
        }
        let frame = self.frames.at(position);
        if let FaultAction::TruncateFrame(kept) = action
            && frame.is_none_or(|(_, byte)| byte != *kept)
        {
            // It is whole already.
            return;
        }
        let what = FiredFault { rule, position: position as u64, frame };
        self.fired.push(Happening { position, what });
        let begun = frame.filter(|(_, byte)| *byte == 0).map(|(number, _)| number);
        let mut change = |skip, with: &[u8], is_xor| {
            self.state.changes.push(ByteEdit { skip, with: with.to_vec(), is_xor });
        };
        match action {
            FaultAction::Stall(time) => self.wait(position, GateKind::Stall(*time)),
            FaultAction::Hold => self.wait(position, GateKind::Hold),
            FaultAction::Finish => self.wait(position, GateKind::Finish),
            FaultAction::Close => self.wait(position, GateKind::Close),
            FaultAction::Reset => self.wait(position, GateKind::Reset),
            FaultAction::ResetSides(sides) => self.wait(position, GateKind::ResetSides(*sides)),
            FaultAction::BlackHole => {
                self.release(position);
                self.drops_all.get_or_insert(position);
                self.swallows_fin.get_or_insert(position);
            }
            FaultAction::SwallowFin => {
                self.swallows_fin.get_or_insert(position);
            }
            FaultAction::Insert(bytes) => {
                self.inserted += bytes.len();
                // In front of a frame nothing is part of it.
                let of = if begun.is_some() { None } else { frame.map(|(number, _)| number) };
                for byte in bytes {
                    self.state.held.put(*byte, of, &mut self.output);
                }
            }
            FaultAction::Drop(count) => self.state.drop = self.state.drop.saturating_add(*count),
            FaultAction::DropFrames(count) => {
                let until = frame.map_or(0, |(number, _)| number + count);
                self.state.drop_before = self.state.drop_before.max(until);
            }
            FaultAction::TruncateFrame(_) => {
                let until = frame.map_or(0, |(number, _)| number + 1);
                self.state.drop_before = self.state.drop_before.max(until);
            }
            FaultAction::Flip { bits, seed } => {
                change(0, &[flip_mask(*bits, *seed, position as u64)], true);
            }
            FaultAction::Xor(bytes) => change(0, bytes, true),
            FaultAction::Set(bytes) => change(0, bytes, false),
            FaultAction::SetLength(value) => {
                if let Some(FrameFormat::Length(format)) = &self.source.format {
                    let mut header = vec![];
                    format.encode_raw(*value, &mut header);
                    let field = format.length_at();
                    change(field.start, &header[field], false);
                }
            }
            FaultAction::AddLength(by) => self.hold(begun, HeldFor::Length(*by)),
            FaultAction::DuplicateFrame => self.hold(begun, HeldFor::Copy),
            FaultAction::SwapFrame => self.hold(begun, HeldFor::Later),
            FaultAction::Window(bytes) => self.windows.push(Happening { position, what: *bytes }),
            FaultAction::Delay { time, .. } => {
                let what = ModelDelay { output: self.output.len(), time: *time };
                self.delays.push(Happening { position, what });
            }
            FaultAction::Rate(rate) => self.begin(position, SendPattern::Rate(*rate)),
            FaultAction::SharedRate(_) => unreachable!("no script has such an action"),
            FaultAction::Dribble { bytes, per } => {
                self.begin(position, SendPattern::Dribble { bytes: *bytes, per: *per });
            }
            FaultAction::Split { first, every } => {
                self.begin(position, SendPattern::Split { first: *first, every: *every });
            }
            FaultAction::Merge { bytes, within } => {
                self.begin(position, SendPattern::Merge { bytes: *bytes, within: *within });
            }
        }
    }

    fn hold(&mut self, begun: Option<u64>, held_for: HeldFor) {
        if let Some(number) = begun {
            self.state.held.hold(number, held_for);
        }
    }

    fn begin(&mut self, position: usize, pattern: SendPattern) {
        self.wait(position, GateKind::Pattern(pattern));
    }

    fn wait(&mut self, position: usize, kind: GateKind) {
        if !matches!(kind, GateKind::Stall(_) | GateKind::Pattern(_)) {
            self.release(position);
            self.is_over = Some(position);
            self.drops_all.get_or_insert(position);
        }
        let what = ModelGate { output: self.output.len(), kind };
        self.gates.push(Happening { position, what });
    }

    /// How many bytes are received at once at most once so many came.
    pub fn window(&self, received: usize) -> Option<u64> {
        let fired = self.windows.iter().take_while(|window| window.position <= received);
        fired.last().map(|window| window.what)
    }

    /// The delays that have begun by then.
    pub fn delays(&self, received: usize) -> impl Iterator<Item = ModelDelay> {
        let fired = self.delays.iter().take_while(move |delay| delay.position <= received);
        fired.map(|delay| delay.what)
    }

    /// Whether nothing more comes out, by then.
    pub fn is_over(&self, received: usize) -> bool {
        self.is_over.is_some_and(|from| from <= received)
    }

    /// Whether bytes come out later than those that came after them, or twice.
    pub fn holds_frames(&self) -> bool {
        let is_kept = |fault: &RelayFault| {
            matches!(
                fault.action,
                FaultAction::AddLength(_) | FaultAction::DuplicateFrame | FaultAction::SwapFrame
            )
        };
        self.source.faults.iter().any(is_kept)
    }

    /// Bytes that rules put in, in all.
    pub fn inserted(&self) -> usize {
        self.inserted
    }

    /// Bytes of the output once so many came from the source.
    pub fn due(&self, received: usize) -> usize {
        self.due[received]
    }

    /// What has happened by then.
    pub fn fired(&self, received: usize) -> impl Iterator<Item = FiredFault> {
        let is_past = move |it: &&Happening<FiredFault>| it.position <= received;
        self.fired.iter().take_while(is_past).map(|fired| fired.what)
    }

    /// The gate of that number, if it is there by then.
    pub fn gate(&self, number: usize, received: usize) -> Option<ModelGate> {
        let gate = self.gates.get(number)?;
        (gate.position <= received).then_some(gate.what)
    }

    /// Every gate.
    pub fn gates(&self) -> impl Iterator<Item = ModelGate> {
        self.gates.iter().map(|gate| gate.what)
    }

    /// Whether nothing comes out of the bytes that follow.
    pub fn drops_all(&self, received: usize) -> bool {
        self.drops_all.is_some_and(|from| from <= received)
    }

    /// Whether FIN is not passed on.
    pub fn swallows_fin(&self, received: usize) -> bool {
        self.swallows_fin.is_some_and(|from| from <= received)
    }

    /// How many frames are whole; `None` if they are not followed.
    pub fn frames(&self, received: usize) -> Option<u64> {
        let is_whole = |span: &&FrameSpan| span.end.is_some_and(|end| end <= received);
        let whole = self.frames.spans.iter().take_while(is_whole).count();
        self.frames.is_followed.then_some(whole as u64)
    }

    /// Where the frames stopped making sense, if that is so by then.
    pub fn lost(&self, received: usize) -> Option<LostFraming> {
        let last = self.frames.spans.last().filter(|span| span.is_lost)?;
        let payload = last.payload.filter(|payload| *payload <= received)?;
        let frame = self.frames.spans.len() as u64;
        Some(LostFraming { frame, position: payload as u64 })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use trust_wire::LengthFormat;

    use super::*;

    /// What becomes of a stream with these faults, which ends with FIN.
    fn model(stream: &[u8], faults: &[(FaultPlace, FaultAction)]) -> StreamModel {
        let faults: Vec<RelayFault> = faults
            .iter()
            .enumerate()
            .map(|(rule, (place, action))| RelayFault {
                rule,
                place: place.clone(),
                action: action.clone(),
            })
            .collect();
        let format = LengthFormat::parse("u8").map(FrameFormat::Length);
        let mut model = StreamModel::of(stream, &faults, format.as_ref());
        model.finish(stream.len());
        model
    }

    fn text(bytes: &str) -> Box<[u8]> {
        bytes.as_bytes().into()
    }

    #[test]
    fn places_count_what_came_from_the_source_whatever_rules_do_to_it() {
        let insert = |text: &str| FaultAction::Insert(text.as_bytes().into());
        let model = model(
            b"abcdef",
            &[
                (FaultPlace::Byte(1), FaultAction::Drop(2)),
                (FaultPlace::Byte(2), insert("+")),
                (FaultPlace::Match(text("cd")), FaultAction::Set(text("E"))),
                (FaultPlace::Byte(4), insert("-")),
                (FaultPlace::End, insert("!")),
            ],
        );
        assert_eq!(model.output, b"a+d-Ef!");
        let due: Vec<usize> = (0..=6).map(|received| model.due(received)).collect();
        assert_eq!(due, [0, 1, 2, 2, 4, 5, 7]);
        let fired: Vec<(usize, u64)> = model.fired(6).map(|it| (it.rule, it.position)).collect();
        assert_eq!(fired, [(0, 1), (1, 2), (2, 4), (3, 4), (4, 6)]);
    }

    #[test]
    fn frames_begin_where_others_end_and_have_places_that_they_are_long_enough_for() {
        let frame = |number, part| FaultPlace::Frame { number, part };
        let insert = || FaultAction::Insert(text("."));
        let places = [
            frame(1, FramePart::End),
            frame(2, FramePart::Byte(0)),
            frame(2, FramePart::BeforeEnd(1)),
            frame(2, FramePart::BeforeEnd(3)),
            frame(1, FramePart::Byte(4)),
            frame(3, FramePart::Payload),
        ];
        let faults: Vec<_> = places.into_iter().map(|place| (place, insert())).collect();
        let model = model(b"\x02ab\x02cd\x09ef", &faults);
        let fired: Vec<_> = model.fired(9).map(|it| (it.rule, it.position, it.frame)).collect();
        let right = [
            (0, 3, Some((2, 0))),
            (1, 3, Some((2, 0))),
            (2, 5, Some((2, 2))),
            (5, 7, Some((3, 1))),
        ];
        assert_eq!(fired, right);
        assert_eq!((model.frames(5), model.frames(9)), (Some(1), Some(2)));
    }

    #[test]
    fn nothing_happens_after_the_end() {
        let faults = [
            (FaultPlace::Byte(2), FaultAction::Stall(Duration::from_secs(1))),
            (FaultPlace::Byte(3), FaultAction::Reset),
            (FaultPlace::Byte(3), FaultAction::Insert(text("x"))),
            (FaultPlace::End, FaultAction::Close),
        ];
        let model = model(b"abcdef", &faults);
        assert_eq!((&model.output[..], model.fired(6).count()), (&b"abc"[..], 2));
        let last = ModelGate { output: 3, kind: GateKind::Reset };
        assert_eq!(
            (model.gate(1, 2), model.gate(1, 3), model.gate(2, 6)),
            (None, Some(last), None)
        );
        assert!(model.drops_all(3) && !model.drops_all(2));
    }

    #[test]
    fn frames_are_sent_twice_later_or_with_another_length() {
        let at = |number| FaultPlace::Frame { number, part: FramePart::Byte(0) };
        let stream = b"\x01a\x01b\x01c\x01d";
        for (faults, expected) in [
            (vec![(at(1), FaultAction::DuplicateFrame)], &b"\x01a\x01a\x01b\x01c\x01d"[..]),
            (vec![(at(2), FaultAction::SwapFrame)], b"\x01a\x01c\x01b\x01d"),
            (vec![(at(4), FaultAction::SwapFrame)], b"\x01a\x01b\x01c\x01d"),
            (vec![(at(2), FaultAction::DropFrames(2))], b"\x01a\x01d"),
            (vec![(at(2), FaultAction::TruncateFrame(1))], b"\x01a\x01\x01c\x01d"),
            (vec![(at(2), FaultAction::TruncateFrame(2))], stream),
            (
                vec![(at(1), FaultAction::DuplicateFrame), (at(1), FaultAction::AddLength(-3))],
                b"\xfea\xfea\x01b\x01c\x01d",
            ),
            (
                vec![(FaultPlace::EveryFrames(2), FaultAction::Insert(text("-")))],
                b"\x01a-\x01b\x01c-\x01d",
            ),
        ] {
            assert_eq!(model(stream, &faults).output, expected, "{faults:?}");
        }
    }
}
