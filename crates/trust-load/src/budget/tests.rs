//! Budgets against runs that are made up.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::summary::{Cause, Counts};

/// A run of 10 s in which nothing happened.
fn nothing() -> Summary {
    Summary { took: Duration::from_secs(10), ..Summary::default() }
}

/// 1000 messages with latencies of 1 to 1000 ms, each with half of it as service time, and 20 that
/// were lost in two errors; 4 connections that took 1 ms each.
fn thousand() -> Summary {
    let mut run = nothing();
    for ms in 1..=1000_u64 {
        run.latency.add(ms * 1_000_000);
        run.service.add(ms * 500_000);
    }
    run.connect.add_many(1_000_000, 4);
    run.errors.add(Cause::Mismatch);
    run.errors.add(Cause::Timeout);
    run.counts = Counts {
        connections: 4,
        answered: 980,
        answered_in_time: 975,
        slow: 49,
        sent: 1_000,
        failed: 15,
        unsent: 5,
        ..Counts::default()
    };
    run.achieved_rate = 97.5;
    run
}

fn one(text: &str) -> Budget {
    let mut budgets = parse_list(text).expect("a budget");
    assert_eq!(budgets.len(), 1);
    budgets.remove(0)
}

fn wrong(text: &str) -> String {
    parse_list(text).expect_err(text).to_string()
}

#[test]
fn each_metric_is_measured_where_it_says() {
    let run = thousand();
    let cases = [
        ("p50>1s", "500 ms"),
        ("p99>1s", "990 ms"),
        ("p99.9>1s", "999 ms"),
        ("min>1s", "1.00 ms"),
        ("mean>2s", "501 ms"),
        ("max>2s", "1.00 s"),
        ("service-p50>1s", "250 ms"),
        ("service-max>1s", "500 ms"),
        ("connect-p99>1s", "1.00 ms"),
        ("errors>9", "2"),
        ("errors>9%", "0.2 %"),
        ("mismatch>9", "1"),
        ("timeout>9%", "0.1 %"),
        ("refused>9", "0"),
        ("slow>99", "49"),
        ("slow>9%", "4.9 %"),
        ("unanswered>99", "20"),
        ("unanswered>9%", "2 %"),
        ("rate>999", "97.5 messages/s"),
        ("connections>9", "4"),
    ];
    for (text, measured) in cases {
        let shown = one(text).measure(&run).to_string();
        assert_eq!(shown, measured, "{text}");
        assert!(!one(text).holds(&run), "{text}");
        assert!(one(&text.replace('>', "<")).holds(&run), "{text}");
    }
}

#[test]
fn a_percentile_of_too_few_is_judged_by_their_maximum_and_says_so() {
    let run = thousand();
    let note = |text: &str| judge(&[one(text)], &run)[0].note.clone();
    assert_eq!(note("p99.9>1s"), None);
    assert_eq!(note("max>1s"), None);
    assert_eq!(note("p99.99 >1s").as_deref(), Some("p99.99 of 1,000 messages is their maximum"));
    let connections = Some("connect-p99 of 4 connections is their maximum");
    assert_eq!(note("connect-p99>1s").as_deref(), connections);
    let broken = first_broken(&parse_list("p99.99<1s").unwrap(), &run);
    let expected = "p99.99<1s: 1.00 s (p99.99 of 1,000 messages is their maximum)";
    assert_eq!(broken.as_deref(), Some(expected));
    assert_eq!(judge(&[one("p99>1s")], &nothing())[0].note, None);
}

#[test]
fn a_percentile_at_the_edge_of_two_values_is_the_lower_one() {
    let mut run = nothing();
    run.latency.add_many(1000, 999);
    run.latency.add_many(2000, 1);
    assert!(one("p99.9<=1000ns").holds(&run));
    assert!(!one("p99.91<=1000ns").holds(&run));
}

#[test]
fn the_four_comparisons_differ_at_the_value_itself() {
    let run = thousand();
    let cases = [
        ("errors<2", false),
        ("errors<=2", true),
        ("errors>2", false),
        ("errors>=2", true),
        ("errors<=1", false),
        ("errors>=3", false),
        ("rate<97.5", false),
        ("rate<0.0975k", false),
        ("rate<=0.0000975M", true),
        ("rate<10k", true),
        ("rate<=97.5", true),
        ("unanswered>2%", false),
        ("unanswered>=2%", true),
    ];
    for (text, holds) in cases {
        assert_eq!(one(text).holds(&run), holds, "{text}");
        assert_eq!(judge(&[one(text)], &run)[0].is_missed, holds, "{text}");
    }
}

