//! What stands between clients and a server, and what `trustctl check --baseline` says that it
//! changes.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use trust_check::case;
use trust_check::compare::json::{CompareReport, ComparedCase, SideOutcome};
use trust_check::compare::measure::MeasurementName;
use trust_check::report::json::VerdictName;
use trust_check::report::short_list;
use trust_testkit::docs::has_table;
use trust_testkit::program::Home;

use super::launch;
use super::servers::{BedServer, ECHO, Finding, Occurs, PLAIN, Speaks};

/// How long one comparison may take on a machine with other work.
const RUN_DEADLINE: Duration = Duration::from_secs(400);

/// The same of one that finds no server.
const ALONE_DEADLINE: Duration = Duration::from_secs(60);

/// How far the idle timeout of a box may be from what it is configured with.
const IDLE_TOLERANCE_S: f64 = 1.0;

/// The server of all boxes. It ends idle clients after five seconds.
const SERVER: BedServer = BedServer {
    name: "echo-server",
    command: "trustctl echo-server --port=@PORT@ --timeout=5",
    probe: ECHO,
    speaks: &[Speaks::Echo],
    ..PLAIN
};

/// The same without a timeout.
const PATIENT: BedServer =
    BedServer { command: "trustctl echo-server --port=@PORT@ --timeout=0", ..SERVER };

const CASES: &[&str] = &["--timeout=5", "--idle-max=0"];
const IDLE: &[&str] = &["--case=framing/1,half-close/1", "--idle-max=10s"];

/// What most have in common: all cases are compared.
const BOX: BedServer = BedServer { probe: ECHO, arguments: CASES, ..SERVER };

/// A client that has finished sending gets nothing; where many answers are under way when its FIN
/// comes, some may be ahead of it.
const NO_HALF_CLOSE: Finding = Finding::fail(
    "half-close/1 half-close/4 half-close/5",
    "",
    "clients that have finished sending lose their answers",
);
const NO_HALF_CLOSE_LATER: Finding = Finding::fail(
    "half-close/2 half-close/3",
    "",
    "clients that have finished sending lose what is still under way",
)
.sometimes();
const ENDS_BY_RST: Finding = Finding::warn(
    "closing/4 closing/12 closing/13",
    "reset",
    "a RST comes in place of the server's FIN",
)
.sometimes();
const CUTS_BY_RST: Finding =
    Finding::fail("closing/13", "reset", "a RST overtakes answers, which are lost").sometimes();
const FEW_WAIT: Finding = Finding {
    verdict: VerdictName::Info,
    ..Finding::warn("recovery/6", "accept queue", "few clients can wait to be accepted")
}
.sometimes();

const WAITS_FOR_EVER: Finding = Finding::fail(
    "pipelining/6 pipelining/8 pipelining/9 pipelining/14 recovery/10",
    "nothing more",
    "while it waits to write one way it does not read the other way, so that client and server can \
     wait for each other for ever",
)
.sometimes();

/// What they do with a client while the server is down.
const WITHOUT_SERVER: &str = "accepts a client, and ends it by a FIN";

/// The same for those that pass on that the server refuses.
const WITHOUT_SERVER_BY_RST: (&[&str], &str) =
    (&["trustctl-proxy"], "accepts a client, and resets it");

/// Those with a limit on idle clients, in seconds.
const LIMITED: &[(&str, f64)] = &[("haproxy-7s", 7.0), ("nginx-7s", 7.0)];

