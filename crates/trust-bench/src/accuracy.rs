//! How exact the times and rates of `trustctl proxy` are. Run it with `make accuracy`.
//!
//! - Lateness: from when a delayed message was due to the return of the proxy's send, as its trace
//!   has it. In the same round a bare sleeper waits as often for as long: a timerfd, epoll and a
//!   send. What it is late by is the machine's.
//! - Rate: bytes received in windows of a second.
//! - Throughput: through a delay, against what there is without one and what may be held allows.
//! - Answers of the API: with very many connections, half of which are full.

mod crowd;
mod path;
mod process;
mod sleeper;

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use self::crowd::CrowdAnswers;
use self::path::DelayedPath;

/// Delays that are measured: how long, how far apart messages are, how many there are in a round,
/// and rounds.
const DELAYS: [(Duration, Duration, usize, usize); 5] = [
    (Duration::from_micros(100), Duration::from_millis(1), 100, 10),
    (Duration::from_millis(1), Duration::from_millis(2), 100, 10),
    (Duration::from_millis(10), Duration::from_millis(4), 50, 10),
    (Duration::from_millis(100), Duration::from_millis(10), 50, 10),
    (Duration::from_secs(1), Duration::from_millis(10), 100, 5),
];

/// Rates that are measured, in bytes per second.
const RATES: [u64; 4] = [1000, 64_000, 1_000_000, 50_000_000];

/// How long bytes flow at a rate.
const RATE_TIME: Duration = Duration::from_secs(6);

/// The windows in which its bytes are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// How long bytes flow through a delay.
const BULK_TIME: Duration = Duration::from_secs(2);

/// Delays that much flows through: how long, and how much may be held.
const BULK: [(Duration, u64); 2] =
    [(Duration::from_millis(20), 32 << 20), (Duration::from_millis(20), 2 << 20)];

/// Lateness in microseconds, of the proxy and of the sleeper.
#[derive(Debug, Default)]
struct Lateness {
    proxy: Vec<f64>,
    sleeper: Vec<f64>,
}

/// The value below which a share of the numbers is.
fn quantile(numbers: &mut [f64], share: f64) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let index = ((numbers.len() as f64 - 1.0) * share).round();
    numbers.get(index as usize).copied().unwrap_or(f64::NAN)
}

/// Measures everything, and returns it as tables of Markdown.
///
/// # Errors
///
/// If a process cannot be started, or a connection fails.
pub fn measure(trustctl: &Path, scratch: &Path) -> io::Result<String> {
    let mut text = String::new();
    text.push_str("| delay | late, p50 | p99 | a bare sleeper, p50 | p99 |\n");
    text.push_str("|---|--:|--:|--:|--:|\n");
    for (delay, apart, count, rounds) in DELAYS {
        let Lateness { mut proxy, mut sleeper } =
            lateness(trustctl, scratch, (delay, apart), count, rounds)?;
        let mut of = |share| [quantile(&mut proxy, share), quantile(&mut sleeper, share)];
        let [p50, p99] = [of(0.5), of(0.99)];
        let _ = writeln!(
            text,
            "| {delay:?} | {:.0} µs | {:.0} µs | {:.0} µs | {:.0} µs |",
            p50[0], p99[0], p50[1], p99[1]
        );
    }
    text.push_str("\n| rate | bytes in a second, median | worst | most above rate and quantum |\n");
    text.push_str("|---|--:|--:|--:|\n");
    for rate in RATES {
        let [median, worst, above] = windows(trustctl, scratch, rate)?;
        let _ = writeln!(
            text,
            "| {rate} B/s | {:+.2} % | {:+.2} % | {above:.0} B |",
            median * 100.0,
            worst * 100.0
        );
    }
    text.push_str(
        "\n| delay | held at most | through it | of what could be |\n|---|--:|--:|--:|\n",
    );
    let without = throughput(trustctl, scratch, None)?;
    let _ = writeln!(text, "| none | | {:.0} MB/s | |", without / 1e6);
    for (delay, hold) in BULK {
        let with = throughput(trustctl, scratch, Some((delay, hold)))?;
        let could = without.min(hold as f64 / delay.as_secs_f64());
        let _ = writeln!(
            text,
            "| {delay:?} | {} MiB | {:.0} MB/s | {:.2} |",
            hold >> 20,
            with / 1e6,
            with / could
        );
    }
    let CrowdAnswers { connections, full, changes } = crowd::measure(trustctl)?;
    let _ = writeln!(
        text,
        "\n| with {connections} connections, {full} of them full | answered after, median \
         | worst |\n\
         |---|--:|--:|"
    );
    for (change, mut times) in changes {
        let (median, worst) = (quantile(&mut times, 0.5), quantile(&mut times, 1.0));
        let _ = writeln!(text, "| {change} | {median:.0} ms | {worst:.0} ms |");
    }
    Ok(text)
}

