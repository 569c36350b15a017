//! Hosts and file systems that belong to one test and are invisible to all others.
//!
//! The namespaces have no names: they exist while a descriptor, a socket, a thread or a process
//! belongs to them. So nothing is left behind, however a test or the test process ends, and
//! concurrent runs do not interfere. A thread can be in another network than the rest of its
//! process; the sockets, threads and processes that it creates stay there.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use super::STEP_DEADLINE;
use super::{kernel, runner};

/// A network namespace, with its own interfaces, routes, TCP settings and ports.
pub struct Network {
    namespace: File,
}

impl Network {
    /// A network with only a loopback interface.
    #[track_caller]
    pub fn create() -> Network {
        let namespace = apart(|| {
            separate(CloneFlags::CLONE_NEWNET, "network namespaces");
            File::open("/proc/thread-self/ns/net").expect("open the own network namespace")
        });
        let network = Network { namespace };
        network.ip("link set lo up\n");
        network
    }

    /// Runs `action` in this network; the sockets, threads and processes that it creates stay
    /// there.
    #[track_caller]
    pub fn inside<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        apart(|| {
            setns(&self.namespace, CloneFlags::CLONE_NEWNET).expect("enter a network namespace");
            action()
        })
    }

    /// Runs ip(8) commands, one per line.
    #[track_caller]
    pub fn ip(&self, commands: &str) {
        self.inside(|| {
            let mut command = Command::new("ip");
            command.args(["-batch", "-"]).stdin(Stdio::piped()).stdout(Stdio::null());
            let child = command.stderr(Stdio::piped()).spawn();
            let mut child = started(child, "ip (iproute2)");
            let mut input = child.stdin.take().expect("stdin is a pipe");
            input.write_all(commands.as_bytes()).expect("write commands for ip");
            drop(input);
            let done = child.wait_with_output().expect("wait for ip");
            let complaint = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "ip failed with {commands:?}: {complaint}");
        });
    }

    /// Sets one of the network's settings, such as `ipv4/ip_forward`.
    #[track_caller]
    pub fn set(&self, setting: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(setting);
        self.inside(|| std::fs::write(&path, value))
            .unwrap_or_else(|error| panic!("cannot set {}: {error}", path.display()));
    }

    /// Destroys this network's end of the established connections to that address, as a crash of
    /// the host would. The kernel sends an RST for each; the caller must make sure that it gets
    /// lost.
    #[track_caller]
    pub fn forget_connections_to(&self, other: SocketAddr) {
        let output = self.inside(|| {
            let mut command = Command::new("ss");
            command.args(["-KtnHO", "state", "established"]);
            command.args(["dst", &other.to_string()]);
            started(command.output(), "ss (iproute2)")
        });
        // It also succeeds when nothing matched, and when the kernel does not support it.
        let listed = String::from_utf8_lossy(&output.stdout);
        let complaint = String::from_utf8_lossy(&output.stderr);
        let address = format!(":{}", other.port());
        assert!(listed.contains(&address), "ss closed nothing: {listed:?} {complaint:?}");
        self.inside(|| {
            kernel::wait_until("the end of the connections that ss closed", || {
                connections(|end| end.other_port == other.port()).is_empty()
            });
        });
    }
}

/// Three hosts in a row: the client's, a router, the server's.
pub struct Hosts {
    pub client: Network,
    pub router: Network,
    pub server: Network,
}

