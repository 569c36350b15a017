//! What passes through proxies, as numbers at one time. Toxiproxy has no part in it, so that other
//! commands can report their traffic in the same way.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// The upper bounds of a [`LatenessHistogram`], in µs: from what a timer of the kernel is late by
/// to what every user notices.
pub const LATENESS_BOUNDS_US: [u64; 14] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000,
];

/// All traffic, but for what single connections have.
#[derive(Clone, Debug, Default)]
pub struct TrafficReport {
    /// For how long there have been proxies.
    pub uptime: Duration,
    /// What random choices are drawn from.
    pub seed: u64,
    /// Those that were started, and not forgotten since. Names are unique.
    pub proxies: Vec<ProxyTraffic>,
    /// All rules of proxies, of their toxics too, and those that have not fired too.
    pub rules: Vec<RuleReport>,
    /// Of all sends that waited for a time.
    pub lateness: LatenessHistogram,
}

/// The traffic of a proxy from its first start on, closed connections included.
#[derive(Clone, Debug, Default)]
pub struct ProxyTraffic {
    /// Its name.
    pub proxy: String,
    /// Where it listens, or has.
    pub listen: String,
    /// Where its clients are connected to.
    pub upstream: String,
    /// Bytes each way.
    pub streams: BothWays<StreamTotals>,
    /// Connections so far.
    pub connections: u64,
    /// How many of them are open.
    pub open: u64,
    /// Clients that were turned away.
    pub rejected: u64,
}

/// What there is of each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BothWays<T> {
    /// From the client to the upstream.
    pub up: T,
    /// From the upstream to the client.
    pub down: T,
}

/// The bytes of one direction of a proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamTotals {
    /// Came from the sender.
    pub received: u64,
    /// Were passed on to the receiver.
    pub sent: u64,
    /// Are held in the proxy now.
    pub held: u64,
}

/// A live connection.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConnectionReport {
    /// 1, 2, 3, … in the order of acceptance, as in events.
    pub conn: u64,
    /// The name of its proxy.
    pub proxy: String,
    /// The client's address.
    pub client: String,
    /// The upstream's address, once it is connected to.
    pub upstream: Option<String>,
    /// A word for how far it has come.
    pub state: &'static str,
    /// How long ago it was accepted.
    #[serde(rename = "age_ms", serialize_with = "milliseconds")]
    pub age: Duration,
    /// Bytes and frames each way.
    #[serde(flatten)]
    pub streams: BothWays<StreamReport>,
    /// The names of the toxics that it has, by their toxicity.
    pub toxics: Vec<String>,
    /// The rules that can still fire for it.
    pub rules: Vec<String>,
}

/// One direction of a live connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamReport {
    /// Bytes from the sender.
    pub received: u64,
    /// Bytes that were passed on to the receiver.
    pub sent: u64,
    /// Bytes that are held now.
    pub held: u64,
    /// Whole frames from the sender, if frames are followed.
    pub frames: Option<u64>,
}

/// A rule, and how often it has fired.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RuleReport {
    /// Its canonical text.
    pub rule: String,
    /// The name of its proxy, if it is of one.
    pub proxy: Option<String>,
    /// The name of the toxic that it is a part of.
    pub toxic: Option<String>,
    /// How often, since it was set.
    pub fired: u64,
}

/// How late sends were that waited for a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LatenessHistogram {
    /// How many were late by up to each of [`LATENESS_BOUNDS_US`] and by more than the one before;
    /// the last number is of those beyond all bounds.
    pub counts: [u64; LATENESS_BOUNDS_US.len() + 1],
    /// The sum of all.
    #[serde(rename = "sum_ms", serialize_with = "milliseconds")]
    pub sum: Duration,
}

/// How a connection is ended by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// FIN to both sides.
    Fin,
    /// RST to both sides.
    Rst,
}

impl LatenessHistogram {
    /// Counts a send that was late by this.
    pub fn record(&mut self, lateness: Duration) {
        let place = LATENESS_BOUNDS_US
            .partition_point(|bound_us| Duration::from_micros(*bound_us) < lateness);
        self.counts[place] += 1;
        self.sum = self.sum.saturating_add(lateness);
    }
}

/// A time in ms, to the microsecond.
pub(crate) fn milliseconds<S: Serializer>(
    time: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_micros() as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_send_counts_at_the_first_bound_that_it_does_not_exceed() {
        let mut histogram = LatenessHistogram::default();
        for late_us in [0, 50, 51, 1_000_000, 1_000_001] {
            histogram.record(Duration::from_micros(late_us));
        }
        let mut expected = [0; LATENESS_BOUNDS_US.len() + 1];
        (expected[0], expected[1], expected[13], expected[14]) = (2, 1, 1, 1);
        assert_eq!(histogram.counts, expected);
        assert_eq!(histogram.sum, Duration::from_micros(2_000_102));
    }
}
