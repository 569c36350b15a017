//! What becomes of one direction's stream, told a second time: byte by byte, from the whole stream,
//! without pieces and without a clock.

use std::time::Duration;

use trust_wire::relay::{
    FaultAction, FaultPlace, FiredFault, FrameFormat, FramePart, LostFraming, RelayFault,
};

/// One direction of a relay.
#[derive(Debug)]
pub struct StreamModel {
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
    /// What happens at the end of the source's stream.
    at_end: Vec<(usize, FaultAction)>,
}

/// Something that happens after so many bytes from the source.
#[derive(Clone, Debug)]
struct Happening<T> {
    position: usize,
    what: T,
}

/// A place of the output at which it waits or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelGate {
    /// After how many bytes of the output.
    pub output: usize,
    /// What happens there.
    pub kind: GateKind,
}

/// What happens at a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateKind {
    /// Nothing passes for so long.
    Stall(Duration),
    /// Nothing passes from there on.
    Hold,
    /// FIN for the receiver.
    Finish,
    /// FIN for both sides.
    Close,
    /// RST for both sides.
    Reset,
}

/// The frames of a stream.
#[derive(Debug, Default)]
struct Frames {
    is_followed: bool,
    spans: Vec<FrameSpan>,
}

#[derive(Debug)]
struct FrameSpan {
    start: usize,
    /// Where the header ends, if it came whole.
    payload: Option<usize>,
    /// Where it ends, if that is known.
    end: Option<usize>,
    /// Its header says what cannot be.
    is_lost: bool,
}

impl Frames {
    fn of(stream: &[u8], format: Option<&FrameFormat>) -> Frames {
        let Some(format) = format else { return Frames::default() };
        let mut frames = Frames { is_followed: true, spans: vec![] };
        let mut start = 0;
        loop {
            let span = FrameSpan::of(stream, start, format);
            let end = span.end.filter(|end| *end <= stream.len());
            frames.spans.push(span);
            match end {
                Some(end) => start = end,
                None => return frames,
            }
        }
    }

    /// After how many bytes a place in a frame is reached.
    fn place(&self, number: u64, part: FramePart) -> Option<usize> {
        let number = usize::try_from(number).ok()?;
        let span = self.spans.get(number.checked_sub(1)?)?;
        match part {
            FramePart::Byte(count) => {
                let count = usize::try_from(count).ok()?;
                let place = span.start.checked_add(count)?;
                let is_inside = match (span.end, span.payload) {
                    (Some(end), _) => place <= end,
                    // There are no frames from the end of that header on.
                    (None, Some(payload)) => place < payload,
                    (None, None) => true,
                };
                is_inside.then_some(place)
            }
            FramePart::Payload => span.payload.filter(|_| !span.is_lost),
            FramePart::BeforeEnd(count) => {
                let place = span.end?.checked_sub(usize::try_from(count).ok()?)?;
                (place >= span.payload?).then_some(place)
            }
            FramePart::End => span.end,
        }
    }

    /// In which frame the stream is after so many bytes, and after how many bytes of it.
    fn at(&self, position: usize) -> Option<(u64, u64)> {
        let count = self.spans.partition_point(|span| span.start <= position);
        let span = self.spans.get(count.checked_sub(1)?)?;
        let is_lost = span.is_lost && span.payload.is_some_and(|payload| payload <= position);
        (!is_lost).then(|| (count as u64, (position - span.start) as u64))
    }
}

impl FrameSpan {
    fn of(stream: &[u8], start: usize, format: &FrameFormat) -> FrameSpan {
        let rest = &stream[start..];
        let unfinished = FrameSpan { start, payload: None, end: None, is_lost: false };
        match format {
            FrameFormat::Line => {
                let newline = rest.iter().position(|byte| *byte == b'\n');
                FrameSpan { end: newline.map(|at| start + at + 1), ..unfinished }
            }
            FrameFormat::Length(format) => {
                let Some(header) = rest.get(..format.header_len()) else { return unfinished };
                let payload = start + header.len();
                let end = format
                    .decode(header)
                    .ok()
                    .and_then(|len| usize::try_from((payload as u64).checked_add(len)?).ok());
                FrameSpan { payload: Some(payload), end, is_lost: end.is_none(), ..unfinished }
            }
            FrameFormat::Varint { .. }
            | FrameFormat::Resp { .. }
            | FrameFormat::Counted(_)
            | FrameFormat::Opened(..) => unreachable!("no script has such frames"),
        }
    }
}

