//! The result as one page that needs nothing else.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;
use std::time::Duration;

use trust_cli::markup::{escaped, page};
use trust_cli::text::{grouped, seconds};

use crate::report::chart::{Chart, Line, Look, Path, Tick};
use crate::report::scale::{Elapsed, Linear, Logarithmic};
use crate::report::timeline::{Point, Timeline};
use crate::report::units::{percent, rate, time};
use crate::report::{
    CLOSED_LOOP, OPEN_LOOP, Outcome, WRONG_COLUMNS, WRONG_PLACES, findings, numbers, percentiles,
    search, whole_messages, wrong_left_out, wrong_row,
};
use crate::summary::{Errors, Run, Searched, Summary};
use crate::timings::Timings;

const STYLE: &str = include_str!("page.css");

/// Decades of 1/(1-quantile) up to which percentiles are drawn: 99.9999 %.
const DECADES_MAX: f64 = 6.0;

/// Quantiles that are drawn in each decade, so that the curve has no corners.
const QUANTILES_PER_DECADE: u32 = 60;

/// The result as one page.
pub fn report(run: &Run<'_>, timeline: &Timeline) -> String {
    let Run { about, summary, .. } = run;
    let outcome = Outcome::of(run);
    let target = escaped(&about.target);
    let word = outcome.word();
    let mut body = format!(
        "<header>\n<h1><span class=\"word {}\">{word}</span> trustctl load <span class=\"target\">{target}</span></h1>\n",
        word.to_lowercase()
    );
    for said in findings(run) {
        let _ = writeln!(body, "<p>{}</p>", escaped(&said));
    }
    body.push_str("</header>\n");
    if outcome != Outcome::Unreachable {
        tiles(&mut body, summary);
    }
    limits(&mut body, summary);
    budgets(&mut body, run);
    if let Some(searched) = run.searched {
        trials(&mut body, searched);
    }
    if !summary.latency.is_empty() {
        latency(&mut body, run);
    }
    over_time(&mut body, run, timeline);
    errors(&mut body, run, timeline);
    if outcome != Outcome::Unreachable {
        body.push_str("<h2>What happened</h2>\n");
        let numbers = numbers(summary, about.is_open_loop);
        list(&mut body, "facts", numbers.iter().map(|(name, said)| (*name, said)));
    }
    measured(&mut body, run);
    page(&format!("{word}: trustctl load {target}"), STYLE, &body)
}

/// The numbers that everybody looks for, large.
fn tiles(body: &mut String, summary: &Summary) {
    let mut tiles = vec![];
    if !summary.latency.is_empty() {
        let latency = |quantile| time(summary.latency.value_at_quantile(quantile));
        tiles.push((latency(0.5), "median latency".to_owned()));
        tiles.push((latency(0.99), "99th percentile".to_owned()));
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
    body.push_str("<div class=\"tiles\">\n");
    for (number, name) in tiles {
        let _ = writeln!(
            body,
            "<div><b>{}</b> <span>{}</span></div>",
            escaped(&number),
            escaped(&name)
        );
    }
    body.push_str("</div>\n");
}

fn trials(body: &mut String, searched: &Searched) {
    body.push_str("<h2>Trials</h2>\n<table>\n<tr>");
    for column in search::COLUMNS {
        let _ = write!(body, "<th>{}</th>", escaped(column));
    }
    body.push_str("</tr>\n");
    for row in search::rows(searched) {
        let [asked, achieved, result] = row.map(|cell| escaped(&cell));
        let _ = writeln!(body, "<tr><td>{asked}</td><td>{achieved}</td><td>{result}</td></tr>");
    }
    body.push_str("</table>\n");
}

fn limits(body: &mut String, summary: &Summary) {
    if summary.client.limits.is_empty() {
        return;
    }
    body.push_str("<div class=\"limits\">\n<h2>The client was the limit</h2>\n");
    for limit in &summary.client.limits {
        let _ = writeln!(body, "<p>{}</p>", escaped(limit));
    }
    body.push_str("</div>\n");
}

fn budgets(body: &mut String, run: &Run<'_>) {
    if run.judgements.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Budgets</h2>\n<table>\n<tr><th>budget</th><th>fail if</th><th>measured</th></tr>\n",
    );
    for judgement in run.judgements {
        let word = if judgement.is_missed { "missed" } else { "kept" };
        let _ = writeln!(
            body,
            "<tr><td><b class=\"{word}\">{word}</b></td><td><code>{}</code></td><td>{}</td></tr>",
            escaped(&judgement.budget),
            escaped(&judgement.measured)
        );
    }
    body.push_str("</table>\n");
}

