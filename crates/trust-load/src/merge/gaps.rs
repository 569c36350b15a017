//! Whether logs go together, and what is missing.

use std::io::BufRead;
use std::time::Duration;

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::text::seconds;
use trust_cli::values::quoted;

use super::Log;
use crate::hdr_log::Header;
use crate::shard::Shard;
use crate::summary::Counts;

/// How many of a kind are told one by one.
pub(super) const NAMED_MAX: usize = 20;

/// Two shards ran together if the later one began in the first quarter of the shorter one.
const APART_SHARE: u64 = 4;

/// Shards that began so close to each other ran together, however short they were: processes start
/// at different speeds.
const APART_MIN: Duration = Duration::from_millis(100);

/// Refuses logs that do not go together, by the names of two of them.
///
/// # Errors
///
/// 65.
pub(super) fn check_together<R: BufRead>(logs: &[Log<R>]) -> Result<(), Failure> {
    let Some((first, others)) = logs.split_first() else { return Ok(()) };
    for other in others {
        let [a, b] = [first, other].map(|log| quoted(&log.name));
        let problem = match (first.reader.header(), other.reader.header()) {
            (None, None) => None,
            (Some(first), Some(other)) => difference(first, other),
            (Some(_), None) => {
                Some(format!("{a} is in nanoseconds and {b} does not tell its unit"))
            }
            (None, Some(_)) => {
                Some(format!("{b} is in nanoseconds and {a} does not tell its unit"))
            }
        };
        if let Some(problem) = problem {
            return Err(bad(format!("{a} and {b} do not go together: {problem}")));
        }
    }
    let mut shards: Vec<_> = shards(logs).map(|(log, _, shard)| (shard, &log.name)).collect();
    shards.sort_by_key(|(shard, _)| *shard);
    match shards.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(()),
        Some(pair) => {
            let names = format!("{} and {}", quoted(pair[0].1), quoted(pair[1].1));
            Err(bad(format!("{names} are both shard {}", pair[0].0)))
        }
    }
}

/// Refuses a log of ours whose intervals do not have what its end says.
///
/// # Errors
///
/// 65.
pub(super) fn check_sums<R: BufRead>(log: &Log<R>) -> Result<(), Failure> {
    let (Some(_), Some(end)) = (log.reader.header(), log.reader.end()) else { return Ok(()) };
    let [latencies, services] = log.values;
    // Users who do not need service times may have left their lines out.
    let services = if services == 0 { latencies } else { services };
    let (least, most) = (latencies.min(services), latencies.max(services));
    // What was given up has a value as well, if it had waited long enough. A merged log has also
    // those of shards whose end is missing, which its own end does not count.
    let Counts { answered, failed, unsent, outstanding, .. } = end.counts;
    let given_up = failed + unsent + outstanding;
    let is_too_few = least < answered;
    let is_too_many = most > answered + given_up && end.gaps.is_empty();
    match is_too_few || is_too_many {
        false => Ok(()),
        true => Err(bad(format!(
            "{}: its end reports {} answers and {} other messages, but its intervals have {} \
             values: lines are missing or were changed",
            quoted(&log.name),
            answered,
            given_up,
            if is_too_few { least } else { most }
        ))),
    }
}

/// Shards that did not run together, whose rates are no rate of anything.
fn apart<R: BufRead>(logs: &[Log<R>]) -> Option<String> {
    let begun = || shards(logs).map(|(log, header, _)| (header.began, &log.name));
    let (begin, first) = begun().min_by_key(|(began, _)| *began)?;
    let (end, last) = begun().max_by_key(|(began, _)| *began)?;
    let between = end.duration_since(begin).unsigned_abs();
    let shortest = shards(logs).filter_map(|(log, ..)| Some(log.reader.end()?.took_ns)).min()?;
    (between > APART_MIN.max(Duration::from_nanos(shortest / APART_SHARE))).then(|| {
        format!(
            "{} and {} did not run together: {:.2} s between starts",
            quoted(first),
            quoted(last),
            between.as_secs_f64()
        )
    })
}

