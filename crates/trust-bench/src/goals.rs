//! The goals for our server, our load tester and our proxy, and whether they are met.

use crate::clients::{self, Turn};
use crate::load::Shape;
use crate::measurement::Measurement;
use crate::outcome::{PeerOutcome, Rows};
use crate::peers::{CODEC, FLOOR, OURS, OURS_BUSY, OURS_TWO_WORKERS, OURS_WITH_LOG, PEERS};
use crate::proxy::{self, IdleRelay, ProxyResults, TripCost};
use crate::relays::{self, RELAYS, RelayPeer};
use crate::run::{Results, SHAPES};
use crate::statistics::{Estimate, Verdict};

/// A goal and its measurement.
#[derive(Debug)]
pub struct Goal {
    /// What is compared.
    pub what: String,
    /// The range that the value must be in.
    pub bound: Bound,
    /// The measured value; `None` if this run did not measure it.
    pub estimate: Option<Estimate>,
}

/// The range that a value must be in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Not above.
    AtMost(f64),
    /// Not below.
    AtLeast(f64),
    /// None: the value is only shown.
    Shown,
}

impl Goal {
    /// Whether the goal is met; `None` if it was not measured or has no bound.
    pub fn verdict(&self) -> Option<Verdict> {
        match self.bound {
            Bound::AtMost(most) => Some(self.estimate?.is_at_most(most)),
            Bound::AtLeast(least) => Some(self.estimate?.is_at_least(least)),
            Bound::Shown => None,
        }
    }
}

/// Facts about the executable, for the goals that are not about echoes.
#[derive(Clone, Copy, Debug)]
pub struct Binary {
    /// Bytes of the executable.
    pub bytes: u64,
}

/// All goals, the most important first.
pub fn goals(results: &Results, binary: Binary) -> Vec<Goal> {
    let [single, fifty, thousand, many, batch, batch_1k, kib_16, kib_64] = SHAPES;
    let mut goals = vec![];
    let against = [
        (FLOOR, vec![(fifty, 1.03), (thousand, 1.03), (many, 1.05)]),
        (FLOOR, vec![(batch, 1.05), (batch_1k, 1.05), (kib_16, 1.05), (kib_64, 1.05)]),
        (CODEC, vec![(fifty, 0.92), (thousand, 0.92), (batch, 0.08), (kib_64, 0.82)]),
    ];
    for (other, bounds) in against {
        for (shape, most) in bounds {
            goals.push(Goal {
                what: format!("CPU per echo against {other}, {shape}"),
                bound: Bound::AtMost(most),
                estimate: cpu_ratio(results, shape, other),
            });
        }
    }
    for peer in PEERS.iter().filter(|peer| peer.is_other() && peer.name != FLOOR) {
        let ratios = SHAPES.map(|shape| (shape, cpu_ratio(results, shape, peer.name)));
        let ratios = ratios.into_iter().filter_map(|(shape, ratio)| Some((shape, ratio?)));
        let ratios: Vec<_> = ratios.collect();
        // A missed goal says more than an undecided one, however high its interval reaches.
        let rank = |ratio: &Estimate| (ratio.low > 1.0, ratio.high);
        let worst = ratios.iter().copied().max_by(|left, right| {
            rank(&left.1).partial_cmp(&rank(&right.1)).unwrap_or(std::cmp::Ordering::Equal)
        });
        let where_ = worst.map_or_else(String::new, |(shape, _)| {
            format!(" ({} of {}): worst at {shape}", ratios.len(), SHAPES.len())
        });
        goals.push(Goal {
            what: format!("CPU per echo against {}, every shape{where_}", peer.name),
            bound: Bound::AtMost(1.0),
            estimate: worst.map(|(_, ratio)| ratio),
        });
    }
    goals.push(Goal {
        what: format!("p50 with --busy-poll 50 against the best other peer's, {single}"),
        bound: Bound::AtMost(0.45),
        estimate: busy_poll_ratio(results, single),
    });
    goals.push(Goal {
        what: "resident bytes of an idle connection".to_owned(),
        bound: Bound::AtMost(160.0),
        estimate: measured(&results.idle, OURS).and_then(|idle| {
            Estimate::of(&idle.iter().map(|idle| idle.resident).collect::<Vec<_>>())
        }),
    });
    for (ours, least) in [(OURS, 0.97), (OURS_WITH_LOG, 0.80)] {
        goals.push(Goal {
            what: format!("connect-echo-close per second of CPU, {ours} against {FLOOR}"),
            bound: Bound::AtLeast(least),
            estimate: ratio(&results.churn, ours, FLOOR, per_cpu_second),
        });
    }
    goals.push(Goal {
        what: format!("messages per second, two workers against one, {fifty}"),
        bound: Bound::Shown,
        estimate: rows(results, fifty)
            .and_then(|rows| ratio(rows, OURS_TWO_WORKERS, OURS, per_second)),
    });
    goals.push(Goal {
        what: "milliseconds from start to listening".to_owned(),
        bound: Bound::AtMost(5.0),
        estimate: measured(&results.starts, OURS)
            .and_then(|seconds| Estimate::of(&seconds.iter().map(|s| s * 1e3).collect::<Vec<_>>())),
    });
    goals.push(Goal {
        what: "megabytes of the executable".to_owned(),
        bound: Bound::AtMost(4.5),
        estimate: Estimate::of(&[binary.bytes as f64 / 1e6]),
    });
    for shape in clients::SHAPES {
        goals.push(Goal {
            what: format!("CPU per message, {} against {}, {shape}", clients::OURS, clients::BARE),
            bound: Bound::AtMost(1.3),
            estimate: turns(results, shape)
                .and_then(|rows| ratio(rows, clients::OURS, clients::BARE, Turn::cpu_ns)),
        });
    }
    goals.push(Goal {
        what: format!("messages per second of {}, {}", clients::OURS, clients::DOZENS_A_CALL),
        bound: Bound::AtLeast(1e6),
        estimate: turns(results, clients::DOZENS_A_CALL)
            .and_then(|rows| measured(rows, clients::OURS))
            .and_then(|turns| {
                Estimate::of(&turns.iter().map(Turn::per_second).collect::<Vec<_>>())
            }),
    });
    goals.extend(proxy_goals(&results.proxy));
    goals
}