fn latency(body: &mut String, run: &Run<'_>) {
    let (summary, is_open_loop) = (run.summary, run.about.is_open_loop);
    let said = if is_open_loop { OPEN_LOOP } else { CLOSED_LOOP };
    let _ = writeln!(body, "<h2>Latency</h2>\n<p class=\"soft\">{}</p>", escaped(said));
    body.push_str("<div class=\"beside\">\n");
    body.push_str(&by_percentile(summary, is_open_loop).html());
    body.push_str("<table class=\"numbers\">\n");
    let mut rows = percentiles(summary, is_open_loop).into_iter();
    for (row, cell) in
        rows.next().map(|row| (row, "th")).into_iter().chain(rows.map(|row| (row, "td")))
    {
        body.push_str("<tr>");
        for text in row {
            let _ = write!(body, "<{cell}>{}</{cell}>", escaped(&text));
        }
        body.push_str("</tr>\n");
    }
    body.push_str("</table>\n</div>\n");
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

fn over_time(body: &mut String, run: &Run<'_>, timeline: &Timeline) {
    let points = timeline.points();
    let Some(last) = points.last() else { return };
    let axis = Elapsed::up_to(last.end());
    body.push_str("<h2>Over time</h2>\n");
    if timeline.is_joined() {
        let length = seconds(points[0].length);
        let _ = writeln!(
            body,
            "<p class=\"soft\">Each point is {length} of the run. Its percentiles are the worst of its seconds; \
             its counts are sums.</p>"
        );
    }
    body.push_str("<div class=\"pair\">\n");
    if points.iter().any(|point| point.times.is_some()) {
        body.push_str(&latency_over_time(points, axis, timeline.is_joined()).html());
    }
    body.push_str(&throughput(points, axis, run.summary.rate).html());
    body.push_str("</div>\n");
}

fn latency_over_time(points: &[Point], axis: Elapsed, is_joined: bool) -> Chart {
    let seen = || points.iter().filter_map(|point| point.times);
    let low = seen().map(|times| times.p50).min().unwrap_or(1);
    let worst = seen().map(|times| times.max).max().unwrap_or(1);
    let scale = Logarithmic::around(low, worst);
    let line = |look, name, of: fn(&Point) -> Option<u64>| Line {
        look,
        name: Some(name),
        path: Path::steps(points.iter().map(|point| {
            let (from, to) = span(axis, point);
            (from, to, of(point).map(|ns| scale.place(ns)))
        })),
    };
    let hint = |point: &Point| match point.times {
        Some(times) => format!(
            "{}: p50 {}, p99 {}, max {}",
            when(point),
            time(times.p50),
            time(times.p99),
            time(times.max)
        ),
        None => format!("{}: no answer", when(point)),
    };
    let worst_of = if is_joined { ", the worst of each point’s seconds" } else { "" };
    let mut lines = vec![
        line(Look::Third, "max", |point| point.times.map(|times| times.max)),
        line(Look::Second, "p99", |point| point.times.map(|times| times.p99)),
        line(Look::First, "p50", |point| point.times.map(|times| times.p50)),
    ];
    if points.iter().any(|point| point.times.is_none()) {
        let path = Path::bars(points.iter().map(|point| {
            let (from, to) = span(axis, point);
            (from, to, if point.times.is_none() { 1.0 } else { 0.0 })
        }));
        lines.insert(0, Line { look: Look::Nothing, name: Some("no answer"), path });
    }
    Chart {
        id: "latency",
        title: "Latency",
        description: format!(
            "Median, 99th percentile and longest latency over the run; the longest of all was {}.",
            time(worst)
        ),
        y_name: format!("time to an echo, logarithmic{worst_of}"),
        x_name: "time since the measured part began",
        y_ticks: scale.ticks(),
        x_ticks: axis.ticks(),
        lines,
        hints: hints(points, axis, hint),
        is_strip: false,
    }
}

fn throughput(points: &[Point], axis: Elapsed, asked: Option<f64>) -> Chart {
    let most = points.iter().map(Point::rate).fold(0.0, f64::max);
    let least = points.iter().map(Point::rate).fold(f64::INFINITY, f64::min);
    let scale = Linear::up_to(most.max(asked.unwrap_or(0.0)));
    let levels = || {
        points.iter().map(|point| {
            let (from, to) = span(axis, point);
            (from, to, scale.place(point.rate()))
        })
    };
    let steps = Path::steps(levels().map(|(from, to, level)| (from, to, Some(level))));
    let mut lines = vec![
        Line { look: Look::Area, name: None, path: Path::bars(levels()) },
        Line { look: Look::First, name: Some("answered"), path: steps },
    ];
    if let Some(asked) = asked {
        let level = scale.place(asked);
        let path = Path::through([(0.0, level), (1.0, level)]);
        lines.push(Line { look: Look::Asked, name: Some("requested"), path });
    }
    let hint = |point: &Point| format!("{}: {} messages/s", when(point), rate(point.rate()));
    Chart {
        id: "throughput",
        title: "Throughput",
        description: format!(
            "Messages answered each second: between {} and {}.",
            rate(least.min(most)),
            rate(most)
        ),
        y_name: "messages a second that came back right".to_owned(),
        x_name: "time since the measured part began",
        y_ticks: scale.ticks(),
        x_ticks: axis.ticks(),
        lines,
        hints: hints(points, axis, hint),
        is_strip: false,
    }
}

fn errors(body: &mut String, run: &Run<'_>, timeline: &Timeline) {
    let errors = &run.summary.errors;
    if errors.total() > 0 {
        body.push_str(
            "<h2>Errors</h2>\n<table class=\"errors\">\n<tr><th>count</th><th>cause</th></tr>\n",
        );
        for (cause, count) in errors.seen() {
            let (count, text, name) = (grouped(count), cause.text(), cause.name());
            let _ = writeln!(
                body,
                "<tr><td>{count}</td><td>{} <code class=\"soft\">{name}</code></td></tr>",
                escaped(text)
            );
        }
        body.push_str("</table>\n");
        strips(body, timeline.points());
    }
    let wrong = &run.summary.wrong;
    if wrong.is_empty() {
        return;
    }
    body.push_str("<h2>First wrong echoes</h2>\n<table class=\"wrong\">\n<tr>");
    for name in WRONG_COLUMNS {
        let _ = write!(body, "<th>{}</th>", escaped(name));
    }
    body.push_str("</tr>\n");
    for wrong in wrong {
        body.push_str("<tr>");
        for text in wrong_row(wrong) {
            let _ = write!(body, "<td>{}</td>", escaped(&text));
        }
        body.push_str("</tr>\n");
    }
    let _ = writeln!(
        body,
        "</table>\n<p class=\"soft\">{WRONG_PLACES}{}</p>",
        escaped(&wrong_left_out(run))
    );
}

/// A thin chart for each cause, one above the other.
fn strips(body: &mut String, points: &[Point]) {
    let Some(last) = points.last() else { return };
    let axis = Elapsed::up_to(last.end());
    let mut seen = Errors::default();
    points.iter().for_each(|point| seen.merge(&point.errors));
    for (cause, total) in seen.seen() {
        let most = points.iter().map(|point| point.errors.count(cause)).max().unwrap_or(0);
        let bars = points.iter().map(|point| {
            let (from, to) = span(axis, point);
            (from, to, point.errors.count(cause) as f64 / most.max(1) as f64)
        });
        let hint = |point: &Point| {
            format!("{}: {} {}", when(point), grouped(point.errors.count(cause)), cause.text())
        };
        let with_errors: Vec<Point> =
            points.iter().copied().filter(|point| point.errors.count(cause) > 0).collect();
        let chart = Chart {
            id: cause.name(),
            title: cause.text(),
            description: format!("{} in the measured part.", grouped(total)),
            y_name: "errors in each point of time".to_owned(),
            x_name: "",
            y_ticks: vec![
                Tick { at: 0.0, text: "0".to_owned() },
                Tick { at: 1.0, text: grouped(most) },
            ],
            x_ticks: axis.ticks(),
            lines: vec![Line { look: Look::Bad, name: None, path: Path::bars(bars) }],
            hints: hints(&with_errors, axis, hint),
            is_strip: true,
        };
        body.push_str(&chart.html());
    }
}

fn measured(body: &mut String, run: &Run<'_>) {
    let Run { about, summary, .. } = run;
    body.push_str("<h2>How it was measured</h2>\n");
    let began = summary.began.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
    let facts = about.facts.iter().map(|(_, name, value)| (*name, value));
    list(body, "facts short", facts.chain([("began", &began)]));
    // A line breaks between words, not behind the hyphens of a flag.
    let words: Vec<String> =
        about.again.split(' ').map(|word| format!("<span>{}</span>", escaped(word))).collect();
    let _ = writeln!(body, "<p>Run it again:</p>\n<pre>{}</pre>", words.join(" "));
    if Outcome::of(run) == Outcome::Unreachable {
        return;
    }
    let meaning = if about.is_open_loop {
        "Open loop: messages are due at their times, whatever the server does, as if they came from users who do not \
         know of each other. A message that has to wait, because the server stalls, is measured from when it was due."
    } else {
        "Closed loop: each connection has only so many messages on their way, and waits for an answer before it sends \
         the next. It shows what a server can do. It does not show what users would see while it stalls: a closed loop \
         stops asking then, and the messages that it did not send are missing in the percentiles."
    };
    let _ = writeln!(body, "<p>{}</p>", escaped(meaning));
    body.push_str(
        "<p>Every byte of every echo was compared with what was sent. An error ends its connection and is counted once. \
         A timeout is in the percentiles with the time that had passed. Times are exact to a thousandth, and no \
         percentile is an average of others.</p>\n",
    );
    if summary.client.limits.is_empty() {
        body.push_str("<p>The client found no sign that it was itself the limit.</p>\n");
    }
}

fn list<'l>(body: &mut String, class: &str, facts: impl Iterator<Item = (&'l str, &'l String)>) {
    let _ = writeln!(body, "<dl class=\"{class}\">");
    for (name, value) in facts {
        let _ = writeln!(body, "<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value));
    }
    body.push_str("</dl>\n");
}

fn span(axis: Elapsed, point: &Point) -> (f64, f64) {
    (axis.place(point.start), axis.place(point.end()))
}

fn hints(
    points: &[Point],
    axis: Elapsed,
    hint: impl Fn(&Point) -> String,
) -> Vec<(f64, f64, String)> {
    let all = points.iter().map(|point| {
        let (from, to) = span(axis, point);
        (from, to, hint(point))
    });
    all.collect()
}

fn when(point: &Point) -> String {
    // To a tenth: intervals end when the process is woken.
    let tenths = |time: Duration| Duration::from_millis((time.as_millis() as u64 + 50) / 100 * 100);
    format!("{} to {}", seconds(tenths(point.start)), seconds(tenths(point.end())))
}
