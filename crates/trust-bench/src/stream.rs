//! What every connection sends: frames of one size, with every byte known in advance.

/// Bytes of the 4-byte header.
const HEADER: usize = 4;

/// Length in bytes of the prepared frames, which repeat after that. Small enough for the
/// second-level cache, so that the cost of comparing stays low, and long enough that a lost or
/// repeated frame shows.
const PERIOD_BYTES: usize = 64 * 1024;

/// The smallest number of different frames.
const FRAMES_MIN: usize = 4;

/// A stream of frames that repeats after a while.
///
/// Invariant: `bytes` holds `frames` different frames, followed by one batch from the start again,
/// so that a batch is always one slice.
#[derive(Debug)]
pub struct Stream {
    bytes: Vec<u8>,
    period: usize,
    /// Bytes of one frame, header included.
    pub frame_len: usize,
}

impl Stream {
    /// Frames with `payload_len` bytes of payload, sent up to `batch` at a time.
    pub fn new(payload_len: usize, batch: usize) -> Stream {
        let frame_len = HEADER + payload_len;
        let frames = (PERIOD_BYTES / frame_len).max(FRAMES_MIN);
        let mut bytes = Vec::with_capacity((frames + batch) * frame_len);
        // An xorshift generator: any bytes that do not repeat will do.
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..frames {
            let len = u32::try_from(payload_len).expect("a payload of less than 4 GiB");
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend(
                std::iter::repeat_with(|| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state as u8
                })
                .take(payload_len),
            );
        }
        let period = bytes.len();
        let again: Vec<u8> = bytes.iter().copied().cycle().take(batch * frame_len).collect();
        bytes.extend(again);
        Stream { bytes, period, frame_len }
    }

    /// The `len` bytes of the stream from `position`, at most one batch.
    pub fn slice(&self, position: u64, len: usize) -> &[u8] {
        let start = (position % self.period as u64) as usize;
        &self.bytes[start..start + len]
    }

    /// The first position at which `received` differs from the stream that starts at `position`.
    pub fn mismatch(&self, position: u64, received: &[u8]) -> Option<u64> {
        let (mut position, mut rest) = (position, received);
        while !rest.is_empty() {
            let start = (position % self.period as u64) as usize;
            let len = rest.len().min(self.period - start);
            let expected = &self.bytes[start..start + len];
            if rest[..len] != *expected {
                let same = rest.iter().zip(expected).take_while(|(left, right)| left == right);
                return Some(position + same.count() as u64);
            }
            position += len as u64;
            rest = &rest[len..];
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_byte_is_found_where_it_is() {
        let stream = Stream::new(64, 16);
        let mut copy: Vec<u8> =
            (0..3000).flat_map(|frame| stream.slice(frame * 68, 68).to_vec()).collect();
        assert!(copy.len() > stream.period);
        assert_eq!(stream.mismatch(0, &copy), None);
        assert_eq!(stream.mismatch(68, &copy[68..]), None);
        for at in [0, 67, 68, 70_000, copy.len() - 1] {
            copy[at] ^= 1;
            assert_eq!(stream.mismatch(0, &copy), Some(at as u64));
            copy[at] ^= 1;
        }
    }

    #[test]
    fn a_lost_or_doubled_frame_is_no_echo() {
        let stream = Stream::new(16 * 1024, 1);
        let frame = stream.slice(0, stream.frame_len);
        assert!(stream.mismatch(stream.frame_len as u64, frame).is_some());
    }
}
