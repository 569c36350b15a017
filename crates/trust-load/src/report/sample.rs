//! Results that look like those of real runs, for the tests of reports and for looking at them.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use trust_cli::exit_code::ExitCode;

use crate::report::csv;
use crate::report::timeline::Timeline;
use crate::search::{Found, SearchEnd, Trial};
use crate::summary::{
    About, Cause, Client, Counts, End, Errors, Interval, Judgement, Run, Searched, Summary, Wrong,
    per_second,
};
use crate::timings::Timings;

const SECOND: Duration = Duration::from_secs(1);

/// Bytes of a message, header included.
const MESSAGE_BYTES: u64 = 68;

/// A run and what reports have seen of it.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) about: About,
    pub(crate) summary: Summary,
    pub(crate) judgements: Vec<Judgement>,
    pub(crate) searched: Option<Searched>,
    pub(crate) exit: ExitCode,
    pub(crate) timeline: Timeline,
    pub(crate) csv: String,
}

impl Sample {
    pub(crate) fn run(&self) -> Run<'_> {
        let Sample { about, summary, judgements, searched, exit, .. } = self;
        Run { about, summary, judgements, searched: searched.as_ref(), exit: *exit }
    }
}

/// Every sample, with a name.
pub(crate) static ALL: LazyLock<[(&str, Sample); 8]> = LazyLock::new(|| {
    [
        ("open", open()),
        ("closed", closed()),
        ("clean", clean()),
        ("long", long()),
        ("searched", searched()),
        ("interrupted", interrupted()),
        ("unreachable", unreachable()),
        ("empty", empty()),
    ]
});

/// The sample of this name.
pub(crate) fn named(name: &str) -> Sample {
    let (_, sample) = ALL.iter().find(|(known, _)| *known == name).expect("a known name");
    sample.clone()
}

/// Two minutes in an open loop with a stall of a second, errors, wrong bytes, budgets and a client
/// that was late.
fn open() -> Sample {
    let mut sample = sampled(true, 120, 20_000, Some(40));
    let Summary { errors, counts, wrong, client, .. } = &mut sample.summary;
    counts.failed = errors.total() + 31;
    counts.past_grace = 31;
    counts.unsent = 12;
    counts.outstanding = 7;
    counts.warm_up = 100_000;
    counts.syn_repeated = 43;
    counts.slow = 1_204;
    wrong.extend((1..=4).map(|number| Wrong {
        connection: 17 * number,
        message: 1_204 * number,
        offset: if number == 3 { 2 } else { 4 + 13 * number },
        header_bytes: 4,
        payload_offset: (number != 3).then_some(13 * number),
        expected: 0x4f ^ number as u8,
        got: 0x4e ^ number as u8,
    }));
    client.limits.push(
        "The client was late: it sent messages up to 4.1 ms after they were due, although their \
         connections could have taken them, which is more than the 1 ms that the schedule allows."
            .to_owned(),
    );
    sample.judgements = vec![
        judgement("p99>5ms", "1.02 s", true),
        judgement("errors>0", "47", true),
        judgement("rate<19000", "19,833 messages/s", false),
    ];
    sample.exit = ExitCode::Negative;
    sample
}

/// A minute in a closed loop, with the same stall.
fn closed() -> Sample {
    let mut sample = sampled(false, 60, 41_000, Some(20));
    sample.summary.errors = Errors::default();
    sample.summary.counts.failed = 0;
    sample
}

/// Half a minute without anything wrong.
fn clean() -> Sample {
    let mut sample = sampled(true, 30, 5_000, None);
    sample.judgements = vec![judgement("p99>5ms", "412 µs", false)];
    sample
}

/// A quarter of an hour: more seconds than a timeline keeps.
fn long() -> Sample {
    let mut sample = sampled(true, 900, 2_000, Some(400));
    sample.exit = ExitCode::Negative;
    sample
}

