//! What came of a run, for people and for programs.

pub mod html;
pub mod issue;
pub mod json;
pub mod junit;
pub mod reading;
pub mod repro;
pub mod terminal;

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use trust_cli::again::shell_word;
use trust_cli::exit_code::ExitCode;
use trust_cli::text::{count, seconds};
use trust_net::Address;

use crate::cause::Cause;
use crate::exchange::pattern::Pattern;
use crate::outcome::{CaseOutcome, Class};
use crate::report::json::{CheckSettings, ServerFields};
use crate::transcript::{Excerpt, Log, TranscriptEntry, What};
use crate::watch::Death;

// Many fields: one for each line at the head of a report.
/// What a run is about.
#[derive(Clone, Debug)]
pub struct About {
    /// When it began, as in events.
    pub started: String,
    /// The server.
    pub server: ServerFields,
    /// How it is checked.
    pub settings: CheckSettings,
    /// When the server died, and how.
    pub deaths: Vec<Death>,
    /// The command that tries a case again, but for the case.
    pub again: String,
    /// The patterns of the cases that were tried, as in `--case`.
    pub patterns: String,
    /// Where the server is, once it answered.
    pub address: Option<Address>,
    /// What may differ between two right answers.
    pub ignore: Vec<Pattern>,
}

impl About {
    /// The server, in a few words.
    pub fn server(&self) -> &str {
        let ServerFields { target, command, .. } = &self.server;
        let named = target.as_deref().or(command.as_deref());
        named.unwrap_or("a server that was not named")
    }

    /// What a page and a JUnit report say about a server that had to be killed.
    pub fn killed(&self) -> Option<&'static str> {
        self.server.was_killed.then_some("The server had not ended after SIGTERM, and was killed.")
    }

    /// The command that tries the case again, or all cases with such ids.
    pub fn again(&self, id: &str) -> String {
        format!("{} --case {}", self.again, shell_word(id))
    }
}

