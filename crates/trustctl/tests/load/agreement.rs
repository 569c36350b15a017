//! All outputs of a run must agree with each other, and with what the server counted.
//!
//! The shape of each load is determined by its seed alone. Its run writes a page and a log, and one
//! of the other outputs to stdout; everything that they have in common is compared.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use trust_cli::random::SplitMix;
use trust_cli::text::grouped;
use trust_load::hdr_log::End;
use trust_load::report::units;
use trust_load::summary::{Cause, Counts};
use trust_load::support::is_supported;

use super::command::{RUN_DEADLINE, load};
use super::csv::Csv;
use super::document::Document;
use super::logs::Log;
use super::server::{Client, Server};
use trust_load::report::json::Messages;
use trust_testkit::kernel;
use trust_testkit::program::{Finished, Home};
use trust_testkit::suite::Named;

pub(crate) const TESTS: &[Named] = &[
    ("all_outputs_agree_in_shapes_1_to_15", || agree(1)),
    ("all_outputs_agree_in_shapes_16_to_30", || agree(16)),
    ("all_outputs_agree_in_shapes_31_to_45", || agree(31)),
    ("all_outputs_agree_in_shapes_46_to_60", || agree(46)),
];

/// Shapes per test.
const SHAPES: u64 = 15;

/// Runs at a time: they mostly wait.
const AT_ONCE: u64 = 5;

/// Bytes of a message with the default payload, header included.
const MESSAGE_BYTES: u64 = 68;

/// How a server treats each client.
#[derive(Clone, Copy, Debug)]
enum Behaviour {
    Echo,
    Late {
        latency: Duration,
        gap: Duration,
    },
    /// Closes with an orderly close after this many messages.
    Leave(usize),
    Reset(usize),
    /// Flips a bit of the message after this many.
    Flip(usize),
    /// Answers this many, and then nothing more.
    Stall(usize),
}

/// What stdout gets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Printed {
    Json,
    Csv,
    Table,
}

/// A load to run.
#[derive(Debug)]
struct Shape {
    behaviour: Behaviour,
    printed: Printed,
    flags: String,
    /// Messages due in the measured part, if known before the run.
    due: Option<u64>,
}

fn agree(from: u64) {
    for first in (from..from + SHAPES).step_by(AT_ONCE as usize) {
        let chunk = first..(first + AT_ONCE).min(from + SHAPES);
        thread::scope(|scope| {
            let runs: Vec<_> = chunk
                .map(|seed| {
                    let shape = Shape::of(seed);
                    let told = format!("seed {seed}: {shape:?}");
                    (told, scope.spawn(move || shape.is_told_the_same_by_all()))
                })
                .collect();
            for (told, run) in runs {
                assert!(run.join().is_ok(), "outputs disagree: {told}");
            }
        });
    }
}

/// Numbers determined by the seed of a shape.
struct Choices(SplitMix);

impl Choices {
    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn is(&mut self, chance: f64) -> bool {
        self.share() < chance
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + (self.share() * (high - low + 1) as f64) as u64
    }
}

impl Behaviour {
    fn of(choices: &mut Choices) -> Behaviour {
        match choices.between(0, 9) {
            0..=3 => Behaviour::Echo,
            4 => Behaviour::Late {
                latency: Duration::from_millis(choices.between(1, 400)),
                gap: Duration::ZERO,
            },
            5 => Behaviour::Late {
                latency: Duration::from_millis(choices.between(1, 50)),
                gap: Duration::from_micros(choices.between(100, 5_000)),
            },
            6 => Behaviour::Leave(choices.between(1, 30) as usize),
            7 => Behaviour::Reset(choices.between(1, 30) as usize),
            8 => Behaviour::Flip(choices.between(0, 30) as usize),
            _ => Behaviour::Stall(choices.between(0, 30) as usize),
        }
    }

    /// Whether every message is echoed correctly.
    fn is_right(self) -> bool {
        matches!(self, Behaviour::Echo | Behaviour::Late { .. })
    }

