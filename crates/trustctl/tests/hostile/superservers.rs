//! Real super-servers, with the lines and units of `packaging/`, in which only paths, ports and
//! users are replaced.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::case::Case;
use trust_testkit::event::{self, Event};
use trust_testkit::followed::Followed;
use trust_testkit::kernel;
use trust_testkit::leftovers::OwnedChild;
use trust_testkit::peer::{Peer, pattern};
use trust_testkit::program::Home;
use trust_testkit::tools::needs;

pub(crate) const CASES: &[Case] = &[
    Case::once("under tcpserver", under_tcpserver, SOMEBODY_ELSES).alias(60),
    Case::once("under inetd", under_inetd, SOMEBODY_ELSES).alias(61),
    Case::once("activated by systemd", activated_by_systemd, SOMEBODY_ELSES).alias(62),
    Case::once("units that systemd takes", units_that_systemd_takes, SOMEBODY_ELSES).alias(63),
];

/// Why there is not one test per model.
const SOMEBODY_ELSES: &str = "somebody else's server decides the model";

/// Text in `packaging/` that a test replaces with its own.
const EXECUTABLE: &str = "/usr/local/bin/trustctl";
const HOME: &str = "/var/lib/trustctl";
const PORT: &str = "9900";

/// Its process ID file, whose path is fixed, is visible to no one else.
const INETD: &str = "mount -t tmpfs none /run && exec /usr/sbin/inetd -i \"$0\"";

fn under_tcpserver() {
    needs("tcpserver (ucspi-tcp)", &mut which("tcpserver"));
    let site = Site::new();
    let script = site.write(
        "run",
        &site
            .own(&packaged("ucspi-tcp/run"))
            .replace("-c 400 -b 4096 0 ", "-c 400 -b 4096 127.0.0.1 "),
    );
    site.serves_clients(Command::new("sh").arg(script));
}

fn under_inetd() {
    needs("inetd (openbsd-inetd)", &mut which("/usr/sbin/inetd"));
    needs("root for mount namespaces", Command::new("unshare").args(["--mount", "true"]));
    let site = Site::new();
    let user = Command::new("id").arg("-un").output().expect("id is there").stdout;
    let user = String::from_utf8(user).expect("a user's name");
    let line =
        site.own(&packaged("inetd/inetd.conf")).replace(" nobody ", &format!(" {} ", user.trim()));
    let line =
        line.replace(&format!("\n{} ", site.port()), &format!("\n127.0.0.1:{} ", site.port()));
    let file = site.write("inetd.conf", &line);
    site.serves_clients(Command::new("unshare").args(["--mount", "sh", "-c", INETD]).arg(file));
}

fn activated_by_systemd() {
    needs("systemd-socket-activate (systemd)", &mut which("systemd-socket-activate"));
    let listen = |site: &Site| format!("127.0.0.1:{}", site.port());
    for unit in ["trustctl-accept@.service", "trustctl.service"] {
        let site = Site::new();
        let (start, home) =
            (site.exec_start(unit), format!("TRUST_HOME={}", site.home.path().display()));
        let mut command = Command::new("systemd-socket-activate");
        command.args(["-l", &listen(&site), "-E", &home]);
        if unit.starts_with("trustctl-accept") {
            site.serves_clients(command.args(["-a", "--inetd"]).args(start));
        } else {
            site.serves_clients_at_once(command.args(start));
        }
    }
}

