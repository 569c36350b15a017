//! Where the frames of a whole stream are.

use trust_wire::relay::{FrameFormat, FramePart};

/// The frames of a stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) is_followed: bool,
    pub(super) spans: Vec<FrameSpan>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct FrameSpan {
    pub(super) start: usize,
    /// Where the header ends, if it came whole.
    pub(super) payload: Option<usize>,
    /// Where it ends, if that is known.
    pub(super) end: Option<usize>,
    /// Its header says what cannot be.
    pub(super) is_lost: bool,
}

impl Frames {
    pub(super) fn of(stream: &[u8], format: Option<&FrameFormat>) -> Frames {
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
    pub(super) fn place(&self, number: u64, part: FramePart) -> Option<usize> {
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

    /// The number of the frame that this byte is in, also of one that cannot be.
    pub(super) fn number(&self, byte: usize) -> Option<u64> {
        let count = self.spans.partition_point(|span| span.start <= byte);
        (count > 0).then_some(count as u64)
    }

    /// In which frame the stream is after so many bytes, and after how many bytes of it.
    pub(super) fn at(&self, position: usize) -> Option<(u64, u64)> {
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
