//! Lines, some of which are followed by counted bytes.

use core::ops::Range;

use super::cursor::{Cursor, Declared, decimal};
use super::{CountedLine, Found};

/// Where the line of a whole message says how many bytes follow it, other than with its first word,
/// by which it is known.
pub(super) fn declared(message: &[u8], lines: &[CountedLine]) -> Option<Declared> {
    let mut cursor = Cursor::new(message);
    let (count, field) = skip_line(&mut cursor, lines).ok()??;
    if words(message).next().is_none_or(|(first, _)| first == field.start) {
        return None;
    }
    let begin = cursor.at();
    cursor.skip(count).ok()?;
    Some(Declared { field, payload: begin..cursor.at() })
}

/// Moves past a line, and past the bytes that it counts.
pub(super) fn skip_message(cursor: &mut Cursor<'_>, lines: &[CountedLine]) -> Result<(), Found> {
    let Some((count, _)) = skip_line(cursor, lines)? else { return Ok(()) };
    cursor.skip(count)?;
    cursor.expect(b"\r\n")
}

/// Moves past the line that a message begins with, and returns its count and where that is.
fn skip_line(
    cursor: &mut Cursor<'_>,
    lines: &[CountedLine],
) -> Result<Option<(u64, Range<usize>)>, Found> {
    let line = cursor.rest();
    cursor.skip_through(b"\n")?;
    count_of(line[..cursor.at()].trim_ascii_end(), lines).map_err(Found::Wrong)
}

/// How many bytes follow this line and where it says so, or `None` if it counts none.
///
/// # Errors
///
/// The place where a number must be and is not.
pub(super) fn count_of(
    line: &[u8],
    lines: &[CountedLine],
) -> Result<Option<(u64, Range<usize>)>, usize> {
    let first = words(line).next();
    let counted = first.and_then(|(_, first)| {
        lines.iter().find(|counted| counted.word.eq_ignore_ascii_case(first))
    });
    let Some(counted) = counted else { return Ok(None) };
    let index = match usize::try_from(counted.count_at) {
        Ok(index) => Some(index),
        Err(_) => words(line).count().checked_sub(counted.count_at.unsigned_abs()),
    };
    let (at, word) = index.and_then(|index| words(line).nth(index)).ok_or(line.len())?;
    decimal(word).map(|count| Some((count, at..at + word.len()))).ok_or(at)
}

/// The words of a line and their places in it.
fn words(line: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut next = 0;
    let pieces = line.split(|byte| matches!(byte, b' ' | b'\t')).map(move |piece| {
        let at = next;
        next += piece.len() + 1;
        (at, piece)
    });
    pieces.filter(|(_, piece)| !piece.is_empty())
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    use super::*;
    use crate::MessageEnd;
    use crate::message_end::tests::{found, is_whole};

    fn counted(lines: &[(&str, isize)]) -> MessageEnd {
        let line = |&(word, count_at): &(&str, isize)| CountedLine {
            word: word.as_bytes().to_vec(),
            count_at,
        };
        MessageEnd::Counted(lines.iter().map(line).collect())
    }

    fn memcached() -> MessageEnd {
        counted(&[("set", 4), ("VALUE", 3), ("ms", 2), ("VA", 1)])
    }

    fn nats() -> MessageEnd {
        counted(&[("PUB", -1), ("MSG", -1), ("HPUB", -1)])
    }

    #[test]
    fn memcached_counts_values_and_nothing_else() {
        let messages: [&[u8]; 10] = [
            b"get key\r\n",
            b"set key 0 0 7\r\na\r\nb\n\0c\r\n",
            b"set key 0 0 0 noreply\r\n\r\n",
            b"STORED\r\n",
            b"VALUE key 0 5\r\nhello\r\n",
            b"VALUE key 0 5 17\r\nEND\r\n\r\n",
            b"END\r\n",
            b"ms key 2 T0\r\nhi\r\n",
            b"VA 2 f0\r\nhi\r\n",
            b"HD\r\n",
        ];
        for message in messages {
            is_whole(&memcached(), message, None);
        }
        let answer = b"VALUE key 0 5\r\nhello\r\nEND\r\n";
        assert_eq!(found(&memcached(), answer, Some(b"get key\r\n")), Found::End(22));
    }

    #[test]
    fn nats_counts_with_the_last_word() {
        let messages: [&[u8]; 8] = [
            b"CONNECT {\"verbose\":false}\r\n",
            b"PUB subject 5\r\nhello\r\n",
            b"pub subject inbox 0\r\n\r\n",
            b"PUB\tsubject  2 \nhi\r\n",
            b"MSG subject 1 4\r\n\r\n\r\n\r\n",
            b"HPUB subject 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
            b"PING\r\n",
            b"\n",
        ];
        for message in messages {
            is_whole(&nats(), message, None);
        }
    }

    #[test]
    fn a_count_that_is_no_number_is_wrong_where_it_stands() {
        let cases: [(&[u8], usize); 8] = [
            (b"set key 0 0 x\r\n", 12),
            (b"set key 0 0 -1\r\n", 12),
            (b"set key 0 0 +1\r\n", 12),
            (b"set key 0 0 18446744073709551616\r\n", 12),
            (b"set key 0 0 18446744073709551615\r\n", 33),
            (b"set key 0\r\n", 9),
            (b"set  \n", 3),
            (b"set key 0 0 1\r\nab\r\n", 16),
        ];
        for (message, at) in cases {
            let shown = message.escape_ascii();
            assert_eq!(found(&memcached(), message, None), Found::Wrong(at), "{shown}");
        }
        assert_eq!(found(&counted(&[("PUB", -9)]), b"PUB a 1\r\n", None), Found::Wrong(7));
        assert_eq!(found(&counted(&[("PUB", isize::MIN)]), b"PUB\n", None), Found::Wrong(3));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn counted_bytes_can_be_anything(
            data in prop::collection::vec(any::<u8>(), 0..60),
            reply in "( inbox[.a-z]{1,8})?",
            tail in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            let line = format!("MSG subject 1{reply} {}\r\n", data.len()).into_bytes();
            let message: Vec<u8> = [&line[..], &data, b"\r\n"].concat();
            is_whole(&nats(), &message, None);
            let longer = [&message[..], &tail].concat();
            prop_assert_eq!(found(&nats(), &longer, None), Found::End(message.len()));
        }
    }
}