/// Five seconds at the rate that a search of two trials found.
fn searched() -> Sample {
    let mut sample = sampled(true, 5, 1_000, None);
    let trial = |asked, achieved, broken: Option<&str>| Trial {
        asked,
        due: asked,
        achieved,
        errors: 0,
        broken: broken.map(str::to_owned),
        is_client_limit: false,
    };
    let trials = vec![trial(1000.0, 1000.0, None), trial(1050.0, 1049.5, Some("p99<5ms: 7.31 ms"))];
    let found = Found { rate: Some(1000.0), end: SearchEnd::Bracketed, trials };
    sample.searched = Some(Searched { budgets: vec!["p99<5ms".into()], found });
    sample
}

/// A run that SIGINT ended after some seconds.
fn interrupted() -> Sample {
    let mut sample = sampled(true, 4, 20_000, None);
    sample.summary.took = Duration::from_millis(4_217);
    sample.summary.end = End::Stopped("SIGINT");
    sample.exit = ExitCode::Interrupted;
    sample
}

/// A run without a first connection.
fn unreachable() -> Sample {
    let mut sample = empty();
    let why = "cannot connect to localhost:9900: Connection refused";
    sample.about.addresses.clear();
    sample.summary.end = End::Unreachable(why.to_owned());
    sample.summary.errors.add(Cause::Refused);
    sample.exit = ExitCode::Unavailable;
    sample
}

/// A run in which nothing came back, with names that would break a document.
fn empty() -> Sample {
    let mut sample = sampled(false, 0, 0, None);
    sample.summary.counts = Counts::default();
    sample.about.target = "<script>alert('é')</script>&\"\u{1b}[31m:9900".to_owned();
    sample.exit = ExitCode::Negative;
    sample
}

fn judgement(budget: &str, measured: &str, is_missed: bool) -> Judgement {
    Judgement { budget: budget.to_owned(), measured: measured.to_owned(), is_missed, note: None }
}

