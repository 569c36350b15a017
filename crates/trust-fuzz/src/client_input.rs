//! The client's standard input is cut into the same messages however it is read.

use trust_echo::client::input::{Cut, Input, LineTooLong};

use crate::choices::Choices;

/// Input: how to cut and at which length, how much is read at once, and the standard input.
///
/// # Panics
///
/// If the messages differ from those of the whole input.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let by_lines = choices.byte().is_multiple_of(2);
    let len = u32::from(choices.byte());
    let piece = usize::from(choices.byte()).max(1);
    let input = choices.rest();
    let cut = match by_lines {
        true => Cut::Lines { max: len },
        false => Cut::Chunks { len: len.max(1) },
    };
    let (expected, mistake) = messages(input, cut);
    let (found, found_mistake) = read_in_pieces(input, cut, piece);
    assert_eq!(found_mistake, mistake, "how {cut:?} ended");
    assert!(found == expected, "{cut:?}: {found:?} in place of {expected:?}");
}

/// All messages, cut in one go, and the line that is too long, if any.
fn messages(input: &[u8], cut: Cut) -> (Vec<&[u8]>, Option<LineTooLong>) {
    let max = match cut {
        Cut::Chunks { len } => return (input.chunks(len as usize).collect(), None),
        Cut::Lines { max } => max,
    };
    let mut lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    // The bytes after the last newline are a line only if there are any.
    lines.pop_if(|last| last.is_empty());
    let Some(index) = lines.iter().position(|line| line.len() > max as usize) else {
        return (lines, None);
    };
    lines.truncate(index);
    (lines, Some(LineTooLong { line: index as u64 + 1, max }))
}

fn read_in_pieces(bytes: &[u8], cut: Cut, piece: usize) -> (Vec<Vec<u8>>, Option<LineTooLong>) {
    let mut input = Input::new(cut);
    let mut pieces = bytes.chunks(piece);
    let mut found = vec![];
    loop {
        let message = match input.poll_message() {
            Ok(message) => message.map(<[u8]>::to_vec),
            Err(mistake) => {
                assert_eq!(input.poll_message(), Err(mistake), "a mistake stays");
                return (found, Some(mistake));
            }
        };
        match message {
            Some(message) => found.push(message),
            None if input.is_ended() => break,
            None => {
                assert!(input.wants_bytes() && !input.is_done(), "{input:?}");
                match pieces.next() {
                    Some(piece) => input.handle_read(piece),
                    None => input.handle_end(),
                }
            }
        }
    }
    assert!(input.is_done(), "{input:?}");
    (found, None)
}
