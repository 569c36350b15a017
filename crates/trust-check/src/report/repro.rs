//! A failure as a short program that shows it without trustctl.

use std::fmt::Write as _;

use trust_net::Address;

use crate::delivery::{Delivery, DeliveryStep};
use crate::exchange::pattern::Pattern;
use crate::outcome::CaseOutcome;
use crate::report::RunReport;
use crate::verdict::{Finding, Verdict};

/// The first failure that can be shown in a few lines, as a program in Python that needs its
/// standard library alone. `None` if there is none.
pub fn report(report: &RunReport<'_>) -> Option<String> {
    shown(report).map(|shown| shown.program)
}

/// A failure, and the program that shows it.
pub struct Shown<'r> {
    /// What came of its case.
    pub outcome: &'r CaseOutcome,
    /// What was wrong.
    pub finding: &'r Finding,
    /// The program.
    pub program: String,
}

/// The first failure that can be shown in a few lines, or else the first such warning.
pub fn shown<'r>(report: &RunReport<'r>) -> Option<Shown<'r>> {
    let server = report.about.address.as_ref()?;
    let shown = |outcome: &'r CaseOutcome, finding: &'r Finding| {
        let delivery = finding.seen.as_ref()?.delivery.as_ref()?;
        let program = script(outcome, finding, delivery, server, &report.about.ignore);
        Some(Shown { outcome, finding, program })
    };
    let mut failed = report.outcomes.iter().filter_map(|outcome| match &outcome.verdict {
        Verdict::Fail(finding) => shown(outcome, finding),
        _ => None,
    });
    let warned = || {
        report.outcomes.iter().find_map(|outcome| match &outcome.verdict {
            Verdict::Warn(finding) => shown(outcome, finding),
            _ => None,
        })
    };
    failed.next().or_else(warned)
}

fn script(
    outcome: &CaseOutcome,
    finding: &Finding,
    delivery: &Delivery,
    server: &Address,
    ignore: &[Pattern],
) -> String {
    let mut text = String::from("#!/usr/bin/env python3\n");
    for line in [
        format!("{}: {}", outcome.case.id, outcome.case.title),
        format!("Expected: {}", finding.expected),
        format!("Got: {}", finding.got),
        format!("Where that comes from: {}", outcome.case.source),
        String::new(),
        "Exit code: 1 if the server does it again, 0 if it does not, 2 if that cannot be told,"
            .into(),
        "because whole requests are not answered in the same way twice either.".into(),
        "Arguments: another HOST and PORT.".into(),
    ] {
        let _ = writeln!(text, "{}", format!("# {line}").trim_end());
    }
    let server = match server {
        Address::Ip(ip) => format!("(\"{}\", {})", ip.ip(), ip.port()),
        Address::Unix(name) => format!("{:?}", name.to_string()),
    };
    let requests = delivery.requests.iter().map(|request| bytes(request));
    let ignored = ignore.iter().map(|pattern| bytes(pattern.source().as_bytes()));
    let _ = write!(
        text,
        "import os, re, socket, sys, time\n\n\
         SERVER = (sys.argv[1], int(sys.argv[2])) if len(sys.argv) == 3 else {server}\n\
         # What a connection begins with, and the requests, each of which has an answer.\n\
         BEGINNING = [{}]\n\
         REQUESTS = [{}]\n\
         # What is done with them.\n\
         STEPS = [{}]\n\
         # What may differ between two right answers.\n\
         IGNORE = [{}]\n{BODY}",
        steps(&delivery.beginning),
        list(requests),
        steps(&delivery.steps),
        list(ignored),
    );
    text
}

/// What is the same in all of them.
const BODY: &str = r#"

def connect():
    if isinstance(SERVER, str):
        client = socket.socket(socket.AF_UNIX)
        client.connect(SERVER)
    else:
        client = socket.create_connection(SERVER, 5)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for step in BEGINNING:
        do(client, step)
        read(client)
    return client


def do(client, step):
    try:
        if step == "finish":
            client.shutdown(socket.SHUT_WR)
        elif isinstance(step, float):
            time.sleep(step)
        else:
            client.sendall(step)
    except OSError as error:
        print("sending fails:", error)


def read(client, quiet=0.5):
    """What comes until nothing more does for a while, or the connection ends."""
    got = b""
    client.settimeout(quiet)
    try:
        while True:
            more = client.recv(65536)
            if not more:
                return got
            got += more
    except OSError:
        return got


def kept(answer):
    for pattern in IGNORE:
        answer = re.sub(pattern, b"", answer)
    return answer


def whole():
    """The answers to the requests, one after the other, each in one piece."""
    client = connect()
    answers = b""
    for request in REQUESTS:
        client.sendall(request)
        answers += read(client)
    return answers


expected = whole() if REQUESTS else b""
client = connect()
for step in STEPS:
    do(client, step)
got = read(client, 1.0)
print("expected:", expected)
print("got:     ", got)
if REQUESTS and kept(whole()) != kept(expected):
    print("whole requests are answered differently each time")
    sys.exit(2)
sys.exit(kept(got) != kept(expected))
"#;

fn steps(steps: &[DeliveryStep]) -> String {
    let mut secrets = 0;
    list(steps.iter().map(|step| match step {
        DeliveryStep::Send(sent) => bytes(sent),
        DeliveryStep::SendSecret => {
            secrets += 1;
            format!("bytes.fromhex(os.environ[\"SECRET_{secrets}\"])")
        }
        DeliveryStep::Pause(time) => format!("{:?}", time.as_secs_f64()),
        DeliveryStep::Finish => "\"finish\"".to_owned(),
    }))
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.map(|item| format!("\n    {item},")).collect::<String>() + "\n"
}

/// Bytes as Python writes them.
fn bytes(bytes: &[u8]) -> String {
    format!("b\"{}\"", bytes.escape_ascii())
}