    fn start(self) -> Server {
        Server::start(move |client: &mut Client| match self {
            Behaviour::Echo => client.echo(),
            Behaviour::Late { latency, gap } => client.echo_late(latency, gap),
            Behaviour::Leave(messages) => {
                client.echo_frames(messages)?;
                client.leave()
            }
            Behaviour::Reset(messages) => {
                client.echo_frames(messages)?;
                client.reset()
            }
            Behaviour::Flip(messages) => {
                client.echo_frames(messages)?;
                let mut frame = client.frame()?;
                *frame.last_mut().expect("a header, at least") ^= 1;
                client.send(&frame)?;
                client.echo()
            }
            Behaviour::Stall(messages) => {
                client.echo_frames(messages)?;
                client.be_silent()
            }
        })
    }
}

impl Shape {
    fn of(seed: u64) -> Shape {
        let choices = &mut Choices(SplitMix::new(seed));
        let behaviour = Behaviour::of(choices);
        let printed = [Printed::Json, Printed::Csv, Printed::Table][seed as usize % 3];
        let mut flags = vec![format!("--concurrency {}", choices.between(1, 6))];
        if matches!(behaviour, Behaviour::Stall(_)) {
            flags.push("--timeout 0.3".to_owned());
        }
        let warm_up = if choices.is(0.5) { 0.0 } else { choices.between(1, 600) as f64 / 1e3 };
        if warm_up > 0.0 {
            flags.push(format!("--warm-up {warm_up}"));
        }
        // Mostly not whole seconds.
        let duration = choices.between(1, 2_200) as f64 / 1e3;
        let mut due = None;
        if choices.is(0.65) {
            // From one in ten seconds to ten thousand per second, every order of magnitude equally
            // likely.
            let rate = 10_f64.powf(choices.share() * 5.0 - 1.0);
            let rate = (rate * 1e3).round() / 1e3;
            flags.push(format!("--rate {rate} --duration {duration}"));
            if choices.is(0.3) {
                flags.push("--arrivals poisson".to_owned());
            } else {
                let until = |seconds: f64| (0..).find(|n| *n as f64 / rate >= seconds).unwrap_or(0);
                due = Some(until(warm_up + duration) - until(warm_up));
            }
            if choices.is(0.4) {
                // At most some 200 connections per second.
                let least = (rate / 200.0).ceil() as u64;
                let messages = choices.between(least.max(1), least + 20);
                flags.push(format!("--messages-per-connection {messages}"));
            }
        } else {
            flags.push(format!("--think 0.00{}", choices.between(1, 9)));
            flags.push(match choices.is(0.6) {
                true => format!("--duration {duration}"),
                false => {
                    // As many as a second or two has time for.
                    let is_late = matches!(behaviour, Behaviour::Late { .. });
                    let (clients, messages) = if is_late { (3, 4) } else { (8, 60) };
                    let (clients, messages) =
                        (choices.between(1, clients), choices.between(1, messages));
                    format!("--clients {clients} --messages {messages}")
                }
            });
            if choices.is(0.4) {
                flags.push(format!("--messages-per-connection {}", choices.between(1, 20)));
            }
        }
        if choices.is(0.4) {
            flags.push(format!("--in-flight {}", choices.between(1, 20)));
        }
        Shape { behaviour, printed, flags: flags.join(" "), due }
    }

    fn is_told_the_same_by_all(&self) {
        let (home, server) = (Home::new(), self.behaviour.start());
        let (page, log) = (home.elsewhere("page.html"), home.elsewhere("log.hlog"));
        let printed = match self.printed {
            Printed::Json => "--json",
            Printed::Csv => "--csv",
            Printed::Table => "",
        };
        let files = format!("--html {} --hdr-log {}", page.display(), log.display());
        let flags = format!("{} {files} {printed}", self.flags);
        let finished = load(&home, &server, &flags).start().wait_for(RUN_DEADLINE);
        let finished = finished.complains_about_nothing();
        let log = Log::read(&log);
        let end = log.end.as_ref().expect("a run that ends has a log that ends");
        self.is_accounted_for(&finished, end);
        log_is_sound(&log, end);
        self.server_counted_the_same(&server, end);
        is_told(&text_of(&page), &log, end);
        match self.printed {
            Printed::Json => {
                let document = Document::read(&finished);
                log.says_the_same_as(&document);
                self.document_is_what_the_server_counted(&document, &server);
            }
            Printed::Csv => csv_says_the_same(finished.text(), &log, end),
            Printed::Table => is_told(finished.text(), &log, end),
        }
    }

