//! Processes, as shown by `/proc` (proc(5)).

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;

/// A process that has ended and that its parent has not reaped.
const ZOMBIE: char = 'Z';

/// A thread that runs or waits for a core.
const RUNNABLE: char = 'R';

/// One process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its process ID.
    pub pid: u32,
    /// Its parent's process ID.
    pub parent: u32,
    /// Its process group ID.
    pub group: u32,
    /// Whether it has ended without being reaped.
    pub is_zombie: bool,
    /// The number of its threads.
    pub threads: u64,
    /// Its resident memory in pages.
    pub resident_pages: u64,
}

/// The open descriptors of a process, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Descriptors {
    /// The inodes of sockets.
    pub sockets: HashSet<u64>,
    /// The number of pipe ends.
    pub pipes: u64,
    /// The number of files and all other descriptors.
    pub others: u64,
}

/// A thread's use of a core, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Computed {
    /// How long it ran.
    pub ran: u64,
    /// How long it was ready to run but had no core.
    pub waited: u64,
}

impl Process {
    /// The process with this ID; `None` if there is none, not even a zombie.
    pub fn read(pid: u32) -> Option<Process> {
        parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// All visible processes.
    pub fn all() -> Vec<Process> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter_map(Process::read).collect()
    }

    /// The process, all its descendants, and all members of the group that it leads.
    pub fn tree(root: u32) -> Vec<Process> {
        family(root, Process::all())
    }

    /// Its name, at most 15 bytes (`comm` of proc(5)).
    pub fn name(&self) -> Option<String> {
        let name = fs::read(format!("/proc/{}/comm", self.pid)).ok()?;
        Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
    }

    /// Whether one of its threads runs, or would if it had a core (state `R` of proc_pid_stat(5)).
    pub fn is_computing(&self) -> bool {
        let tasks =
            fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        let stats = tasks.filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
        stats.filter_map(|stat| Some(stat.rsplit_once(") ")?.1.starts_with(RUNNABLE))).any(|is| is)
    }

    /// How long each of its threads has run and has waited for a core, by thread ID, in nanoseconds
    /// (Documentation/scheduler/sched-stats.rst of the kernel). Empty if the kernel does not
    /// provide it.
    pub fn computed(&self) -> HashMap<u32, Computed> {
        let Ok(tasks) = fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return HashMap::new();
        };
        let times = tasks.flatten().filter_map(|task| {
            let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let mut numbers = text.split_ascii_whitespace().map(str::parse::<u64>);
            let computed = Computed { ran: numbers.next()?.ok()?, waited: numbers.next()?.ok()? };
            Some((task.file_name().to_str()?.parse().ok()?, computed))
        });
        times.collect()
    }

    /// Pages of writable memory that it has allocated, resident or not (`data` of
    /// proc_pid_statm(5)).
    pub fn data_pages(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.pid)).ok()?;
        text.split_ascii_whitespace().nth(5)?.parse().ok()
    }

    /// Its open descriptors.
    ///
    /// # Errors
    ///
    /// No permission, for processes of other users. A process that has ended has no descriptors.
    pub fn descriptors(&self) -> io::Result<Descriptors> {
        let mut found = Descriptors::default();
        let entries = match fs::read_dir(format!("/proc/{}/fd", self.pid)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries?,
        };
        for entry in entries.flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default();
            let target = target.to_str().unwrap_or_default();
            let inode = |target: &str| target.strip_suffix(']')?.parse::<u64>().ok();
            match target.strip_prefix("socket:[") {
                Some(socket) => found.sockets.extend(inode(socket)),
                None if target.starts_with("pipe:[") => found.pipes += 1,
                None => found.others += 1,
            }
        }
        Ok(found)
    }
}

/// Parses the fields of proc_pid_stat(5) needed here. The name in the second one may contain spaces
/// and brackets.
fn parse_stat(stat: &str) -> Option<Process> {
    let (pid, _) = stat.split_once(' ')?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The field numbers of the manual page minus three.
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Process {
        pid: pid.parse().ok()?,
        is_zombie: fields.first()?.starts_with(ZOMBIE),
        parent: number(1)?.try_into().ok()?,
        group: number(2)?.try_into().ok()?,
        threads: number(17)?,
        resident_pages: number(21)?,
    })
}

fn family(root: u32, all: Vec<Process>) -> Vec<Process> {
    let mut members: HashSet<u32> = HashSet::from([root]);
    members.extend(all.iter().filter(|process| process.group == root).map(|process| process.pid));
    loop {
        let before = members.len();
        let born = all.iter().filter(|process| members.contains(&process.parent));
        let born: Vec<u32> = born.map(|process| process.pid).collect();
        members.extend(born);
        if members.len() == before {
            break;
        }
    }
    all.into_iter().filter(|process| members.contains(&process.pid)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, group: u32) -> Process {
        let is_zombie = false;
        Process { pid, parent, group, is_zombie, threads: 1, resident_pages: 0 }
    }

    #[test]
    fn a_process_whose_name_looks_like_fields_is_read_right() {
        let stat = "42 (a) Z 1 (b)) S 7 40 40 0 -1 4194304 1 2 3 4 11 22 0 0 20 0 3 0 99 1000 55 1";
        let expected = Process {
            pid: 42,
            parent: 7,
            group: 40,
            is_zombie: false,
            threads: 3,
            resident_pages: 55,
        };
        assert_eq!(parse_stat(stat), Some(expected));
        assert!(parse_stat("42 (a) Z 7 40 40 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 0 0 0").is_some());
        for bad in ["", "42", "42 (a", "42 (a) S 7", "x (a) S 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"] {
            assert_eq!(parse_stat(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_process_computes_while_one_of_its_threads_does() {
        // This thread runs, as it asks.
        assert!(Process::read(std::process::id()).unwrap().is_computing());
        let mut sleeper = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Process::read(sleeper.id()).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while process.is_computing() {
            assert!(std::time::Instant::now() < until);
            std::thread::yield_now();
        }
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
    }

    #[test]
    fn a_family_is_everybody_who_descends_from_the_root_or_is_in_its_group() {
        let all = vec![
            process(12, 11, 12),
            process(10, 1, 10),
            process(11, 10, 10),
            process(13, 1, 10),
            process(14, 1, 14),
            process(15, 13, 15),
        ];
        let members = |root| {
            let mut pids: Vec<u32> =
                family(root, all.clone()).iter().map(|process| process.pid).collect();
            pids.sort_unstable();
            pids
        };
        assert_eq!(members(10), [10, 11, 12, 13, 15]);
        assert_eq!(members(11), [11, 12]);
        assert!(members(99).is_empty());
    }
}
