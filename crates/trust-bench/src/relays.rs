//! The relays under comparison.

mod bare;
mod copying;
mod splicing;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use crate::peers::is_installed;

/// A relay under comparison.
#[derive(Clone, Copy, Debug)]
pub struct RelayPeer {
    /// Its name in tables.
    pub name: &'static str,
    /// Its description.
    pub what: &'static str,
    /// How to run it.
    pub program: RelayProgram,
    /// The most connections that it gets at once.
    pub connections_max: usize,
}

/// How to run a relay.
#[derive(Clone, Copy, Debug)]
pub enum RelayProgram {
    /// No relay: the load connects to its own other end.
    Direct,
    /// A function of this program, in its own process.
    Built(fn(&TcpListener, SocketAddr) -> io::Result<()>),
    /// `trustctl proxy` with these flags.
    Trustctl(&'static [&'static str]),
    /// A program that may be installed.
    Installed(InstalledRelay),
}

/// A program of another project, run as for `docs/BOXES.md`. In its arguments and its file `@PORT@`
/// stands for the port to listen on, `@SERVER@` for that of the server, and `@DIRECTORY@` for where
/// its file is.
#[derive(Clone, Copy, Debug)]
pub struct InstalledRelay {
    program: &'static str,
    arguments: &'static str,
    /// What is in its file, if it needs one.
    file: Option<fn() -> String>,
}

/// The most connections of a relay with a process for each.
const PROCESSES_MAX: usize = 50;

/// The most connections of nginx as it is by default: 512, two for each client.
const NGINX_MAX: usize = 250;

const MANY: usize = usize::MAX;

const QUIET: &str = "--log-level=warn";

/// No relay at all.
pub const DIRECT: &str = "direct";

/// The lower bound on the cost of small messages.
pub const BARE: &str = "bare";

/// The same once more, to show the noise.
pub const BARE_AGAIN: &str = "bare again";

/// The lower bound on the cost of many bytes.
pub const BARE_SPLICE: &str = "bare splice";

/// Our proxy.
pub const OURS: &str = "trustctl";

/// Our proxy with a fault in each direction that does not come.
pub const OURS_ARMED: &str = "trustctl armed";

/// Our proxy when it follows frames.
pub const OURS_FRAMING: &str = "trustctl framing";

/// socat, which copies in a process per connection.
pub const SOCAT: &str = "socat";

/// All of them, in the order of the tables.
pub const RELAYS: &[RelayPeer] = &[
    RelayPeer {
        name: DIRECT,
        what: "no relay: what the load itself takes",
        program: RelayProgram::Direct,
        connections_max: MANY,
    },
    RelayPeer {
        name: BARE,
        what: "a bare readiness loop, recv and send: no log, limits or deadlines",
        program: RelayProgram::Built(copying::relay),
        connections_max: MANY,
    },
    RelayPeer {
        name: BARE_AGAIN,
        what: "the same once more: its difference from the first is what the method errs by",
        program: RelayProgram::Built(copying::relay),
        connections_max: MANY,
    },
    RelayPeer {
        name: BARE_SPLICE,
        what: "the same loop with splice(2), pipes taken from a pool",
        program: RelayProgram::Built(splicing::relay),
        connections_max: MANY,
    },
    RelayPeer {
        name: OURS,
        what: "trustctl proxy, log level warn",
        program: RelayProgram::Trustctl(&[QUIET]),
        connections_max: MANY,
    },
    RelayPeer {
        name: OURS_ARMED,
        what: "the same with a fault at byte 2^60 of both directions",
        program: RelayProgram::Trustctl(&[
            QUIET,
            "--fault=rst @ byte 1152921504606846976 up",
            "--fault=rst @ byte 1152921504606846976 down",
        ]),
        connections_max: MANY,
    },
    RelayPeer {
        name: OURS_FRAMING,
        what: "the same with --framing u32be and no fault",
        program: RelayProgram::Trustctl(&[QUIET, "--framing=u32be"]),
        connections_max: MANY,
    },
    RelayPeer {
        name: "haproxy",
        what: "HAProxy, mode tcp, one thread",
        program: RelayProgram::Installed(InstalledRelay {
            program: "haproxy",
            arguments: "-db -f @DIRECTORY@/relay.conf",
            file: Some(haproxy),
        }),
        connections_max: MANY,
    },
    RelayPeer {
        name: "haproxy splice",
        what: "the same with option splice-auto",
        program: RelayProgram::Installed(InstalledRelay {
            program: "haproxy",
            arguments: "-db -f @DIRECTORY@/relay.conf",
            file: Some(haproxy_with_splice),
        }),
        connections_max: MANY,
    },
    RelayPeer {
        name: "nginx",
        what: "nginx's stream module, one process",
        program: RelayProgram::Installed(InstalledRelay {
            program: "nginx",
            arguments: "-e stderr -c @DIRECTORY@/relay.conf",
            file: Some(nginx),
        }),
        connections_max: NGINX_MAX,
    },
    RelayPeer {
        name: SOCAT,
        what: "socat, one process per connection",
        program: RelayProgram::Installed(InstalledRelay {
            program: "socat",
            arguments: "TCP-LISTEN:@PORT@,bind=127.0.0.1,fork,reuseaddr,nodelay,backlog=1024 \
                TCP:127.0.0.1:@SERVER@,nodelay",
            file: None,
        }),
        connections_max: PROCESSES_MAX,
    },
];

fn haproxy() -> String {
    include_str!("../../trustctl/tests/bed/servers/box_haproxy.cfg").to_owned()
}

fn haproxy_with_splice() -> String {
    haproxy().replace("mode tcp\n", "mode tcp\n    option splice-auto\n")
}

