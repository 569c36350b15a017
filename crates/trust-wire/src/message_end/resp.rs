//! The Redis serialization protocol, RESP2 and RESP3.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use super::Found;
use super::cursor::{Cursor, Declared};

/// How many aggregates can be open at once. Commands of Redis nest theirs less than ten deep.
const DEPTH_MAX: usize = 128;

/// What ends a line, and the bytes of a string.
const LINE_END: &[u8] = b"\r\n";

/// What is still to come inside a value.
#[derive(Clone, Copy, Debug)]
enum Missing {
    /// This many values.
    Count(u64),
    /// Those before a `.` in the place of a value.
    Streamed,
    /// The pieces of a streamed string, the last of which is empty.
    Pieces,
}

/// What a `$`, `*` or the like says about its size.
enum Size {
    /// -1: the value is null.
    Null,
    Known(u64),
    /// `?`: the end is marked.
    Streamed,
}

/// Bytes that a line counts, and after which comes CR LF.
#[derive(Debug)]
pub(super) struct CountedBytes {
    pub(super) len: u64,
    /// Where the digits of the count are.
    field: Range<usize>,
    /// Whether they are a whole bulk string.
    is_bulk: bool,
}

/// How far a value has come, line by line.
#[derive(Debug)]
pub(crate) struct Walk {
    /// What is missing of each value that has begun and is not whole, the innermost last.
    open: Vec<Missing>,
}

impl Default for Walk {
    fn default() -> Walk {
        Walk { open: vec![Missing::Count(1)] }
    }
}

impl Walk {
    /// Whether the value is whole.
    pub(super) fn is_done(&self) -> bool {
        self.open.is_empty()
    }

    /// Moves past the next line of a value that is not whole; the bytes that it counts come next.
    pub(super) fn step(&mut self, cursor: &mut Cursor<'_>) -> Result<Option<CountedBytes>, Found> {
        let counted = match self.open.last_mut() {
            None => return Ok(None),
            Some(Missing::Pieces) => {
                cursor.expect(b";")?;
                let begin = cursor.at();
                let len = cursor.number(10)?;
                let field = begin..cursor.at();
                cursor.expect(LINE_END)?;
                if len > 0 {
                    Some(CountedBytes { len, field, is_bulk: false })
                } else {
                    self.open.pop();
                    None
                }
            }
            Some(Missing::Streamed) if cursor.peek()? == b'.' => {
                cursor.expect(b".\r\n")?;
                self.open.pop();
                None
            }
            Some(missing) => {
                if let Missing::Count(count) = missing {
                    *count -= 1;
                }
                let (counted, inside) = skip_head(cursor)?;
                if let Some(inside) = inside {
                    if self.open.len() > DEPTH_MAX && !matches!(inside, Missing::Pieces) {
                        return Err(cursor.wrong_before());
                    }
                    self.open.push(inside);
                }
                counted
            }
        };
        while let Some(Missing::Count(0)) = self.open.last() {
            self.open.pop();
        }
        Ok(counted)
    }
}

/// Where a whole request declares the length of its last bulk string.
pub(super) fn declared(request: &[u8]) -> Option<Declared> {
    let mut last = None;
    let note = &mut |field, payload| last = Some(Declared { field, payload });
    skip_noting(&mut Cursor::new(request), true, note).ok()?;
    last
}

/// Moves past a value, or past a request that is an inline command.
pub(super) fn skip_message(cursor: &mut Cursor<'_>, is_request: bool) -> Result<(), Found> {
    skip_noting(cursor, is_request, &mut |_, _| {})
}

/// The same, and notes where each bulk string has its length and its bytes.
fn skip_noting(
    cursor: &mut Cursor<'_>,
    is_request: bool,
    note: &mut impl FnMut(Range<usize>, Range<usize>),
) -> Result<(), Found> {
    if is_request && !is_type(cursor.peek()?) {
        return cursor.skip_through(b"\n");
    }
    let mut walk = Walk::default();
    while !walk.is_done() {
        let Some(CountedBytes { len, field, is_bulk }) = walk.step(cursor)? else { continue };
        let begin = cursor.at();
        cursor.skip(len)?;
        if is_bulk {
            note(field, begin..cursor.at());
        }
        cursor.expect(LINE_END)?;
    }
    Ok(())
}

/// Whether a value can begin with this byte.
pub(super) fn is_type(byte: u8) -> bool {
    b"+-:_,#($!=*~>%|".contains(&byte)
}

