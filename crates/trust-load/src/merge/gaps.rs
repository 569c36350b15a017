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

/// Shards that began so close to each other ran together, however short they were: processes start at different speeds.
const APART_MIN: Duration = Duration::from_millis(100);

/// Refuses logs that do not go together, by the names of two of them.
///
/// # Errors
///
/// 65.
pub(super) fn check_together(logs: &[(&str, Option<&Header>)]) -> Result<(), Failure> {
    let Some(((first, first_header), others)) = logs.split_first() else { return Ok(()) };
    for (other, header) in others {
        let problem = match (first_header, header) {
            (None, None) => None,
            (Some(a), Some(b)) => difference(a, b),
            _ => {
                let (known, unknown) =
                    if first_header.is_some() { (first, other) } else { (other, first) };
                let (known, unknown) = (quoted(known), quoted(unknown));
                Some(format!("{known} is in nanoseconds and {unknown} does not tell its unit"))
            }
        };
        if let Some(problem) = problem {
            let names = format!("{} and {}", quoted(first), quoted(other));
            return Err(bad(format!("{names} do not go together: {problem}")));
        }
    }
    let mut shards: Vec<_> = shards(logs).collect();
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
    // Whoever has no use for service times may have left their lines out.
    let services = if services == 0 { latencies } else { services };
    let (least, most) = (latencies.min(services), latencies.max(services));
    // What was given up has a value as well, if it had waited long enough. A merged log has also those of shards whose end is
    // missing, which its own end does not count.
    let Counts { answered, failed, unsent, outstanding, .. } = end.counts;
    let given_up = failed + unsent + outstanding;
    let is_too_few = least < answered;
    let is_too_many = most > answered + given_up && end.gaps.is_empty();
    match is_too_few || is_too_many {
        false => Ok(()),
        true => Err(bad(format!(
            "{}: its end tells of {} answers and {} other messages, and its intervals have {} values: lines are missing or \
             were changed",
            quoted(&log.name),
            answered,
            given_up,
            if is_too_few { least } else { most }
        ))),
    }
}

/// Shards that did not run together, whose rates are no rate of anything.
fn apart<R: BufRead>(logs: &[Log<R>]) -> Option<String> {
    let shards = || logs.iter().filter(|log| log.header_of_shard().is_some());
    let begun = |log: &&Log<R>| log.header_of_shard().map(|header| header.began);
    let (first, last) = (shards().min_by_key(begun)?, shards().max_by_key(begun)?);
    let between = begun(&last)?.duration_since(begun(&first)?).unsigned_abs();
    let shortest = shards().filter_map(|log| log.reader.end()).map(|end| end.took_ns).min()?;
    (between > APART_MIN.max(Duration::from_nanos(shortest / APART_SHARE))).then(|| {
        format!(
            "{} and {} did not run together: {:.2} s between starts",
            quoted(&first.name),
            quoted(&last.name),
            between.as_secs_f64()
        )
    })
}

/// What is missing in logs that have been read to their ends, in words.
pub(super) fn find<R: BufRead>(logs: &[Log<R>]) -> Vec<String> {
    let of_logs: Vec<_> = logs.iter().map(|log| (&*log.name, log.reader.header())).collect();
    let mut gaps: Vec<String> = missing_shards(&of_logs).into_iter().chain(apart(logs)).collect();
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
    let (a_shard, b_shard) = match (a.shard, b.shard) {
        (None, None) => return None,
        (Some(a_shard), Some(b_shard)) => (a_shard, b_shard),
        (Some(_), None) => return Some("the second is no shard".to_owned()),
        (None, Some(_)) => return Some("the first is no shard".to_owned()),
    };
    let time = |header: &Header| header.start_at.map_or("none".to_owned(), |time| time.to_string());
    let seed = |header: &Header| {
        let given = header.seed.filter(|_| header.is_seed_given);
        given.map_or("none".to_owned(), |seed| seed.to_string())
    };
    let rate = |header: &Header| {
        header.rate_of_all.map_or("none".to_owned(), |rate| format!("{rate} messages/s"))
    };
    let kind = |header: &Header| if header.is_open_loop { "open" } else { "closed" }.to_owned();
    let time_of =
        |ns: Option<u64>| ns.map_or("none".to_owned(), |ns| seconds(Duration::from_nanos(ns)));
    let same = [
        ("numbers of shards", a_shard.of().to_string(), b_shard.of().to_string()),
        ("targets", quoted(&a.target), quoted(&b.target)),
        ("seeds", seed(a), seed(b)),
        ("times to start at", time(a), time(b)),
        ("loops", kind(a), kind(b)),
        ("rates of all shards", rate(a), rate(b)),
        ("warm-ups", time_of(Some(a.warm_up_ns)), time_of(Some(b.warm_up_ns))),
        ("durations", time_of(a.duration_ns), time_of(b.duration_ns)),
    ];
    let (what, a, b) = same.into_iter().find(|(_, a, b)| a != b)?;
    Some(format!("they are shards of different runs, whose {what} are {a} and {b}"))
}

fn missing_shards(logs: &[(&str, Option<&Header>)]) -> Option<String> {
    let mut found: Vec<u32> = shards(logs).map(|(shard, _)| shard.index()).collect();
    let of = shards(logs).next()?.0.of();
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

fn shards<'l>(logs: &[(&'l str, Option<&Header>)]) -> impl Iterator<Item = (Shard, &'l str)> {
    logs.iter().filter_map(|(name, header)| Some(((*header)?.shard?, *name)))
}

/// A text of a file in one line for a terminal.
fn printable(text: &str) -> String {
    let quoted = quoted(text);
    quoted[1..quoted.len() - 1].to_owned()
}

fn bad(message: String) -> Failure {
    Failure::new(ExitCode::DataError, message)
}