/// All of them, in the order of the table.
pub(crate) const ALL: &[BedServer] = &[
    BedServer {
        name: "trustctl-proxy",
        about: "`trustctl proxy`",
        version: ("trustctl --version", "trustctl "),
        command: "trustctl proxy @PORT@ 127.0.0.1:@SERVER@",
        ..BOX
    },
    BedServer {
        name: "haproxy",
        about: "HAProxy, `mode tcp`",
        version: ("haproxy -v", "version "),
        files: &["box_haproxy.cfg"],
        command: "haproxy -db -f box_haproxy.cfg",
        set_up: "`timeout client` and `timeout server` of an hour",
        ..BOX
    },
    BedServer {
        name: "nginx-half-close",
        about: "nginx's stream module, `proxy_half_close on`",
        version: ("nginx -v", "nginx/"),
        files: &["box_nginx_half_close.conf"],
        command: "nginx -e stderr -c @DIRECTORY@/box_nginx_half_close.conf",
        set_up: "`proxy_half_close on`",
        ..BOX
    },
    BedServer {
        name: "nginx",
        about: "nginx's stream module",
        version: ("nginx -v", "nginx/"),
        files: &["box_nginx.conf"],
        command: "nginx -e stderr -c @DIRECTORY@/box_nginx.conf",
        findings: &[NO_HALF_CLOSE, NO_HALF_CLOSE_LATER, ENDS_BY_RST],
        ..BOX
    },
    BedServer {
        name: "socat",
        about: "socat, a process per client",
        version: ("socat -V", "socat version "),
        command: "socat TCP-LISTEN:@PORT@,bind=127.0.0.1,fork,reuseaddr,backlog=1024 \
            TCP:127.0.0.1:@SERVER@",
        set_up: "`fork`",
        ..BOX
    },
    BedServer {
        name: "ssh",
        about: "OpenSSH, `ssh -L`",
        version: ("ssh -V", "OpenSSH_"),
        files: &["box_sshd.conf", "box_ssh.sh"],
        prepare: &["sh box_ssh.sh prepare"],
        command: "sh box_ssh.sh run @PORT@ @SERVER@",
        set_up: "client and server on this machine",
        ..BOX
    },
    BedServer {
        name: "rinetd",
        about: "rinetd",
        version: ("rinetd -v", "rinetd "),
        files: &["box_rinetd.conf"],
        command: "rinetd -f -c box_rinetd.conf",
        findings: &[NO_HALF_CLOSE, NO_HALF_CLOSE_LATER, ENDS_BY_RST, CUTS_BY_RST],
        ..BOX
    },
    BedServer {
        name: "redir",
        about: "redir",
        version: ("redir -v", ""),
        command: "redir -n 127.0.0.1:@PORT@ 127.0.0.1:@SERVER@",
        findings: &[
            NO_HALF_CLOSE,
            NO_HALF_CLOSE_LATER,
            ENDS_BY_RST,
            FEW_WAIT,
            Finding { cases: "pipelining/9", ..WAITS_FOR_EVER },
        ],
        ..BOX
    },
    BedServer {
        name: "simpleproxy",
        about: "simpleproxy",
        version: ("simpleproxy -V", "simpleproxy v"),
        command: "simpleproxy -L 127.0.0.1:@PORT@ -R 127.0.0.1:@SERVER@",
        findings: &[
            Finding { occurs: Occurs::Always, ..NO_HALF_CLOSE_LATER },
            NO_HALF_CLOSE.sometimes(),
            ENDS_BY_RST,
            FEW_WAIT,
        ],
        ..BOX
    },
    BedServer {
        name: "xinetd",
        about: "xinetd, `redirect`",
        version: ("xinetd -version", ""),
        files: &["box_xinetd.conf"],
        command: "xinetd -dontfork -f box_xinetd.conf",
        findings: &[
            NO_HALF_CLOSE,
            NO_HALF_CLOSE_LATER,
            ENDS_BY_RST,
            CUTS_BY_RST,
            Finding { cases: "pipelining/9", ..WAITS_FOR_EVER },
        ],
        set_up: "`redirect`, no limit on clients",
        ..BOX
    },
    BedServer {
        name: "systemd-socket-proxyd",
        about: "systemd-socket-proxyd",
        version: ("systemd-socket-activate --version", "systemd "),
        command: "systemd-socket-activate --listen=127.0.0.1:@PORT@ \
            /lib/systemd/systemd-socket-proxyd 127.0.0.1:@SERVER@",
        findings: &[NO_HALF_CLOSE, NO_HALF_CLOSE_LATER],
        ..BOX
    },
    BedServer {
        name: "stunnel",
        about: "stunnel to stunnel",
        version: ("stunnel4 -version", "stunnel "),
        files: &["box_stunnel.conf", "box_stunnel_server.conf", "box_stunnel.sh"],
        prepare: &["openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
            -keyout key.pem -out certificate.pem"],
        command: "unshare --user --map-root-user --pid --fork --kill-child sh box_stunnel.sh",
        set_up: "a client and a server, TLS between them",
        findings: &[Finding { cases: "half-close/3", ..NO_HALF_CLOSE_LATER }],
        ..BOX
    },
    BedServer {
        name: "ncat",
        about: "ncat, `--sh-exec ncat`",
        version: ("ncat --version", "Version "),
        files: &["box_ncat.sh"],
        command: "unshare --user --map-root-user --pid --fork --kill-child \
            sh box_ncat.sh @PORT@ @SERVER@",
        findings: &[
            NO_HALF_CLOSE,
            NO_HALF_CLOSE_LATER,
            FEW_WAIT,
            Finding::fail(
                "closing/4 closing/12 closing/13 timing/1 timing/2 timing/3 timing/7 timing/9 \
                 timing/11 framing/6 framing/7 framing/8 framing/9 framing/15 framing/16 \
                 framing/17 framing/18",
                "it was still open",
                "the server's FIN is not passed on",
            ),
            WAITS_FOR_EVER,
            Finding {
                cases: "pipelining/6",
                verdict: VerdictName::Warn,
                why: "many messages beside those of others are late",
                ..WAITS_FOR_EVER
            },
        ],
        ..BOX
    },
    BedServer {
        name: "haproxy-7s",
        about: "HAProxy with limits of 7 s",
        version: ("haproxy -v", "version "),
        files: &["box_haproxy_7s.cfg"],
        command: "haproxy -db -f box_haproxy_7s.cfg",
        arguments: IDLE,
        set_up: "`timeout client 7s`, `timeout server 7s`",
        ..BOX
    },
    BedServer {
        name: "nginx-7s",
        about: "nginx's stream module with a limit of 7 s",
        version: ("nginx -v", "nginx/"),
        files: &["box_nginx_7s.conf"],
        command: "nginx -e stderr -c @DIRECTORY@/box_nginx_7s.conf",
        findings: &[Finding { cases: "half-close/1", ..NO_HALF_CLOSE }],
        arguments: IDLE,
        set_up: "`proxy_timeout 7s`",
        ..BOX
    },
];

/// Compares a server with itself through the box.
///
/// # Panics
///
/// If something else differs than is known.
pub(crate) fn holds(server: &'static BedServer) {
    let idle_limit = idle_limit(server);
    let direct = launch::start(if idle_limit.is_some() { &PATIENT } else { &SERVER });
    let through = launch::start_towards(server, direct.address.port());
    let [own, other] = [&direct, &through].map(|started| started.address.to_string());
    let words = ["check", &other, "--baseline", &own, "--json"];
    let run = |deadline: Duration| {
        Home::new().trustctl(words).args(server.arguments).start().wait_for(deadline)
    };
    let with_server = run(RUN_DEADLINE);
    let report: CompareReport = serde_json::from_slice(&with_server.stdout)
        .unwrap_or_else(|error| panic!("no report: {error}: {}", with_server.stderr));
    drop(direct);
    let told = run(ALONE_DEADLINE).stderr;
    let alone = told.lines().find_map(|line| line.strip_prefix("without a server the box "));
    let alone = alone.unwrap_or_default();
    let changed: Vec<&ComparedCase> =
        report.changes.iter().flat_map(|change| &change.cases).collect();
    let mut text = format!("{}: {} cases are the same\n", server.name, report.same);
    for case in changed.iter().copied().chain(&report.measured).chain(&report.left_out) {
        let said = case.through.said.as_deref().unwrap_or_default();
        let _ = writeln!(text, "  {} {}: {said}", case.id, case.through.verdict.word());
    }
    for it in &report.measurements {
        let _ = writeln!(text, "  {:?}: {}; {}", it.of, it.direct.text, it.through.text);
    }
    let _ = writeln!(text, "  without a server: {alone}");
    drop(io::stderr().write_all(text.as_bytes()));
    let mut problems = vec![];
    let left_out = report.left_out.iter().filter(|case| !is_slow(&case.direct));
    problems.extend(left_out.map(|case| format!("{} is not right", case.id)));
    problems.extend(report.unlike.iter().cloned());
    for case in &changed {
        if !is_about_machine(case) && !server.findings.iter().any(|it| is_about(it, case)) {
            problems.push(format!("{} {}", case.id, case.through.verdict.word()));
        }
    }
    for finding in server.findings.iter().filter(|it| it.occurs != Occurs::Sometimes) {
        for cases in finding.cases.split_whitespace() {
            let one = Finding { cases, ..*finding };
            if !changed.iter().any(|case| is_about(&one, case)) {
                problems.push(format!("{cases} is not as it was: {}", one.why));
            }
        }
    }
    if let Some(limit) = idle_limit {
        let found = report.measurements.iter().find(|it| it.of == MeasurementName::IdleTimeout);
        let after = found.and_then(|found| found.through.number);
        if !after.is_some_and(|after| (after - limit).abs() <= IDLE_TOLERANCE_S) {
            problems.push(format!("idle clients are ended after {after:?} s, not {limit}"));
        }
    }
    let expected = match WITHOUT_SERVER_BY_RST {
        (names, words) if names.contains(&server.name) => words,
        _ => WITHOUT_SERVER,
    };
    if !alone.starts_with(expected) {
        problems.push(format!("without a server it {alone}, not {expected}"));
    }
    assert!(problems.is_empty(), "{}:\n{}\n{text}", server.name, problems.join("\n"));
}

/// Whether a case says that this machine has other work, which is nothing about the box. Our server
/// itself is right.
fn is_about_machine(case: &ComparedCase) -> bool {
    let is_worse = case.through.verdict == VerdictName::Fail;
    case.direct.verdict == VerdictName::Warn && !is_worse || is_slow(&case.through)
}

fn is_slow(side: &SideOutcome) -> bool {
    let said = side.said.as_deref().unwrap_or_default();
    let is_told = ["this machine is too busy", "too slow"].iter().any(|it| said.contains(it));
    side.verdict == VerdictName::Inconclusive && is_told
}

fn is_about(finding: &Finding, case: &ComparedCase) -> bool {
    let said = case.through.said.as_deref().unwrap_or_default();
    let mut names = finding.cases.split_whitespace();
    finding.verdict == case.through.verdict
        && names.any(|name| case::matches(name, &case.id))
        && said.contains(finding.says)
}

fn idle_limit(server: &BedServer) -> Option<f64> {
    LIMITED.iter().find(|(name, _)| *name == server.name).map(|(_, limit)| *limit)
}

/// Checks that `docs/BOXES.md` has this table, with the versions of the boxes that are here.
pub(crate) fn check_docs() {
    let mut table = String::from(
        "| box | version | set up | in each run | in some runs, or some of it |\n\
         |---|---|---|---|---|\n",
    );
    for server in ALL {
        let BedServer { about, set_up, .. } = server;
        let version = launch::version_of(server);
        let (sometimes, always): (Vec<&Finding>, Vec<_>) =
            server.findings.iter().partition(|finding| finding.occurs == Occurs::Sometimes);
        let told = |findings: Vec<&Finding>| findings.into_iter().map(told).collect::<Vec<_>>();
        let limit = idle_limit(server);
        let idle = limit.map(|limit| format!("idle clients are ended after {limit} s, as set"));
        let always: Vec<String> = told(always).into_iter().chain(idle).collect();
        let (always, sometimes) = (always.join("<br>"), told(sometimes).join("<br>"));
        let always = if always.is_empty() && sometimes.is_empty() { "nothing" } else { &always };
        let _ = writeln!(table, "| {about} | {version} | {set_up} | {always} | {sometimes} |");
    }
    has_table("docs/BOXES.md", "boxes", &table);
}

fn told(finding: &Finding) -> String {
    let Finding { cases, verdict, why, .. } = finding;
    let cases = short_list(&cases.split_whitespace().collect::<Vec<_>>());
    format!("{why} ({}: {cases})", verdict.word())
}
