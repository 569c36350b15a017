//! A terminal for a program, and what the program shows on it.

use std::fs::File;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::STEP_DEADLINE;
use crate::output::Output;

/// A terminal with both ends in this process.
pub struct Terminal {
    shown: Output,
    /// Kept open until the programs have ended.
    other: File,
}

impl Terminal {
    /// A terminal that shows nothing yet.
    pub fn open() -> Terminal {
        let reader = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&reader).and_then(|()| unlockpt(&reader)).expect("its other end");
        let path = ptsname(&reader, vec![]).expect("the name of its other end");
        let path = path.to_str().expect("a path");
        let other = File::options().read(true).write(true).open(path).expect("the other end");
        Terminal { shown: Output::collect(File::from(reader)), other }
    }

    /// For a program's stdout or stderr.
    pub fn end(&self) -> Stdio {
        self.other.try_clone().expect("another descriptor").into()
    }

    /// Whether these words have been shown by now.
    pub fn has_shown(&self, words: &str) -> bool {
        self.shown.so_far().contains(words)
    }

    /// Everything that was shown, once the programs have ended.
    pub fn shown(self) -> String {
        let Terminal { mut shown, other } = self;
        drop(other);
        let bytes = shown.wait_for_end(STEP_DEADLINE).expect("its end");
        String::from_utf8(bytes).expect("UTF-8")
    }
}