/// Moves past the first line of a value, and returns the bytes that it counts, and what is inside
/// the value.
fn skip_head(cursor: &mut Cursor<'_>) -> Result<(Option<CountedBytes>, Option<Missing>), Found> {
    let kind = cursor.peek()?;
    if !is_type(kind) {
        return Err(cursor.wrong());
    }
    cursor.byte()?;
    if b"+-:_,#(".contains(&kind) {
        cursor.skip_text()?;
        cursor.expect(LINE_END)?;
        return Ok((None, None));
    }
    let begin = cursor.at();
    let size = skip_size(cursor, kind)?;
    let field = begin..cursor.at() - LINE_END.len();
    Ok(match (kind, size) {
        (_, Size::Null) => (None, None),
        (b'$' | b'!' | b'=', Size::Known(len)) => {
            (Some(CountedBytes { len, field, is_bulk: kind == b'$' }), None)
        }
        (b'$', Size::Streamed) => (None, Some(Missing::Pieces)),
        (_, Size::Streamed) => (None, Some(Missing::Streamed)),
        (_, Size::Known(count)) => {
            let values = match kind {
                b'%' => count.checked_mul(2),
                // After the attributes comes the value that has them.
                b'|' => count.checked_mul(2).and_then(|values| values.checked_add(1)),
                _ => Some(count),
            };
            (None, Some(Missing::Count(values.ok_or(cursor.wrong_before())?)))
        }
    })
}

