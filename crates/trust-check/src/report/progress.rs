//! The line on a terminal that says what is going on.

use std::io::{self, Write};

/// Columns of a terminal that does not say how many it has.
const COLUMNS_USUAL: usize = 80;

/// The line on a terminal that says what is going on. There is none where stderr is no terminal.
#[derive(Debug)]
pub struct Progress {
    columns: Option<usize>,
    is_shown: bool,
}

impl Progress {
    /// A line on stderr, if that is a terminal.
    pub fn on_stderr() -> Progress {
        let stderr = io::stderr();
        let columns = rustix::termios::isatty(&stderr).then(|| {
            let size = rustix::termios::tcgetwinsize(&stderr);
            let columns = size.map_or(0, |size| usize::from(size.ws_col));
            if columns == 0 { COLUMNS_USUAL } else { columns }
        });
        Progress { columns, is_shown: false }
    }

    /// Writes the line anew.
    pub fn show(&mut self, running: &[&str], done: usize, of: usize) {
        let Some(columns) = self.columns else { return };
        write(&format!("\r\x1b[K{}", line(running, done, of, columns)));
        self.is_shown = true;
    }

    /// Takes the line away, before something else is written.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.is_shown) {
            write("\r\x1b[K");
        }
    }
}

/// One column less than there are, so that the terminal does not break the line.
fn line(running: &[&str], done: usize, of: usize, columns: usize) -> String {
    let text = format!("{done} of {of}  {}", running.join(", "));
    let room = columns.saturating_sub(1);
    match text.chars().count() <= room {
        true => text,
        false => text.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
    }
}

fn write(text: &str) {
    // A terminal that is gone is no reason to fail.
    let _ = io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_into_the_terminal() {
        assert_eq!(line(&["a/1", "b/2"], 3, 70, 80), "3 of 70  a/1, b/2");
        assert_eq!(line(&["a/1", "b/2"], 3, 70, 18), "3 of 70  a/1, b/2");
        assert_eq!(line(&["a/1", "b/2"], 3, 70, 17), "3 of 70  a/1, b…");
        for columns in 0..20 {
            assert!(line(&["a/1", "b/2"], 3, 70, columns).chars().count() <= columns.max(1));
        }
    }
}
