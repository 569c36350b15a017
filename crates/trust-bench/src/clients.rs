//! The load testers under comparison: what a client pays for checking everything.
//!
//! All of them use the same server, on its own core, and take turns on the other core, each in a
//! new process with new connections. A client reports its own CPU time, because only it knows when
//! it is connected and warmed up.

mod bare;

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use serde_json::{Value, json};

use crate::load::Shape;
use crate::outcome::Rows;
use crate::process::Process;
use crate::rounds::{self, Contender};

/// The shape for a million messages per second and more: both sides handle dozens per call.
pub const DOZENS_A_CALL: Shape = Shape { connections: 10, payload_len: 64, in_flight: 128 };

/// The eight shapes.
pub const SHAPES: [Shape; 8] = [
    Shape { connections: 1, payload_len: 64, in_flight: 1 },
    Shape { connections: 100, payload_len: 64, in_flight: 1 },
    Shape { connections: 1_000, payload_len: 64, in_flight: 1 },
    Shape { connections: 10_000, payload_len: 64, in_flight: 1 },
    Shape { connections: 100, payload_len: 64, in_flight: 16 },
    DOZENS_A_CALL,
    Shape { connections: 100, payload_len: 16 * 1024, in_flight: 1 },
    Shape { connections: 10, payload_len: 64 * 1024, in_flight: 4 },
];

/// The lower bound on cost.
pub const BARE: &str = "bare";

/// The same client again, to show the noise.
pub const BARE_AGAIN: &str = "bare again";

/// Our load tester.
pub const OURS: &str = "trustctl load";

/// All clients and their descriptions, in the order of the tables.
pub const CLIENTS: [(&str, &str); 3] = [
    (BARE, "a bare readiness client: nothing compared, no latency, no deadlines"),
    (BARE_AGAIN, "the same once more: its difference from the first is what the method errs by"),
    (OURS, "every byte compared, every latency recorded"),
];

/// The subcommand that makes this program a bare client.
pub const BARE_WORD: &str = "bare-client";

/// Warm-up of a client, and what each connection adds to it: our load tester may still be
/// connecting.
const WARM_UP: Duration = Duration::from_millis(200);
const WARM_UP_A_CONNECTION: Duration = Duration::from_micros(100);

/// How much longer than its warm-up and its measured part a client may take, for its connects and
/// its last answers.
const DEADLINE: Duration = Duration::from_secs(30);

/// How often to check whether a client has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// The measured part of a client's turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Turn {
    /// Messages that came back during it.
    pub messages: u64,
    /// Its length.
    pub elapsed: Duration,
    /// CPU time of the client during it, user and system.
    pub cpu: Duration,
}

impl Turn {
    /// Messages per second.
    pub fn per_second(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    /// CPU time per message, in nanoseconds.
    pub fn cpu_ns(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.messages.max(1) as f64
    }

    /// The share of its core that the client used.
    pub fn busy(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }

    /// A document that [`Turn::of`] can read: the same as that of `trustctl load --json`, as far as
    /// needed here.
    pub fn document(&self) -> Value {
        json!({
            "messages": { "answered_in_time": self.messages },
            "duration_ns": self.elapsed.as_nanos() as u64,
            "client": { "cpu_ns": self.cpu.as_nanos() as u64 },
        })
    }

    /// Reads a turn from a client's document.
    ///
    /// It counts the messages that came back before sending ended, as CPU time is counted until
    /// then. The last frames in flight come back later, and with 10,000 of them they are many.
    ///
    /// # Errors
    ///
    /// If a number is missing or nothing came back.
    pub fn of(document: &Value) -> io::Result<Turn> {
        let number = |place: &str| {
            let number = document.pointer(place).and_then(Value::as_u64).filter(|n| *n > 0);
            number.ok_or_else(|| io::Error::other(format!("no number at {place} of its document")))
        };
        Ok(Turn {
            messages: number("/messages/answered_in_time")?,
            elapsed: Duration::from_nanos(number("/duration_ns")?),
            cpu: Duration::from_nanos(number("/client/cpu_ns")?),
        })
    }
}

/// How to run the clients.
#[derive(Debug)]
pub struct Turns<'a> {
    /// Number of turns of each client that count.
    pub rounds: usize,
    /// Length of the measured part.
    pub length: Duration,
    /// Only these clients; all if empty.
    pub clients: &'a [&'static str],
    /// The program under test.
    pub trustctl: &'a Path,
    /// A directory for what the clients write.
    pub scratch: &'a Path,
}

