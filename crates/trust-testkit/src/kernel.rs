//! What the kernel knows about a process and its connections, for states that no event reports.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType};

use super::STEP_DEADLINE;

/// Pause between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(1);

/// One end of a connection, as `ss` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Both directions are open.
    pub is_established: bool,
    /// FIN was sent, or is queued after bytes still to be sent.
    pub has_finished: bool,
    /// Bytes that the other end has not acknowledged.
    pub unacknowledged: u32,
    /// Bytes that the process has not read.
    pub unread: u32,
    /// Some process has it open. Otherwise only the kernel still has it, and goes on sending the
    /// rest.
    pub is_owned: bool,
}

impl Socket {
    /// Looks up the socket with these ends in this network namespace, for as long as the kernel has
    /// it open: a connection whose last packet was acknowledged is not found. It uses sock_diag(7),
    /// as `/proc/net/tcp` is slow on machines with large tables.
    pub fn find(local: SocketAddrV4, remote: SocketAddrV4) -> Option<Socket> {
        const SOCK_DIAG_BY_FAMILY: u16 = 20;
        const NLM_F_REQUEST: u16 = 1;
        const REQUEST_BYTES: u32 = 72;
        const ESTABLISHED: u8 = 1;
        const TIME_WAIT: u8 = 6;
        const LISTEN: u8 = 10;
        /// TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_LAST_ACK and TCP_CLOSING.
        const FINISHED: [u8; 4] = [4, 5, 9, 11];
        let ip = |address: SocketAddrV4| [&address.ip().octets()[..], &[0; 12]].concat();
        let request = [
            // struct nlmsghdr
            &REQUEST_BYTES.to_ne_bytes()[..],
            &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
            &NLM_F_REQUEST.to_ne_bytes(),
            &[0; 8],
            // struct inet_diag_req_v2: AF_INET, TCP, no extensions, all states
            &[2, 6, 0, 0],
            &u32::MAX.to_ne_bytes(),
            // struct inet_diag_sockid: any interface, no cookie
            &local.port().to_be_bytes(),
            &remote.port().to_be_bytes(),
            &ip(local),
            &ip(remote),
            &[0; 4],
            &[0xFF; 8],
        ]
        .concat();
        let netlink =
            rustix::net::socket(AddressFamily::NETLINK, SocketType::DGRAM, Some(SOCK_DIAG));
        let netlink = netlink.expect("a socket for sock_diag");
        rustix::net::send(&netlink, &request, SendFlags::empty()).expect("ask the kernel");
        let mut reply = [0; 512];
        let (got, _) = rustix::net::recv(&netlink, &mut reply, RecvFlags::empty())
            .expect("an answer of the kernel");
        let number = |at: usize| reply[at..at + 4].try_into().map(u32::from_ne_bytes);
        let kind = u16::from_ne_bytes([reply[4], reply[5]]);
        // After the header comes struct inet_diag_msg: family, state, …, rqueue, wqueue, uid,
        // inode.
        let state = reply[17];
        if kind != SOCK_DIAG_BY_FAMILY || got < 88 || [TIME_WAIT, LISTEN].contains(&state) {
            return None;
        }
        Some(Socket {
            is_established: state == ESTABLISHED,
            has_finished: FINISHED.contains(&state),
            unread: number(72).ok()?,
            unacknowledged: number(76).ok()?,
            is_owned: number(84).ok()? != 0,
        })
    }
}

/// Waits until no process has the local end of a connection open, and checks that the kernel has no
/// byte of it left to deliver. A FIN, which counts as one byte, may still be on its way.
/// Connections in other network namespaces than the test's are not seen.
#[track_caller]
pub fn leaves_nothing(local: SocketAddrV4, remote: SocketAddrV4) {
    const FIN: u32 = 1;
    let mut left = None;
    wait_until("the close of a connection", || {
        left = Socket::find(local, remote);
        left.is_none_or(|socket| !socket.is_owned)
    });
    if let Some(socket) = left {
        let bytes = socket.unacknowledged;
        assert!(bytes <= FIN, "{bytes} bytes for {remote} are left to the kernel: {socket:?}");
    }
}

/// Waits until a condition holds. `what` completes "never came to".
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < STEP_DEADLINE, "never came to {what}");
        std::thread::park_timeout(LOOK_INTERVAL);
    }
}

/// How many looks in a row must see no activity before the processes count as quiet.
const LOOKS_AT_WHAT_IS_QUIET: u32 = 5;

