//! The result as one page that needs nothing else.

#[cfg(test)]
mod tests;

use std::time::Duration;

use maud::{Markup, html};
use trust_cli::markup::{list, page, table};
use trust_cli::text::{grouped, seconds};

use crate::report::chart::{Chart, Line, Look, Path, Tick};
use crate::report::marks::{MARK, interval};
use crate::report::scale::{Elapsed, Linear, Logarithmic};
use crate::report::timeline::{Percentiles, Point, Timeline};
use crate::report::units::{percent, rate, time};
use crate::report::{
    CLOSED_LOOP, OPEN_LOOP, Outcome, WRONG_COLUMNS, WRONG_PLACES, findings, numbers, percentiles,
    percentiles_footnote, search, whole_messages, wrong_left_out, wrong_row,
};
use crate::summary::{Cause, Judgement, QUANTILES, Run, Summary};
use crate::timings::Timings;

const STYLE: &str = include_str!("page.css");

/// The lowest percentile that has its confidence interval beside it.
const INTERVALS_FROM: f64 = 0.99;

/// What the confidence intervals are.
const INTERVALS: &str = "The range below a percentile: where it lies with 95 % confidence, if \
    messages are independent of each other.";

/// Decades of 1/(1-quantile) up to which percentiles are drawn: 99.9999 %.
const DECADES_MAX: f64 = 6.0;

/// Quantiles that are drawn in each decade, so that the curve has no corners.
const QUANTILES_PER_DECADE: u32 = 60;

/// What the percentiles of an open loop mean.
const OPEN_LOOP_MEANS: &str = "Open loop: messages are due at fixed times, whatever the server \
    does, as if from independent users. A message that has to wait, \
    because the server stalls, is measured from when it was due.";

/// What the percentiles of a closed loop mean.
const CLOSED_LOOP_MEANS: &str = "Closed loop: each connection has only so many messages on their \
    way, and waits for an answer before it sends the next. It shows what a server can do. It does \
    not show what users would see while it stalls: a closed loop stops asking then, and the \
    messages that it did not send are missing in the percentiles.";

/// What is counted, in either loop.
const HOW_IT_COUNTS: &str = "Every byte of every echo was compared with what was sent. An error \
    ends its connection and is counted once. A timeout is in the percentiles with the time that \
    had passed. Times are exact to a thousandth, and no percentile is an average of others.";

/// The result as one page.
pub fn report(run: &Run<'_>, timeline: &Timeline) -> String {
    let Run { about, summary, judgements, searched, .. } = run;
    let outcome = Outcome::of(run);
    let is_reached = outcome != Outcome::Unreachable;
    let word = outcome.word();
    let body = html! {
        header {
            h1 {
                span class={ "word " (word.to_lowercase()) } { (word) } " trustctl load "
                span .target { (about.target) }
            }
            @for said in findings(run) { p { (said) } }
        }
        @if is_reached { (tiles(summary)) }
        @if !summary.client.limits.is_empty() {
            .limits {
                h2 { "The client was the limit" }
                @for limit in &summary.client.limits { p { (limit) } }
            }
        }
        @if !judgements.is_empty() {
            h2 { "Budgets" }
            (table("budgets", ["budget", "fail if", "measured"], judgements.iter().map(budget)))
        }
        @if let Some(searched) = searched {
            h2 { "Trials" }
            (table("trials", search::COLUMNS, search::rows(searched)))
        }
        @if !summary.latency.is_empty() { (latency(summary, about.is_open_loop)) }
        @if !timeline.points().is_empty() { (over_time(summary, timeline)) }
        (errors(run, timeline.points()))
        @if is_reached {
            h2 { "What happened" }
            (list("facts", numbers(summary, about.is_open_loop)))
        }
        (measured(run, is_reached))
    };
    page(&format!("{word}: trustctl load {}", about.target), STYLE, &body)
}