/// What is missing in logs that have been read to their ends, in words.
pub(super) fn find<R: BufRead>(logs: &[Log<R>]) -> Vec<String> {
    let mut gaps: Vec<String> = missing_shards(logs).into_iter().chain(apart(logs)).collect();
    for log in logs {
        let name = quoted(&log.name);
        match (log.reader.cut(), log.reader.header(), log.reader.end()) {
            (Some(line), _, _) => gaps.push(format!(
                "{name} is cut off in line {line}: was its run killed, or is it still going on?"
            )),
            (None, Some(_), None) => gaps
                .push(format!("{name} has no end: was its run killed, or is it still going on?")),
            (None, _, Some(end)) => {
                let stopped =
                    end.stopped_by.as_ref().map(|why| format!("its run ended early, {why}"));
                let known = end.gaps.iter().cloned().chain(stopped);
                gaps.extend(known.map(|gap| format!("{name}: {}", printable(&gap))));
            }
            (None, None, None) => {}
        }
    }
    if gaps.len() > NAMED_MAX {
        let more = gaps.len() - NAMED_MAX;
        gaps.truncate(NAMED_MAX);
        gaps.push(format!("and {more} more of this kind"));
    }
    gaps
}

/// Why two logs are not parts of one measurement; `None` if they may be.
fn difference(a: &Header, b: &Header) -> Option<String> {
    match (a.shard, b.shard) {
        (None, None) => return None,
        (Some(_), None) => return Some("the second is no shard".to_owned()),
        (None, Some(_)) => return Some("the first is no shard".to_owned()),
        (Some(_), Some(_)) => {}
    }
    type Told = fn(&Header) -> Option<String>;
    let same: [(&str, Told); 8] = [
        ("numbers of shards", |header| Some(header.shard?.of().to_string())),
        ("targets", |header| Some(quoted(&header.target))),
        ("seeds", |header| Some(header.seed.filter(|_| header.is_seed_given)?.to_string())),
        ("times to start at", |header| Some(header.start_at?.to_string())),
        ("loops", |header| Some(if header.is_open_loop { "open" } else { "closed" }.to_owned())),
        ("rates of all shards", |header| Some(format!("{} messages/s", header.rate_of_all?))),
        ("warm-ups", |header| Some(seconds(Duration::from_nanos(header.warm_up_ns)))),
        ("durations", |header| Some(seconds(Duration::from_nanos(header.duration_ns?)))),
    ];
    same.into_iter().find_map(|(what, of)| {
        let [a, b] = [a, b].map(|header| of(header).unwrap_or_else(|| "none".to_owned()));
        (a != b).then(|| format!("they are shards of different runs, whose {what} are {a} and {b}"))
    })
}

fn missing_shards<R: BufRead>(logs: &[Log<R>]) -> Option<String> {
    let mut found: Vec<u32> = shards(logs).map(|(_, _, shard)| shard.index()).collect();
    let of = shards(logs).next()?.2.of();
    found.sort_unstable();
    let missing: Vec<u32> = (0..of).filter(|index| found.binary_search(index).is_err()).collect();
    let named: Vec<String> = missing.iter().take(NAMED_MAX).map(u32::to_string).collect();
    let rest = missing.len() - named.len();
    match (&*named, rest) {
        ([], _) => None,
        ([one], _) => Some(format!("shard {one} of {of} is missing")),
        ([some @ .., last], 0) => {
            Some(format!("shards {} and {last} of {of} are missing", some.join(", ")))
        }
        (some, rest) => {
            Some(format!("shards {} and {rest} more of {of} are missing", some.join(", ")))
        }
    }
}

/// The logs of shards, and what is known of these.
fn shards<R: BufRead>(logs: &[Log<R>]) -> impl Iterator<Item = (&Log<R>, &Header, Shard)> {
    logs.iter().filter_map(|log| {
        let header = log.reader.header()?;
        Some((log, header, header.shard?))
    })
}

/// A text of a file in one line for a terminal.
fn printable(text: &str) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}

fn bad(message: String) -> Failure {
    Failure::new(ExitCode::DataError, message)
}