    /// Checks that every message is accounted for, and that the exit code fits.
    fn is_accounted_for(&self, finished: &Finished, end: &End) {
        let Counts { sent, answered, answered_in_time, failed, unsent, outstanding, .. } =
            end.counts;
        assert_eq!(outstanding, 0, "{end:?}");
        // A client that is counted may fail before it has sent all its messages.
        assert!(sent <= answered + failed, "{end:?}");
        assert!(sent == answered + failed || self.flags.contains("--messages "), "{end:?}");
        // Rounding may move a message due exactly at one end of the measured part across that end.
        let due = sent + unsent;
        assert!(self.due.is_none_or(|expected| due.abs_diff(expected) <= 1), "{end:?}");
        let errors = end.errors.total();
        let is_well = errors == 0 && failed + unsent == 0 && answered > 0;
        assert_eq!(finished.code(), Some(i32::from(!is_well)), "{end:?}");
        // With a server asked for more than it can do, the rest is still in flight when the run
        // must end.
        let is_overloaded = unsent > 0 && errors == end.errors.count(Cause::Timeout);
        let may_fail = !self.behaviour.is_right() || is_overloaded;
        assert!(may_fail || (errors == 0 && failed == 0), "{end:?}");
        let seconds = end.took_ns as f64 / 1e9;
        let achieved = end.achieved_rate * seconds;
        let most = answered.max(answered_in_time) as f64;
        assert!(achieved <= most + 0.001, "{end:?}");
        assert!(achieved >= answered_in_time as f64 - 0.001 || sent == 0, "{end:?}");
    }

    /// Checks that the server saw no less than was echoed, and exactly as much if it was right.
    fn server_counted_the_same(&self, server: &Server, end: &End) {
        let seen = server.seen_at_last();
        let frames: usize = seen.iter().map(|seen| seen.frames.len()).sum();
        assert!(frames as u64 >= end.counts.answered, "{frames} frames, {end:?}");
        // The others were sent in the warm-up.
        if self.behaviour.is_right() && !self.flags.contains("--warm-up") {
            assert_eq!(frames as u64, end.counts.sent, "{end:?}");
        }
    }

    fn document_is_what_the_server_counted(&self, document: &Document, server: &Server) {
        let made = document.connections.made;
        // It may accept the last of them after the client has left.
        kernel::wait_until("all connections", || server.seen().len() as u64 >= made);
        let seen = server.seen_at_last();
        // It also accepts, late, those whose client has given up connecting.
        let given_up = document.errors.by_cause[&Cause::ConnectTimeout];
        let all = seen.len() as u64;
        assert!((made..=made + given_up).contains(&all), "{all} accepted: {document:?}");
        let received: usize = seen.iter().map(|seen| seen.received.len()).sum();
        let sent: usize = seen.iter().map(|seen| seen.sent.len()).sum();
        let bytes = &document.bytes;
        assert!(bytes.sent >= received as u64 && bytes.received <= sent as u64, "{document:?}");
        let Messages { answered, warm_up, .. } = document.messages;
        assert!(bytes.received >= (answered + warm_up) * MESSAGE_BYTES, "{document:?}");
        if self.behaviour.is_right() && document.errors.total == 0 {
            assert_eq!((bytes.sent, bytes.received), (received as u64, sent as u64));
        }
    }
}

/// Checks that the intervals are consecutive seconds up to the end of the measured part.
fn log_is_sound(log: &Log, end: &End) {
    let took = end.took_ns;
    let Some((first, _)) = log.rows.first() else {
        assert_eq!((took, log.latency.len()), (0, 0), "{end:?}");
        return;
    };
    let mut begin = *first;
    for (at, (start, length)) in log.rows.iter().enumerate() {
        assert_eq!(*start, begin, "{:?}", log.rows);
        begin = start + length;
        let is_last = at + 1 == log.rows.len();
        assert!(
            is_last || (*length >= 1_000_000_000 && *length <= 1_100_000_000),
            "{:?}",
            log.rows
        );
        assert!(*length <= 1_100_000_000, "{:?}", log.rows);
    }
    assert!(begin - first >= took, "{:?} for {end:?}", log.rows);
    let Counts { answered, failed, unsent, .. } = end.counts;
    assert!(log.latency.len() >= answered, "{end:?}");
    assert!(log.latency.len() <= answered + failed + unsent, "{end:?}");
}