/// The numbers that everybody looks for, large.
fn tiles(summary: &Summary) -> Markup {
    let mut tiles = vec![];
    if !summary.latency.is_empty() {
        let latency = |quantile| time(summary.latency.value_at_quantile(quantile));
        tiles.push((latency(0.5), "median latency".to_owned()));
        let is_p99 = summary.latency.supports(0.99);
        let p99 = if is_p99 { "99th percentile" } else { "99th percentile: the maximum" };
        tiles.push((latency(0.99), p99.to_owned()));
        tiles.push((latency(1.0), "longest".to_owned()));
    }
    let achieved = summary.achieved_rate;
    tiles.push((
        rate(achieved),
        match summary.rate {
            Some(asked) if asked > 0.0 && whole_messages(summary, asked).is_none() => {
                format!("messages/s, {} of what was asked for", percent(achieved / asked))
            }
            _ => "messages/s".to_owned(),
        },
    ));
    let errors = summary.errors.total();
    tiles.push((grouped(errors), if errors == 1 { "error" } else { "errors" }.to_owned()));
    html! {
        .tiles { @for (number, name) in tiles { div { b { (number) } " " span { (name) } } } }
    }
}

fn budget(judgement: &Judgement) -> [Markup; 3] {
    let word = if judgement.is_missed { "missed" } else { "kept" };
    [
        html! { b class=(word) { (word) } },
        html! { code { (judgement.budget) } },
        html! { (judgement.explained()) },
    ]
}

fn latency(summary: &Summary, is_open_loop: bool) -> Markup {
    let mut rows = percentiles(summary, is_open_loop).into_iter();
    let names = rows.next().unwrap_or_default();
    let rows = rows.map(|row| with_intervals(summary, row));
    html! {
        h2 { "Latency" }
        p .soft { (if is_open_loop { OPEN_LOOP } else { CLOSED_LOOP }) }
        .beside {
            (by_percentile(summary, is_open_loop))
            div {
                (table("numbers", names, rows))
                @if let Some(footnote) = percentiles_footnote(summary, is_open_loop) {
                    p .footnote { (footnote) }
                }
                p .footnote { (INTERVALS) }
            }
        }
    }
}

/// The cells of a row, with the confidence interval of a high percentile.
fn with_intervals(summary: &Summary, row: Vec<String>) -> Vec<Markup> {
    let is_named = |(_, name): &&(f64, &str)| Some(*name) == row.first().map(String::as_str);
    let quantile = QUANTILES.iter().find(is_named).map(|(quantile, _)| *quantile);
    let quantile = quantile.filter(|quantile| (INTERVALS_FROM..1.0).contains(quantile));
    let columns = [None, Some(&summary.latency), Some(&summary.service)];
    let cells = row.iter().zip(columns).map(|(cell, times)| {
        let interval = quantile.zip(times).and_then(|(quantile, times)| interval(times, quantile));
        html! { (cell) @if let Some(interval) = interval { span .interval { (interval) } } }
    });
    cells.collect()
}

fn by_percentile(summary: &Summary, is_open_loop: bool) -> Chart {
    let Summary { latency, service, .. } = summary;
    let decades = (latency.len().max(10) as f64).log10().min(DECADES_MAX);
    let low = if is_open_loop { latency.min().min(service.min()) } else { latency.min() };
    let times = Logarithmic::around(low, latency.max().max(service.max()));
    let count = (decades * f64::from(QUANTILES_PER_DECADE)).ceil() as u32;
    let curve = |histogram: &Timings| {
        Path::through((0..=count).map(|index| {
            let at = f64::from(index) / f64::from(count);
            // At the right edge is the longest, unless there are more than the axis has room for.
            let is_last = index == count && decades < DECADES_MAX;
            let quantile = if is_last { 1.0 } else { 1.0 - 10f64.powf(-at * decades) };
            (at, times.place(histogram.value_at_quantile(quantile)))
        }))
    };
    let tick = |(power, text): (f64, &str)| Tick { at: power / decades, text: text.to_owned() };
    let percents =
        [(0.0, "0"), (1.0, "90"), (2.0, "99"), (3.0, "99.9"), (4.0, "99.99"), (5.0, "99.999")];
    let x_ticks = percents.into_iter().filter(|(power, _)| *power <= decades).map(tick).collect();
    let mut lines = vec![Line { look: Look::First, name: Some("latency"), path: curve(latency) }];
    if is_open_loop {
        // Below the latency, which is never less.
        lines.insert(
            0,
            Line { look: Look::Second, name: Some("service time"), path: curve(service) },
        );
    }
    let [p50, p99] = [0.5, 0.99].map(|quantile| time(latency.value_at_quantile(quantile)));
    Chart {
        id: "by-percentile",
        title: "By percentile",
        description: format!(
            "Half of the messages took at most {p50}, 99 percent at most {p99}, all at most {}.",
            time(latency.max())
        ),
        y_name: "time to an echo, logarithmic".to_owned(),
        x_name: "percent of messages that took at most this long",
        y_ticks: times.ticks(),
        x_ticks,
        lines,
        ..Chart::default()
    }
}

