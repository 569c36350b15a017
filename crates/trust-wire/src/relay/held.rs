//! Bytes that wait to be sent.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A block of this length in bytes, or more, is full.
const BLOCK_LEN: usize = 64 * 1024;

/// Bytes that wait to be sent, in blocks: so none is moved because others come after it.
#[derive(Debug)]
pub(super) struct HeldBytes {
    /// Empty only if nothing is held; `taken` of these were sent.
    first: Vec<u8>,
    taken: usize,
    /// None of them is empty.
    later: VecDeque<Vec<u8>>,
    /// How many bytes those have.
    later_len: usize,
}

impl HeldBytes {
    pub(super) const fn new() -> HeldBytes {
        HeldBytes { first: Vec::new(), taken: 0, later: VecDeque::new(), later_len: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.first.len() - self.taken + self.later_len
    }

    /// Those that can be sent next with one call.
    pub(super) fn next(&self) -> &[u8] {
        &self.first[self.taken..]
    }

    /// All of them.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &[u8]> {
        core::iter::once(self.next()).chain(self.later.iter().map(Vec::as_slice))
    }

    /// Has bytes appended to a block; returns how many. With `in_one` that is the last one, however
    /// long it is, so that the next call can send them together with those before.
    pub(super) fn append(&mut self, in_one: bool, append: impl FnOnce(&mut Vec<u8>)) -> usize {
        let is_first = self.later.is_empty();
        let last = self.later.back_mut().unwrap_or(&mut self.first);
        let before = last.len();
        if before >= BLOCK_LEN && !in_one {
            let mut block = Vec::new();
            append(&mut block);
            let added = block.len();
            if added > 0 {
                self.later.push_back(block);
                self.later_len += added;
            }
            return added;
        }
        append(last);
        let added = last.len() - before;
        if !is_first {
            self.later_len += added;
        }
        added
    }

    /// Removes the first `count` bytes, which were sent.
    ///
    /// # Panics
    ///
    /// If these are more than [`HeldBytes::next`] has.
    pub(super) fn remove(&mut self, count: usize) {
        self.taken += count;
        assert!(self.taken <= self.first.len(), "more bytes sent than were held");
        let left = self.first.len() - self.taken;
        if left == 0 {
            match self.later.pop_front() {
                Some(block) => {
                    self.later_len -= block.len();
                    (self.first, self.taken) = (block, 0);
                }
                // An idle connection has no buffer.
                None => *self = HeldBytes::new(),
            }
        } else if self.taken > left {
            // So each byte is moved once at most.
            self.first.drain(..self.taken);
            self.taken = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn append(held: &mut HeldBytes, in_one: bool, bytes: &[u8]) {
        assert_eq!(held.append(in_one, |block| block.extend_from_slice(bytes)), bytes.len());
    }

    #[test]
    fn bytes_leave_in_the_order_in_which_they_came() {
        let mut held = HeldBytes::new();
        let (mut came, mut left) = (vec![], vec![]);
        for round in 0..2000_usize {
            let bytes = vec![round as u8; round * 37 % 3000];
            append(&mut held, false, &bytes);
            came.extend_from_slice(&bytes);
            let next = held.next();
            let count = next.len().min(round * 61 % 2800);
            left.extend_from_slice(&next[..count]);
            held.remove(count);
            assert_eq!(held.len(), came.len() - left.len());
            assert_eq!(held.is_empty(), came.len() == left.len());
        }
        assert!(held.later.len() > 2, "{}", held.later.len());
        left.extend(held.blocks().flatten());
        assert_eq!(left, came);
    }

    #[test]
    fn a_full_block_is_not_moved() {
        let mut held = HeldBytes::new();
        append(&mut held, false, &[1; BLOCK_LEN]);
        let place = held.next().as_ptr();
        for _ in 0..100 {
            append(&mut held, false, &[2; BLOCK_LEN]);
        }
        assert_eq!(held.next().as_ptr(), place);
    }

    #[test]
    fn bytes_that_belong_together_are_in_one_block() {
        let mut held = HeldBytes::new();
        append(&mut held, true, &[1; BLOCK_LEN]);
        append(&mut held, true, &[2; 10]);
        assert_eq!(held.next().len(), BLOCK_LEN + 10);
    }

    #[test]
    fn nothing_is_allocated_while_nothing_is_held() {
        let mut held = HeldBytes::new();
        append(&mut held, false, &[1; BLOCK_LEN]);
        append(&mut held, false, b"");
        append(&mut held, false, b"end");
        held.remove(BLOCK_LEN);
        assert_eq!(held.next(), b"end");
        held.remove(3);
        assert!(held.is_empty());
        assert_eq!((held.first.capacity(), held.later.capacity()), (0, 0));
    }
}