impl Hosts {
    pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
    pub const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
    /// The server's host again, for clients on the router: faults on the path to the client's host
    /// do not affect them.
    pub const SERVER_FROM_ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 3);

    #[track_caller]
    pub fn create() -> Hosts {
        let [client, router, server] = [(); 3].map(|()| Network::create());
        let path = |network: &Network| {
            format!("/proc/{}/fd/{}", std::process::id(), network.namespace.as_raw_fd())
        };
        router.ip(&format!(
            "link add to-client type veth peer name uplink netns {}\n\
             link add to-server type veth peer name uplink netns {}\n\
             addr add 192.0.2.1/24 dev to-client\naddr add 198.51.100.1/24 dev to-server\n\
             link set to-client up\nlink set to-server up\n",
            path(&client),
            path(&server),
        ));
        for (network, own, gateway) in
            [(&client, Hosts::CLIENT, "192.0.2.1"), (&server, Hosts::SERVER, "198.51.100.1")]
        {
            network.ip(&format!(
                "addr add {own}/24 dev uplink\nlink set uplink up\n\
                 route add default via {gateway}\n"
            ));
        }
        server.ip(&format!("addr add {}/24 dev uplink\n", Hosts::SERVER_FROM_ROUTER));
        // Asymmetric routes are part of the tests, and every packet that cannot be delivered gets
        // its ICMP message.
        for (setting, value) in [("conf/all/rp_filter", "0"), ("icmp_ratelimit", "0")] {
            router.set(&format!("ipv4/{setting}"), value);
        }
        let hosts = Hosts { client, router, server };
        hosts.heal();
        // An interface that has just been set up may still lose packets.
        let there = SocketAddr::from((Hosts::SERVER, CLOSED_PORT));
        let deadline = Instant::now() + STEP_DEADLINE;
        loop {
            match hosts.client.inside(|| TcpStream::connect_timeout(&there, STEP_DEADLINE)) {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => return hosts,
                // On a busy machine it may take the kernel longer to answer a question for a link
                // address than the other host waits (arp(7)).
                Err(error)
                    if error.kind() == ErrorKind::HostUnreachable && Instant::now() < deadline => {}
                other => panic!("the server's host did not refuse, but {other:?}"),
            }
        }
    }

    /// Drops packets between client and server from now on, in both directions.
    #[track_caller]
    pub fn cut(&self) {
        self.router.set("ipv4/ip_forward", "0");
    }

    /// Delivers packets between client and server again.
    #[track_caller]
    pub fn heal(&self) {
        self.router.set("ipv4/ip_forward", "1");
    }

    /// From now on packets to that host are dropped on the way, or (`unreachable`) answered with
    /// "host unreachable". Packets from it still arrive.
    #[track_caller]
    pub fn turn_away_from(&self, host: Ipv4Addr, how: Detour) {
        self.router.ip(&format!("route add {} {host}/32\n", how.route_type()));
    }

    /// Delivers packets to that host again.
    #[track_caller]
    pub fn turn_back_to(&self, host: Ipv4Addr, how: Detour) {
        self.router.ip(&format!("route del {} {host}/32\n", how.route_type()));
    }
}

/// A port without a listener in a new network.
const CLOSED_PORT: u16 = 9;

/// What the router does with packets that it does not deliver.
#[derive(Clone, Copy, Debug)]
pub enum Detour {
    /// Nothing: they vanish.
    Silence,
    /// It reports to their sender by ICMP that the host is unreachable.
    Unreachable,
}

impl Detour {
    const fn route_type(self) -> &'static str {
        match self {
            Detour::Silence => "blackhole",
            Detour::Unreachable => "unreachable",
        }
    }
}

/// One end of an established connection, as the kernel lists it.
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub own_port: u16,
    pub other_port: u16,
    /// Bytes written but not acknowledged by the other end.
    pub unacknowledged: u64,
    /// Bytes received but not read.
    pub unread: u64,
}

/// The ends of all established connections that fit in the network of the calling thread, including
/// those not accepted yet (proc(5), `/proc/net/tcp`).
pub fn connections(fits: impl Fn(&Connection) -> bool) -> Vec<Connection> {
    const ESTABLISHED: &str = "01";
    let port = |address: &str| {
        let digits = address.rsplit(':').next().unwrap_or_default();
        u16::from_str_radix(digits, 16).expect("an address ends in a port")
    };
    let bytes = |hex: &str| u64::from_str_radix(hex, 16).expect("a number of bytes");
    let mut found = Vec::new();
    for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        // A kernel without IPv6 has no such table.
        let table = std::fs::read_to_string(table).unwrap_or_default();
        for line in table.lines().skip(1) {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let [_, own, other, ESTABLISHED, queues, ..] = columns[..] else { continue };
            let (unacknowledged, unread) = queues.split_once(':').expect("two queues");
            found.push(Connection {
                own_port: port(own),
                other_port: port(other),
                unacknowledged: bytes(unacknowledged),
                unread: bytes(unread),
            });
        }
    }
    found.retain(fits);
    found
}