fn over_time(summary: &Summary, timeline: &Timeline) -> Markup {
    let points = timeline.points();
    let has_latency = points.iter().any(|point| point.times.is_some());
    let has_few = points.iter().filter_map(|point| point.times).any(|times| times.is_p99_max);
    html! {
        h2 { "Over time" }
        @if timeline.is_joined() {
            p .soft {
                "Each point is " (seconds(points[0].length)) " of the run. Its percentiles are the \
                 worst of its seconds; its counts are sums."
            }
        }
        @if has_few {
            p .soft {
                (MARK) " Fewer than 100 messages were answered in a second, so that its p99 is its \
                 maximum."
            }
        }
        .pair {
            @if has_latency { (latency_over_time(points, timeline.is_joined())) }
            (throughput(points, summary.rate))
        }
    }
}

fn latency_over_time(points: &[Point], is_joined: bool) -> Chart {
    let seen = || points.iter().filter_map(|point| point.times);
    let low = seen().map(|times| times.p50).min().unwrap_or(1);
    let worst = seen().map(|times| times.max).max().unwrap_or(1);
    let scale = Logarithmic::around(low, worst);
    let line = |look, name, of: fn(&Percentiles) -> u64| Line {
        look,
        name: Some(name),
        path: Path::steps(each(points, |point| point.times.map(|times| scale.place(of(&times))))),
    };
    let mut lines = vec![
        line(Look::Third, "max", |times| times.max),
        line(Look::Second, "p99", |times| times.p99),
        line(Look::First, "p50", |times| times.p50),
    ];
    if seen().count() < points.len() {
        let path = Path::bars(each(points, |point| f64::from(u8::from(point.times.is_none()))));
        lines.insert(0, Line { look: Look::Nothing, name: Some("no answer"), path });
    }
    let worst_of = if is_joined { ", the worst of each point’s seconds" } else { "" };
    Chart {
        id: "latency",
        title: "Latency",
        description: format!(
            "Median, 99th percentile and longest latency over the run; the longest of all was {}.",
            time(worst)
        ),
        y_name: format!("time to an echo, logarithmic{worst_of}"),
        y_ticks: scale.ticks(),
        lines,
        hints: hints(points, |point| {
            Some(match point.times {
                Some(Percentiles { p50, p99, max, is_p99_max }) => {
                    let [p50, p99, max] = [p50, p99, max].map(time);
                    let mark = if is_p99_max { MARK } else { "" };
                    format!("p50 {p50}, p99 {mark}{p99}, max {max}")
                }
                None => "no answer".to_owned(),
            })
        }),
        ..along_the_run(points)
    }
}

fn throughput(points: &[Point], asked: Option<f64>) -> Chart {
    let most = points.iter().map(Point::rate).fold(0.0, f64::max);
    let least = points.iter().map(Point::rate).fold(f64::INFINITY, f64::min);
    let scale = Linear::up_to(most.max(asked.unwrap_or(0.0)));
    let level = |point: &Point| scale.place(point.rate());
    let steps = Path::steps(each(points, |point| Some(level(point))));
    let mut lines = vec![
        Line { look: Look::Area, name: None, path: Path::bars(each(points, level)) },
        Line { look: Look::First, name: Some("answered"), path: steps },
    ];
    if let Some(asked) = asked {
        let level = scale.place(asked);
        let path = Path::through([(0.0, level), (1.0, level)]);
        lines.push(Line { look: Look::Asked, name: Some("requested"), path });
    }
    Chart {
        id: "throughput",
        title: "Throughput",
        description: format!(
            "Messages answered each second: between {} and {}.",
            rate(least.min(most)),
            rate(most)
        ),
        y_name: "correct answers per second".to_owned(),
        y_ticks: scale.ticks(),
        lines,
        hints: hints(points, |point| Some(format!("{} messages/s", rate(point.rate())))),
        ..along_the_run(points)
    }
}