/// The text of a page, without its markup.
fn text_of(page: &Path) -> String {
    let page = fs::read_to_string(page).expect("a page");
    let (_, body) = page.split_once("<body").expect("a body");
    let mut text = String::new();
    for piece in body.split('<') {
        text.push_str(piece.split_once('>').map_or(piece, |(_, after)| after));
        text.push(' ');
    }
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")];
    entities.iter().fold(text, |text, (entity, character)| text.replace(entity, character))
}

/// Checks that a text for people has the numbers of the log.
#[track_caller]
fn is_told(text: &str, log: &Log, end: &End) {
    let text = text.split_whitespace().collect::<Vec<&str>>().join(" ");
    let Counts { sent, answered, failed, unsent, .. } = end.counts;
    let [sent, answered, failed] = [sent, answered, failed].map(grouped);
    let mut expected = vec![
        format!("{sent} sent, {answered} answered, {failed} failed"),
        format!("{} messages/s", units::rate(end.achieved_rate)),
    ];
    if unsent > 0 {
        expected.push(format!("{} due and not sent", grouped(unsent)));
    }
    for (cause, count) in end.errors.seen() {
        expected.push(format!("{} {} {}", grouped(count), cause.text(), cause.name()));
    }
    if !log.latency.is_empty() {
        for (quantile, name) in [(0.5, "p50"), (0.99, "p99"), (1.0, "max")] {
            // Extremes are exact; the log has the highest value that its histogram cannot
            // distinguish from them.
            let high = log.latency.value_at_quantile(quantile);
            let mark = if is_supported(log.latency.len(), quantile) { "" } else { "*" };
            let either = [high, log.latency.lowest_equivalent(high)]
                .map(|time| format!("{name} {mark}{}", units::time(time)));
            assert!(either.iter().any(|told| text.contains(told)), "{either:?} is not in {text}");
        }
    }
    for limit in &end.client_limits {
        expected.push(limit.clone());
    }
    for expected in expected {
        assert!(text.contains(&expected), "{expected:?} is not in {text}");
    }
}

fn csv_says_the_same(text: &str, log: &Log, end: &End) {
    if text.is_empty() {
        // Everything was over before measuring began.
        assert!(log.rows.is_empty(), "{:?}", log.rows);
        return;
    }
    let csv = Csv::read(text);
    csv.is_sound();
    let millis = |ns: u64| (ns as f64 / 1e6).round();
    let begun = log.rows.first().map_or(0, |(begin, _)| *begin);
    let expected: Vec<_> =
        log.rows.iter().map(|(begin, length)| (millis(begin - begun), millis(*length))).collect();
    let told: Vec<_> = csv
        .rows
        .iter()
        .map(|row| ((row.start * 1e3).round(), (row.length * 1e3).round()))
        .collect();
    assert_eq!(told, expected);
    let answered: u64 = csv.rows.iter().map(|row| row.answered).sum();
    // Messages in flight at the end of the warm-up are answered in it as well.
    let Counts { answered: due, answered_in_time, .. } = end.counts;
    assert!(answered >= due.max(answered_in_time), "{csv:?} {end:?}");
    for (row, interval) in csv.rows.iter().zip(&log.intervals) {
        let told =
            [row.p50_ns, row.max_ns].map(|time| time.map(|time| interval.highest_equivalent(time)));
        let logged = [interval.value_at_quantile(0.5), interval.max()]
            .map(|time| (!interval.is_empty()).then_some(time));
        assert_eq!(told, logged);
    }
    for cause in Cause::ALL {
        let told: u64 = csv.rows.iter().map(|row| row.causes[cause.name()]).sum();
        assert_eq!(told, end.errors.count(cause), "{cause:?}: {csv:?}");
    }
}
