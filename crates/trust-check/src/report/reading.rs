//! Reports that were written before: read again, and a case of them on a page.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use maud::{Markup, html};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::markup;
use trust_cli::text::reason;
use trust_cli::values::quoted;

use super::json::{CaseReport, CheckReport, TranscriptLine, VerdictName, WireEvent};

/// The largest report, in bytes; one of all cases has about a million.
const REPORT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The report in this file.
///
/// # Errors
///
/// 65 if it is no report, 74 if it cannot be read.
pub fn read(path: &Path) -> Result<CheckReport, Failure> {
    let unreadable = |error: io::Error| {
        Failure::new(ExitCode::Io, format!("cannot read {}: {}", quoted(path), reason(&error)))
    };
    let mut text = vec![];
    let file = File::open(path).map_err(unreadable)?;
    file.take(REPORT_BYTES_MAX).read_to_end(&mut text).map_err(unreadable)?;
    serde_json::from_slice(&text).map_err(|error| {
        let message =
            format!("{}: {error}: expected a report of trustctl check --json", quoted(path));
        Failure::new(ExitCode::DataError, message)
    })
}

/// What a report is called: the file's name, without its directory and ending.
pub fn name(path: &Path) -> String {
    path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Whether the case was tried.
pub fn is_tried(case: &CaseReport) -> bool {
    case.verdict != VerdictName::Skipped
}

/// All there is about a case, to be opened.
pub fn details(case: &CaseReport) -> Markup {
    let facts = [
        ("expected", case.expected.as_deref()),
        ("got", case.got.as_deref()),
        ("because", case.said.as_deref()),
        ("requirement", Some(case.about.requirement.as_str())),
        ("source", Some(case.about.source.as_str())),
        ("again", Some(case.again.as_str())),
    ];
    let lines: Vec<String> = case.transcript.iter().map(line).collect();
    html! {
        details {
            summary {
                b class=(case.verdict.word()) { (case.verdict.word()) } " "
                code { (case.about.id) } " " (case.about.title)
            }
            (markup::list("facts", facts.into_iter().filter_map(|(name, it)| Some((name, it?)))))
            @if !lines.is_empty() { pre { (lines.join("\n")) } }
        }
    }
}

fn line(line: &TranscriptLine) -> String {
    let what = match line.what {
        WireEvent::Connected => "connected",
        WireEvent::SentProxyHeader => "-> PROXY header",
        WireEvent::Sent => "->",
        WireEvent::LeftAlone => "   left alone",
        WireEvent::Received => "<-",
        WireEvent::ReceivedFin => "<- FIN",
        WireEvent::ReceivedRst => "<- RST",
        WireEvent::SentFin => "-> FIN",
        WireEvent::SentRst => "-> RST",
        WireEvent::Closed => "-> closed",
        WireEvent::Silence => "   nothing",
        WireEvent::Note => "  ",
    };
    let bytes = line.bytes.map(|count| format!(" ({count} bytes)")).unwrap_or_default();
    let time = line.time_ms.map(|time| format!(" for {time} ms")).unwrap_or_default();
    let [hex, text] = [&line.hex, &line.text].map(|it| it.as_deref().unwrap_or_default());
    format!("{:>9.3} ms  #{:<3} {what} {hex}{text}{bytes}{time}", line.at_ms, line.connection)
}