/// A sample of `seconds` with `rate` messages in each. During a stall, an open loop sees every due
/// message wait for the rest of it, and a closed loop only those that were in flight.
fn sampled(is_open_loop: bool, seconds: u32, rate: u64, stall: Option<u32>) -> Sample {
    /// Different times that an interval has.
    const TIMES_PER_SECOND: u64 = 250;
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let (mut latency, mut service, mut late) =
        (Timings::default(), Timings::default(), Timings::default());
    let (mut timeline, mut csv) = (Timeline::default(), csv::header());
    let (mut all_errors, mut answered_all) = (Errors::default(), 0);
    let (mut interval_latency, mut interval_service) = (Timings::default(), Timings::default());
    for second in 0..seconds {
        interval_latency.reset();
        interval_service.reset();
        let mut errors = Errors::default();
        let is_stall = stall == Some(second);
        let messages = if is_stall && !is_open_loop { rate / 100 } else { rate };
        for index in 0..TIMES_PER_SECOND {
            let served = noise.time();
            let waited = match (is_stall, is_open_loop) {
                (true, true) => 1_000_000_000 - index * (1_000_000_000 / TIMES_PER_SECOND),
                (true, false) if index == 0 => 1_000_000_000,
                (_, true) => noise.time() / 20,
                _ => 0,
            };
            let count = (messages / TIMES_PER_SECOND).max(1);
            for times in [&mut interval_latency, &mut latency] {
                record(times, served + waited, count);
            }
            for times in [&mut interval_service, &mut service] {
                record(times, if is_open_loop { served } else { served + waited }, count);
            }
            record(&mut late, waited.min(4_100_000) / 10 + 1, count);
        }
        if is_stall {
            (0..12).for_each(|_| errors.add(Cause::Timeout));
            (0..31).for_each(|_| errors.add(Cause::ResetBeforeAnswer));
        }
        if stall.is_some() && is_open_loop && second % 30 == 7 {
            errors.add(Cause::Mismatch);
        }
        // What comes back jitters a little; what an open loop could not send in a stall comes right
        // after it.
        let answered = match (stall, is_open_loop) {
            (Some(stall), true) if second == stall => rate / 20,
            (Some(stall), true) if second == stall + 1 => rate + rate * 19 / 20 - errors.total(),
            (_, true) => messages + rate / 50 - noise.next() % (rate / 25) - errors.total(),
            (_, false) => messages - noise.next() % (messages / 10),
        };
        let interval = Interval {
            start: SECOND * second,
            length: SECOND,
            latency: &interval_latency,
            service: &interval_service,
            answered,
            slow: 0,
            bytes_received: answered * MESSAGE_BYTES,
            errors: &errors,
        };
        timeline.add(&interval);
        csv.push_str(&csv::row(&interval, &["127.0.0.1:9900".to_owned()]));
        all_errors.merge(&errors);
        answered_all += answered;
    }
    if !is_open_loop {
        late.reset();
    }
    let mut connect = Timings::default();
    (0..64 * u64::from(seconds > 0)).for_each(|_| record(&mut connect, noise.time(), 1));
    let counts = Counts {
        connections: connect.len() + all_errors.total(),
        connections_peak: connect.len(),
        sent: answered_all + all_errors.total(),
        answered: answered_all,
        answered_in_time: answered_all,
        failed: all_errors.total(),
        bytes_sent: answered_all * MESSAGE_BYTES,
        bytes_received: answered_all * MESSAGE_BYTES,
        bytes_received_in_time: answered_all * MESSAGE_BYTES,
        ..Counts::default()
    };
    let took = SECOND * seconds;
    let client = Client {
        cpu: took.mul_f64(0.34),
        busy: 0.342,
        late,
        held_back: 1_730,
        put_off: 60,
        limits: vec![],
    };
    let summary = Summary {
        began: Timestamp::from_second(1_790_000_000).expect("a time"),
        took,
        rate: is_open_loop.then_some(rate as f64),
        achieved_rate: per_second(answered_all, took),
        sustained_rate: per_second(answered_all, took),
        latency,
        service,
        connect,
        counts,
        errors: all_errors,
        wrong: vec![],
        foreign: None,
        client,
        end: End::Complete,
    };
    let about = about(is_open_loop, seconds, rate);
    let exit = ExitCode::Success;
    Sample { about, summary, judgements: vec![], searched: None, exit, timeline, csv }
}

fn about(is_open_loop: bool, seconds: u32, rate: u64) -> About {
    let mut facts = vec![
        ("address", "address", "127.0.0.1:9900".to_owned()),
        ("concurrency", "connections", "64".to_owned()),
        ("duration", "duration", format!("{seconds} s")),
        ("size", "payload sizes", "64 bytes".to_owned()),
        ("framing", "framing", "u32-be".to_owned()),
        ("timeout", "timeout", "5 s".to_owned()),
        ("seed", "seed", "17".to_owned()),
        ("version", "program", "trustctl 0.1.0".to_owned()),
    ];
    let mut again = format!("trustctl load localhost:9900 --concurrency 64 --duration {seconds}");
    if is_open_loop {
        facts.push(("rate", "requested rate", format!("{rate} messages/s")));
        facts.push(("arrivals", "arrivals", "poisson".to_owned()));
        again += &format!(" --rate {rate} --arrivals poisson");
    }
    facts.push((
        "in_flight",
        "frames in flight",
        if is_open_loop { "100" } else { "1" }.to_owned(),
    ));
    again += " --size 64 --seed 17";
    let (target, addresses) = ("localhost:9900".to_owned(), vec!["127.0.0.1:9900".to_owned()]);
    About { target, addresses, is_open_loop, preface: None, facts, again }
}

fn record(times: &mut Timings, time: u64, count: u64) {
    times.add_many(time, count);
}

/// Random times that are the same each time (xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Most of them near 90 µs, some up to some milliseconds.
    fn time(&mut self) -> u64 {
        let tail = 1 + self.next() % 1000;
        70_000 + self.next() % 40_000 + 3_000_000 / tail
    }
}
