//! The network for everything, and what can happen to a client's host and its path.
//!
//! Every client is a separate host: an address of 127.0.0.0/8 that no other client of the run has.
//! Its faults are rules of nftables for that address, applied where packets arrive, so that to the
//! sender they look lost on the way.
//!
//! Paths have no delay here, as not every kernel has netem. So nothing would be in flight when a
//! fault begins, and no answer would ever be lost. To make up for that, a fault can begin in the
//! direction to the client only, before the last send whose answer it is to take with it.

use std::io::{self, PipeReader, Write};
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::watch::{Span, Watch};
use trust_testkit::net::{Network, started};
use trust_testkit::runner;

/// The faults, as sets of clients' addresses: packets to them are lost, or packets from them.
const RULES: &str = "table ip adversary {
    set gone_to { type ipv4_addr; }
    set gone_from { type ipv4_addr; }
    set cut_to { type ipv4_addr; }
    set cut_from { type ipv4_addr; }
    set unreachable_to { type ipv4_addr; }
    set unreachable_from { type ipv4_addr; }
    chain input {
        type filter hook input priority 0; policy accept;
        ip daddr @gone_to drop
        ip saddr @gone_from drop
        ip daddr @cut_to drop
        ip saddr @cut_from drop
        meta l4proto tcp ip daddr @unreachable_to reject with icmp type host-unreachable
        meta l4proto tcp ip saddr @unreachable_from drop
    }
}
";

/// The most that the kernel of a narrow network buffers per connection of a server, for sending and
/// for receiving; in bytes, in tcp(7)'s format.
const NARROW: [(&str, &str); 2] =
    [("ipv4/tcp_wmem", "4096 4096 8192"), ("ipv4/tcp_rmem", "4096 8192 16384")];

/// nftables refuses concurrent changes, so they are made one at a time.
static CHANGES: Mutex<()> = Mutex::new(());

/// The networks of a run. Socket buffers are a setting of the network, so there are two.
pub(crate) struct Networks {
    wide: Network,
    narrow: Network,
}

impl Networks {
    /// Skips the test without nftables or without permission to create networks.
    #[track_caller]
    pub(crate) fn create() -> Networks {
        let [wide, narrow] = [(); 2].map(|()| {
            let network = Network::create();
            network.set("ipv4/icmp_ratelimit", "0");
            if let Err(complaint) = network.inside(|| nft(RULES)) {
                runner::skip(&format!("nftables in the kernel ({complaint})"));
            }
            network
        });
        NARROW.iter().for_each(|(setting, value)| narrow.set(setting, value));
        Networks { wide, narrow }
    }

    /// Runs `action` in one of them.
    #[track_caller]
    pub(crate) fn inside<T: Send>(&self, is_narrow: bool, action: impl FnOnce() -> T + Send) -> T {
        let network = if is_narrow { &self.narrow } else { &self.wide };
        network.inside(action)
    }
}

/// What can happen to a host or to the path to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The host is switched off.
    Gone,
    /// Every packet is lost.
    Cut,
    /// Every packet is lost, and a router reports it to the server.
    Unreachable,
}

impl Fault {
    /// An outage from a script.
    pub(crate) fn outage(unreachable: bool) -> Fault {
        if unreachable { Fault::Unreachable } else { Fault::Cut }
    }

    fn set(self) -> &'static str {
        match self {
            Fault::Gone => "gone",
            Fault::Cut => "cut",
            Fault::Unreachable => "unreachable",
        }
    }
}

/// A client's host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host(Ipv4Addr);

impl Host {
    /// The most clients per script: one of the numbers in their addresses.
    pub(crate) const CLIENTS_MAX: usize = 100;

    /// The host of client `index` in the run's script `number`.
    pub(crate) fn new(number: u16, index: usize) -> Host {
        assert!(index < Host::CLIENTS_MAX, "more clients than addresses");
        let [high, low] = number.to_be_bytes();
        Host(Ipv4Addr::new(127, 100 + index as u8, high, low))
    }

    pub(crate) fn address(self) -> Ipv4Addr {
        self.0
    }

    /// The fault begins for packets sent to it; those that it sends still arrive.
    pub(crate) fn begin_towards_it(self, fault: Fault, watch: Watch) -> Change {
        self.change(watch, "add", fault, &["to"])
    }

    /// The fault begins, or goes on, in both directions.
    pub(crate) fn begin(self, fault: Fault, watch: Watch) -> Change {
        self.change(watch, "add", fault, &["to", "from"])
    }

    /// The fault is over.
    pub(crate) fn end(self, fault: Fault, watch: Watch) -> Change {
        self.change(watch, "delete", fault, &["to", "from"])
    }

    fn change(self, watch: Watch, verb: &str, fault: Fault, directions: &[&str]) -> Change {
        let line = |direction: &&str| {
            let set = fault.set();
            format!("{verb} element ip adversary {set}_{direction} {{ {} }}\n", self.0)
        };
        Change::start(watch, directions.iter().map(line).collect())
    }
}

/// A change in progress: nft(8) takes its time and its turn, and the script's other clients must
/// not wait for it.
pub(crate) struct Change {
    from: Duration,
    thread: JoinHandle<Duration>,
    /// Reaches its end when the thread does.
    end: PipeReader,
}

impl Change {
    fn start(watch: Watch, commands: String) -> Change {
        let (end, writer) = io::pipe().expect("make a pipe");
        let from = watch.now();
        // It stays in the network of the thread that starts it.
        let thread = thread::spawn(move || {
            let _open_until_the_end = writer;
            if let Err(complaint) = nft(&commands) {
                panic!("nft failed with {commands:?}: {complaint}");
            }
            watch.now()
        });
        Change { from, thread, end }
    }

    /// Whether [`Change::made`] returns at once.
    pub(crate) fn is_made(&self) -> bool {
        self.thread.is_finished()
    }

    /// Becomes ready when the change is made.
    pub(crate) fn awaits(&self) -> PollFd<'_> {
        PollFd::new(&self.end, PollFlags::IN)
    }

    /// Waits until it is made; returns when that was.
    ///
    /// # Panics
    ///
    /// If nft(8) failed.
    pub(crate) fn made(self) -> Span {
        match self.thread.join() {
            Ok(to) => Span { from: self.from, to },
            Err(complaint) => resume_unwind(complaint),
        }
    }
}

/// Runs nft(8) commands in the network of the calling thread.
///
/// # Errors
///
/// nft's complaint.
#[track_caller]
fn nft(commands: &str) -> Result<(), String> {
    let _turn = CHANGES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new("nft");
    command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = started(command.stderr(Stdio::piped()).spawn(), "nft (nftables)");
    let mut input = child.stdin.take().expect("stdin is a pipe");
    // It may have ended already; then its status says why.
    drop(input.write_all(commands.as_bytes()));
    drop(input);
    let done = child.wait_with_output().expect("wait for nft");
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
    }
}