#[test]
fn units_are_factors_of_a_thousand_and_exact() {
    let nanoseconds = |text: &str| one(&format!("p99>{text}")).value;
    let cases = [
        ("1ns", 1.0),
        ("0.3ms", 300_000.0),
        ("0.0000003s", 300.0),
        ("1.5us", 1500.0),
        ("1.5µs", 1500.0),
        ("1.5μs", 1500.0),
        ("2s", 2e9),
        ("1.07s", 1_070_000_000.0),
        ("5 ms", 5e6),
        ("5.ms", 5e6),
        (".5ms", 5e5),
        ("0s", 0.0),
        ("3600s", 3.6e12),
        ("0.1m", 6e9),
        ("1.5 m", 9e10),
        ("1h", 3.6e12),
    ];
    for (text, expected) in cases {
        assert_eq!(nanoseconds(text), expected, "{text}");
    }
}

#[test]
fn a_list_keeps_its_order_and_the_words_of_its_budgets() {
    let budgets = parse_list("p99>5ms, errors>0 ,rate < 1000").unwrap();
    let texts: Vec<String> = budgets.iter().map(Budget::to_string).collect();
    assert_eq!(texts, ["p99>5ms", "errors>0", "rate < 1000"]);
    let judgements = judge(&budgets, &thousand());
    let told: Vec<(&str, &str, bool)> = judgements
        .iter()
        .map(|judgement| (&*judgement.budget, &*judgement.measured, judgement.is_missed))
        .collect();
    let expected = [
        ("p99>5ms", "990 ms", true),
        ("errors>0", "2", true),
        ("rate < 1000", "97.5 messages/s", true),
    ];
    assert_eq!(told, expected);
}

#[test]
fn without_any_message_a_percentile_is_missed_and_does_not_hold() {
    let run = nothing();
    for text in [
        "p99>5ms",
        "p99<5ms",
        "max>1s",
        "mean<=1s",
        "connect-min>=0s",
        "errors>1%",
        "unanswered<100%",
    ] {
        let judgement = &judge(&[one(text)], &run)[0];
        assert_eq!(
            (&*judgement.measured, judgement.is_missed),
            ("nothing was measured", true),
            "{text}"
        );
        assert!(!one(text).holds(&run), "{text}");
        assert_eq!(first_broken(&[one(text)], &run), Some(format!("{text}: nothing was measured")));
    }
    // What is a number even of nothing is compared as such.
    for (text, missed) in [("errors>0", false), ("rate<1000", true), ("connections<1", true)] {
        assert_eq!(judge(&[one(text)], &run)[0].is_missed, missed, "{text}");
    }
}

#[test]
fn rounding_never_makes_a_missed_budget_look_kept() {
    let mut run = nothing();
    run.latency.add(5_001_000);
    let judgement = &judge(&[one("max>5ms")], &run)[0];
    assert!(judgement.is_missed);
    assert_eq!(judgement.measured, "5001000 ns");
    run.achieved_rate = 999_999.9;
    assert_eq!(judge(&[one("rate<1000000")], &run)[0].measured, "999999.9 messages/s");
    assert_eq!(judge(&[one("rate<999999.9")], &run)[0].measured, "1,000,000 messages/s");
}

#[test]
fn the_first_budget_that_does_not_hold_is_told() {
    let run = thousand();
    let broken = |text| first_broken(&parse_list(text).unwrap(), &run);
    assert_eq!(broken("p99<5ms,errors<=0"), Some("p99<5ms: 990 ms".to_owned()));
    assert_eq!(broken("p99<5s,errors<=0"), Some("errors<=0: 2".to_owned()));
    assert_eq!(broken("p99<5s,errors<=2"), None);
}

