//! The result, read as strictly as `docs/LOAD-REPORT.md` says it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use trust_testkit::program::Finished;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    schema: String,
    pub(crate) end: End,
    pub(crate) exit: u8,
    pub(crate) target: String,
    #[serde(rename = "loop")]
    pub(crate) kind: String,
    pub(crate) facts: BTreeMap<String, String>,
    pub(crate) again: String,
    pub(crate) began: String,
    duration_ns: u64,
    pub(crate) rate: Rate,
    pub(crate) messages: Messages,
    pub(crate) connections: Connections,
    pub(crate) bytes: Bytes,
    pub(crate) latency: Times,
    pub(crate) service: Times,
    pub(crate) errors: Errors,
    pub(crate) wrong: Vec<Wrong>,
    pub(crate) client: Client,
    pub(crate) budgets: Vec<Budget>,
    #[serde(deserialize_with = "present")]
    pub(crate) search: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct End {
    pub(crate) state: State,
    #[serde(deserialize_with = "present")]
    pub(crate) detail: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Complete,
    Stopped,
    Unreachable,
    Unwritten,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    #[serde(deserialize_with = "present")]
    pub(crate) requested_per_second: Option<f64>,
    pub(crate) achieved_per_second: f64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Messages {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    pub(crate) answered_in_time: u64,
    pub(crate) failed: u64,
    pub(crate) unsent: u64,
    pub(crate) outstanding: u64,
    pub(crate) warm_up: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connections {
    pub(crate) made: u64,
    pub(crate) peak: u64,
    pub(crate) connect_time: Times,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Bytes {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) received_in_time: u64,
    pub(crate) received_per_second: f64,
}

/// Times in nanoseconds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Times {
    pub(crate) count: u64,
    #[serde(deserialize_with = "present")]
    pub(crate) min_ns: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) max_ns: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) p50_ns: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) p75_ns: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) p90_ns: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) p95_ns: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) p99_ns: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) p99_9_ns: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub(crate) p99_99_ns: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Errors {
    pub(crate) total: u64,
    by_cause: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wrong {
    pub(crate) connection: u64,
    pub(crate) message: u64,
    pub(crate) offset: u64,
    pub(crate) header_bytes: u64,
    #[serde(deserialize_with = "present")]
    pub(crate) payload_offset: Option<u64>,
    pub(crate) expected: u8,
    pub(crate) got: u8,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Client {
    pub(crate) cpu_ns: u64,
    pub(crate) busy: f64,
    pub(crate) late: Times,
    pub(crate) held_back: u64,
    pub(crate) put_off: u64,
    pub(crate) limits: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    pub(crate) budget: String,
    pub(crate) measured: String,
    pub(crate) missed: bool,
}

/// The names of all causes.
const CAUSES: [&str; 12] = [
    "connect_timeout",
    "eof_between_frames",
    "eof_in_frame",
    "io",
    "mismatch",
    "no_port",
    "refused",
    "reset_after_answer",
    "reset_before_answer",
    "surplus",
    "timeout",
    "unreachable",
];

impl Document {
    /// The one document that stdout is, whose numbers do not contradict each other.
    #[track_caller]
    pub(crate) fn read(finished: &Finished) -> Document {
        let document: Document = match serde_json::from_str(finished.text()) {
            Ok(document) => document,
            Err(error) => panic!("no document of the schema: {error}\n{}", finished.text()),
        };
        document.is_sound();
        assert_eq!(finished.code(), Some(document.exit.into()), "{document:?}");
        document
    }

    #[track_caller]
    fn is_sound(&self) {
        assert_eq!(self.schema, "trustctl-load/1");
        let Messages { sent, answered, answered_in_time, failed, unsent, outstanding, .. } =
            self.messages;
        assert!(answered >= answered_in_time || self.facts.contains_key("warm_up"), "{self:?}");
        let causes: Vec<&str> = self.errors.by_cause.keys().map(String::as_str).collect();
        assert_eq!(causes, CAUSES);
        assert_eq!(self.errors.total, self.errors.by_cause.values().sum::<u64>(), "{self:?}");
        // What was never sent has no service time.
        assert!(self.latency.count >= self.service.count, "{self:?}");
        assert!(self.latency.count >= answered, "{self:?}");
        assert_eq!(self.connections.connect_time.count, self.connections.made, "{self:?}");
        assert!(self.connections.made >= self.connections.peak, "{self:?}");
        match self.end.state {
            State::Stopped => assert!(sent <= answered + failed + outstanding, "{self:?}"),
            State::Complete | State::Unwritten => {
                assert!(sent <= answered + failed && outstanding == 0, "{self:?}");
            }
            State::Unreachable => assert_eq!((sent, answered, failed, unsent), (0, 0, 0, 0)),
        }
        assert!(self.search.is_none(), "nobody searches here: {self:?}");
        let is_open = self.kind == "open";
        assert!(is_open || (self.kind == "closed" && unsent == 0), "{self:?}");
        let may_have_rate =
            self.end.state == State::Unreachable || self.end.state == State::Stopped;
        assert!(may_have_rate || is_open == self.rate.requested_per_second.is_some(), "{self:?}");
        for (start, text) in [("trustctl load ", &self.again), ("20", &self.began)] {
            assert!(text.starts_with(start), "{self:?}");
        }
        assert!((0.0..=1.0).contains(&self.client.busy), "{self:?}");
        assert!(is_open || self.client.late.count == 0, "{self:?}");
        let waited = self.client.held_back.max(self.client.put_off);
        assert!(waited <= if is_open { sent } else { 0 }, "{self:?}");
        let seconds = self.duration().as_secs_f64();
        let received = self.bytes.received_per_second * seconds;
        let in_time = self.bytes.received_in_time;
        assert!(seconds == 0.0 || (received - in_time as f64).abs() < 1.0, "{self:?}");
        let was_run = self.end.state != State::Unreachable && self.connections.made > 0;
        assert_eq!(self.client.cpu_ns > 0, was_run, "{self:?}");
        let is_sentence = |text: &String| text.ends_with('.');
        assert!(self.client.limits.iter().all(is_sentence), "{self:?}");
        for times in [&self.latency, &self.service, &self.connections.connect_time] {
            times.are_sound();
        }
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_nanos(self.duration_ns)
    }

    /// Causes that came, and how often.
    pub(crate) fn causes(&self) -> Vec<(&str, u64)> {
        let causes = self.errors.by_cause.iter().map(|(name, count)| (name.as_str(), *count));
        causes.filter(|(_, count)| *count > 0).collect()
    }

    /// How often a cause came.
    pub(crate) fn cause(&self, name: &str) -> u64 {
        self.errors.by_cause[name]
    }

    /// Checks that every message that was sent was answered, or counted as failed, and nothing else is wrong.
    #[track_caller]
    pub(crate) fn accounts_for_all(&self) {
        let Messages { sent, answered, failed, .. } = self.messages;
        assert_eq!(sent, answered + failed, "{self:?}");
    }

    /// Checks that all messages came back, so many of them.
    #[track_caller]
    pub(crate) fn is_all_right(&self, messages: u64) {
        let Messages { sent, answered, failed, unsent, .. } = self.messages;
        assert_eq!((sent, answered, failed, unsent), (messages, messages, 0, 0), "{self:?}");
        assert_eq!((self.errors.total, self.latency.count), (0, messages), "{self:?}");
        assert_eq!((self.end.state, self.exit), (State::Complete, 0), "{self:?}");
        assert!(self.end.detail.is_none() && self.wrong.is_empty(), "{self:?}");
    }
}

impl Times {
    /// The percentiles, from the shortest time to the longest.
    pub(crate) fn all(&self) -> [Option<u64>; 9] {
        let Times { min_ns, p50_ns, p75_ns, p90_ns, p95_ns, .. } = *self;
        let Times { p99_ns, p99_9_ns, p99_99_ns, max_ns, .. } = *self;
        [min_ns, p50_ns, p75_ns, p90_ns, p95_ns, p99_ns, p99_9_ns, p99_99_ns, max_ns]
    }

    fn are_sound(&self) {
        let all = self.all();
        assert!(all.is_sorted(), "{self:?}");
        assert!(all.iter().all(|time| time.is_some() == (self.count > 0)), "{self:?}");
    }

    #[track_caller]
    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns.expect("there are times"))
    }

    #[track_caller]
    pub(crate) fn p99(&self) -> Duration {
        Duration::from_nanos(self.p99_ns.expect("there are times"))
    }

    #[track_caller]
    pub(crate) fn p50(&self) -> Duration {
        Duration::from_nanos(self.p50_ns.expect("there are times"))
    }
}

/// A field that may be null and may not be missing.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer)
}