impl Turns<'_> {
    /// Runs one round that does not count and then all others. Clients may use the cores that this
    /// thread may use.
    pub fn take(&self, server: &Process, shape: Shape) -> Rows<Turn> {
        let is_wanted = |name: &str| self.clients.is_empty() || self.clients.contains(&name);
        let names = CLIENTS.iter().map(|(name, _)| *name).filter(|name| is_wanted(name));
        let contenders = names
            .map(|name| Contender::ready(name, move || self.take_one(name, server, shape)))
            .collect();
        rounds::take_turns(self.rounds, contenders)
    }

    fn take_one(&self, name: &str, server: &Process, shape: Shape) -> io::Result<Turn> {
        // Otherwise closing one client's connections would take another one's time.
        server.wait_until_idle()?;
        let warm_up = WARM_UP + WARM_UP_A_CONNECTION * shape.connections as u32;
        let words = match name {
            OURS => self.our_command(server.address, shape, warm_up),
            _ => self.bare_command(server.address, shape, warm_up)?,
        };
        let [told, said] = ["json", "log"].map(|kind| self.scratch.join(format!("client.{kind}")));
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(File::create(&told)?)
            .stderr(File::create(&said)?)
            .env("TRUST_HOME", self.scratch.join("client"))
            .spawn()?;
        // The client has the core to itself for as long as it certainly runs.
        thread::sleep(warm_up + self.length);
        let outcome = wait(child);
        let told = fs::read_to_string(told)?;
        if let Err(error) = outcome {
            let said = fs::read_to_string(said)?;
            let said = said.lines().next().unwrap_or("no message on stderr");
            return Err(io::Error::other(format!("{error}: {said}")));
        }
        Turn::of(&serde_json::from_str(&told)?)
    }

    fn our_command(&self, server: SocketAddr, shape: Shape, warm_up: Duration) -> Vec<OsString> {
        let Shape { connections, payload_len, in_flight } = shape;
        let flags = [
            format!("--host={}", server.ip()),
            format!("--port={}", server.port()),
            format!("--concurrency={connections}"),
            format!("--in-flight={in_flight}"),
            format!("--size={payload_len}"),
            format!("--duration={}", self.length.as_secs_f64()),
            format!("--warm-up={}", warm_up.as_secs_f64()),
        ];
        let words = [self.trustctl.into(), "load".into(), "--json".into()];
        words.into_iter().chain(flags.map(OsString::from)).collect()
    }

    fn bare_command(
        &self,
        server: SocketAddr,
        shape: Shape,
        warm_up: Duration,
    ) -> io::Result<Vec<OsString>> {
        let Shape { connections, payload_len, in_flight } = shape;
        let numbers = [connections, payload_len, in_flight].map(|number| number.to_string());
        let times = [warm_up, self.length].map(|time| time.as_secs_f64().to_string());
        let words = [std::env::current_exe()?.into(), BARE_WORD.into()];
        let port = server.port().to_string();
        let arguments = [port].into_iter().chain(numbers).chain(times).map(OsString::from);
        Ok(words.into_iter().chain(arguments).collect())
    }
}

/// Waits for a client to end successfully; kills it if it takes too long.
fn wait(mut child: Child) -> io::Result<()> {
    let started = Instant::now();
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(io::Error::other(format!("ended with {status}"))),
            None if started.elapsed() < DEADLINE => thread::sleep(PAUSE),
            None => {
                child.kill()?;
                child.wait()?;
                return Err(io::Error::other(format!("did not end in {DEADLINE:?}")));
            }
        }
    }
}

/// Acts as a bare client, for [`Turns::take`].
///
/// # Errors
///
/// Errors of sockets and epoll(7), a connection that ends, and no answers at all.
pub fn run_bare(port: u16, shape: Shape, warm_up: Duration, length: Duration) -> io::Result<Turn> {
    bare::run(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), shape, warm_up, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_part_is_read_from_the_document_of_a_load_tester() {
        let document = json!({
            "schema": "trustctl-load/1",
            "duration_ns": 2_000_000_000u64,
            "messages": { "answered": 1_100, "answered_in_time": 1_000, "warm_up": 70 },
            "client": { "cpu_ns": 500_000_000u64, "busy": 0.25 },
        });
        let turn = Turn::of(&document).expect("all is there");
        assert_eq!((turn.per_second(), turn.cpu_ns(), turn.busy()), (500.0, 500_000.0, 0.25));
        assert_eq!(Turn::of(&turn.document()).expect("its own document"), turn);
    }

    #[test]
    fn a_run_without_answers_or_without_a_number_is_no_measurement() {
        let turn =
            Turn { messages: 0, elapsed: Duration::from_secs(1), cpu: Duration::from_secs(1) };
        let error = Turn::of(&turn.document()).expect_err("nothing came back");
        assert!(error.to_string().contains("/messages/answered_in_time"), "{error}");
        let error = Turn::of(&json!({ "messages": { "answered_in_time": 5 }, "duration_ns": 1 }));
        assert!(error.expect_err("no CPU time").to_string().contains("/client/cpu_ns"));
    }
}
