//! What the page says, and what it must not let through.

use std::{env, fs};

use super::*;
use crate::report::sample;
use crate::summary::{Errors, Interval};
use crate::timings::Timings;

fn html(name: &str) -> String {
    let sample = sample::named(name);
    report(&sample.run(), &sample.timeline)
}

#[test]
fn a_page_needs_nothing_else() {
    for (name, sample) in sample::ALL.iter() {
        let page = report(&sample.run(), &sample.timeline);
        for foreign in [
            "<script", "http:", "https:", "src=", "href=", "url(", "@import", "NaN", "Hinf",
            "Vinf", "Linf", "inf%", "inf\"",
        ] {
            assert!(!page.contains(foreign), "{name} has {foreign}");
        }
    }
}

#[test]
fn what_comes_from_outside_is_text() {
    let mut sample = sample::named("open");
    let nasty = "<img src=x onerror=alert(1)>\"'&";
    sample.about.target = nasty.to_owned();
    sample.about.again = nasty.to_owned();
    sample.about.facts[0].2 = nasty.to_owned();
    sample.summary.client.limits[0] = nasty.to_owned();
    sample.judgements[0].budget = nasty.to_owned();
    sample.judgements[0].measured = nasty.to_owned();
    let page = report(&sample.run(), &sample.timeline);
    assert!(!page.contains("<img"), "{page}");
    // Title and heading; limit; budget twice; fact. The command is cut into words.
    assert_eq!(page.matches("&lt;img src=x onerror=alert(1)&gt;&quot;'&amp;").count(), 6);
}

#[test]
fn an_open_loop_has_both_curves_and_what_was_asked_for() {
    let page = html("clean");
    for expected in [
        "<span class=\"word passed\">PASSED</span>",
        "All 150,247 echoes were right, byte for byte.",
        "</svg> service time</span>",
        "</svg> requested</span>",
        "Open loop: messages are due at fixed times",
        "<b class=\"kept\">kept</b>",
        "no sign that it was itself the limit",
    ] {
        assert!(page.contains(expected), "{expected:?}");
    }
    assert!(!page.contains("<h2>Errors</h2>"), "there were none");
}

#[test]
fn a_closed_loop_has_one_curve_and_says_what_it_hides() {
    let page = html("closed");
    assert!(page.contains("Closed loop: each connection has only so many messages on their way"));
    assert!(page.contains(CLOSED_LOOP));
    assert!(!page.contains("service time") && !page.contains("requested"), "{page}");
}

#[test]
fn points_that_were_joined_are_said_to_be_the_worst_of_their_seconds() {
    assert!(
        html("long")
            .contains("Each point is 2 s of the run. Its percentiles are the worst of its seconds")
    );
    assert!(!html("open").contains("the worst of"));
}

#[test]
fn errors_stand_over_time_by_cause_with_the_first_wrong_bytes() {
    let page = html("open");
    for expected in [
        "<td>31</td><td>reset before the answer \
         <code class=\"soft\">reset_before_answer</code></td>",
        "<title id=\"timeout-title\">no answer in time</title>",
        "<td>17</td><td>1,204</td><td>17</td><td>13</td><td>0x4e</td><td>0x4f</td>",
        "<h2>The client was the limit</h2>",
        "<b class=\"missed\">missed</b>",
    ] {
        assert!(page.contains(expected), "{expected:?}");
    }
}

#[test]
fn a_second_without_an_answer_is_seen() {
    assert!(!html("open").contains("no answer</span>"));
    let mut sample = sample::named("clean");
    let (none, errors) = (Timings::default(), Errors::default());
    sample.timeline.add(&Interval {
        start: Duration::from_secs(30),
        length: Duration::from_secs(10),
        latency: &none,
        service: &none,
        answered: 0,
        slow: 0,
        bytes_received: 0,
        errors: &errors,
    });
    let page = report(&sample.run(), &sample.timeline);
    assert!(page.contains("</svg> no answer</span>"), "{page}");
    assert!(page.contains("<path class=\"nothing\" d=\"M750 1000V0H1000V1000Z\">"), "{page}");
    assert!(page.contains("<title>30 s to 40 s: no answer</title>"), "{page}");
}

#[test]
fn the_curve_of_a_few_messages_ends_at_the_longest() {
    let mut sample = sample::named("closed");
    sample.summary.latency = Timings::default();
    sample.summary.latency.add_many(1_000_000, 19);
    sample.summary.latency.add(10_000_000);
    sample.summary.service = sample.summary.latency.clone();
    let page = report(&sample.run(), &sample.timeline);
    let (_, rest) = page.split_once("<path class=\"first\" d=\"M0 1000L").expect("the curve");
    let (curve, _) = rest.split_once('"').expect("its end");
    assert!(curve.ends_with("L1000 0"), "{curve}");
}

#[test]
fn high_percentiles_have_their_confidence_interval_and_those_of_too_few_a_mark() {
    let page = html("clean");
    assert_eq!(page.matches("class=\"interval\"").count(), 6, "p99 to p99.99, in two columns");
    assert!(page.contains("lies with 95 % confidence"), "{page}");
    let mut sample = sample::named("closed");
    sample.summary.latency = Timings::default();
    (1..=50).for_each(|ms| sample.summary.latency.add(ms * 1_000_000));
    let page = report(&sample.run(), &sample.timeline);
    let p99 = "<td>p99</td><td>*50.0 ms<span class=\"interval\">at least 48.0 ms</span></td>";
    assert!(page.contains(p99), "{page}");
    assert!(page.contains("<td>p95</td><td>48.0 ms</td>"), "{page}");
    assert!(page.contains("99th percentile: the maximum"), "{page}");
}

#[test]
fn a_run_that_met_nobody_has_no_chart() {
    let page = html("unreachable");
    assert!(page.contains("UNREACHABLE") && page.contains("Connection refused"), "{page}");
    assert!(!page.contains("<figure") && !page.contains("class=\"tiles\""), "{page}");
    assert!(!page.contains("was compared") && !page.contains("no sign that"), "{page}");
}

#[test]
#[ignore = "writes pages for a browser, to the directory that TRUSTCTL_PAGES names"]
fn pages_for_a_browser() {
    let directory = env::var_os("TRUSTCTL_PAGES").expect("TRUSTCTL_PAGES names a directory");
    for (name, sample) in sample::ALL.iter() {
        let path = std::path::Path::new(&directory).join(format!("load-{name}.html"));
        fs::write(path, report(&sample.run(), &sample.timeline)).expect("the page is written");
    }
}