/// The goals of the proxy.
fn proxy_goals(results: &ProxyResults) -> Vec<Goal> {
    let cpu = |title: &str, ours: &str, other: &str| {
        ratio(relayed(results, title)?, ours, other, cpu_per_message)
    };
    let against = |title: &str, ours: &str, other: &str, bound: Bound| Goal {
        what: format!("CPU, {title}, {ours} against {other}"),
        bound,
        estimate: cpu(title, ours, other),
    };
    let mut goals =
        vec![against(proxy::BULK, relays::OURS, relays::BARE_SPLICE, Bound::AtMost(1.1))];
    let others = || RELAYS.iter().filter(|relay| relay.is_of_others());
    let is_bounded = |relay: &&RelayPeer| relay.name != relays::SOCAT;
    goals.extend(
        others()
            .filter(is_bounded)
            .map(|it| against(proxy::BULK, relays::OURS, it.name, Bound::AtMost(1.0))),
    );
    goals.push(against(proxy::ROUND_TRIPS, relays::OURS, relays::BARE, Bound::AtMost(1.1)));
    goals.extend(
        others().map(|it| against(proxy::ROUND_TRIPS, relays::OURS, it.name, Bound::AtMost(1.0))),
    );
    goals.push(Goal {
        what: format!("p50 added to a round trip against the best peer's, {}", proxy::LATENCY),
        bound: Bound::AtMost(1.05),
        estimate: relayed(results, proxy::LATENCY).and_then(added_latency_ratio),
    });
    for title in [proxy::ROUND_TRIPS, proxy::BULK] {
        goals.push(against(title, relays::OURS_ARMED, relays::OURS, Bound::Shown));
    }
    let calls = |figure| ratio(&results.calls, relays::OURS_ARMED, relays::OURS, figure);
    goals.push(Goal {
        what: "system calls per round trip with a fault at byte 2^60".to_owned(),
        bound: Bound::AtMost(1.0),
        estimate: calls(|cost: &TripCost| cost.calls),
    });
    goals.push(Goal {
        what: "instructions per round trip with a fault at byte 2^60".to_owned(),
        bound: Bound::AtMost(1.05),
        estimate: calls(|cost: &TripCost| cost.instructions),
    });
    for title in [proxy::ROUND_TRIPS, proxy::BULK] {
        goals.push(against(title, relays::OURS_FRAMING, relays::OURS, Bound::AtMost(1.3)));
    }
    let idle = |figure: fn(&IdleRelay) -> f64| {
        let idle = measured(&results.idle, relays::OURS)?;
        Estimate::of(&idle.iter().map(figure).collect::<Vec<_>>())
    };
    goals.push(Goal {
        what: "resident bytes of an idle relayed connection".to_owned(),
        bound: Bound::AtMost(600.0),
        estimate: idle(|idle| idle.resident),
    });
    goals.push(Goal {
        what: "pipes of an idle relayed connection".to_owned(),
        bound: Bound::AtMost(0.0),
        estimate: idle(|idle| idle.pipe_ends / 2.0),
    });
    goals
}