#[test]
fn a_malformed_budget_is_told_with_its_part_its_fault_and_what_is_allowed() {
    let comparisons = "expected <, <=, > or >=";
    let times = "expected ns, us, µs, ms, s, m or h";
    let number = "does not begin with a number: expected a number from 0, as 10 or 2.5";
    let cases = [
        ("", format!("a budget is empty: expected {ALLOWED}")),
        ("p99>5ms,", format!("a budget is empty: expected {ALLOWED}")),
        ("p99>5ms, ,errors>0", format!("a budget is empty: expected {ALLOWED}")),
        ("p99", format!("'p99': no comparison: {comparisons}")),
        ("p99 5ms", format!("'p99 5ms': no comparison: {comparisons}")),
        ("p99=5ms", format!("'p99=5ms': unknown comparison '=': {comparisons}")),
        ("p99==5ms", format!("'p99==5ms': unknown comparison '==': {comparisons}")),
        ("p99=>5ms", format!("'p99=>5ms': unknown comparison '=>': {comparisons}")),
        ("p99<>5ms", format!("'p99<>5ms': unknown comparison '<>': {comparisons}")),
        ("p99>>5ms", format!("'p99>>5ms': unknown comparison '>>': {comparisons}")),
        (
            "errors>0,p9x>5ms",
            format!("'p9x>5ms': unknown metric 'p9x': expected {}", Metric::ALLOWED),
        ),
        ("p0>5ms", format!("'p0>5ms': unknown metric 'p0': expected {}", Metric::ALLOWED)),
        (">5ms", format!("'>5ms': unknown metric '': expected {}", Metric::ALLOWED)),
        ("p99>5", format!("'p99>5': a time without a unit: {times}")),
        ("p99>5d", format!("'p99>5d': unknown unit 'd': {times}")),
        ("p99>5MS", format!("'p99>5MS': unknown unit 'MS': {times}")),
        ("p99>5%", format!("'p99>5%': unknown unit '%': {times}")),
        ("p99>5e3ms", format!("'p99>5e3ms': unknown unit 'e3ms': {times}")),
        ("rate<5%", "'rate<5%': unknown unit '%': expected k, M or none".to_owned()),
        ("connections<5%", "'connections<5%': unknown unit '%': expected none".to_owned()),
        (
            "errors>1ms",
            "'errors>1ms': unknown unit 'ms': expected none, or % of the messages that were due"
                .to_owned(),
        ),
        (
            "errors>1k",
            "'errors>1k': unknown unit 'k': expected none, or % of the messages that were due"
                .to_owned(),
        ),
        ("p99>", format!("'p99>': '' {number}")),
        ("p99>ms", format!("'p99>ms': 'ms' {number}")),
        ("p99>-5ms", format!("'p99>-5ms': '-5ms' {number}")),
        ("p99>+5ms", format!("'p99>+5ms': '+5ms' {number}")),
        ("p99>nan", format!("'p99>nan': 'nan' {number}")),
        ("rate<inf", format!("'rate<inf': 'inf' {number}")),
        ("p99>.ms", format!("'p99>.ms': '.ms' {number}")),
        ("p99>1.2.3ms", format!("'p99>1.2.3ms': '1.2.3ms' {number}")),
        ("p99>5ms>1ms", format!("'p99>5ms>1ms': unknown unit 'ms>1ms': {times}")),
        (
            "errors>0.5",
            "'errors>0.5': '0.5' is not whole: expected a whole number, or a number with % of the \
             messages that were due"
                .to_owned(),
        ),
        (
            "connections>0.5",
            "'connections>0.5': '0.5' is not whole: expected a whole number".to_owned(),
        ),
        (
            "p99>3600.1s",
            "'p99>3600.1s': '3600.1s' is too large: expected a time up to 1h, or another number \
             below 2^53"
                .to_owned(),
        ),
    ];
    for (text, message) in cases {
        assert_eq!(wrong(text), message, "{text}");
    }
    let huge = format!("rate<{}", "9".repeat(400));
    assert!(wrong(&huge).contains("is too large"), "{}", wrong(&huge));
    assert!(wrong("p99>5ms\x1b[1m").contains("\\u{1b}"));
}

#[test]
fn a_list_is_of_bounded_length() {
    let list = |count| vec!["errors>0"; count].join(",");
    assert_eq!(parse_list(&list(BUDGETS_MAX)).map(|budgets| budgets.len()), Ok(BUDGETS_MAX));
    assert_eq!(wrong(&list(BUDGETS_MAX + 1)), "expected at most 100 budgets");
}

proptest! {
    #[test]
    fn no_text_breaks_the_parser_or_a_line(text in "\\PC{0,40}|[a-z0-9.<>=%, µ-]{0,40}") {
        match parse_list(&text) {
            Ok(budgets) => {
                for budget in budgets {
                    prop_assert!(budget.value >= 0.0 && budget.value.is_finite());
                    prop_assert_eq!(parse_list(&budget.to_string()), Ok(vec![budget]));
                }
            }
            Err(bad) => prop_assert!(!bad.to_string().chars().any(char::is_control)),
        }
    }
}

#[test]
fn a_budget_is_shown_in_one_line_whatever_separates_number_and_unit() {
    let budgets = parse_fail_if("p99>5\tms").unwrap();
    assert_eq!(budgets[0].to_string(), "p99>5 ms");
    assert!(!parse_find_rate("p99>5\tms").unwrap_err().contains(char::is_control));
}
