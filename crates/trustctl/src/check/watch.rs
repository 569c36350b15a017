//! The server's process, looked at from outside.

/// The server's process.
#[derive(Debug)]
pub struct Watch {
    pid: u32,
}

impl Watch {
    /// Looks at this process from now on.
    pub fn new(pid: u32) -> Watch {
        Watch { pid }
    }

    /// Notes what the process has after a group of cases.
    pub fn look(&self, _group: &str) {}

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }
}
