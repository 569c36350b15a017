//! Real balancers in front of an echo server; they expect a PROXY header from every client.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::case::Case;
use trust_testkit::kernel;
use trust_testkit::leftovers::{OwnedChild, OwnedDir};
use trust_testkit::program::Home;
use trust_testkit::server::Server;
use trust_testkit::tools::needs;

pub(crate) const CASES: &[Case] = &[
    Case::once("HAProxy is told for whom a client has come", haproxy, SOMEBODY_ELSES),
    Case::once("nginx is told for whom a client has come", nginx, SOMEBODY_ELSES),
];

/// Why there is no test for each model.
const SOMEBODY_ELSES: &str = "a balancer of others takes the header";

/// How often a balancer is started until no other process has taken one of its ports.
const STARTS_MAX: usize = 5;

/// In which a balancer that cannot listen has noticed that.
const MOMENT: Duration = Duration::from_millis(50);

/// The stream module, which is in a separate package.
pub(crate) const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// Its log has the source and the destination of each connection.
const HAPROXY: &str = "
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    log stdout format raw local0
    log-format \"%ci %cp %fi %fp\"

listen echo
    bind LISTEN0 accept-proxy
    bind unix@DIRECTORY/socket accept-proxy
    server echo SERVER
";

const NGINX: &str = "
load_module MODULE;
daemon off;
master_process off;
pid DIRECTORY/nginx.pid;
error_log stderr error;

events {
}

stream {
    log_format source '$proxy_protocol_addr $proxy_protocol_port '
        '$proxy_protocol_server_addr $proxy_protocol_server_port';
    access_log DIRECTORY/log source;
    server {
        listen LISTEN0 proxy_protocol;
        proxy_pass SERVER;
        proxy_half_close on;
    }
}
";

fn haproxy() {
    needs("haproxy", Command::new("haproxy").arg("-v"));
    let balancer = Balancer::start(HAPROXY, |file, log| {
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(file).stdout(log);
        command
    });
    balancer.is_told_of_clients();
    // The header names no client: HAProxy takes the addresses of the connection.
    ["v1=unknown", "v2=local"].into_iter().for_each(|flag| balancer.is_told_nothing_by(flag));
    // Over a unix socket only a source that is given has an address.
    let socket = format!("unix:{}", balancer.directory.path().join("socket").display());
    for flag in ["v1=203.0.113.7:4711", "v2=203.0.113.7:4711"] {
        let [source, destination] = balancer.told_of_client_of(&socket, flag);
        assert_eq!(source.to_string(), "203.0.113.7:4711", "{flag}");
        assert_eq!(destination.to_string(), "0.0.0.0:0", "{flag}");
    }
}

fn nginx() {
    needs("nginx", Command::new("nginx").arg("-v"));
    needs("nginx's stream module", Command::new("test").args(["-e", NGINX_STREAM]));
    let balancer = Balancer::start(NGINX, |file, log| {
        let mut command = Command::new("nginx");
        command.args(["-e", "stderr", "-c"]).arg(file).stdout(log);
        command
    });
    balancer.is_told_of_clients();
}

/// Starts a balancer in front of a server; where it listens, in turn over IPv4 and IPv6. `command`
/// says where its standard output goes.
pub(crate) fn start(
    server: &Server,
    configuration: &str,
    directory: &Path,
    command: impl Fn(&Path) -> Command,
) -> (Vec<SocketAddr>, OwnedChild) {
    let mut text = configuration.replace("SERVER", &server.address().to_string());
    text = text.replace("DIRECTORY", &directory.display().to_string());
    text = text.replace("MODULE", NGINX_STREAM);
    let start = |_| listening(&text, directory, &command);
    (0..STARTS_MAX).find_map(start).expect("a balancer that listens")
}