/// Moves past the size of a value of this kind and the end of its line.
fn skip_size(cursor: &mut Cursor<'_>, kind: u8) -> Result<Size, Found> {
    let size = match cursor.peek()? {
        b'-' if b"$*".contains(&kind) => {
            cursor.expect(b"-1")?;
            Size::Null
        }
        b'?' if b"$*~%".contains(&kind) => {
            cursor.expect(b"?")?;
            Size::Streamed
        }
        _ => Size::Known(cursor.number(10)?),
    };
    cursor.expect(LINE_END)?;
    Ok(size)
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    use super::*;
    use crate::MessageEnd;
    use crate::message_end::tests::{found, is_whole};

    /// What is found in an answer.
    #[track_caller]
    fn answer(bytes: &[u8]) -> Found {
        found(&MessageEnd::Resp, bytes, Some(b""))
    }

    #[test]
    fn values_of_every_type_end_where_they_end() {
        let values: [&[u8]; 34] = [
            b"+OK\r\n",
            b"+\r\n",
            b"-ERR unknown command 'x'\r\n",
            b":-1000\r\n",
            b"$5\r\nhello\r\n",
            b"$4\r\n\r\n\r\n\r\n",
            b"$0\r\n\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n",
            b"*3\r\n*2\r\n:1\r\n*0\r\n$-1\r\n*1\r\n+a\r\n",
            b"_\r\n",
            b"#t\r\n",
            b",3.14\r\n",
            b",-inf\r\n",
            b"(3492890328409238509324850943850943825024385\r\n",
            b"!21\r\nSYNTAX invalid syntax\r\n",
            b"=15\r\ntxt:Some string\r\n",
            b"%2\r\n+first\r\n:1\r\n+second\r\n%1\r\n:2\r\n:3\r\n",
            b"%0\r\n",
            b"~2\r\n#t\r\n#f\r\n",
            b">3\r\n+message\r\n+channel\r\n+text\r\n",
            b"|1\r\n+ttl\r\n:3600\r\n*1\r\n:5\r\n",
            b"|0\r\n:1\r\n",
            b"*2\r\n|1\r\n+ttl\r\n|1\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n",
            b"$?\r\n;4\r\nHell\r\n;5\r\no wor\r\n;2\r\nld\r\n;0\r\n",
            b"$?\r\n;0\r\n",
            b"*?\r\n:1\r\n*?\r\n.\r\n:2\r\n.\r\n",
            b"%?\r\n+a\r\n:1\r\n.\r\n",
            b"~?\r\n+a\r\n.\r\n",
            b"*1\r\n$?\r\n;1\r\na\r\n;0\r\n",
            b"*007\r\n:1\r\n:2\r\n:3\r\n:4\r\n:5\r\n:6\r\n:7\r\n",
            b"*1\r\n*?\r\n|1\r\n+a\r\n+b\r\n+c\r\n.\r\n",
        ];
        for value in values {
            is_whole(&MessageEnd::Resp, value, None);
            is_whole(&MessageEnd::Resp, value, Some(b"PING\r\n"));
        }
    }

    #[test]
    fn only_a_request_can_be_an_inline_command() {
        for request in [&b"PING\r\n"[..], b"echo \"a\rb\"\n", b"\r\n", b".\n"] {
            is_whole(&MessageEnd::Resp, request, None);
            assert_eq!(answer(request), Found::Wrong(0));
        }
        assert_eq!(found(&MessageEnd::Resp, b"*1\r\nPING\r\n", None), Found::Wrong(4));
    }

    #[test]
    fn what_is_no_value_is_wrong_at_the_first_such_byte() {
        let cases: [(&[u8], usize); 20] = [
            (b"HTTP/1.1 400 Bad Request\r\n", 0),
            (b"+OK\n", 3),
            (b"+OK\r+", 4),
            (b"$5\r\nhello!\r\n", 9),
            (b"$5\r\nhello\n", 9),
            (b"$5\n", 2),
            (b"$\r\n", 1),
            (b"$-2\r\n", 2),
            (b"$-10\r\n", 3),
            (b"%-1\r\n", 1),
            (b"!?\r\n", 1),
            (b"$5a\r\n", 2),
            (b"$18446744073709551616\r\n", 20),
            (b"$18446744073709551615\r\n", 22),
            (b"%9223372036854775808\r\n", 21),
            (b"|9223372036854775808\r\n", 21),
            (b"*1\r\n.\r\n", 4),
            (b"*?\r\n..", 5),
            (b"$?\r\n:1\r\n", 4),
            (b"$?\r\n;1\r\nab", 9),
        ];
        for (bytes, at) in cases {
            assert_eq!(answer(bytes), Found::Wrong(at), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn values_are_nested_as_deep_as_the_bound() {
        let nested = |depth: usize| [b"*1\r\n".repeat(depth), b":1\r\n".to_vec()].concat();
        is_whole(&MessageEnd::Resp, &nested(DEPTH_MAX), None);
        assert_eq!(answer(&nested(DEPTH_MAX + 1)), Found::Wrong(4 * DEPTH_MAX + 3));
    }

    #[test]
    fn a_declared_size_is_only_a_claim() {
        assert_eq!(answer(b"*18446744073709551615\r\n:1\r\n"), Found::More);
        assert_eq!(answer(b"$536870912\r\nhello"), Found::More);
    }

    /// Any value, and sometimes one with attributes.
    fn any_value() -> impl Strategy<Value = Vec<u8>> {
        let line =
            ("[+:,#(_-]", "[ -~]{0,12}").prop_map(|(kind, text)| format!("{kind}{text}\r\n"));
        let bulk = ("[$!=]", prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, data)| {
            let head = format!("{kind}{}\r\n", data.len()).into_bytes();
            [&head[..], &data, b"\r\n"].concat()
        });
        let pieces = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9), 0..4);
        let streamed = pieces.prop_map(|pieces| {
            let piece = |data: &Vec<u8>| {
                [format!(";{}\r\n", data.len()).as_bytes(), data, b"\r\n"].concat()
            };
            let pieces: Vec<u8> = pieces.iter().flat_map(piece).collect();
            [b"$?\r\n", &pieces[..], b";0\r\n"].concat()
        });
        let null = prop::sample::select(vec!["$-1\r\n", "*-1\r\n"]);
        let leaf = prop_oneof![
            line.prop_map(String::into_bytes),
            bulk,
            streamed,
            null.prop_map(|null| null.as_bytes().to_vec()),
        ];
        leaf.prop_recursive(5, 40, 6, |value| {
            let pair =
                (value.clone(), value.clone()).prop_map(|(key, value)| [key, value].concat());
            let pairs = prop::collection::vec(pair, 0..3);
            let values = prop::collection::vec(value.clone(), 0..6);
            prop_oneof![
                ("[*~>]", values.clone()).prop_map(|(kind, values)| counted(&kind, &values)),
                pairs.clone().prop_map(|pairs| counted("%", &pairs)),
                (pairs, value).prop_map(|(pairs, value)| [counted("|", &pairs), value].concat()),
                ("[*~]", values).prop_map(|(kind, values)| {
                    [format!("{kind}?\r\n").into_bytes(), values.concat(), b".\r\n".to_vec()]
                        .concat()
                }),
            ]
        })
    }

    fn counted(kind: &str, elements: &[Vec<u8>]) -> Vec<u8> {
        [format!("{kind}{}\r\n", elements.len()).into_bytes(), elements.concat()].concat()
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_value_ends_where_it_was_made_to(
            value in any_value(),
            tail in prop::collection::vec(any::<u8>(), 0..10),
        ) {
            is_whole(&MessageEnd::Resp, &value, None);
            prop_assert_eq!(answer(&[&value[..], &tail].concat()), Found::End(value.len()));
        }
    }
}
