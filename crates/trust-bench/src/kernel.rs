//! What the kernel reports about this process and about its own memory.

use std::fs;
use std::io;
use std::process::Command;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time of this process.
pub fn own_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).expect("CPU time is not negative")
}

/// Kernel memory that holds sockets, their buffers and epoll's records of them, in bytes: the slab
/// (proc_meminfo(5)). The whole machine shares it, so the figure is only good for thousands of
/// sockets.
///
/// # Errors
///
/// If /proc is missing.
pub fn socket_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
    };
    let slab = value("Slab:").ok_or_else(|| io::Error::other("/proc/meminfo has no Slab"))?;
    Ok(slab * 1024)
}

/// Machine, kernel and compiler, for a report's header.
pub fn machine() -> Vec<(&'static str, String)> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("processor", cpu.trim_start_matches(['\t', ' ', ':']).to_owned()),
        ("cores", cores.to_string()),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("congestion control", read("/proc/sys/net/ipv4/tcp_congestion_control")),
        ("compiler", first_line_about("version", "rustc", "--version")),
        ("tokio", locked_version("tokio")),
        ("tokio-util", locked_version("tokio-util")),
        ("socat", first_line_about("version", "socat", "-V")),
        ("ncat", first_line_about("Version", "ncat", "--version")),
        ("haproxy", first_line_about("version", "haproxy", "-v")),
        ("nginx", first_line_about("version", "nginx", "-v")),
        ("load before", read("/proc/loadavg")),
    ]
}

/// A program's version: the first line of its output with this word, or else its first line.
fn first_line_about(word: &str, program: &str, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else {
        return "not installed".to_owned();
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| line.contains(word)).or(said.lines().next());
    line.unwrap_or_default().trim().to_owned()
}

/// The version of a library that this program was built with.
fn locked_version(library: &str) -> String {
    let name = format!("name = \"{library}\"\nversion = \"");
    let lock = include_str!("../../../Cargo.lock");
    let version = lock.split_once(&name).and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_what_is_compared_are_known() {
        assert!(locked_version("tokio").starts_with("1."));
        assert_eq!(locked_version("toki"), "unknown");
        assert_eq!(first_line_about("version", "no-such-program", "-V"), "not installed");
    }
}
