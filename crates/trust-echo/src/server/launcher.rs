//! Starts the processes that serve a client each: this executable, anew.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};
use trust_cli::event_log::EventLog;
use trust_cli::event_text::LogFormat;
use trust_cli::level::Level;
use trust_net::observer::ClientInfo;
use trust_net::wire::{Limits, Mode};
use trust_net::{Launcher, Peer, ServerConfig};

use crate::server::activation;
use crate::server::events::{mode_name, parse_mode};

/// The word that a child is started with. It is not a command: only a server can use it.
pub(crate) const CHILD: &str = "serve-connection";

/// The executable that runs, also if another one has its name by now.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// Threads of a child, which count as processes for RLIMIT_NPROC: one waits for signals, one
/// serves, and two write logs.
const THREADS_PER_CHILD: u64 = 4;

/// Threads that are left to others of the same user, the server itself among them.
const RESERVED_THREADS: u64 = 64;

/// Children that a server has at most unless it is told otherwise: they take some 2 MB each.
const DEFAULT_CHILDREN_MAX: u64 = 1000;

/// Whether a child could be started: the executable is found through /proc, which a chroot(2) may
/// lack.
///
/// # Errors
///
/// What the system says about it.
pub(crate) fn check_executable() -> io::Result<()> {
    std::fs::File::open(OWN_EXECUTABLE).map(drop)
}

/// How many children there may be if no setting says so.
pub(crate) fn default_children() -> u64 {
    let threads = getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
    let allowed = threads.saturating_sub(RESERVED_THREADS) / THREADS_PER_CHILD;
    allowed.clamp(1, DEFAULT_CHILDREN_MAX)
}

// Many fields: all that a child is told, in the form in which it is.
/// Everything that a child does not find out by itself. Its settings were checked by the server.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub(crate) struct HandOver {
    conn: u64,
    client_fd: i32,
    #[serde(with = "PeerForm")]
    peer: Peer,
    mode: String,
    max_payload: u32,
    timeout: Option<Duration>,
    frame_timeout: Option<Duration>,
    linger_timeout: Duration,
    max_lifetime: Option<Duration>,
    proxy_header: Option<Duration>,
    drain_timeout: Duration,
    pub(crate) request_id: String,
    log_level: String,
    log_format: String,
    /// Bytes, because not every name is text.
    log_file: Option<Vec<u8>>,
}

/// The form in which a child is told of its peer.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Peer")]
enum PeerForm {
    Ip(SocketAddr),
    Unix { pid: i32, uid: u32 },
}

impl HandOver {
    /// What all children of a server are told, for a client that is yet to come.
    pub(crate) fn new(config: &ServerConfig, log: &EventLog, log_file: Option<&Path>) -> HandOver {
        let Limits {
            mode,
            max_payload,
            timeout,
            frame_timeout,
            linger_timeout,
            max_lifetime,
            proxy_header,
        } = config.limits;
        HandOver {
            conn: 0,
            client_fd: -1,
            peer: Peer::Ip(SocketAddr::from(([0, 0, 0, 0], 0))),
            mode: mode_name(mode).to_owned(),
            max_payload,
            timeout,
            frame_timeout,
            linger_timeout,
            max_lifetime,
            proxy_header,
            drain_timeout: config.drain_timeout,
            request_id: log.request_id().to_owned(),
            log_level: log.lowest().name().to_owned(),
            log_format: log.format().name().to_owned(),
            log_file: log_file.map(|path| path.as_os_str().as_bytes().to_owned()),
        }
    }

    pub(crate) fn client(&self) -> ClientInfo {
        ClientInfo::new(self.conn, self.client_fd, self.peer)
    }

    pub(crate) fn config(&self) -> ServerConfig {
        let limits = Limits {
            mode: parse_mode(&self.mode).unwrap_or(Mode::Auto),
            max_payload: self.max_payload,
            timeout: self.timeout,
            frame_timeout: self.frame_timeout,
            linger_timeout: self.linger_timeout,
            max_lifetime: self.max_lifetime,
            proxy_header: self.proxy_header,
        };
        ServerConfig { limits, drain_timeout: self.drain_timeout, ..ServerConfig::new(0) }
    }

    pub(crate) fn log_level(&self) -> Level {
        Level::parse(&self.log_level).unwrap_or(Level::Info)
    }

    pub(crate) fn log_format(&self) -> LogFormat {
        LogFormat::parse(&self.log_format).unwrap_or(LogFormat::Json)
    }

    pub(crate) fn log_file(&self) -> Option<&Path> {
        self.log_file.as_deref().map(|bytes| Path::new(OsStr::from_bytes(bytes)))
    }
}

impl Launcher for HandOver {
    fn hand_over(&self, client: &ClientInfo) -> Vec<u8> {
        let ClientInfo { id: conn, fd: client_fd, peer, .. } = *client;
        let words = HandOver { conn, client_fd, peer, ..self.clone() };
        serde_json::to_vec(&words).expect("numbers, text and bytes have a JSON form")
    }

    fn launch(&self, client: &ClientInfo, channel: OwnedFd) -> io::Result<u32> {
        let mut command = Command::new(OWN_EXECUTABLE);
        command
            .arg0("trustctl")
            .args([CHILD, &client.id.to_string(), &client.peer.to_string()])
            .stdin(channel)
            // Control-C on a terminal is for the server, who tells its children what to do.
            .process_group(0);
        for name in activation::VARIABLES {
            command.env_remove(name);
        }
        // The server reaps it by its number; dropping this does nothing to it.
        Ok(command.spawn()?.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_told_everything_as_it_was_set() {
        let limits = Limits {
            mode: Mode::Framed,
            max_payload: 7,
            timeout: None,
            frame_timeout: Some(Duration::from_micros(1500)),
            linger_timeout: Duration::ZERO,
            max_lifetime: Some(Duration::from_secs(9)),
            proxy_header: Some(Duration::MAX),
        };
        let drain_timeout = Duration::from_millis(3);
        let config = ServerConfig { limits, drain_timeout, ..ServerConfig::new(0) };
        let path = Path::new(OsStr::from_bytes(b"/logs/\xff.log"));
        let told = HandOver::new(&config, &EventLog::disabled(), Some(path));
        let ip = Peer::Ip("[2001:db8::1]:4711".parse().unwrap());
        for peer in [ip, Peer::Unix { pid: 4711, uid: u32::MAX }] {
            let words = told.hand_over(&ClientInfo::new(12, 9, peer));
            let heard: HandOver = serde_json::from_slice(&words).unwrap();
            assert_eq!(format!("{:?}", heard.config()), format!("{config:?}"));
            let client = heard.client();
            assert_eq!((client.id, client.fd, client.peer), (12, 9, peer));
            assert_eq!((heard.log_file(), heard.log_level()), (Some(path), Level::Error));
        }
    }

    #[test]
    fn the_longest_identity_and_path_can_be_handed_over() {
        let mut told = HandOver::new(&ServerConfig::new(0), &EventLog::disabled(), None);
        // A control character takes six bytes of JSON, a byte of a name four.
        told.request_id = "\u{1}".repeat(3 * 1024);
        told.log_file = Some(vec![0xff; 4096]);
        let words = told.hand_over(&told.client());
        assert!(words.len() <= trust_net::channel::HAND_OVER_BYTES_MAX, "{}", words.len());
    }
}
