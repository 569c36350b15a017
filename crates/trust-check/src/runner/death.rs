//! What a case is told that ended the server.

use std::collections::BTreeMap;

use crate::answer;
use crate::outcome::CaseOutcome;
use crate::transcript::{Log, What};
use crate::verdict::{Evidence, Verdict};
use crate::watch::Death;

/// What a right server does, whatever a case does.
const EXPECTED: &str = "the server is there after whatever a client does";

/// Connections whose last words are told.
const CONNECTIONS_TOLD: usize = 3;

/// The verdict on a case that ran alone when the server died.
pub(super) fn verdict(death: &Death, log: &Log) -> Verdict {
    let got = format!("the server died, {}{}", death.how, on_the_way(log));
    Verdict::fail_by(Evidence::Death, EXPECTED, got)
}

/// Blames the first of the cases that ran together when the server died, if it died of none of them
/// alone.
pub(super) fn blame_one_of(death: &Death, outcomes: &mut [CaseOutcome]) {
    if let Some(outcome) = outcomes.iter_mut().find(|outcome| has_seen(death, outcome)) {
        let got = format!("the server died beside {}, {}", death.during, death.how);
        outcome.verdict = Verdict::fail_by(Evidence::Death, EXPECTED, got);
        outcome.tries.failed = 1;
        outcome.tries.tries = 2;
    }
}

/// Whether the case ran when the server died.
pub(super) fn has_seen(death: &Death, outcome: &CaseOutcome) -> bool {
    death.during.split(", ").any(|id| id == outcome.case.id)
}

/// Whether it had a connection, without which it cannot have ended the server.
pub(super) fn has_connected(log: &Log) -> bool {
    log.entries.iter().any(|entry| entry.what == What::Connected)
}

/// What the last connections sent last, and what may have been on the way when the server died.
fn on_the_way(log: &Log) -> String {
    let mut last = BTreeMap::new();
    for entry in &log.entries {
        let sent = match &entry.what {
            What::Sent(bytes) if bytes.is_secret => format!("{} secret bytes", bytes.len),
            What::Sent(bytes) => {
                let shown = &bytes.first[..bytes.first.len().min(8)];
                let dots = if bytes.len > shown.len() { " …" } else { "" };
                format!("{}{dots} ({} bytes)", answer::shown(shown), bytes.len)
            }
            What::SentPreface(_) => "a PROXY header".to_owned(),
            What::SentFin => "FIN".to_owned(),
            What::SentReset => "RST".to_owned(),
            _ => continue,
        };
        last.insert(entry.connection, sent);
    }
    let told = last.iter().rev().take(CONNECTIONS_TOLD).collect::<Vec<_>>();
    let told: Vec<String> =
        told.into_iter().rev().map(|(number, sent)| format!("#{number} -> {sent}")).collect();
    match told.is_empty() {
        true => String::new(),
        false => format!("; sent last: {}", told.join(", ")),
    }
}
