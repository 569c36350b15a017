//! A connection through a proxy with rules, and its trace.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::ProxyProcess;

/// Length of a message.
const MESSAGE_LEN: usize = 64;

/// A connection through a proxy.
pub(super) struct DelayedPath {
    proxy: ProxyProcess,
    client: TcpStream,
    server: TcpStream,
    trace: PathBuf,
}

impl DelayedPath {
    /// Starts a proxy with these rules, and connects through it.
    pub(super) fn start(
        trustctl: &Path,
        scratch: &Path,
        rules: &[&str],
        hold: Option<u64>,
    ) -> io::Result<DelayedPath> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let trace = scratch.join("trace");
        let _ = fs::remove_file(&trace);
        let mut command = Command::new(trustctl);
        command.args(["proxy", "0"]).arg(listener.local_addr()?.to_string());
        command.args(["--log-format", "json", "--trace"]).arg(&trace);
        command.args(rules.iter().flat_map(|rule| ["--fault", rule]));
        command.args(hold.map(|bytes| format!("--hold={bytes}")));
        let (proxy, event) = ProxyProcess::start(&mut command, "proxy_start")?;
        let port = event["port"].as_u64().unwrap_or_default() as u16;
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        client.set_nodelay(true)?;
        let (server, _) = listener.accept()?;
        Ok(DelayedPath { proxy, client, server, trace })
    }

    /// Sends `count` messages, one each `apart`, and waits until they have arrived.
    pub(super) fn send_apart(&mut self, count: usize, apart: Duration) -> io::Result<()> {
        let began = Instant::now();
        for number in 0..count {
            let due = began + apart * number as u32;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            self.client.write_all(&[7; MESSAGE_LEN])?;
        }
        self.server.read_exact(&mut vec![0; count * MESSAGE_LEN])
    }

    /// Sends as much as the path takes for so long; when how much arrived.
    pub(super) fn flood(&mut self, time: Duration) -> io::Result<Vec<(Instant, usize)>> {
        let began = Instant::now();
        let mut client = self.client.try_clone()?;
        let sender = thread::spawn(move || {
            let bytes = vec![7; 256 * 1024];
            while began.elapsed() < time && client.write(&bytes).is_ok() {}
        });
        let mut received = vec![];
        let mut buffer = vec![0; 1 << 20];
        self.server.set_read_timeout(Some(time))?;
        while began.elapsed() < time {
            let count = self.server.read(&mut buffer)?;
            received.push((Instant::now(), count));
        }
        // What is still under way is of no interest, and may take long.
        self.server.shutdown(Shutdown::Both)?;
        self.client.shutdown(Shutdown::Both)?;
        let _ = sender.join();
        Ok(received)
    }

    /// Ends the connection and the proxy; by how much its sends were late that waited for a time.
    pub(super) fn end(self) -> io::Result<Vec<Duration>> {
        drop((self.client, self.server));
        self.proxy.end()?;
        let text = fs::read_to_string(&self.trace)?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(lines.filter_map(|line| line["late_ns"].as_u64()).map(Duration::from_nanos).collect())
    }
}