/// Waits until all threads of these processes sleep and none has run from one look to the next.
/// Several looks in a row must agree, so chains of work are finished too, even if the processes
/// wait for each other or for the disk in between.
#[track_caller]
pub fn wait_until_quiet(processes: impl Fn() -> Vec<u32>) {
    let (mut before, mut looks) = (None, 0);
    wait_until("a quiet moment", || {
        let processes = processes();
        let sleep = processes.iter().all(|pid| all_threads_if_there(*pid, 'S') == Some(true));
        let now =
            Some(processes.into_iter().map(|pid| (pid, switches_of(pid))).collect::<Vec<_>>());
        let is_same = before == now;
        before = now;
        looks = if sleep && is_same { looks + 1 } else { 0 };
        looks >= LOOKS_AT_WHAT_IS_QUIET
    });
}

/// How often threads of a process have stopped running, voluntarily or not (proc_pid_status(5)).
fn switches_of(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |task: std::fs::DirEntry| -> u64 {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let counts = status.lines().filter_map(|line| line.split_once("voluntary_ctxt_switches:"));
        counts.map(|(_, count)| count.trim().parse::<u64>().expect("a number")).sum()
    };
    tasks.map(of).sum()
}

/// Whether all threads of a process are in this state: `S` asleep, `T` stopped (proc_pid_stat(5)).
pub fn all_threads_are(pid: u32, state: char) -> bool {
    all_threads_if_there(pid, state).expect("the process runs")
}

/// Like [`all_threads_are`]; `None` if there is no such process.
pub fn all_threads_if_there(pid: u32, state: char) -> Option<bool> {
    let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    Some(tasks.all(|task| {
        // A thread that has ended meanwhile has no file.
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { return true };
        stat.rsplit_once(") ").is_some_and(|(_, fields)| fields.starts_with(state))
    }))
}

/// The processes that a process has started and not yet reaped (proc_pid_task(5), `children`).
pub fn children_of(pid: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let numbers = |list: String| -> Vec<u32> {
        list.split_whitespace().map(|number| number.parse().expect("a number")).collect()
    };
    lists.flat_map(numbers).collect()
}

/// A size from `/proc/PID/status`, in bytes: `VmHWM` is peak memory, `VmPeak` is peak address space
/// (proc_pid_status(5)).
pub fn status_bytes(pid: u32, name: &str) -> u64 {
    status_bytes_if_there(pid, name).expect("the process runs")
}

/// Like [`status_bytes`]; `None` if there is no such process, or it has no memory left.
pub fn status_bytes_if_there(pid: u32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib = line.trim().strip_suffix(" kB").expect("a size in kB");
    Some(kib.parse::<u64>().expect("a number of kB") * 1024)
}

/// Resets `VmHWM` to current memory use (proc_pid_clear_refs(5)).
pub fn forget_peak_memory(pid: u32) {
    // Fails only if the process has ended.
    drop(std::fs::write(format!("/proc/{pid}/clear_refs"), "5"));
}

/// The work done by processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Time on a processor.
    pub cpu: Duration,
    /// How often a thread got a processor, after waiting for something or losing it to another
    /// thread.
    pub turns: u64,
}

/// The work done by each of several processes since it started.
pub struct Efforts(BTreeMap<u32, Effort>);

impl Efforts {
    pub fn of(processes: impl IntoIterator<Item = u32>) -> Efforts {
        Efforts(processes.into_iter().map(|pid| (pid, effort_of(pid))).collect())
    }

    /// The work done by all of them.
    pub fn sum(&self) -> Effort {
        self.since(&Efforts(BTreeMap::new()))
    }

    /// The work done by all of them since `before`, except those that have ended.
    pub fn since(&self, before: &Efforts) -> Effort {
        self.0.iter().fold(Effort::default(), |sum, (pid, now)| {
            let before = before.0.get(pid).copied().unwrap_or_default();
            Effort {
                cpu: sum.cpu + now.cpu.saturating_sub(before.cpu),
                turns: sum.turns + now.turns.saturating_sub(before.turns),
            }
        })
    }
}

/// The work done by the threads of a process so far (`/proc/PID/task/TID/schedstat`, which is exact
/// where `stat` counts ticks). Threads and processes that have ended count for nothing.
fn effort_of(pid: u32) -> Effort {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.fold(Effort::default(), |Effort { cpu, turns }, task| {
        let counts = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        // Nanoseconds on a processor, nanoseconds waiting for one, and how often it got one.
        let counts: Vec<u64> = counts.split_whitespace().flat_map(str::parse).collect();
        let [ran, _, had] = counts[..] else { return Effort { cpu, turns } };
        Effort { cpu: cpu + Duration::from_nanos(ran), turns: turns + had }
    })
}