/// How late messages are that a proxy delays, and a sleeper's in turns with it.
fn lateness(
    trustctl: &Path,
    scratch: &Path,
    (delay, apart): (Duration, Duration),
    count: usize,
    rounds: usize,
) -> io::Result<Lateness> {
    let rule = format!("delay {}us up", delay.as_micros());
    let mut path = DelayedPath::start(trustctl, scratch, &[&rule], None)?;
    let mut sleeper = vec![];
    for _ in 0..rounds {
        path.send_apart(count, apart)?;
        sleeper.extend(sleeper::lateness(delay, apart, count)?);
    }
    let proxy = path.end()?;
    // Those that were received together are sent together.
    if proxy.len() * 2 < count * rounds {
        let message = format!("{} of {} messages have a lateness", proxy.len(), count * rounds);
        return Err(io::Error::other(message));
    }
    let microseconds = |times: Vec<Duration>| -> Vec<f64> {
        times.iter().map(|time| time.as_secs_f64() * 1e6).collect()
    };
    Ok(Lateness { proxy: microseconds(proxy), sleeper: microseconds(sleeper) })
}

/// By how much the bytes of a second differ from the rate: the median and the worst, as shares; and
/// how many bytes there were in a second above the rate and a quantum.
fn windows(trustctl: &Path, scratch: &Path, rate: u64) -> io::Result<[f64; 3]> {
    let rule = format!("rate {rate}B/s up");
    let mut path = DelayedPath::start(trustctl, scratch, &[&rule], None)?;
    let received = path.flood(RATE_TIME)?;
    path.end()?;
    let Some((began, _)) = received.first().copied() else { return Ok([f64::NAN; 3]) };
    // Cumulative, so that a window is a difference.
    let mut sums: Vec<(Duration, u64)> = vec![];
    for (at, bytes) in &received {
        let sum = sums.last().map_or(0, |(_, sum)| *sum) + *bytes as u64;
        sums.push((at.saturating_duration_since(began), sum));
    }
    let until = |time: Duration| {
        let index = sums.partition_point(|(at, _)| *at < time);
        index.checked_sub(1).map_or(0, |index| sums[index].1)
    };
    let last = sums.last().map_or(Duration::ZERO, |(at, _)| *at);
    // The first moment has the quantum that a pause earns.
    let mut starts = (1..).map(|step| Duration::from_millis(100 * step));
    let mut shares: Vec<f64> = starts
        .by_ref()
        .take_while(|start| *start + WINDOW <= last)
        .map(|start| (until(start + WINDOW) - until(start)) as f64 / rate as f64 - 1.0)
        .collect();
    let quantum = (rate / 1000).max(1);
    let from_each = sums.iter().map(|(at, _)| until(*at + WINDOW) - until(*at));
    let most = from_each.max().unwrap_or(0);
    let worst = shares.iter().copied().max_by(|one, other| one.abs().total_cmp(&other.abs()));
    let above = most.saturating_sub(rate + quantum);
    Ok([quantile(&mut shares, 0.5), worst.unwrap_or(f64::NAN), above as f64])
}

/// Bytes per second through a delay, of which so much may be held; or without one.
fn throughput(trustctl: &Path, scratch: &Path, delay: Option<(Duration, u64)>) -> io::Result<f64> {
    let rule = delay.map(|(delay, _)| format!("delay {}us up", delay.as_micros()));
    let rules: Vec<&str> = rule.iter().map(String::as_str).collect();
    let mut path = DelayedPath::start(trustctl, scratch, &rules, delay.map(|(_, hold)| hold))?;
    let received = path.flood(BULK_TIME)?;
    path.end()?;
    let Some((began, _)) = received.first().copied() else { return Ok(f64::NAN) };
    // Not the first half second, in which buffers fill.
    let settled = began + BULK_TIME / 4;
    let counted = received.iter().filter(|(at, _)| *at >= settled);
    let (mut bytes, mut last): (usize, Instant) = (0, settled);
    for (at, count) in counted {
        (bytes, last) = (bytes + count, *at);
    }
    Ok(bytes as f64 / (last - settled).as_secs_f64())
}