/// A change of the bytes that come next.
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
        let mut model = StreamModel {
            output: vec![],
            due: vec![],
            fired: vec![],
            gates: vec![],
            drops_all: None,
            is_over: None,
            swallows_fin: None,
            frames: Frames::of(stream, format),
            inserted: 0,
            at_end: vec![],
        };
        let mut places = vec![];
        for RelayFault { rule, place, action } in faults {
            let position = match place {
                FaultPlace::Byte(at) => usize::try_from(*at).ok(),
                FaultPlace::Match(bytes) if bytes.is_empty() => None,
                FaultPlace::Match(bytes) => {
                    let found = stream.windows(bytes.len()).position(|window| *window == **bytes);
                    found.map(|start| start + bytes.len())
                }
                FaultPlace::Frame { number, part } => model.frames.place(*number, *part),
                FaultPlace::End => {
                    model.at_end.push((*rule, action.clone()));
                    None
                }
                FaultPlace::EveryBytes(_)
                | FaultPlace::EveryFrames(_)
                | FaultPlace::RandomBytes(_)
                | FaultPlace::RandomFrames(_)
                | FaultPlace::Time(_)
                | FaultPlace::Idle(_) => unreachable!("no script has such places"),
            };
            places.extend(position.map(|position| (position, *rule, action.clone())));
        }
        places.sort_by_key(|(position, rule, _)| (*position, *rule));
        model.at_end.sort_by_key(|(rule, _)| *rule);
        model.play(stream, &places, format);
        model
    }

    fn play(
        &mut self,
        stream: &[u8],
        places: &[(usize, usize, FaultAction)],
        format: Option<&FrameFormat>,
    ) {
        let mut changes: Vec<ByteEdit> = vec![];
        let mut drop = 0;
        let mut next = places.iter().peekable();
        for position in 0..=stream.len() {
            while let Some((_, rule, action)) = next.next_if(|(at, ..)| *at == position) {
                if self.is_over.is_some() {
                    continue;
                }
                self.happen(position, *rule, action);
                match action {
                    FaultAction::Drop(count) => drop += count,
                    FaultAction::Xor(bytes) => {
                        changes.push(ByteEdit { skip: 0, with: bytes.to_vec(), is_xor: true });
                    }
                    FaultAction::Set(bytes) => {
                        changes.push(ByteEdit { skip: 0, with: bytes.to_vec(), is_xor: false });
                    }
                    FaultAction::SetLength(value) => {
                        if let Some(FrameFormat::Length(format)) = format {
                            let mut header = vec![];
                            format.encode_raw(*value, &mut header);
                            let field = format.length_at();
                            let with = header[field.clone()].to_vec();
                            changes.push(ByteEdit { skip: field.start, with, is_xor: false });
                        }
                    }
                    _ => {}
                }
            }
            self.due.push(self.output.len());
            let Some(byte) = stream.get(position) else { break };
            if self.drops_all.is_some() {
                continue;
            }
            let mut byte = *byte;
            changes.iter_mut().for_each(|change| change.change(&mut byte));
            changes.retain(|change| !change.with.is_empty());
            if drop > 0 {
                drop -= 1;
            } else {
                self.output.push(byte);
            }
        }
    }

    /// Records what an action does to the output besides changing bytes.
    fn happen(&mut self, position: usize, rule: usize, action: &FaultAction) {
        let frame = self.frames.at(position);
        let what = FiredFault { rule, position: position as u64, frame };
        self.fired.push(Happening { position, what });
        let kind = match action {
            FaultAction::Stall(time) => GateKind::Stall(*time),
            FaultAction::Hold => GateKind::Hold,
            FaultAction::Finish => GateKind::Finish,
            FaultAction::Close => GateKind::Close,
            FaultAction::Reset => GateKind::Reset,
            FaultAction::BlackHole => {
                self.drops_all.get_or_insert(position);
                self.swallows_fin.get_or_insert(position);
                return;
            }
            FaultAction::SwallowFin => {
                self.swallows_fin.get_or_insert(position);
                return;
            }
            FaultAction::Insert(bytes) => {
                self.inserted += bytes.len();
                return self.output.extend_from_slice(bytes);
            }
            FaultAction::Drop(_)
            | FaultAction::Xor(_)
            | FaultAction::Set(_)
            | FaultAction::SetLength(_) => return,
            FaultAction::ResetSides(_)
            | FaultAction::DropFrames(_)
            | FaultAction::Flip { .. }
            | FaultAction::AddLength(_)
            | FaultAction::DuplicateFrame
            | FaultAction::SwapFrame
            | FaultAction::Delay { .. }
            | FaultAction::Rate(_)
            | FaultAction::Dribble { .. }
            | FaultAction::Split { .. }
            | FaultAction::Merge { .. }
            | FaultAction::Window(_) => unreachable!("no script has such actions"),
        };
        if !matches!(kind, GateKind::Stall(_)) {
            self.is_over = Some(position);
            self.drops_all.get_or_insert(position);
        }
        let what = ModelGate { output: self.output.len(), kind };
        self.gates.push(Happening { position, what });
    }

    /// The source's stream ended with FIN after so many bytes, in place of all of them.
    pub fn finish(&mut self, received: usize) {
        self.output.truncate(self.due[received]);
        self.due.truncate(received + 1);
        self.fired.retain(|fired| fired.position <= received);
        self.gates.retain(|gate| gate.position <= received);
        for from in [&mut self.drops_all, &mut self.is_over, &mut self.swallows_fin] {
            *from = from.filter(|from| *from <= received);
        }
        for (rule, action) in std::mem::take(&mut self.at_end) {
            if self.is_over.is_none() {
                self.happen(received, rule, &action);
            }
        }
        self.due[received] = self.output.len();
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
}
