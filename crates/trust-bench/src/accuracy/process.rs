//! A proxy as a process of its own.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Killed and reaped when dropped.
pub(super) struct ProxyProcess(Child);

impl ProxyProcess {
    /// Starts it; returns when it has written the event of that name, with that event.
    pub(super) fn start(command: &mut Command, name: &str) -> io::Result<(ProxyProcess, Value)> {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        let output = child.stdout.take().ok_or_else(|| io::Error::other("no output"))?;
        let process = ProxyProcess(child);
        let mut lines = BufReader::new(output).lines();
        let event = loop {
            let line = lines.next().ok_or_else(|| io::Error::other("the proxy has ended"))??;
            let event: Value = serde_json::from_str(&line)?;
            if event["event"] == name {
                break event;
            }
        };
        // What it says later would fill the pipe.
        thread::spawn(move || lines.for_each(drop));
        Ok((process, event))
    }

    /// Has it end, and waits for that.
    pub(super) fn end(mut self) -> io::Result<()> {
        if let Some(pid) = Pid::from_raw(self.0.id() as i32) {
            // The second one cuts what is still under way.
            kill_process(pid, Signal::TERM)?;
            thread::sleep(Duration::from_millis(200));
            let _ = kill_process(pid, Signal::TERM);
        }
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        // Both fail only if it has ended and was reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