/// The end with this own port and this port at the other end.
pub fn connection(own_port: u16, other_port: u16) -> Option<Connection> {
    connections(|end| (end.own_port, end.other_port) == (own_port, other_port)).pop()
}

/// How many ICMP messages "destination unreachable" the network of the calling thread has received
/// (proc_pid_net(5), `/proc/net/snmp`).
pub fn unreachables_received() -> u64 {
    let table = std::fs::read_to_string("/proc/thread-self/net/snmp").expect("ask for counters");
    let mut of_icmp = table.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let (names, values) = (of_icmp.next().expect("names"), of_icmp.next().expect("values"));
    let mut counters = names.split(' ').zip(values.split(' '));
    let (_, value) = counters.find(|(name, _)| *name == "InDestUnreachs").expect("a counter");
    value.parse().expect("a number")
}

/// Runs `action` with private mounts: mounts that it makes exist only for it and the processes it
/// starts, and are gone when all of these have ended.
#[track_caller]
pub fn with_own_mounts<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    apart(|| {
        separate(CloneFlags::CLONE_NEWNS, "mounts");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&Path>, "/", None::<&Path>, private, None::<&Path>)
            .expect("keep mounts private");
        action()
    })
}

/// Runs `action` on a thread on which one name resolves to these addresses, and no other name
/// resolves.
#[track_caller]
pub fn with_addresses<T: Send>(
    name: &str,
    addresses: &[&str],
    action: impl FnOnce() -> T + Send,
) -> T {
    let mut hosts = tempfile::NamedTempFile::new().expect("a file");
    for address in addresses {
        writeln!(hosts, "{address} {name}").expect("write the file");
    }
    with_own_mounts(|| {
        let none = None::<&str>;
        mount(Some(hosts.path()), "/etc/hosts", none, MsFlags::MS_BIND, none)
            .expect("another /etc/hosts");
        action()
    })
}

/// A file system in memory, limited to that many bytes; only inside [`with_own_mounts`].
pub struct SmallDisk<'a>(&'a Path);

impl SmallDisk<'_> {
    #[track_caller]
    pub fn mount(directory: &Path, bytes: u64) -> SmallDisk<'_> {
        std::fs::create_dir_all(directory).expect("make a directory to mount on");
        let size = format!("size={bytes}");
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(&*size))
            .expect("mount a tmpfs");
        SmallDisk(directory)
    }

    /// Changes the limit in bytes.
    #[track_caller]
    pub fn resize(&self, bytes: u64) {
        let size = format!("size={bytes}");
        mount(None::<&Path>, self.0, None::<&Path>, MsFlags::MS_REMOUNT, Some(&*size))
            .expect("remount a tmpfs");
    }

    /// Whether no further block can be written.
    #[track_caller]
    pub fn is_full(&self) -> bool {
        rustix::fs::statvfs(self.0).expect("ask a file system").f_bavail == 0
    }
}

/// Runs `action` on its own thread, whose panic becomes the caller's.
#[track_caller]
fn apart<T: Send>(action: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| match scope.spawn(action).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

#[track_caller]
fn separate(what: CloneFlags, name: &str) {
    match unshare(what) {
        Ok(()) => (),
        Err(Errno::EPERM) => runner::skip(&format!("root, for {name} of its own")),
        Err(error) => panic!("cannot unshare {name}: {error}"),
    }
}

/// The outcome of starting `tool`; skips the test if it is not installed.
#[track_caller]
pub fn started<T>(outcome: std::io::Result<T>, tool: &str) -> T {
    match outcome {
        Ok(done) => done,
        Err(error) if error.kind() == ErrorKind::NotFound => runner::skip(tool),
        Err(error) => panic!("cannot run {tool}: {error}"),
    }
}
