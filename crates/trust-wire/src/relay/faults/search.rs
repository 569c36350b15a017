//! Finds bytes in a stream that comes in pieces (Knuth, Morris, Pratt: Fast pattern matching in
//! strings, 1977).

use alloc::boxed::Box;
use alloc::vec::Vec;

/// A search for bytes that are not empty.
#[derive(Debug)]
pub(super) struct Search {
    bytes: Box<[u8]>,
    /// For each length of a part that was found, the longest shorter one that it ends with.
    shorter: Vec<usize>,
    /// How many of the bytes the stream ends with.
    found: usize,
}

impl Search {
    /// `None`: there is nothing to search for.
    pub(super) fn new(bytes: Box<[u8]>) -> Option<Search> {
        if bytes.is_empty() {
            return None;
        }
        let mut search = Search { bytes, shorter: Vec::new(), found: 0 };
        search.shorter.push(0);
        for index in 1..search.bytes.len() {
            let last = search.shorter[index - 1];
            let next = search.step(last, search.bytes[index]);
            search.shorter.push(next);
        }
        Some(search)
    }

    /// How many of the bytes the stream ends with after this one.
    fn step(&self, mut found: usize, byte: u8) -> usize {
        while found > 0 && self.bytes[found] != byte {
            found = self.shorter[found - 1];
        }
        found + usize::from(self.bytes[found] == byte)
    }

    /// After how many of these bytes, which come next, the next occurrence ends.
    pub(super) fn next_end(&self, bytes: &[u8]) -> Option<usize> {
        let mut found = self.found;
        let ends = bytes.iter().position(|byte| {
            found = self.step(found, *byte);
            found == self.bytes.len()
        });
        ends.map(|last| last + 1)
    }

    /// Takes these bytes, in which no occurrence ends but at their end; whether one does. The next
    /// one begins after it.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> bool {
        self.found = bytes.iter().fold(self.found, |found, byte| self.step(found, *byte));
        let is_whole = self.found == self.bytes.len();
        if is_whole {
            self.found = 0;
        }
        is_whole
    }
}
