//! Writes the logs of two shards of a run that never was, for readers of logs to be tried with.
//!
//! ```text
//! cargo run -p trust-load --example hdr_log -- DIRECTORY
//! ```

use std::env;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use trust_load::hdr_log::{End, Header, Writer};
use trust_load::shard::Shard;
use trust_load::summary::{Cause, Counts, Errors, per_second};
use trust_load::timings::Timings;

/// Shards of the run.
const SHARDS: u32 = 2;

/// Seconds that it takes.
const SECONDS: u64 = 10;

/// The second in which the server answers nothing.
const STALLED: u64 = 6;

/// Messages of a shard in a second.
const RATE: u64 = 2000;

fn main() -> io::Result<()> {
    let directory = env::args_os().nth(1).ok_or_else(|| io::Error::other("which directory?"))?;
    for index in 0..SHARDS {
        write(&Path::new(&directory).join(format!("shard-{index}.hlog")), index)?;
    }
    Ok(())
}

fn write(path: &Path, index: u32) -> io::Result<()> {
    let start_at = Timestamp::constant(1_796_040_000, 0);
    let header = Header {
        shard: Shard::new(index, SHARDS),
        start_at: Some(start_at),
        warm_up_ns: 2_000_000_000,
        began: start_at + SignedDuration::new(2, 312_709 + 1_500_000 * index.cast_signed()),
        target: "echo.example:9900".to_owned(),
        is_open_loop: true,
        rate: Some(RATE as f64),
        seed: Some(1),
        is_seed_given: true,
        ..Header::default()
    };
    let mut writer = Writer::new(File::create(path)?, &header)?;
    let mut random = u64::from(index) + 1;
    for second in 0..SECONDS {
        let (mut latency, mut service) = (Timings::default(), Timings::default());
        let answered = if second == STALLED { 0 } else { RATE };
        for message in 0..answered {
            let time = draw(&mut random);
            service.add(time);
            // What was due while nothing came is answered after the stall.
            let waited = if second == STALLED + 1 { 1_000_000_000 * message / RATE } else { 0 };
            latency.add(time + waited);
        }
        let (start, length) = (Duration::from_secs(second), Duration::from_secs(1));
        writer.interval(start, length, [&latency, &service])?;
    }
    let mut errors = Errors::default();
    errors.add_many(Cause::Timeout, 3);
    let (took, answered) = (Duration::from_secs(SECONDS), RATE * (SECONDS - 1));
    writer.finish(&End {
        took_ns: took.as_nanos() as u64,
        counts: Counts {
            sent: answered + errors.total(),
            answered,
            answered_in_time: answered,
            failed: errors.total(),
            ..Counts::default()
        },
        achieved_rate: per_second(answered, took),
        errors,
        ..End::default()
    })
}

/// A time as servers have them: most near 100 µs, and few of several milliseconds.
fn draw(random: &mut u64) -> u64 {
    // Marsaglia's xorshift.
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let (part, tail) = (*random % 50_000, *random >> 40);
    80_000 + part + if tail.is_multiple_of(200) { tail % 9_000_000 } else { 0 }
}
