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
    /// From where on nothing more happens.
    is_over: Option<usize>,
    /// What rules have begun, in order.
    spans: Vec<Span>,
    frames: Frames,
    /// Bytes that rules have put in.
    inserted: usize,
    /// Each with its part of the stream.
    delays: Vec<(Span, ModelDelay)>,
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
    /// How many are dropped by which rule, one after the other.
    drops: Vec<(usize, u64)>,
    /// Before which frames all are dropped by which rule.
    drops_before: Vec<(usize, u64)>,
    held: HeldFrames,
    /// The rules that have ended.
    lifted: Vec<usize>,
}

/// What a rule does to a part of the stream.
#[derive(Debug)]
struct Span {
    rule: usize,
    kind: SpanKind,
    from: usize,
    /// `None`: to its end.
    until: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpanKind {
    BlackHole,
    SwallowFin,
    Window(u64),
    Delay,
    Pattern,
}

impl Span {
    /// Whether it is there once that many bytes have come.
    fn has(&self, received: usize) -> bool {
        self.from <= received && self.until.is_none_or(|until| received < until)
    }
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
            is_over: None,
            spans: vec![],
            frames,
            inserted: 0,
            delays: vec![],
            state: PlayState::default(),
        };
        let mut places: Vec<(usize, usize, &FaultAction)> = vec![];
        for RelayFault { rule, place, action } in &faults {
            let positions = model.places(&stream, place, action);
            places.extend(positions.into_iter().map(|position| (position, *rule, action)));
        }
        // A rule ends before it would happen once more.
        places.sort_by_key(|(position, rule, action)| {
            (*position, *rule, **action != FaultAction::Lift)
        });
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
            at_end.sort_by_key(|fault| (fault.rule, fault.action != FaultAction::Lift));
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
            let places = hit.map(|(span, _)| (span.start + kept as usize, span.end));
            // Not in one that has no more bytes.
            let inside = places.filter(|(at, end)| end.is_none_or(|end| *at < end));
            inside.map(|(at, _)| at).collect()
        };
        match place {
            FaultPlace::Byte(at) => usize::try_from(*at).into_iter().collect(),
            FaultPlace::Match(bytes) => found(stream, bytes).into_iter().take(1).collect(),
            FaultPlace::First { times, of } => {
                let all = match &**of {
                    FaultPlace::Match(bytes) => found(stream, bytes),
                    of => self.places(stream, of, action),
                };
                let times = usize::try_from(*times).unwrap_or(usize::MAX);
                all.into_iter().take(times).collect()
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
        let PlayState { held, drops_before, .. } = &mut self.state;
        let before = position.checked_sub(1).and_then(|before| self.frames.number(before));
        if let Some(number) = before {
            let FrameSpan { payload, is_lost, .. } = self.frames.spans[number as usize - 1];
            if payload == Some(position) && !is_lost {
                let format = self.source.format.as_ref();
                held.end_header(Some(number), format, &mut self.output);
            } else if payload == Some(position) {
                held.release(None, &mut self.output);
                drops_before.clear();
            }
        }
        if let Some((number, 0)) = self.frames.at(position) {
            drops_before.retain(|(_, before)| *before > number);
            held.begin(number, &mut self.output);
        }
    }

    fn release(&mut self, position: usize) {
        let frame = self.frames.at(position).map(|(number, _)| number);
        self.state.held.release(frame, &mut self.output);
    }

    /// A byte comes.
    fn pass(&mut self, position: usize, byte: u8) {
        if self.is_over.is_some() {
            return;
        }
        let is_in_hole = self.has(SpanKind::BlackHole, position);
        let PlayState { changes, drops, drops_before, held, .. } = &mut self.state;
        let mut byte = byte;
        changes.iter_mut().for_each(|change| change.change(&mut byte));
        changes.retain(|change| !change.with.is_empty());
        let is_dropped = is_in_hole || !drops.is_empty() || !drops_before.is_empty();
        if let Some((_, left)) = drops.first_mut() {
            *left -= 1;
        }
        drops.retain(|(_, left)| *left > 0);
        if !is_dropped {
            let frame = self.frames.at(position).map(|(number, _)| number);
            held.put(byte, frame, &mut self.output);
        }
    }

    /// An action happens, unless all is over.
    fn happen(&mut self, position: usize, rule: usize, action: &FaultAction) {
        if self.is_over.is_some() || self.state.lifted.contains(&rule) {
            return;
        }
        let frame = self.frames.at(position);
        if let FaultAction::TruncateFrame(kept) = action
            && frame.is_none_or(|(_, byte)| byte != *kept)
        {
            // It is whole already.
            return;
        }
        let is_lifted = *action == FaultAction::Lift;
        if !is_lifted || self.lift(position, rule) {
            let what = FiredFault { rule, position: position as u64, frame, is_lifted };
            self.fired.push(Happening { position, what });
        }
        let begun = frame.filter(|(_, byte)| *byte == 0).map(|(number, _)| number);
        let mut change = |skip, with: &[u8], is_xor| {
            self.state.changes.push(ByteEdit { skip, with: with.to_vec(), is_xor });
        };
        match action {
            FaultAction::Stall(time) => self.wait(position, GateKind::Stall(*time)),
            FaultAction::Hold => self.wait(position, GateKind::Hold),
            FaultAction::HoldUntil(_) => unreachable!("no script holds until a time"),
            FaultAction::Finish => self.wait(position, GateKind::Finish),
            FaultAction::Close => self.wait(position, GateKind::Close),
            FaultAction::Reset => self.wait(position, GateKind::Reset),
            FaultAction::ResetSides(sides) => self.wait(position, GateKind::ResetSides(*sides)),
            FaultAction::BlackHole => {
                self.release(position);
                self.begin_span(position, rule, SpanKind::BlackHole);
            }
            FaultAction::SwallowFin => self.begin_span(position, rule, SpanKind::SwallowFin),
            FaultAction::Lift => {}
            FaultAction::Insert(bytes) => {
                self.inserted += bytes.len();
                // In front of a frame nothing is part of it.
                let of = if begun.is_some() { None } else { frame.map(|(number, _)| number) };
                for byte in bytes {
                    self.state.held.put(*byte, of, &mut self.output);
                }
            }
            FaultAction::Drop(0) => {}
            FaultAction::Drop(count) => {
                let drops = &mut self.state.drops;
                match drops.iter_mut().find(|(of, _)| *of == rule) {
                    Some((_, left)) => *left = left.saturating_add(*count),
                    None => drops.push((rule, *count)),
                }
            }
            FaultAction::DropFrames(count) => {
                let before = frame.map(|(number, _)| (rule, number + count));
                self.state.drops_before.extend(before);
            }
            FaultAction::TruncateFrame(_) => {
                let before = frame.map(|(number, _)| (rule, number + 1));
                self.state.drops_before.extend(before);
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
            FaultAction::Window(bytes) => {
                self.begin_span(position, rule, SpanKind::Window(*bytes));
            }
            FaultAction::Delay { time, .. } => {
                let (output, until) = (self.output.len(), None);
                let span = Span { rule, kind: SpanKind::Delay, from: position, until };
                self.delays.push((span, ModelDelay { output, until, time: *time }));
            }
            FaultAction::Rate(rate) => self.begin(position, rule, SendPattern::Rate(*rate)),
            FaultAction::SharedRate(_) | FaultAction::Slice { .. } => {
                unreachable!("no script has such an action")
            }
            FaultAction::Dribble { bytes, per } => {
                self.begin(position, rule, SendPattern::Dribble { bytes: *bytes, per: *per });
            }
            FaultAction::Split { first, every } => {
                self.begin(position, rule, SendPattern::Split { first: *first, every: *every });
            }
            FaultAction::Merge { bytes, within } => {
                self.begin(position, rule, SendPattern::Merge { bytes: *bytes, within: *within });
            }
        }
    }

    fn begin_span(&mut self, from: usize, rule: usize, kind: SpanKind) {
        self.spans.push(Span { rule, kind, from, until: None });
    }

    /// What a rule has begun ends; whether there was something.
    fn lift(&mut self, position: usize, rule: usize) -> bool {
        let PlayState { drops, drops_before, lifted, .. } = &mut self.state;
        lifted.push(rule);
        let drops = drops.extract_if(.., |(of, _)| *of == rule).count();
        let drops_before = drops_before.extract_if(.., |(of, _)| *of == rule).count();
        let (mut has_spans, mut has_patterns) = (false, false);
        for span in self.spans.iter_mut().filter(|span| span.rule == rule) {
            span.until = Some(position);
            (has_spans, has_patterns) = (true, has_patterns || span.kind == SpanKind::Pattern);
        }
        for (span, delay) in self.delays.iter_mut().filter(|(span, _)| span.rule == rule) {
            (span.until, delay.until) = (Some(position), Some(self.output.len()));
            has_spans = true;
        }
        if has_patterns {
            self.wait(position, GateKind::PatternEnd(rule));
        }
        has_spans || drops + drops_before > 0
    }

    fn has(&self, kind: SpanKind, received: usize) -> bool {
        self.spans.iter().any(|span| span.kind == kind && span.has(received))
    }

    fn hold(&mut self, begun: Option<u64>, held_for: HeldFor) {
        if let Some(number) = begun {
            self.state.held.hold(number, held_for);
        }
    }

    fn begin(&mut self, position: usize, rule: usize, pattern: SendPattern) {
        self.wait(position, GateKind::Pattern(rule, pattern));
        self.begin_span(position, rule, SpanKind::Pattern);
    }

    fn wait(&mut self, position: usize, kind: GateKind) {
        let goes_on =
            matches!(kind, GateKind::Stall(_) | GateKind::Pattern(..) | GateKind::PatternEnd(_));
        if !goes_on {
            self.release(position);
            self.is_over = Some(position);
        }
        let what = ModelGate { output: self.output.len(), kind };
        self.gates.push(Happening { position, what });
    }

    /// How many bytes are received at once at most once so many came.
    pub fn window(&self, received: usize) -> Option<u64> {
        let windows = self.spans.iter().filter_map(|span| match span.kind {
            SpanKind::Window(bytes) if span.has(received) => Some(bytes),
            _ => None,
        });
        windows.min()
    }

    /// The delays that have begun by then.
    pub fn delays(&self, received: usize) -> impl Iterator<Item = ModelDelay> {
        let begun = self.delays.iter().filter(move |(span, _)| span.from <= received);
        begun.map(|(_, delay)| *delay)
    }

    /// Whether what comes then is delayed.
    pub fn is_delaying(&self, received: usize) -> bool {
        self.delays.iter().any(|(span, _)| span.has(received))
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
        self.is_over(received) || self.has(SpanKind::BlackHole, received)
    }

    /// Whether FIN is not passed on.
    pub fn swallows_fin(&self, received: usize) -> bool {
        self.has(SpanKind::BlackHole, received) || self.has(SpanKind::SwallowFin, received)
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

/// Where each occurrence of these bytes ends; they do not overlap.
fn found(stream: &[u8], bytes: &[u8]) -> Vec<usize> {
    let mut ends: Vec<usize> = vec![];
    for end in bytes.len().max(1)..=stream.len() {
        let from = ends.last().copied().unwrap_or(0);
        if !bytes.is_empty() && stream[from..end].ends_with(bytes) {
            ends.push(end);
        }
    }
    ends
}

#[cfg(test)]
mod tests;
