//! The servers, and what `trustctl check` is to find in them.

use std::fmt;

/// A server of somebody else, or ours.
#[derive(Debug)]
pub(crate) struct BedServer {
    pub(crate) name: &'static str,
    /// A description in a few words.
    pub(crate) about: &'static str,
    /// The command that prints its version, and what stands before it there.
    pub(crate) version: (&'static str, &'static str),
    /// Files of `servers/` that are copied into its directory, with the marks of `command`
    /// replaced.
    pub(crate) files: &'static [&'static str],
    /// Commands that run before it, also as words.
    pub(crate) prepare: &'static [&'static str],
    /// The command that runs it in its directory, as words, in which `@PORT@`, `@DIRECTORY@` and
    /// `@BED@` stand for its port, its directory, and where the downloads are.
    pub(crate) command: &'static str,
    pub(crate) port: PortChoice,
    /// One exchange that it answers once it is up.
    pub(crate) probe: Probe,
    pub(crate) speaks: Speaks,
    /// Further arguments of `trustctl check`.
    pub(crate) arguments: &'static [&'static str],
    pub(crate) expectation: Expectation,
}

/// Who chooses the port of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortChoice {
    /// It is told one.
    Given,
    /// It takes one itself.
    Own,
}

/// What is sent on a new connection, and what the answer contains.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) send: &'static [u8],
    pub(crate) want: &'static [u8],
}

/// What it is checked with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Speaks {
    /// The built-in dialect of that name.
    Dialect(&'static str),
    /// Nothing: it echoes.
    Echo,
}

/// What the cases are to find.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expectation {
    /// Nothing: no failure, and nothing inconclusive.
    Green,
    /// Failures of cases with these names, all of them for this reason.
    Red(&'static [&'static str], &'static str),
    /// What the table shows, without being right or wrong.
    Measured(&'static str),
}

impl BedServer {
    /// What follows the address in a call of `trustctl check`.
    pub(crate) fn check_arguments(&self) -> Vec<&'static str> {
        let speaks = match self.speaks {
            Speaks::Dialect(name) => vec!["--dialect", name],
            Speaks::Echo => vec![],
        };
        [&speaks, self.arguments].concat()
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::Green => f.write_str("nothing is wrong with it"),
            Expectation::Red(cases, why) => write!(f, "{} fail: {why}", cases.join(", ")),
            Expectation::Measured(why) => f.write_str(why),
        }
    }
}

