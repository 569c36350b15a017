//! A seed's script, to be played in real time over loopback against a real server process.

use std::time::Duration;

use crate::script::{Action, ClientScript, Script};

/// How many times shorter all times are than in the simulation.
const FASTER: u32 = 10;

/// How many times sooner the server is stopped: while most clients are still busy, since without
/// delays on the way they finish early.
const SOONER: u32 = 60;

/// Bounds for the server's timeouts: with shorter ones a busy machine would blur which side was
/// late, and longer ones would make the test too slow.
const LIMIT_MIN: Duration = Duration::from_millis(300);
const LIMIT_MAX: Duration = Duration::from_millis(1_000);

/// The longest time between two steps of a client, and the longest outage: TCP retries within as
/// much.
const WAIT_MAX: Duration = Duration::from_millis(1_000);

/// The longest time that the server's process is paused.
const PAUSE_MAX: Duration = Duration::from_millis(600);

/// The latest time at which the server is stopped.
const STOP_AT_LAST: Duration = Duration::from_millis(2_500);

impl Script {
    /// The script of `seed`, with every time as short as real time can afford. What is sent, by
    /// whom, in which pieces and in which order does not change.
    pub fn on_loopback(seed: u64) -> Script {
        let mut script = Script::of(seed);
        let limits = &mut script.limits;
        limits.proxy_header = None;
        // No frame limit is 0 on a command line.
        limits.max_payload = limits.max_payload.max(1);
        for limit in [&mut limits.timeout, &mut limits.frame_timeout, &mut limits.max_lifetime] {
            *limit = limit.map(shorter_limit);
        }
        // 0 means no lingering.
        if !limits.linger_timeout.is_zero() {
            limits.linger_timeout = shorter_limit(limits.linger_timeout);
        }
        for pause in &mut script.pauses {
            pause.at /= FASTER;
            pause.length = (pause.length / FASTER).min(PAUSE_MAX);
        }
        script.drain_at = (script.drain_at / SOONER).min(STOP_AT_LAST);
        script.drain_timeout = whole_ms(script.drain_timeout / FASTER);
        script.second_signal_after = script.second_signal_after.map(|after| after / FASTER);
        script.clients.iter_mut().for_each(shorten);
        script
    }
}

fn shorten(client: &mut ClientScript) {
    client.connects_at = (client.connects_at / FASTER).min(WAIT_MAX);
    client.read_gap /= FASTER;
    client.closes_after = client.closes_after.map(|after| after / FASTER);
    // The network has no proxy.
    client.header = None;
    for step in &mut client.steps {
        step.after = (step.after / FASTER).min(WAIT_MAX);
        if let Action::Outage(length, _) = &mut step.action {
            *length = (*length / FASTER).min(WAIT_MAX);
        }
    }
}

fn shorter_limit(limit: Duration) -> Duration {
    whole_ms(limit / FASTER).clamp(LIMIT_MIN, LIMIT_MAX)
}

/// Whole milliseconds, so that a flag can express it exactly.
fn whole_ms(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_adversary_within_the_bounds_of_real_time() {
        for seed in 0..1_000 {
            let (simulated, real) = (Script::of(seed), Script::on_loopback(seed));
            assert_eq!(simulated.clients.len(), real.clients.len());
            for (simulated, real) in simulated.clients.iter().zip(&real.clients) {
                assert_eq!(simulated.seed, real.seed);
                assert_eq!(
                    format!("{:?}", simulated.messages),
                    format!("{:?}", real.messages),
                    "seed {seed}"
                );
                assert_eq!(simulated.steps.len(), real.steps.len());
                assert!(real.steps.iter().all(|step| step.after <= WAIT_MAX));
            }
            let Script { limits, drain_at, drain_timeout, .. } = real;
            let timeouts = [limits.timeout, limits.frame_timeout, limits.max_lifetime];
            let in_bounds = |limit: &Duration| (LIMIT_MIN..=LIMIT_MAX).contains(limit);
            assert!(timeouts.iter().flatten().all(in_bounds), "seed {seed}");
            assert!(limits.linger_timeout.is_zero() || in_bounds(&limits.linger_timeout));
            assert!(drain_at <= STOP_AT_LAST && drain_timeout <= LIMIT_MAX, "seed {seed}");
        }
    }
}