/// systemd checks the names and values of everything in them, and whether the programs that they
/// start exist.
fn units_that_systemd_takes() {
    needs("systemd-analyze (systemd)", Command::new("systemd-analyze").arg("--version"));
    let site = Site::new();
    let units = [
        "trustctl.socket",
        "trustctl.service",
        "trustctl-accept.socket",
        "trustctl-accept@.service",
    ];
    let mut paths = Vec::new();
    for unit in units {
        let text = packaged(&format!("systemd/{unit}"));
        assert!(text.contains("# ") && text.contains("Change:"), "{unit} says what to change");
        paths.push(site.write(unit, &text.replace(EXECUTABLE, env!("CARGO_BIN_EXE_trustctl"))));
    }
    let verify = |paths: &[PathBuf]| {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no", "--recursive-errors=no"]).args(paths);
        let output = command.stdin(Stdio::null()).output().expect("it runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (is_well, complaint) = verify(&paths);
    assert!(is_well && complaint.is_empty(), "{complaint}");
    let wrong = packaged("systemd/trustctl.service").replace("Type=notify", "Type=notifies");
    let (_, complaint) = verify(&[site.write("wrong.service", &wrong)]);
    assert!(complaint.contains("notifies"), "systemd-analyze sees nothing: {complaint:?}");
}

/// A home, and a port that was free a moment ago.
struct Site {
    home: Home,
    address: SocketAddr,
}

impl Site {
    fn new() -> Site {
        let home = Home::new();
        fs::create_dir_all(home.path()).expect("make the home");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Site { home, address: listener.local_addr().expect("it has an address") }
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    /// The text with the executable, the home and the port of this test.
    #[track_caller]
    fn own(&self, text: &str) -> String {
        for word in [EXECUTABLE, HOME, PORT] {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
        let text = text.replace(EXECUTABLE, env!("CARGO_BIN_EXE_trustctl"));
        let text = text.replace(HOME, &self.home.path().display().to_string());
        text.replace(PORT, &self.port().to_string())
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        fs::write(&path, text).expect("write a file");
        path
    }

    /// The command that the unit starts, with the executable of this test.
    #[track_caller]
    fn exec_start(&self, unit: &str) -> Vec<String> {
        let text = packaged(&format!("systemd/{unit}"));
        let line =
            text.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("ExecStart");
        let (executable, rest) = line.trim_start_matches('-').split_once(' ').expect("arguments");
        assert_eq!(executable, EXECUTABLE);
        let words = rest.split(' ').map(str::to_owned);
        [env!("CARGO_BIN_EXE_trustctl").to_owned()].into_iter().chain(words).collect()
    }

    /// Starts a super-server that starts one process per client, for several clients in turn.
    #[track_caller]
    fn serves_clients(&self, command: &mut Command) {
        const CLIENTS: usize = 4;
        let _super_server = self.start(command);
        let mut log = Followed::new(&self.home.log_file());
        for number in 0..CLIENTS {
            echo(self.connect(), number);
            assert_eq!(log.wait_for("cmd_finish", |_| true).count("exit"), 0);
        }
        // A client that is cut off does not affect the next one.
        let mut broken = self.connect();
        broken.send(&[0, 0]);
        broken.half_close();
        broken.receives_end();
        assert_eq!(log.wait_for("cmd_finish", |_| true).count("exit"), 76);
        echo(self.connect(), CLIENTS);
        assert_eq!(log.wait_for("cmd_finish", |_| true).count("exit"), 0);

        let (events, torn) = log.finish();
        assert_eq!(torn, Vec::<String>::new());
        let ids: Vec<&str> =
            event::named(&events, "cmd_start").iter().map(|it| it.request_id()).collect();
        assert_eq!(ids.len(), CLIENTS + 2, "a run for each client");
        for id in ids {
            let run: Vec<Event> =
                events.iter().filter(|it| it.request_id() == id).cloned().collect();
            event::check_run(&run);
            event::check_connections(&run);
            assert_eq!(event::only(&run, "client_close").count("conn"), 1);
        }
    }

    /// Starts a super-server that starts one process for all clients.
    #[track_caller]
    fn serves_clients_at_once(&self, command: &mut Command) {
        let super_server = self.start(command);
        let mut peers: Vec<Peer> = (0..3).map(|_| self.connect()).collect();
        for peer in &mut peers {
            peer.send_frame(b"together");
            peer.receives_frame(b"together");
        }
        let mut log = Followed::new(&self.home.log_file());
        assert_eq!(log.wait_for("server_start", |_| true).count("listeners"), 1);
        drop(peers);
        for _ in 0..3 {
            log.wait_for("client_close", |_| true);
        }
        // It has become the server itself.
        super_server.signal(rustix::process::Signal::TERM);
        let status = super_server.wait(trust_testkit::STEP_DEADLINE).expect("it stops");
        assert_eq!(status.code(), Some(0));
    }

    fn start(&self, command: &mut Command) -> OwnedChild {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        OwnedChild::spawn(quiet.env("TRUST_HOME", self.home.path()))
    }

    /// A client, as soon as the super-server listens.
    #[track_caller]
    fn connect(&self) -> Peer {
        let mut stream = None;
        kernel::wait_until("a super-server that listens", || {
            stream = TcpStream::connect(self.address).ok();
            stream.is_some()
        });
        Peer::over(stream.expect("it is connected"))
    }
}

/// Echoes frames, or raw bytes if the number is odd.
#[track_caller]
fn echo(mut peer: Peer, number: usize) {
    if number.is_multiple_of(2) {
        let payload = pattern(1 + 15_000 * number);
        peer.send_frame(&payload);
        peer.receives_frame(&payload);
        peer.half_close();
        peer.receives_end();
    } else {
        peer.send(b"raw test\n");
        peer.half_close();
        peer.receives_to_end(b"raw test\n");
    }
}

fn which(program: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "command -v \"$0\"", program]);
    command
}

#[track_caller]
fn packaged(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging").join(path);
    fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}
