//! Right servers in other languages, with their sources in `servers/`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::healthy::Healthy;
use trust_testkit::leftovers::OwnedDir;

/// Sources and configurations.
pub(crate) const SERVERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/servers");

/// The path of nginx's stream module on Debian.
pub(crate) const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// The parts of netty that its server needs, from Debian's `libnetty-java`, whose `netty-all.jar`
/// is empty.
const NETTY: [&str; 5] = [
    "/usr/share/java/netty-buffer.jar",
    "/usr/share/java/netty-codec.jar",
    "/usr/share/java/netty-common.jar",
    "/usr/share/java/netty-resolver.jar",
    "/usr/share/java/netty-transport.jar",
];

/// A server in another language. It prints the port it listens on, or the path of its unix socket.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) language: Language,
    /// Its source file, without the extension.
    pub(crate) name: &'static str,
    /// Its arguments, where `MAX_FRAME` and `TIMEOUT` (in seconds) stand for the server's, and
    /// `SOCKET` for the path of a unix socket.
    pub(crate) arguments: &'static [&'static str],
}

/// Its language and library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Erlang,
    Go,
    Java,
    /// Java, with netty.
    Netty,
    Node,
    Python,
}

impl Foreign {
    /// What this machine lacks to run it, if anything.
    pub(crate) fn missing(&self) -> Option<String> {
        match self.language {
            Language::Erlang => tool("escript"),
            Language::Go => tool("go"),
            Language::Java => tool("javac"),
            Language::Netty => tool("javac").or_else(|| NETTY.iter().find_map(|jar| is_there(jar))),
            Language::Node => tool("node"),
            Language::Python => tool("python3"),
        }
    }

    /// The command that runs it, built if need be; `socket` is the path that it may listen on.
    ///
    /// # Panics
    ///
    /// If it does not compile.
    pub(crate) fn command(&self, healthy: &Healthy, socket: &Path) -> Command {
        let source = |ending: &str| Path::new(SERVERS).join(self.name).with_extension(ending);
        let mut command = match self.language {
            Language::Erlang => with("escript", [source("escript").into()]),
            Language::Go => Command::new(go().join(self.name)),
            Language::Java => with("java", ["-cp".into(), java().into(), self.name.into()]),
            Language::Netty => {
                let paths = NETTY.iter().map(Path::new).chain([java()]);
                let paths = std::env::join_paths(paths).expect("paths without a colon");
                with("java", ["-cp".into(), paths, self.name.into()])
            }
            Language::Node => with("node", [source("js").into()]),
            Language::Python => with("python3", [source("py").into()]),
        };
        let timeout = healthy.timeout.map(|timeout| timeout.as_secs_f64().to_string());
        command.args(self.arguments.iter().map(|argument| match *argument {
            "MAX_FRAME" => healthy.max_frame.to_string(),
            "TIMEOUT" => timeout.clone().expect("a server that is told its timeout has one"),
            "SOCKET" => socket.display().to_string(),
            other => other.to_owned(),
        }));
        command
    }
}

/// The tool's name, if the shell cannot find it.
pub(crate) fn tool(name: &str) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_found = std::env::split_paths(&path).any(|directory| directory.join(name).exists());
    (!is_found).then(|| name.to_owned())
}

/// The path itself, if nothing is there.
pub(crate) fn is_there(path: &str) -> Option<String> {
    (!Path::new(path).exists()).then(|| path.to_owned())
}

fn with<const N: usize>(program: &str, arguments: [OsString; N]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// The directory of the Java classes, compiled once per run. Those that need netty are only there
/// with netty.
fn java() -> &'static Path {
    static BUILT: OnceLock<OwnedDir> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let directory = OwnedDir::create();
        let mut command = Command::new("javac");
        command.arg("-d").arg(directory.path()).arg(source("EchoThreads.java"));
        if NETTY.iter().all(|jar| is_there(jar).is_none()) {
            command.args(["-cp", &NETTY.join(":")]).arg(source("EchoNetty.java"));
        }
        build(&mut command);
        directory
    });
    built.path()
}

/// The directory of the Go programs, compiled once per run. The compiler's cache is in the target
/// directory.
fn go() -> &'static Path {
    static BUILT: OnceLock<OwnedDir> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let directory = OwnedDir::create();
        let mut command = Command::new("go");
        command.args(["build", "-o"]).arg(directory.path()).arg(source("echo.go"));
        command.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go"));
        // Without a module, so nothing is downloaded.
        command.env("GO111MODULE", "off").env("GOFLAGS", "");
        build(&mut command);
        directory
    });
    built.path()
}

fn source(name: &str) -> PathBuf {
    Path::new(SERVERS).join(name)
}

fn build(command: &mut Command) {
    let status = command.stdin(Stdio::null()).status();
    let is_built = status.is_ok_and(|status| status.success());
    assert!(is_built, "does not compile: {command:?}");
}
