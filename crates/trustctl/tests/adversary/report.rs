//! What a failure prints: enough to understand it and to reproduce it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use super::ledger::Outcome;
use super::play::Played;
use trust_testkit::event;

/// How many failures to print in full; the others get one line each.
const TOLD_IN_FULL: usize = 3;

/// The results of a run's scripts.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) scripts: usize,
    pub(crate) connections: usize,
    /// Scripts in which every connection was over before the server was told to stop, and whose
    /// descriptors were counted.
    pub(crate) quiet: usize,
    /// Scripts in which the server wrote statistics.
    pub(crate) with_stats: usize,
    pub(crate) reasons: BTreeMap<String, usize>,
    /// For each failed script its seed, its one-line summary, and its full output.
    failures: Vec<(u64, String, String)>,
    /// The worst lag of the machine, and the longest script.
    lag: Duration,
    longest: Duration,
    /// The peak memory of any server, in bytes.
    memory: u64,
}

impl Report {
    /// Adds a script that was played and judged.
    pub(crate) fn take(&mut self, seed: u64, played: &Played, outcome: &Outcome) {
        self.scripts += 1;
        self.connections += outcome.reasons.len();
        self.quiet += usize::from(played.was_quiet);
        self.with_stats += usize::from(!event::named(&played.events, "server_stats").is_empty());
        self.lag = self.lag.max(played.lag);
        self.memory = self.memory.max(played.peak_memory);
        self.longest = self.longest.max(played.took);
        for reason in &outcome.reasons {
            *self.reasons.entry(reason.clone()).or_default() += 1;
        }
        if let Some(first) = outcome.violations.first() {
            self.failures.push((seed, first.property.to_owned(), tell(seed, played, outcome)));
        }
    }

    /// Adds a script that could not be played to its end.
    pub(crate) fn take_panic(&mut self, seed: u64, message: &str) {
        self.scripts += 1;
        let text = format!("seed {seed}: the server, or the driver, failed: {message}\n");
        let line = message.lines().next().unwrap_or_default().to_owned();
        self.failures.push((seed, line, text + &replay(seed)));
    }

    /// How many scripts failed.
    pub(crate) fn failed(&self) -> usize {
        self.failures.len()
    }

    /// The summary at the end if all is well.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!(
            "{} scripts (descriptors counted in {}, statistics judged in {}), {} connections, \
             the longest script {:.1} s, a server's memory {} KiB at most, \
             machine or driver late by {} ms at worst\n",
            self.scripts,
            self.quiet,
            self.with_stats,
            self.connections,
            self.longest.as_secs_f64(),
            self.memory / 1024,
            self.lag.as_millis()
        );
        for (reason, count) in &self.reasons {
            let _ = writeln!(text, "{count:>6} {reason}");
        }
        text
    }

    /// The report about failed scripts, if there are any.
    pub(crate) fn failures(&self) -> Option<String> {
        if self.failures.is_empty() {
            return None;
        }
        let mut failures: Vec<_> = self.failures.iter().collect();
        failures.sort_by_key(|(seed, ..)| *seed);
        let mut text = format!("{} of {} scripts failed\n", failures.len(), self.scripts);
        for (seed, line, _) in &failures {
            let _ = writeln!(text, "seed {seed}: {line}");
        }
        for (_, _, told) in failures.iter().take(TOLD_IN_FULL) {
            let _ = write!(text, "\n{told}");
        }
        Some(text)
    }
}

fn tell(seed: u64, played: &Played, outcome: &Outcome) -> String {
    let mut text = String::new();
    for violation in &outcome.violations {
        let whose =
            violation.client.map_or("the server".to_owned(), |client| format!("client {client}"));
        let _ = writeln!(
            text,
            "seed {seed}, {whose}: {}\n    {}",
            violation.property, violation.detail
        );
    }
    let _ = writeln!(text, "server: {}", played.flags.join(" "));
    let script = &played.script;
    let _ = writeln!(
        text,
        "script: drain at {:?}, pauses {:?}, {:?}",
        script.drain_at, script.pauses, played.extras
    );
    let _ = writeln!(
        text,
        "told to stop at {:?}, again at {:?}, paused {:?}, exit code {:?}, lag {:?}",
        played.told_to_stop, played.told_again, played.pauses, played.code, played.lag
    );
    let mut clients: Vec<usize> =
        outcome.violations.iter().filter_map(|violation| violation.client).collect();
    clients.sort_unstable();
    clients.dedup();
    for client in clients {
        let history = &played.histories[client];
        let _ =
            writeln!(text, "client {client}, {}: {:?}", history.address, script.clients[client]);
        for line in &history.lines {
            let _ = writeln!(text, "    {line}");
        }
        let peer = format!("\"peer\":\"{}\"", history.address);
        for event in played.events.iter().filter(|event| event.line().contains(&peer)) {
            let _ = writeln!(
                text,
                "    {:>9.4} {}",
                played.watch.of(event).as_secs_f64(),
                event.line()
            );
        }
    }
    for event in played.events.iter().filter(|event| !event.has("conn")) {
        let _ =
            writeln!(text, "    {:>9.4} {}", played.watch.of(event).as_secs_f64(), event.line());
    }
    text + &replay(seed)
}

fn replay(seed: u64) -> String {
    format!("replay: cargo test -p trustctl --test adversary -- --seed {seed}\n")
}