fn relayed<'a>(results: &'a ProxyResults, title: &str) -> Option<&'a Rows<Measurement>> {
    results.shapes.iter().find(|(its_title, _)| *its_title == title).map(|(_, rows)| rows)
}

/// The ratio of what our proxy adds to a round trip to what the peer adds that adds least.
fn added_latency_ratio(rows: &Rows<Measurement>) -> Option<Estimate> {
    let added = |name: &str| -> Option<Vec<f64>> {
        let pairs = measured(rows, name)?.iter().zip(measured(rows, relays::DIRECT)?);
        Some(pairs.map(|(through, direct)| latency(through, 0.5) - latency(direct, 0.5)).collect())
    };
    let median = |values: &[f64]| Estimate::of(values).map(|estimate| estimate.median);
    let peers = RELAYS.iter().filter(|relay| relay.is_peer());
    let added_by_peers = peers.filter_map(|relay| added(relay.name));
    let best = added_by_peers.min_by(|left, right| {
        median(left).partial_cmp(&median(right)).unwrap_or(std::cmp::Ordering::Equal)
    })?;
    let ours = added(relays::OURS)?;
    Estimate::of(&ours.iter().zip(&best).map(|(ours, best)| ours / best).collect::<Vec<_>>())
}

/// CPU time of the server per message, in seconds.
pub fn cpu_per_message(sample: &Measurement) -> f64 {
    sample.cpu.as_secs_f64() / sample.count.max(1) as f64
}

/// Messages, or connections, per second.
pub fn per_second(sample: &Measurement) -> f64 {
    sample.count as f64 / sample.elapsed.as_secs_f64()
}

/// Messages, or connections, per second of the server's CPU time: what it could do in a second if
/// the load, which pays more for a connection than a server does, were no limit.
pub fn per_cpu_second(sample: &Measurement) -> f64 {
    sample.count as f64 / sample.cpu.as_secs_f64()
}

/// A latency in microseconds; 0 if none is measured.
pub fn latency(sample: &Measurement, quantile: f64) -> f64 {
    let latency = sample.latency.as_ref();
    latency.map_or(0.0, |latency| latency.value_at_quantile(quantile) as f64 / 1e3)
}

/// The measurements of a peer, if it was measured.
pub fn measured<'a, T>(rows: &'a Rows<T>, peer: &str) -> Option<&'a [T]> {
    match &rows.iter().find(|(name, _)| *name == peer)?.1 {
        PeerOutcome::Measured(samples) if !samples.is_empty() => Some(samples),
        _ => None,
    }
}

/// The ratio of two rows' figures, round by round.
pub fn ratio<T>(
    rows: &Rows<T>,
    ours: &str,
    other: &str,
    figure: fn(&T) -> f64,
) -> Option<Estimate> {
    let pairs = measured(rows, ours)?.iter().zip(measured(rows, other)?);
    Estimate::of(&pairs.map(|(ours, other)| figure(ours) / figure(other)).collect::<Vec<_>>())
}