const DNS: Probe = Probe {
    send: b"\0\x1c\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x04test\x05local\0\0\x01\0\x01",
    want: &[192, 0, 2, 1],
};
const FTP: Probe = Probe { send: b"", want: b"220" };
const HTTP: Probe = Probe { send: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", want: b"hello\n" };
const MODBUS: Probe = Probe {
    send: b"\0\x01\0\0\0\x06\x01\x03\0\0\0\x01",
    want: b"\0\x01\0\0\0\x05\x01\x03\x02\x01\0",
};
const ECHO: Probe = Probe { send: b"\0\0\0\x05hello", want: b"\0\0\0\x05hello" };

/// What most have in common: the rest says more.
const PLAIN: BedServer = BedServer {
    name: "",
    about: "",
    version: ("", ""),
    files: &[],
    prepare: &[],
    command: "",
    port: PortChoice::Given,
    probe: HTTP,
    speaks: Speaks::Dialect("http"),
    arguments: &[],
    expectation: Expectation::Green,
};

/// Our echo server.
const OURS: BedServer = BedServer {
    version: ("trustctl --version", "trustctl "),
    probe: ECHO,
    speaks: Speaks::Echo,
    ..PLAIN
};

/// All of them: those that are right, those that are not, and the one that is measured.
pub(crate) const ALL: &[BedServer] = &[
    BedServer {
        name: "redis",
        about: "Redis",
        version: ("redis-server --version", "v="),
        command: "redis-server --bind 127.0.0.1 --port @PORT@",
        probe: Probe { send: b"PING\r\n", want: b"+PONG\r\n" },
        speaks: Speaks::Dialect("redis"),
        ..PLAIN
    },
    BedServer {
        name: "memcached",
        about: "memcached",
        version: ("memcached --version", "memcached "),
        command: "memcached -l 127.0.0.1 -p @PORT@ -u root",
        probe: Probe { send: b"version\r\n", want: b"VERSION " },
        speaks: Speaks::Dialect("memcached"),
        ..PLAIN
    },
    BedServer {
        name: "unbound",
        about: "unbound with a local zone",
        version: ("unbound -V", "Version "),
        files: &["unbound.conf"],
        command: "unbound -d -c unbound.conf",
        probe: DNS,
        speaks: Speaks::Dialect("dns"),
        ..PLAIN
    },
    BedServer {
        name: "nginx",
        about: "nginx, `return` in its configuration",
        version: ("nginx -v", "nginx/"),
        files: &["nginx.conf"],
        command: "nginx -e stderr -p @DIRECTORY@ -c nginx.conf",
        ..PLAIN
    },
    BedServer {
        name: "node-http",
        about: "Node's `http`",
        version: ("node --version", "v"),
        files: &["http.js"],
        command: "node http.js @PORT@",
        ..PLAIN
    },
    BedServer {
        name: "uvicorn",
        about: "uvicorn with h11",
        version: ("uvicorn --version", "uvicorn "),
        files: &["asgi.py"],
        command: "uvicorn --host 127.0.0.1 --port @PORT@ --http h11 --loop asyncio \
            --no-access-log asgi:app",
        ..PLAIN
    },
    BedServer {
        name: "mosquitto",
        about: "Mosquitto",
        version: ("mosquitto -h", "version "),
        files: &["mosquitto.conf"],
        command: "mosquitto -c mosquitto.conf",
        probe: Probe { send: b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0", want: b"\x20\x02\0\0" },
        speaks: Speaks::Dialect("mqtt"),
        ..PLAIN
    },
    BedServer {
        name: "postgres",
        about: "PostgreSQL",
        version: ("postgres --version", "(PostgreSQL) "),
        prepare: &["unshare --user --map-user=65534 initdb --pgdata=data --username=postgres \
            --auth=trust --no-locale --encoding=UTF8 --no-sync"],
        // It refuses to run as root, so it gets a namespace of users in which it is not.
        command: "unshare --user --map-user=65534 postgres -D data -p @PORT@ -c \
            listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off",
        probe: Probe {
            send: b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0",
            want: b"R\0\0\0\x08\0\0\0\0",
        },
        speaks: Speaks::Dialect("postgres"),
        ..PLAIN
    },
    BedServer {
        name: "aiosmtpd",
        about: "aiosmtpd",
        version: ("python -m aiosmtpd --version", "aiosmtpd "),
        command: "python -m aiosmtpd -n -l 127.0.0.1:@PORT@",
        probe: Probe { send: b"", want: b"220 " },
        speaks: Speaks::Dialect("smtp"),
        ..PLAIN
    },
    BedServer {
        name: "pyftpdlib",
        about: "pyftpdlib",
        version: ("python -m pip show pyftpdlib", "Version: "),
        command: "python -m pyftpdlib -i 127.0.0.1 -p @PORT@",
        probe: FTP,
        speaks: Speaks::Dialect("ftp"),
        ..PLAIN
    },
    BedServer {
        name: "libmodbus",
        about: "libmodbus, a process per client",
        version: ("modbus --version", "libmodbus "),
        command: "modbus @PORT@",
        probe: MODBUS,
        speaks: Speaks::Dialect("modbus"),
        ..PLAIN
    },
    BedServer {
        name: "mariadb",
        about: "MariaDB, of which only the greeting is checked",
        version: ("mariadbd --no-defaults --version", "Ver "),
        command: "mariadbd --no-defaults --user=root --datadir=@DIRECTORY@ \
            --socket=@DIRECTORY@/socket --bind-address=127.0.0.1 --port=@PORT@ \
            --skip-grant-tables --lc-messages-dir=@BED@/debian/usr/share/mysql",
        probe: Probe { send: b"", want: b"MariaDB" },
        speaks: Speaks::Dialect("mysql"),
        ..PLAIN
    },
    BedServer {
        name: "kafka-mock",
        about: "librdkafka's mock of a Kafka broker",
        version: ("kcat -V", "librdkafka "),
        command: "kcat -X test.mock.num.brokers=1 -b mock -P -t trustctl-check",
        port: PortChoice::Own,
        probe: Probe { send: b"\0\0\0\x0b\0\x12\0\0\0\0\0\x01\0\x01t", want: b"\0\0\0\x01\0\0" },
        speaks: Speaks::Dialect("kafka"),
        ..PLAIN
    },
    BedServer {
        name: "echo-event",
        about: "`trustctl echo-server`",
        command: "trustctl echo-server --port=@PORT@",
        ..OURS
    },
    BedServer {
        name: "echo-iterative",
        about: "`trustctl echo-server --model iterative`",
        command: "trustctl echo-server --port=@PORT@ --model=iterative",
        ..OURS
    },
    BedServer {
        name: "echo-process",
        about: "`trustctl echo-server --model process`",
        command: "trustctl echo-server --port=@PORT@ --model=process",
        ..OURS
    },
    BedServer {
        name: "echo-inetd",
        about: "`trustctl echo-server --inetd` under tcpserver",
        command: "tcpserver -q -H -R -l localhost -c 1000 127.0.0.1 @PORT@ trustctl echo-server \
            --inetd",
        ..OURS
    },
    BedServer {
        name: "ftp-srv",
        about: "ftp-srv of npm",
        version: ("node -p require('ftp-srv/package.json')", "version: '"),
        files: &["ftp.js"],
        command: "node ftp.js @PORT@",
        probe: FTP,
        speaks: Speaks::Dialect("ftp"),
        expectation: Expectation::Red(
            &["partial/*", "pipelining/*"],
            "a command in two segments is taken for two, and several in one segment for one",
        ),
        ..PLAIN
    },
    BedServer {
        name: "pymodbus",
        about: "the server of pymodbus",
        version: ("python -m pip show pymodbus", "Version: "),
        files: &["modbus_server.py"],
        command: "python modbus_server.py @PORT@",
        probe: MODBUS,
        speaks: Speaks::Dialect("modbus"),
        expectation: Expectation::Red(
            &["pipelining/*", "half-close/*"],
            "of two requests in one segment one is never answered, and a half-closed client is \
             cut off",
        ),
        ..PLAIN
    },
    BedServer {
        name: "aiohttp",
        about: "the server of aiohttp",
        version: ("python -m pip show aiohttp", "Version: "),
        files: &["aiohttp_server.py"],
        command: "python aiohttp_server.py @PORT@",
        expectation: Expectation::Red(
            &["half-close/*"],
            "a client that has half-closed loses its answer",
        ),
        ..PLAIN
    },
    BedServer {
        name: "http.server",
        about: "CPython's `http.server`",
        version: ("python --version", "Python "),
        files: &["index.html"],
        command: "python -m http.server --bind 127.0.0.1 @PORT@",
        expectation: Expectation::Red(
            &["closing/3"],
            "a request whose headers are cut off by a FIN is executed, and answered with 200",
        ),
        ..PLAIN
    },
    BedServer {
        name: "jsmodbus",
        about: "the server of jsmodbus of npm",
        version: ("node -p require('jsmodbus/package.json')", "version: '"),
        files: &["modbus.js"],
        command: "node modbus.js @PORT@",
        probe: MODBUS,
        speaks: Speaks::Dialect("modbus"),
        expectation: Expectation::Red(
            &["closing/*"],
            "a client that resets in the middle of a request ends the process",
        ),
        ..PLAIN
    },
    BedServer {
        name: "dnsmasq",
        about: "dnsmasq",
        version: ("dnsmasq --version", "version "),
        command: "dnsmasq --keep-in-foreground --conf-file=/dev/null --pid-file= \
            --listen-address=127.0.0.1 --bind-interfaces --port=@PORT@ --user=root --no-resolv \
            --no-hosts --address=/test.local/192.0.2.1",
        probe: DNS,
        speaks: Speaks::Dialect("dns"),
        expectation: Expectation::Measured(
            "it serves 20 clients at a time over TCP, so 40 idle ones keep out all others",
        ),
        ..PLAIN
    },
];