/// Starts a balancer on free ports; `None` if another process took one of them meanwhile, and the
/// balancer has ended.
fn listening(
    configuration: &str,
    directory: &Path,
    command: impl Fn(&Path) -> Command,
) -> Option<(Vec<SocketAddr>, OwnedChild)> {
    let count = configuration.matches("LISTEN").count();
    let ip = |number| match number % 2 {
        0 => IpAddr::from(Ipv4Addr::LOCALHOST),
        _ => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    let free = |number| TcpListener::bind((ip(number), 0)).expect("a free port");
    let free: Vec<TcpListener> = (0..count).map(free).collect();
    let addresses = free.iter().map(|free| free.local_addr().expect("an address"));
    let addresses: Vec<SocketAddr> = addresses.collect();
    drop(free);
    let mark = |number| format!("LISTEN{number}");
    let text =
        addresses.iter().enumerate().fold(configuration.to_owned(), |text, (at, address)| {
            text.replace(&mark(at), &address.to_string())
        });
    let file = directory.join("configuration");
    fs::write(&file, text).expect("write a configuration");
    let mut command = command(&file);
    let child = OwnedChild::spawn(command.stdin(Stdio::null()).stderr(Stdio::null()));
    let listens = |address: &SocketAddr| TcpStream::connect(address).is_ok();
    let mut has_ended = false;
    kernel::wait_until("a balancer that listens or has ended", || {
        has_ended = child.wait(MOMENT).is_some();
        has_ended || addresses.iter().all(listens)
    });
    (!has_ended && child.wait(MOMENT).is_none()).then_some((addresses, child))
}

/// A balancer in front of an echo server, and where it writes a line about each connection.
struct Balancer {
    address: SocketAddr,
    log: PathBuf,
    _child: OwnedChild,
    directory: OwnedDir,
    _server: Server,
}

impl Balancer {
    fn start(configuration: &str, command: impl Fn(&Path, fs::File) -> Command) -> Balancer {
        let (server, directory) = (Server::start(["--mode", "framed"]), OwnedDir::create());
        let log = directory.path().join("log");
        let (addresses, child) = start(&server, configuration, directory.path(), |file| {
            command(file, fs::File::create(&log).expect("make a log"))
        });
        Balancer { address: addresses[0], log, _child: child, directory, _server: server }
    }

    /// Source and destination of each whole line in the log, if it has them: the first client only
    /// looked whether it listens. Either may be written in several ways.
    fn lines(&self) -> Vec<[SocketAddr; 2]> {
        let text = fs::read_to_string(&self.log).expect("read the log");
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let end =
            |ip: &str, port: &str| Some(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?));
        let ends = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
            [source, source_port, destination, port] => {
                Some([end(source, source_port)?, end(destination, port)?])
            }
            _ => None,
        };
        whole.lines().filter_map(ends).collect()
    }

    /// What it writes about the connections that one command makes.
    #[track_caller]
    fn told_of(&self, connections: usize, run: impl FnOnce()) -> Vec<[SocketAddr; 2]> {
        let before = self.lines().len();
        run();
        kernel::wait_until("a line about each connection", || {
            self.lines().len() >= before + connections
        });
        let told = self.lines().split_off(before);
        assert_eq!(told.len(), connections, "{told:?}");
        told
    }

    /// What it writes about an echo client with this header.
    #[track_caller]
    fn told_of_client(&self, flag: &str) -> [SocketAddr; 2] {
        self.told_of_client_of(&self.address.to_string(), flag)
    }

    #[track_caller]
    fn told_of_client_of(&self, server: &str, flag: &str) -> [SocketAddr; 2] {
        let told = self.told_of(1, || {
            let client = Home::new().echo_client([server, "hello"]);
            let client = client.args(["--send-proxy", flag]).run();
            client.exits_with(0).complains_about_nothing().prints("hello\n");
        });
        told[0]
    }

    /// With a header that leaves the addresses of the connection as they are.
    #[track_caller]
    fn is_told_nothing_by(&self, flag: &str) {
        let [source, destination] = self.told_of_client(flag);
        assert_eq!((source.ip(), destination), (self.address.ip(), self.address), "{flag}");
    }

    #[track_caller]
    fn is_told_of_clients(&self) {
        let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        let mapped = SocketAddr::new(mapped.into(), self.address.port());
        for (flag, source, destination) in [
            ("v1=203.0.113.7:4711", "203.0.113.7:4711", self.address),
            ("v2=203.0.113.7:4711", "203.0.113.7:4711", self.address),
            ("v1=[2001:db8::1]:99", "[2001:db8::1]:99", mapped),
            ("v2=[2001:db8::1]:99", "[2001:db8::1]:99", mapped),
        ] {
            let source = source.parse().expect("an address");
            assert_eq!(self.told_of_client(flag), [source, destination], "{flag}");
        }
        ["v1", "v2"].into_iter().for_each(|flag| self.is_told_nothing_by(flag));
        let loaded = self.told_of(3, || {
            let load = ["load", &self.address.to_string(), "--concurrency=3", "--json"];
            Home::new().trustctl(load).args(["--send-proxy=v2=203.0.113.7"]).run().exits_with(0);
        });
        let sources: BTreeSet<SocketAddr> = loaded.iter().map(|[source, _]| *source).collect();
        assert!(sources.iter().all(|it| it.ip() == Ipv4Addr::new(203, 0, 113, 7)), "{loaded:?}");
        assert_eq!(sources.len(), 3, "each has the port of its connection: {loaded:?}");
        let bare = Home::new().echo_client([&self.address.to_string(), "hello"]).run();
        let bare = bare.complains_about(&["the connection"]);
        assert!(matches!(bare.code(), Some(69 | 76)), "{:?}", bare.code());
    }
}
