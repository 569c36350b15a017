//! A failure as a text for the server's maintainer, who has no trustctl.

use std::fmt::Write as _;

use crate::report::repro::{Shown, shown};
use crate::report::{RunReport, transcript};

/// Bytes that are shown of what went over the wire at once.
const BYTES_SHOWN: usize = 32;

/// The first failure that can be shown in a few lines, as Markdown. `None` if there is none.
pub fn report(report: &RunReport<'_>) -> Option<String> {
    let Shown { outcome, finding, program } = shown(report)?;
    let about = report.about;
    let protocol = about.server.protocol.as_deref().unwrap_or("an echo service");
    let mut text = format!("# {}\n\n", outcome.case.title);
    let _ = writeln!(text, "Server: (name and version), {protocol}\n");
    let _ = writeln!(text, "Expected: {}\n", finding.expected);
    let _ = writeln!(text, "Got: {}\n", finding.got);
    let _ = writeln!(text, "{}\n", why(outcome.case.group()));
    let _ = writeln!(text, "Where the requirement comes from: {}\n", outcome.case.source);
    let _ = writeln!(text, "What went over the wire, as the client sees it:\n");
    for line in transcript(&outcome.log, BYTES_SHOWN) {
        let _ = writeln!(text, "    {line}");
    }
    let _ = writeln!(text, "\nA program that shows it (Python 3, standard library):\n");
    let _ = writeln!(text, "```python\n{program}```\n");
    let _ = writeln!(
        text,
        "Found with trustctl {} on {}, which tries it again with:\n\n    {}",
        env!("CARGO_PKG_VERSION"),
        about.started,
        about.again(outcome.case.id)
    );
    Some(text)
}

/// Why that happens to real clients.
fn why(group: &str) -> &'static str {
    match group {
        "framing" | "partial" => {
            "TCP is a stream of bytes: where a receive ends is up to the network. A request comes \
             in pieces when it is longer than a segment, when the client writes it with two calls, \
             when a TLS record or a proxy's buffer ends inside of it, and over slow or lossy links."
        }
        "pipelining" => {
            "Requests come together when a client does not wait for each answer, and when a busy \
             server or a lost segment makes them wait for each other."
        }
        "half-close" => {
            "A client that has said all can close its direction and wait for the answer, as \
             `nc -N`, scripts and some proxies do (RFC 9293, 3.6)."
        }
        "closing" => {
            "Clients crash, phones lose their network, and balancers cut connections: it happens \
             at any byte."
        }
        _ => "Clients are slow, silent, many, or gone, at any time and place.",
    }
}
