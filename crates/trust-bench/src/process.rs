//! A peer's process: started on its core, asked for its resource use, and stopped.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;
use rustix::process::{self, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a peer may take to listen, and to stop.
const DEADLINE: Duration = Duration::from_secs(10);

/// How often to check that: the start-up time is rounded up to this.
const PAUSE: Duration = Duration::from_micros(100);

/// The kernel's unit of CPU time for other processes (USER_HZ, time(7)).
const TICK: Duration = Duration::from_millis(10);

/// How long to watch whether a peer still uses CPU time.
const IDLE_LOOK: Duration = Duration::from_millis(20);

/// CPU time of a process, or of several.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuTime {
    /// The total.
    pub total: Duration,
    /// Ticks spent in the program itself and in the kernel: coarse, but good enough for the ratio.
    ticks: [u64; 2],
}

impl CpuTime {
    /// The program's own share of the time since `before`; 0 if the clock is too coarse to tell.
    pub fn user_share_since(&self, before: &CpuTime) -> f64 {
        let [user, system] = [0, 1].map(|at| self.ticks[at].saturating_sub(before.ticks[at]));
        user as f64 / (user + system).max(1) as f64
    }
}

/// A listening peer; stopped when dropped.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From the start of the process until it listens.
    pub started_in: Duration,
}

/// Pins this process, and those it starts from now on, to the core with this number.
///
/// # Errors
///
/// If the core does not exist or is not allowed.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

impl Process {
    /// Starts a program on `cores` and waits until it listens. `command` gets the path of this
    /// program and the port to listen on, and returns `None` if the other is not installed. What it
    /// prints goes to a file in `scratch`.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends, or does not listen within ten seconds.
    pub fn start(
        name: &str,
        command: impl FnOnce(&Path, u16) -> io::Result<Option<Vec<OsString>>>,
        cores: &[usize],
        scratch: &Path,
    ) -> io::Result<Option<Process>> {
        let port = free_port()?;
        let own = std::env::current_exe()?;
        let Some(words) = command(&own, port)? else { return Ok(None) };
        let file_name = file_name(name);
        let log = File::create(scratch.join(format!("{file_name}.log")))?;
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .env("TRUST_HOME", scratch.join(&file_name))
            .process_group(0);
        // Affinity is inherited, so this thread moves to the server's core during the start.
        let before = sched_getaffinity(None)?;
        let mut wanted = CpuSet::new();
        cores.iter().for_each(|core| wanted.set(*core));
        sched_setaffinity(None, &wanted)?;
        let started = Instant::now();
        let child = command.spawn();
        sched_setaffinity(None, &before)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut running = Process { child: child?, address, started_in: Duration::ZERO };
        running.wait_until_it_listens(started)?;
        running.started_in = started.elapsed();
        Ok(Some(running))
    }

    fn wait_until_it_listens(&mut self, started: Instant) -> io::Result<()> {
        loop {
            if TcpStream::connect(self.address).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("ended with {status} before it listened")));
            }
            if started.elapsed() > DEADLINE {
                return Err(io::Error::other(format!("does not listen after {DEADLINE:?}")));
            }
            thread::sleep(PAUSE);
        }
    }

    /// CPU time used so far by the process and its descendants.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn cpu_time(&self) -> io::Result<CpuTime> {
        let mut total = Duration::ZERO;
        let mut ticks = [0; 2];
        for pid in self.processes()? {
            // A child may end between being listed and being asked; the first process must not.
            let Ok(clock) = clock_getcpuclockid(Pid::from_raw(pid)) else { continue };
            let Ok(time) = ClockId::now(clock) else { continue };
            total += Duration::from(time);
            let [own, ended] = user_and_system_ticks(pid).unwrap_or_default();
            ticks
                .iter_mut()
                .zip(own)
                .zip(ended)
                .for_each(|((sum, own), ended)| *sum += own + ended);
            // For children that have ended the kernel has no finer figure.
            total += TICK * (ended[0] + ended[1]) as u32;
        }
        Ok(CpuTime { total, ticks })
    }

    /// Waits until it uses next to no CPU time, for at most ten seconds.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn wait_until_idle(&self) -> io::Result<()> {
        let started = Instant::now();
        let mut before = self.cpu_time()?.total;
        while started.elapsed() < DEADLINE {
            thread::sleep(IDLE_LOOK);
            let now = self.cpu_time()?.total;
            // The time of children counts in ticks once they have ended, so the sum may shrink.
            if now.saturating_sub(before) < IDLE_LOOK / 20 {
                break;
            }
            before = now;
        }
        Ok(())
    }

    /// Resident memory of these processes that is not shared with a file, in bytes.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let resident = |pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
            line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
        };
        Ok(self.processes()?.into_iter().filter_map(resident).sum::<u64>() * 1024)
    }

    /// How many descriptors it has open, and how many of them are ends of pipes.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn descriptors(&self) -> io::Result<[u64; 2]> {
        let [mut all, mut pipes] = [0; 2];
        for pid in self.processes()? {
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                all += 1;
                pipes += u64::from(target.to_string_lossy().starts_with("pipe:"));
            }
        }
        Ok([all, pipes])
    }

    /// Ends it, or the program that it watches, with SIGTERM, and waits until it has ended.
    ///
    /// # Errors
    ///
    /// If it does not end within ten seconds.
    pub fn end(mut self) -> io::Result<()> {
        let last = self.processes()?.pop().and_then(process::Pid::from_raw);
        process::kill_process(last.expect("its own process is one"), Signal::TERM)?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > DEADLINE {
                return Err(io::Error::other(format!("does not end after {DEADLINE:?}")));
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// It and all its descendants: a server may start a process per client, which may start another
    /// one.
    fn processes(&self) -> io::Result<Vec<i32>> {
        let own = self.child.id() as i32;
        let is_alive = fs::read_to_string(format!("/proc/{own}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "));
        if !is_alive {
            return Err(io::Error::other("the server has ended"));
        }
        let mut processes = vec![own];
        let mut next = 0;
        while let Some(parent) = processes.get(next) {
            // The kernel lists children by the thread that started them.
            let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten();
            for thread in threads.flatten() {
                let children = fs::read_to_string(thread.path().join("children"));
                let children = children.unwrap_or_default();
                processes
                    .extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
            }
            next += 1;
        }
        Ok(processes)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = process::Pid::from_raw(self.child.id() as i32) {
            // It may have ended already.
            let _ = process::kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// User and system time in the kernel's ticks, its own and that of children that have ended
/// (proc_pid_stat(5), fields 14 to 17).
fn user_and_system_ticks(pid: i32) -> Option<[[u64; 2]; 2]> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11).map_while(|field| field.parse().ok());
    let mut next = || fields.next();
    Some([[next()?, next()?], [next()?, next()?]])
}

/// The name of a peer as that of a file.
pub fn file_name(name: &str) -> String {
    name.replace(|letter: char| !letter.is_alphanumeric(), "-")
}

/// A port that currently has no listener.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