fn errors(run: &Run<'_>, points: &[Point]) -> Markup {
    let (errors, wrong) = (&run.summary.errors, &run.summary.wrong);
    let row = |(cause, count): (Cause, u64)| {
        let cause = html! { (cause.text()) " " code .soft { (cause.name()) } };
        [html! { (grouped(count)) }, cause]
    };
    html! {
        @if errors.total() > 0 {
            h2 { "Errors" }
            (table("errors", ["count", "cause"], errors.seen().map(row)))
            @for chart in Cause::ALL.iter().filter_map(|cause| strip(*cause, points)) { (chart) }
        }
        @if !wrong.is_empty() {
            h2 { "First wrong echoes" }
            (table("wrong", WRONG_COLUMNS, wrong.iter().map(wrong_row)))
            p .soft { (WRONG_PLACES) (wrong_left_out(run)) }
        }
    }
}

/// A thin chart of the errors of a cause, if any were seen over time.
fn strip(cause: Cause, points: &[Point]) -> Option<Chart> {
    let counts = || points.iter().map(|point| point.errors.count(cause));
    let most = counts().max().filter(|most| *most > 0)?;
    let level = |point: &Point| point.errors.count(cause) as f64 / most as f64;
    let text = cause.text();
    Some(Chart {
        id: cause.name(),
        title: text,
        description: format!("{} in the measured part.", grouped(counts().sum())),
        y_name: "errors in each point of time".to_owned(),
        x_name: "",
        y_ticks: [(0.0, 0), (1.0, most)]
            .map(|(at, count)| Tick { at, text: grouped(count) })
            .into(),
        lines: vec![Line { look: Look::Bad, name: None, path: Path::bars(each(points, level)) }],
        hints: hints(points, |point| match point.errors.count(cause) {
            0 => None,
            count => Some(format!("{} {text}", grouped(count))),
        }),
        is_strip: true,
        ..along_the_run(points)
    })
}

fn measured(run: &Run<'_>, is_reached: bool) -> Markup {
    let Run { about, summary, .. } = run;
    let began = summary.began.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let addresses = about.addresses_row();
    let addresses = addresses.iter().map(|(name, addresses)| (*name, addresses));
    let facts = about.facts.iter().map(|(_, name, value)| (*name, value));
    let facts = addresses.chain(facts);
    html! {
        h2 { "How it was measured" }
        (list("facts short", facts.chain([("began", &began)])))
        p { "Run it again:" }
        // A line breaks between words, not after the hyphens of a flag.
        pre { @for word in about.again.split(' ') { span { (word) } " " } }
        @if is_reached {
            p { (if about.is_open_loop { OPEN_LOOP_MEANS } else { CLOSED_LOOP_MEANS }) }
            p { (HOW_IT_COUNTS) }
            @if summary.client.limits.is_empty() {
                p { "The client found no sign that it was itself the limit." }
            }
        }
    }
}

/// What each point of time has, with the shares of the run at which it begins and ends.
fn each<T>(points: &[Point], of: impl Fn(&Point) -> T) -> impl Iterator<Item = (f64, f64, T)> {
    let axis = axis(points);
    points.iter().map(move |point| (axis.place(point.start), axis.place(point.end()), of(point)))
}

fn axis(points: &[Point]) -> Elapsed {
    Elapsed::up_to(points.last().map_or(Duration::ZERO, Point::end))
}

/// The axis that all charts over time have.
fn along_the_run(points: &[Point]) -> Chart {
    let x_name = "time since the measured part began";
    Chart { x_name, x_ticks: axis(points).ticks(), ..Chart::default() }
}

fn hints(points: &[Point], hint: impl Fn(&Point) -> Option<String>) -> Vec<(f64, f64, String)> {
    // To a tenth: intervals end when the process is woken.
    let tenths =
        |time: Duration| seconds(Duration::from_millis((time.as_millis() as u64 + 50) / 100 * 100));
    let hint = |point: &Point| {
        let (start, end) = (tenths(point.start), tenths(point.end()));
        hint(point).map(|hint| format!("{start} to {end}: {hint}"))
    };
    each(points, hint).filter_map(|(from, to, hint)| Some((from, to, hint?))).collect()
}