fn rows(results: &Results, shape: Shape) -> Option<&Rows<Measurement>> {
    results.shapes.iter().find(|(its_shape, _)| *its_shape == shape).map(|(_, rows)| rows)
}

fn turns(results: &Results, shape: Shape) -> Option<&Rows<Turn>> {
    results.load.iter().find(|(its_shape, _)| *its_shape == shape).map(|(_, rows)| rows)
}

fn cpu_ratio(results: &Results, shape: Shape, other: &str) -> Option<Estimate> {
    ratio(rows(results, shape)?, OURS, other, cpu_per_message)
}

fn busy_poll_ratio(results: &Results, shape: Shape) -> Option<Estimate> {
    let rows = rows(results, shape)?;
    let p50 = |sample: &Measurement| latency(sample, 0.5);
    let others = PEERS.iter().filter(|peer| peer.is_other());
    let medians = others.filter_map(|peer| {
        let values: Vec<f64> = measured(rows, peer.name)?.iter().map(p50).collect();
        Some((peer.name, Estimate::of(&values)?.median))
    });
    let (best, _) = medians.min_by(|left, right| left.1.total_cmp(&right.1))?;
    ratio(rows, OURS_BUSY, best, p50)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hdrhistogram::Histogram;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// What each relay had: its median latency and its CPU time per message, in microseconds.
    fn rows(of: &[(&'static str, u64, u64)]) -> Rows<Measurement> {
        let sample = |micros: u64, cpu: u64| {
            let mut latency = Histogram::new(3).expect("legal");
            latency.record(micros * 1_000).expect("it grows");
            Measurement {
                count: 1,
                elapsed: SECOND,
                cpu: Duration::from_micros(cpu),
                user_share: 0.0,
                load_cpu: SECOND,
                latency: Some(latency),
            }
        };
        of.iter()
            .map(|(name, micros, cpu)| (*name, PeerOutcome::Measured(vec![sample(*micros, *cpu)])))
            .collect()
    }

    #[test]
    fn what_the_proxy_adds_is_compared_with_the_peer_that_adds_least() {
        let own = [(relays::DIRECT, 10, 0), (relays::OURS, 32, 0), (relays::OURS_ARMED, 11, 0)];
        let peers = [("nginx", 50, 0), (relays::BARE, 30, 0), (relays::BARE_AGAIN, 12, 0)];
        let ratio = added_latency_ratio(&rows(&[own, peers].concat())).expect("all are there");
        assert!((ratio.median - 1.1).abs() < 0.01, "{ratio:?}");
        assert_eq!(added_latency_ratio(&rows(&own)), None, "no peer");
        assert_eq!(added_latency_ratio(&rows(&own[1..])), None, "nothing to subtract");
    }

    #[test]
    fn the_goals_of_the_proxy_are_read_from_their_sections() {
        let bulk = rows(&[
            (relays::BARE_SPLICE, 0, 100),
            (relays::OURS, 0, 120),
            (relays::OURS_FRAMING, 0, 150),
            ("haproxy", 0, 240),
        ]);
        let results = ProxyResults { shapes: vec![(proxy::BULK, bulk)], ..Default::default() };
        let goals = proxy_goals(&results);
        let median = |words: [&str; 2]| {
            let is_it = |goal: &&Goal| words.iter().all(|word| goal.what.contains(word));
            let goal = goals.iter().find(is_it).expect("there is such a goal");
            goal.estimate.map(|estimate| (estimate.median * 100.0).round())
        };
        assert_eq!(median([proxy::BULK, "trustctl against bare splice"]), Some(120.0));
        assert_eq!(median([proxy::BULK, "trustctl against haproxy"]), Some(50.0));
        assert_eq!(median([proxy::BULK, "framing against trustctl"]), Some(125.0));
        assert_eq!(median([proxy::BULK, "trustctl against nginx"]), None);
        assert_eq!(median([proxy::ROUND_TRIPS, "trustctl against bare"]), None);
        let bound = goals.iter().find(|goal| goal.what.contains("bare splice"));
        assert_eq!(bound.and_then(Goal::verdict), Some(Verdict::Missed));
    }
}
