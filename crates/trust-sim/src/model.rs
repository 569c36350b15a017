//! The protocol implemented a second time, naively: whole byte strings and no state.

use trust_wire::{Mode, ProxyHeader};

use crate::script::header::HeaderFate;

/// Bytes of a header, repeated here on purpose.
const HEADER: usize = 4;

/// What a peer's whole byte string means to a server.
///
/// An echo is a prefix of what was sent, so its length says it all.
#[derive(Debug)]
pub struct Model {
    /// The bytes are echoed raw.
    is_raw: bool,
    /// Where each legal frame begins and ends; the last may end beyond the string.
    frames: Vec<(usize, usize)>,
    /// Where a header declares too large a payload, and the length it declares.
    too_large: Option<(usize, u32)>,
}

/// What follows the last whole frame of the bytes received so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing, or nothing that matters.
    Nothing,
    /// Part of a frame that began at byte `start`.
    Unfinished {
        /// Where in the stream it begins.
        start: usize,
        /// Bytes of it that have arrived.
        have: usize,
        /// Its length when complete; while the header is incomplete, the length of the header.
        need: usize,
    },
    /// A header that declares too large a payload.
    TooLarge {
        /// The length that it declares.
        declared: u32,
    },
}

/// What the first bytes of a connection mean to a server that awaits a PROXY header.
#[derive(Debug)]
pub struct HeaderModel {
    len: usize,
    fate: HeaderFate,
}

/// What comes of the bytes of a header that were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderNow {
    /// More are needed.
    Unfinished,
    /// It is none.
    Wrong,
    /// It says this, and what follows it are so many bytes of the stream.
    Whole(ProxyHeader, usize),
}

impl HeaderModel {
    /// That of a peer that sends these bytes before everything else.
    pub fn of(bytes: &[u8], fate: HeaderFate) -> HeaderModel {
        HeaderModel { len: bytes.len(), fate }
    }

    /// What comes of the first `received` bytes of the connection.
    pub fn after(&self, received: usize) -> HeaderNow {
        match self.fate {
            HeaderFate::WrongAt(at) if received >= at => HeaderNow::Wrong,
            HeaderFate::Says(header) if received >= self.len => {
                HeaderNow::Whole(header, received - self.len)
            }
            HeaderFate::Says(_) | HeaderFate::WrongAt(_) => HeaderNow::Unfinished,
        }
    }
}

impl Model {
    /// Reads everything that a peer may send.
    pub fn of(upload: &[u8], mode: Mode, max_payload: u32) -> Model {
        let is_raw = match mode {
            Mode::Raw => true,
            Mode::Framed => false,
            Mode::Auto => upload.first().is_some_and(|first| *first != 0),
        };
        let mut model = Model { is_raw, frames: vec![], too_large: None };
        let mut start = 0;
        while !is_raw && start < upload.len() {
            let Some(header) = upload.get(start..start + HEADER) else {
                model.frames.push((start, usize::MAX));
                break;
            };
            let declared = header.iter().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
            if declared > max_payload {
                model.too_large = Some((start, declared));
                break;
            }
            let end = start + HEADER + declared as usize;
            model.frames.push((start, end));
            start = end;
        }
        model
    }

    /// How many of the first `received` bytes are echoed, if no frame that begins at or after byte
    /// `fence` is answered.
    pub fn answer_len(&self, received: usize, fence: usize) -> usize {
        match self.is_raw {
            true => received.min(fence),
            false => self.whole(received, fence).last().map_or(0, |(_, end)| *end),
        }
    }

    /// How many frames the echo has.
    pub fn answer_frames(&self, received: usize, fence: usize) -> usize {
        self.whole(received, fence).len()
    }

    /// What follows the echoed frames.
    pub fn tail(&self, received: usize, fence: usize) -> Tail {
        if let Some((start, declared)) = self.too_large
            && start < fence
            && start + HEADER <= received
        {
            return Tail::TooLarge { declared };
        }
        // A header that will declare too large a payload is as unfinished as any other until it is
        // complete.
        let next = self.frames.get(self.answer_frames(received, fence)).copied();
        let next = next.or(self.too_large.map(|(start, _)| (start, usize::MAX)));
        match next {
            Some((start, end)) if !self.is_raw && start < received && start < fence => {
                let have = received - start;
                let need = if have < HEADER { HEADER } else { end - start };
                Tail::Unfinished { start, have, need }
            }
            _ => Tail::Nothing,
        }
    }

    /// The frames that are whole within the first `received` bytes and begin before `fence`.
    fn whole(&self, received: usize, fence: usize) -> &[(usize, usize)] {
        let count = self.frames.partition_point(|(start, end)| *end <= received && *start < fence);
        &self.frames[..count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_before_the_fence_are_owed() {
        let upload = b"\0\0\0\x01a\0\0\0\0\0\0\0\x05bc";
        let model = Model::of(upload, Mode::Auto, 5);
        let all = usize::MAX;
        let owed = [0, 0, 0, 0, 0, 5, 5, 5, 5, 9, 9, 9, 9, 9, 9, 9];
        for (received, owed) in owed.into_iter().enumerate() {
            assert_eq!(model.answer_len(received, all), owed);
        }
        assert_eq!(model.tail(15, all), Tail::Unfinished { start: 9, have: 6, need: 9 });
        assert_eq!(model.tail(12, all), Tail::Unfinished { start: 9, have: 3, need: 4 });
        assert_eq!((model.answer_len(15, 5), model.tail(15, 5)), (5, Tail::Nothing));
        let strict = Model::of(upload, Mode::Framed, 4);
        assert_eq!(strict.tail(13, all), Tail::TooLarge { declared: 5 });
    }

    #[test]
    fn raw_bytes_are_owed_as_they_come() {
        let model = Model::of(b"text", Mode::Auto, 5);
        assert_eq!((model.answer_len(3, usize::MAX), model.answer_len(3, 2)), (3, 2));
        assert_eq!(model.tail(3, usize::MAX), Tail::Nothing);
    }
}