/// What came of a run.
#[derive(Clone, Copy, Debug)]
pub struct RunReport<'r> {
    /// What it was about.
    pub about: &'r About,
    /// What came of the cases, in their order.
    pub outcomes: &'r [CaseOutcome],
    /// What explains several of the findings.
    pub causes: &'r [Cause],
    /// How it ended.
    pub end: RunEnd<'r>,
    /// How long it took.
    pub took: Duration,
    /// What the process exits with.
    pub exit: ExitCode,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd<'r> {
    /// All cases were tried, or there is a reason not to.
    Complete,
    /// The server went away during these cases.
    ServerDied(&'r str),
    /// This signal stopped it.
    Stopped(&'static str),
    /// No case was tried, for this reason.
    Unreachable(&'r str),
    /// All cases were tried, and a report could not be written, for this reason.
    Unwritten(&'r str),
}

/// How many cases count as what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// As it should be.
    pub pass: usize,
    /// Bugs.
    pub fail: usize,
    /// Bugs that are listed as known.
    pub known: usize,
    /// Listed as known to fail, and did not.
    pub unexpected_pass: usize,
    /// Unwise.
    pub warn: usize,
    /// What the protocol allows.
    pub allowed: usize,
    /// Measured.
    pub info: usize,
    /// Not shown.
    pub inconclusive: usize,
    /// Not run.
    pub skipped: usize,
}

impl Counts {
    /// Counts them.
    pub fn of(outcomes: &[CaseOutcome]) -> Counts {
        let mut counts = Counts::default();
        for outcome in outcomes {
            *match outcome.class() {
                Class::Pass => &mut counts.pass,
                Class::Fail => &mut counts.fail,
                Class::Known => &mut counts.known,
                Class::UnexpectedPass => &mut counts.unexpected_pass,
                Class::Warn => &mut counts.warn,
                Class::Allowed => &mut counts.allowed,
                Class::Info => &mut counts.info,
                Class::Inconclusive => &mut counts.inconclusive,
                Class::Skipped => &mut counts.skipped,
            } += 1;
        }
        counts
    }

    /// Cases that were tried.
    pub fn tried(&self) -> usize {
        let judged = self.pass + self.fail + self.known + self.unexpected_pass + self.warn;
        judged + self.allowed + self.info + self.inconclusive
    }

    /// Whether a run that came to this is a success.
    pub fn is_success(&self) -> bool {
        self.fail == 0 && self.unexpected_pass == 0 && self.shows_something()
    }

    /// Whether the run says anything about the server.
    pub fn shows_something(&self) -> bool {
        self.tried() > self.inconclusive
    }

    /// In one line, with what is not there left out but for passes and failures.
    pub fn line(&self) -> String {
        let tried = count(self.tried() as u64, "case");
        let passed = self.pass + self.unexpected_pass;
        let mut line = format!("{tried} tried: {passed} passed, {} failed", self.fail);
        let others = [
            (self.known, "known to fail"),
            (self.unexpected_pass, "of the passes unexpected"),
            (self.warn, "warned"),
            (self.allowed, "allowed"),
            (self.info, "measured"),
            (self.inconclusive, "inconclusive"),
        ];
        for (number, what) in others.into_iter().filter(|(number, _)| *number > 0) {
            let _ = write!(line, ", {number} {what}");
        }
        let _ = write!(line, "; {} skipped", self.skipped);
        line
    }
}

/// A cause and the findings that it explains, in a line.
pub fn caused(text: &str, cases: &[&str]) -> String {
    match cases.is_empty() {
        true => text.to_owned(),
        false => format!("{text} (explains {})", short_list(cases)),
    }
}

/// `framing/2, 3, 4; partial/1`
pub fn short_list(ids: &[&str]) -> String {
    let (mut list, mut last) = (String::new(), "");
    for id in ids {
        let (group, number) = id.split_once('/').unwrap_or((id, ""));
        match (list.is_empty(), group == last) {
            (true, _) => list.push_str(id),
            (false, true) => _ = write!(list, ", {number}"),
            (false, false) => _ = write!(list, "; {id}"),
        }
        last = group;
    }
    list
}

/// What went over the wire, one line per entry: time, connection, direction, and at most
/// `bytes_shown` bytes in hexadecimal.
pub fn transcript(log: &Log, bytes_shown: usize) -> Vec<String> {
    let mut lines: Vec<String> = log
        .entries
        .iter()
        .map(|TranscriptEntry { at, connection, what }| {
            let who = match connection {
                0 => String::new(),
                number => format!("#{number}"),
            };
            format!("{:>9.3} ms  {who:<4} {}", at.as_secs_f64() * 1e3, wire_line(what, bytes_shown))
        })
        .collect();
    if log.left_out > 0 {
        lines.push(format!("… and {} entries more", log.left_out));
    }
    lines
}

fn wire_line(what: &What, bytes_shown: usize) -> String {
    match what {
        What::Connected => "connected".to_owned(),
        What::SentPreface(bytes) => format!("-> PROXY header {}", hex(bytes, bytes_shown)),
        What::Sent(bytes) => format!("-> {}", hex(bytes, bytes_shown)),
        What::LeftAlone(time) => format!("   acknowledged, and left alone for {}", seconds(*time)),
        What::ReadAndLeftAlone(time) => format!("   read, and left alone for {}", seconds(*time)),
        What::Received(bytes) => format!("<- {}", hex(bytes, bytes_shown)),
        What::ReceivedFin => "<- FIN".to_owned(),
        What::ReceivedReset => "<- RST".to_owned(),
        What::SentFin => "-> FIN".to_owned(),
        What::SentReset => "-> RST".to_owned(),
        What::Closed => "-> closed".to_owned(),
        What::Silence(time) => format!("   nothing for {}", seconds(*time)),
        What::Note(text) => format!("   {text}"),
    }
}

fn hex(bytes: &Excerpt, shown: usize) -> String {
    let unit = if bytes.len == 1 { "byte" } else { "bytes" };
    if bytes.is_secret {
        return format!("({} secret {unit})", bytes.len);
    }
    let first = &bytes.first[..bytes.first.len().min(shown)];
    let mut text: String = first.iter().map(|byte| format!("{byte:02x} ")).collect();
    if bytes.len > first.len() {
        text.push_str("… ");
    }
    let _ = write!(text, "({} {unit})", bytes.len);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use crate::outcome::Tries;
    use crate::verdict::Verdict;

    pub(super) fn outcome(verdict: Verdict, is_listed: bool) -> CaseOutcome {
        let case = cases::all().next().expect("a case");
        let (log, took, tries) = (Log::default(), Duration::from_millis(2), Tries::NONE);
        CaseOutcome { case, verdict, tries, is_put_off: false, is_listed, hint: None, log, took }
    }

    #[test]
    fn a_known_failure_is_no_failure_and_an_unexpected_pass_is_no_success() {
        let counts = |verdicts: &[(Verdict, bool)]| {
            let outcomes: Vec<CaseOutcome> = verdicts
                .iter()
                .map(|(verdict, is_listed)| outcome(verdict.clone(), *is_listed))
                .collect();
            Counts::of(&outcomes)
        };
        let (fail, pass) = (Verdict::fail("a", "b"), Verdict::Pass);
        assert!(counts(&[(fail.clone(), true), (pass.clone(), false)]).is_success());
        assert!(!counts(&[(fail, false), (pass.clone(), false)]).is_success());
        let unexpected = counts(&[(pass.clone(), true), (pass, false)]);
        assert!(!unexpected.is_success());
        assert_eq!(
            unexpected.line(),
            "2 cases tried: 2 passed, 0 failed, 1 of the passes unexpected; 0 skipped"
        );
        assert!(!counts(&[(Verdict::Info("1 ms".into()), true)]).is_success());
        assert!(counts(&[(Verdict::Info("1 ms".into()), false)]).is_success());
        assert!(counts(&[(Verdict::warn("a", "b"), true)]).is_success());
    }

    #[test]
    fn a_run_in_which_nothing_could_be_shown_is_no_success() {
        let inconclusive = || outcome(Verdict::inconclusive("why"), false);
        assert!(!Counts::of(&[inconclusive(), inconclusive()]).is_success());
        assert!(Counts::of(&[inconclusive(), outcome(Verdict::Pass, false)]).is_success());
    }

    #[test]
    fn a_run_in_which_nothing_was_tried_is_no_success() {
        assert!(!Counts::of(&[]).is_success());
        assert!(!Counts::of(&[outcome(Verdict::skipped("why"), false)]).is_success());
    }
}