fn nginx() -> String {
    include_str!("../../trustctl/tests/bed/servers/box_nginx_half_close.conf").to_owned()
}

impl RelayPeer {
    /// The relay with this name.
    pub fn named(name: &str) -> Option<&'static RelayPeer> {
        RELAYS.iter().find(|relay| relay.name == name)
    }

    /// Whether ours is compared with it.
    pub fn is_peer(&self) -> bool {
        self.is_of_others() || [BARE, BARE_SPLICE].contains(&self.name)
    }

    /// Whether it is another project's.
    pub fn is_of_others(&self) -> bool {
        matches!(self.program, RelayProgram::Installed(_))
    }

    /// Program and arguments, to listen on `port` of 127.0.0.1 and connect to `server`; `None` if
    /// it is not installed. Its file is written to `directory`.
    ///
    /// # Errors
    ///
    /// If its file cannot be written.
    pub fn command(
        &self,
        own: &Path,
        trustctl: &Path,
        directory: &Path,
        [port, server]: [u16; 2],
    ) -> io::Result<Option<Vec<OsString>>> {
        let words: Vec<OsString> = match self.program {
            RelayProgram::Direct => return Ok(None),
            RelayProgram::Built(_) => {
                let ports = [port, server].map(|port| port.to_string().into());
                let words = [own.into(), RELAY_WORD.into(), self.name.into()];
                words.into_iter().chain(ports).collect()
            }
            RelayProgram::Trustctl(flags) => {
                let places = [port, server].map(|port| format!("127.0.0.1:{port}").into());
                let words = [trustctl.into(), "proxy".into()];
                words.into_iter().chain(places).chain(flags.iter().map(OsString::from)).collect()
            }
            RelayProgram::Installed(InstalledRelay { program, arguments, file }) => {
                if !is_installed(program) {
                    return Ok(None);
                }
                let filled = |text: &str| {
                    text.replace("@PORT@", &port.to_string())
                        .replace("@SERVER@", &server.to_string())
                        .replace("@DIRECTORY@", &directory.to_string_lossy())
                };
                fs::create_dir_all(directory)?;
                if let Some(text) = file {
                    fs::write(directory.join("relay.conf"), filled(&text()))?;
                }
                let arguments = arguments.split_whitespace().map(|word| filled(word).into());
                std::iter::once(program.into()).chain(arguments).collect()
            }
        };
        Ok(Some(words))
    }

    /// Acts as the relay, until an error or a signal ends it.
    ///
    /// # Errors
    ///
    /// Errors of epoll(7) and of accept(2), and if it is a program of its own.
    pub fn run(&self, listener: &TcpListener, server: u16) -> io::Result<()> {
        match self.program {
            RelayProgram::Built(relay) => {
                relay(listener, SocketAddr::from((Ipv4Addr::LOCALHOST, server)))
            }
            _ => Err(io::Error::other(format!("{} is not part of this program", self.name))),
        }
    }
}

/// The subcommand that makes this program a relay.
pub const RELAY_WORD: &str = "relay";

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::load::{Load, Shape};

    const BARE_RELAYS: [&str; 2] = [BARE, BARE_SPLICE];

    /// How long anything may take.
    const DEADLINE: Duration = Duration::from_secs(20);

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        (listener, address)
    }

    /// Starts a relay in a thread of this process; returns where it listens.
    fn start(name: &str, server: SocketAddr) -> SocketAddr {
        let relay = RelayPeer::named(name).expect("there is one");
        let (listener, address) = listener();
        thread::spawn(move || relay.run(&listener, server.port()));
        address
    }

    fn patient(stream: TcpStream) -> TcpStream {
        stream.set_read_timeout(Some(DEADLINE)).expect("it is a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("it is a socket");
        stream
    }

    #[test]
    fn bare_relays_lose_nothing_of_messages_larger_than_all_buffers() {
        let shape = Shape { connections: 3, payload_len: 8 * 1024 * 1024, in_flight: 2 };
        for name in BARE_RELAYS {
            let (far, server) = listener();
            let mut load = Load::connect_through(start(name, server), &far, shape)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            let seen = load.run(Duration::ZERO).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(seen.messages, 6, "{name}");
        }
    }

    #[test]
    fn bare_relays_pass_on_a_fin_after_the_last_byte_and_keep_the_other_direction() {
        // Until the server reads, most of it is in the relay's way.
        let sent: Vec<u8> = (0..4_000_000u32).map(|at| (at % 251) as u8).collect();
        for name in BARE_RELAYS {
            let (far, server) = listener();
            let mut client = patient(TcpStream::connect(start(name, server)).expect("it listens"));
            let (stream, _) = far.accept().expect("the relay connects");
            let mut stream = patient(stream);
            thread::scope(|scope| {
                scope.spawn(|| {
                    client.write_all(&sent).expect("it is relayed");
                    client.shutdown(Shutdown::Write).expect("it is open");
                });
                let mut came = vec![];
                stream.read_to_end(&mut came).expect("a FIN comes");
                assert!(came == sent, "{name}: {} bytes of {}", came.len(), sent.len());
            });
            stream.write_all(b"answer").expect("it is open");
            drop(stream);
            let mut answer = vec![];
            client.read_to_end(&mut answer).expect("a FIN comes");
            assert_eq!(answer, b"answer", "{name}");
        }
    }

    #[test]
    fn the_file_of_a_relay_has_its_ports_and_splices_only_where_it_says_so() {
        for text in [haproxy(), haproxy_with_splice(), nginx()] {
            assert!(text.contains("127.0.0.1:@PORT@") && text.contains("127.0.0.1:@SERVER@"));
        }
        assert!(haproxy_with_splice().contains("mode tcp\n    option splice-auto\n"));
        assert!(!haproxy().contains("splice"));
    }
}
