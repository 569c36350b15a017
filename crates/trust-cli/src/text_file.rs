//! Files with text that users write, as a line of theirs per entry.

use std::fs;
use std::path::Path;

use crate::exit_code::{ExitCode, Failure};
use crate::text::reason;
use crate::values::quoted;

/// Largest file that is read, in bytes: far more than people write.
const SIZE_MAX: u64 = 1024 * 1024;

/// Reads a file as a list: what `parse` makes of each line, or what is wrong with it. Empty lines
/// are left out, and so are those that begin with `#`.
///
/// # Errors
///
/// 74 if it cannot be read; 65 for the first wrong line, with its place.
pub fn read_list<T>(
    path: &Path,
    parse: impl Fn(&str, &str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let unreadable =
        |why: String| Failure::new(ExitCode::Io, format!("cannot read {}: {why}", quoted(path)));
    let size = fs::metadata(path).map_err(|error| unreadable(reason(&error)))?.len();
    if size > SIZE_MAX {
        return Err(unreadable(format!("it has {size} bytes: expected up to {SIZE_MAX}")));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(reason(&error)))?;
    let mut entries = vec![];
    for (index, line) in text.lines().map(str::trim).enumerate() {
        if !line.is_empty() && !line.starts_with('#') {
            entries.push(parse(&format!("{}, line {}", quoted(path), index + 1), line)?);
        }
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn read(text: &[u8]) -> Result<Vec<u32>, Failure> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        read_list(file.path(), |place, line| {
            line.parse().map_err(|_| Failure::new(ExitCode::DataError, format!("{place}: {line}")))
        })
    }

    #[test]
    fn lines_are_read_and_comments_left_out() {
        assert_eq!(read(b"# numbers\n1\n\n  2 \r\n3"), Ok(vec![1, 2, 3]));
        assert_eq!(read(b""), Ok(vec![]));
    }

    #[test]
    fn a_wrong_line_is_named_and_so_is_a_file_that_is_none() {
        let failure = read(b"1\n\nx\n").unwrap_err();
        assert!(failure.message.ends_with("', line 3: x"), "{}", failure.message);
        assert_eq!(read(b"\xff").unwrap_err().exit, ExitCode::Io);
        let missing = read_list(Path::new("/nowhere/at-all"), |_, _| Ok(()));
        assert_eq!(missing.unwrap_err().exit, ExitCode::Io);
        let large = read(&vec![b'\n'; SIZE_MAX as usize + 1]).unwrap_err();
        assert!(large.message.ends_with("expected up to 1048576"), "{}", large.message);
    }
}
