//! The result, read as strictly as its schema and its types allow, and checks that apply to every
//! result.

use std::ops::Deref;
use std::time::Duration;

use trust_load::report::fields::{ByPercentile, Loop, Percentiles};
use trust_load::report::json::{EndState, LoadDocument, Messages};
use trust_load::summary::Cause;
use trust_testkit::document;
use trust_testkit::program::Finished;

/// A document whose numbers are consistent.
#[derive(Debug)]
pub(crate) struct Document(LoadDocument);

impl Deref for Document {
    type Target = LoadDocument;

    fn deref(&self) -> &LoadDocument {
        &self.0
    }
}

impl Document {
    /// Reads the one document on stdout, and checks that its numbers are consistent.
    #[track_caller]
    pub(crate) fn read(finished: &Finished) -> Document {
        let document = Document(document::read(finished.text(), "load"));
        document.is_sound();
        assert_eq!(finished.code(), Some(document.exit.into()), "{document:?}");
        document
    }

    #[track_caller]
    fn is_sound(&self) {
        let Messages { sent, answered, answered_in_time, failed, unsent, outstanding, .. } =
            self.messages;
        assert!(answered >= answered_in_time || self.facts.contains_key("warm_up"), "{self:?}");
        assert!(self.errors.by_cause.keys().copied().eq(Cause::ALL), "{self:?}");
        assert_eq!(self.errors.total, self.errors.by_cause.values().sum::<u64>(), "{self:?}");
        assert!(self.messages.slow <= answered, "{self:?}");
        // A message that was never sent has no service time.
        assert!(self.latency.count >= self.service.count, "{self:?}");
        assert!(self.latency.count >= answered, "{self:?}");
        assert_eq!(self.connections.connect_time.count, self.connections.made, "{self:?}");
        assert!(self.connections.made >= self.connections.peak, "{self:?}");
        match self.end.state {
            EndState::Stopped => assert!(sent <= answered + failed + outstanding, "{self:?}"),
            EndState::Complete | EndState::Unwritten => {
                assert!(sent <= answered + failed && outstanding == 0, "{self:?}");
            }
            EndState::Unreachable => assert_eq!((sent, answered, failed, unsent), (0, 0, 0, 0)),
        }
        assert!(self.search.is_none(), "no search was asked for: {self:?}");
        let is_open = self.r#loop == Loop::Open;
        assert!(is_open || unsent == 0, "{self:?}");
        let may_have_rate =
            self.end.state == EndState::Unreachable || self.end.state == EndState::Stopped;
        assert!(may_have_rate || is_open == self.rate.requested_per_second.is_some(), "{self:?}");
        assert!(self.again.starts_with("trustctl load "), "{self:?}");
        assert!((0.0..=1.0).contains(&self.client.busy), "{self:?}");
        assert!(is_open || self.client.late.count == 0, "{self:?}");
        let waited = self.client.held_back.max(self.client.put_off);
        assert!(waited <= if is_open { sent } else { 0 }, "{self:?}");
        let seconds = self.duration().as_secs_f64();
        let received = self.bytes.received_per_second * seconds;
        let in_time = self.bytes.received_in_time;
        assert!(seconds == 0.0 || (received - in_time as f64).abs() < 1.0, "{self:?}");
        let was_run = self.end.state != EndState::Unreachable && self.connections.made > 0;
        assert_eq!(self.client.cpu_ns > 0, was_run, "{self:?}");
        let is_sentence = |text: &String| text.ends_with('.');
        assert!(self.client.limits.iter().all(is_sentence), "{self:?}");
        for times in [&self.latency, &self.service, &self.connections.connect_time] {
            are_sound(times);
        }
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_nanos(self.duration_ns)
    }

    /// The causes that occurred, and how often.
    pub(crate) fn causes(&self) -> Vec<(&str, u64)> {
        let causes = self.errors.by_cause.iter().map(|(cause, count)| (cause.name(), *count));
        causes.filter(|(_, count)| *count > 0).collect()
    }

    /// Checks that every message sent was answered or counted as failed, and that nothing else is
    /// wrong.
    #[track_caller]
    pub(crate) fn accounts_for_all(&self) {
        let Messages { sent, answered, failed, .. } = self.messages;
        assert_eq!(sent, answered + failed, "{self:?}");
    }

    /// Checks that all messages came back, and that there were this many.
    #[track_caller]
    pub(crate) fn is_all_right(&self, messages: u64) {
        let Messages { sent, answered, failed, unsent, .. } = self.messages;
        assert_eq!((sent, answered, failed, unsent), (messages, messages, 0, 0), "{self:?}");
        assert_eq!((self.errors.total, self.latency.count), (0, messages), "{self:?}");
        assert_eq!((self.end.state, self.exit), (EndState::Complete, 0), "{self:?}");
        assert!(self.end.detail.is_none() && self.wrong.is_empty(), "{self:?}");
    }
}

/// The time in a field.
#[track_caller]
pub(crate) fn time(ns: Option<u64>) -> Duration {
    Duration::from_nanos(ns.expect("there are times"))
}

/// The percentiles, from the shortest time to the longest.
pub(crate) fn all(times: &Percentiles) -> [Option<u64>; 9] {
    let Percentiles { min_ns, p50_ns, p75_ns, p90_ns, p95_ns, .. } = *times;
    let Percentiles { p99_ns, p99_9_ns, p99_99_ns, max_ns, .. } = *times;
    [min_ns, p50_ns, p75_ns, p90_ns, p95_ns, p99_ns, p99_9_ns, p99_99_ns, max_ns]
}

fn are_sound(times: &Percentiles) {
    let all = all(times);
    assert!(all.is_sorted(), "{times:?}");
    assert!(all.iter().all(|time| time.is_some() == (times.count > 0)), "{times:?}");
    let ByPercentile { p50, p75, p90, p95, p99, p99_9, p99_99 } = &times.support;
    let supported = [p50, p75, p90, p95, p99, p99_9, p99_99].map(|support| support.supported);
    let needed = [2, 4, 10, 20, 100, 1000, 10_000];
    assert_eq!(supported, needed.map(|needed| times.count >= needed), "{times:?}");
    for (time, is_supported) in all[1..].iter().zip(supported) {
        assert!(is_supported || *time == times.max_ns, "{times:?}");
    }
}
