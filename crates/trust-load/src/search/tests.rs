//! Searches against servers that are made up.

use proptest::prelude::*;

use super::*;

/// A run in which everything came back.
fn good(rate: f64) -> Trial {
    Trial {
        asked: rate,
        due: rate,
        achieved: rate,
        errors: 0,
        broken: None,
        is_client_limit: false,
    }
}

/// A run that was too slow.
fn slow(rate: f64) -> Trial {
    Trial { broken: Some("p99<5ms: 7.31 ms".to_owned()), ..good(rate) }
}

/// A server that holds up to a rate and nothing above it.
fn knee(at: f64) -> impl FnMut(f64) -> ControlFlow<(), Trial> {
    move |rate| ControlFlow::Continue(if rate <= at { good(rate) } else { slow(rate) })
}

fn rates(found: &Found) -> Vec<f64> {
    found.trials.iter().map(|trial| trial.asked.round()).collect()
}

#[test]
fn it_doubles_until_a_rate_does_not_hold_and_then_halves_the_distance() {
    let found = search(1000.0, knee(5000.0));
    let expected = [
        1000.0, 2000.0, 4000.0, 8000.0, 8000.0, 5657.0, 5657.0, 4757.0, 5187.0, 5187.0, 4967.0,
        4967.0, 4967.0,
    ];
    assert_eq!(rates(&found), expected);
    assert_eq!((found.rate.map(f64::round), found.end), (Some(4967.0), SearchEnd::Bracketed));
}

#[test]
fn a_start_that_does_not_hold_leads_down() {
    let found = search(1000.0, knee(100.0));
    let expected = [
        1000.0, 1000.0, 500.0, 500.0, 250.0, 250.0, 125.0, 125.0, 63.0, 88.0, 105.0, 105.0, 96.0,
        101.0, 101.0, 96.0, 96.0,
    ];
    assert_eq!(rates(&found), expected);
    let rate = found.rate.expect("a rate");
    assert!((100.0 / STEP..=100.0).contains(&rate), "{rate}");
    assert_eq!(found.end, SearchEnd::Bracketed);
}

#[test]
fn nothing_that_holds_ends_at_the_lowest_rate() {
    let found = search(10.0, knee(0.0));
    assert_eq!(rates(&found), [10.0, 10.0, 5.0, 5.0, 3.0, 3.0, 1.0, 1.0, 1.0, 1.0]);
    assert_eq!((found.rate, found.end), (None, SearchEnd::NothingHolds));
}

#[test]
fn the_lowest_rate_is_an_answer_too() {
    let found = search(10.0, knee(RATE_MIN));
    assert_eq!((found.rate, found.end), (Some(RATE_MIN), SearchEnd::Bracketed));
    let found = search(RATE_MIN, knee(RATE_MIN));
    assert_eq!((found.rate, found.end), (Some(RATE_MIN), SearchEnd::Bracketed));
}

#[test]
fn everything_that_holds_ends_at_the_highest_rate() {
    let found = search(1000.0, knee(f64::INFINITY));
    assert_eq!((found.rate, found.end), (Some(RATE_MAX), SearchEnd::Unlimited));
    assert_eq!(rates(&found)[found.trials.len() - 2..], [RATE_MAX, RATE_MAX]);
}

#[test]
fn a_client_that_was_the_limit_is_told() {
    let client_at = |limit: f64, server: f64| {
        move |rate: f64| {
            ControlFlow::Continue(match rate {
                rate if rate > limit => {
                    Trial { achieved: limit, is_client_limit: true, ..good(rate) }
                }
                rate if rate > server => slow(rate),
                rate => good(rate),
            })
        }
    };
    let found = search(1000.0, client_at(5000.0, f64::INFINITY));
    assert_eq!(found.end, SearchEnd::ClientLimit);
    let rate = found.rate.expect("a rate");
    // 98 % of what was asked for is enough, so it may be a little above the limit.
    assert!((5000.0 / STEP..=5000.0 / ACHIEVED_MIN).contains(&rate), "{rate}");
    // The client is the limit on the way, and the server is it in the end.
    let found = search(1000.0, client_at(5000.0, 4500.0));
    assert_eq!(found.end, SearchEnd::Bracketed);
    let rate = found.rate.expect("a rate");
    assert!((4500.0 / STEP..=4500.0).contains(&rate), "{rate}");
}

#[test]
fn errors_and_too_few_answers_do_not_hold_either() {
    assert_eq!(good(1000.0).why_not(), None);
    assert_eq!(slow(1000.0).why_not(), Some("p99<5ms: 7.31 ms".to_owned()));
    assert_eq!(Trial { errors: 2, ..good(1.0) }.why_not(), Some("errors: 2".to_owned()));
    let answered = |achieved| Trial { achieved, ..good(1000.0) }.why_not();
    assert_eq!(answered(980.0), None);
    assert_eq!(answered(979.9), Some("kept up with 979.9 of 1000.0 messages/s".to_owned()));
    // What chance did not make due need not be answered.
    assert_eq!(Trial { due: 900.0, achieved: 900.0, ..good(1000.0) }.why_not(), None);
}

/// What is found of a server that holds 5,000 messages per second, when these trials, counted from
/// 1, are slow anyway.
fn spoilt(spoil: &[usize]) -> Found {
    let mut count = 0;
    let mut server = knee(5000.0);
    search(1000.0, move |rate| {
        count += 1;
        if spoil.contains(&count) { ControlFlow::Continue(slow(rate)) } else { server(rate) }
    })
}

#[test]
fn one_bad_trial_is_forgiven_and_two_are_not() {
    assert_eq!(spoilt(&[2]).rate, spoilt(&[]).rate);
    let found = spoilt(&[2, 3]);
    assert_eq!(rates(&found)[..4], [1000.0, 2000.0, 2000.0, 1414.0]);
    assert!(found.rate.is_some_and(|rate| rate < 2000.0));
}

#[test]
fn an_answer_that_does_not_hold_again_is_lowered_until_one_does() {
    // The server gets slower once the search is nearly done.
    let slower = |later: f64| {
        let mut count = 0;
        search(1000.0, move |rate| {
            count += 1;
            knee(if count < 12 { 5000.0 } else { later })(rate)
        })
    };
    let found = slower(4600.0);
    assert_eq!(found.end, SearchEnd::Bracketed);
    let rate = found.rate.expect("a rate");
    assert!((4600.0 / STEP.powi(2)..=4600.0).contains(&rate), "{rate}");
    assert_eq!(found.trials.last().map(|trial| trial.asked), Some(rate));

    let mut is_first = true;
    let found = search(RATE_MAX, |rate| {
        let held = std::mem::take(&mut is_first) || rate < RATE_MAX;
        ControlFlow::Continue(if held { good(rate) } else { slow(rate) })
    });
    assert_eq!((found.rate, found.end), (Some(RATE_MAX / STEP), SearchEnd::Bracketed));

    let found = slower(100.0);
    assert_eq!(found.end, SearchEnd::Bracketed);
    assert!(found.rate.is_some_and(|rate| (10.0..=100.0).contains(&rate)), "{:?}", found.rate);

    let found = slower(0.5);
    assert_eq!((found.rate, found.end), (None, SearchEnd::Unsteady));
    assert_eq!(found.trials.len(), 11 + MAJORITY * (1 + STEPS_DOWN_MAX as usize));
}

#[test]
fn one_bad_trial_of_three_does_not_lower_the_answer() {
    // The answer is confirmed from the twelfth trial on.
    for (spoil, trials) in [(&[][..], 13), (&[12], 14), (&[13], 14)] {
        let found = spoilt(spoil);
        assert_eq!(found.rate.map(f64::round), Some(4967.0), "{spoil:?}");
        assert_eq!(found.trials.len(), trials, "{spoil:?}");
    }
    assert!(spoilt(&[12, 13]).rate.is_some_and(|rate| rate < 4967.0));
}

#[test]
fn trials_that_contradict_each_other_are_told_by_their_rates() {
    let trials = |trials: &[(f64, bool)]| {
        let trial = |&(rate, holds)| if holds { good(rate) } else { slow(rate) };
        let trials = trials.iter().map(trial).collect();
        Found { rate: None, end: SearchEnd::Bracketed, trials }.disagreement()
    };
    assert_eq!(trials(&[]), None);
    assert_eq!(trials(&[(100.0, true)]), None);
    assert_eq!(trials(&[(100.0, false)]), None);
    assert_eq!(trials(&[(100.0, true), (200.0, false), (200.0, false)]), None);
    assert_eq!(trials(&[(100.0, true), (200.0, false), (200.0, true)]), Some((200.0, 200.0)));
    let far = [(500.0, true), (1000.0, false), (365.0, false), (365.0, true)];
    assert_eq!(trials(&far), Some((365.0, 500.0)));
}

#[test]
fn a_signal_stops_it_with_what_held_so_far() {
    let stopped_at = |last: usize| {
        let mut count = 0;
        let mut server = knee(5000.0);
        search(1000.0, move |rate| {
            count += 1;
            if count > last { ControlFlow::Break(()) } else { server(rate) }
        })
    };
    for (trials, rate) in [(0, None), (1, Some(1000.0)), (4, Some(4000.0)), (6, Some(4000.0))] {
        let found = stopped_at(trials);
        assert_eq!((found.rate, found.end, found.trials.len()), (rate, SearchEnd::Stopped, trials));
    }
}

proptest! {
    #[test]
    fn a_hard_knee_is_found_to_a_step(start in 0.0..6.0_f64, at in 0.0..6.9_f64) {
        let (start, at) = (10_f64.powf(start), 10_f64.powf(at));
        let found = search(start, knee(at));
        let rate = found.rate.expect("a rate");
        prop_assert_eq!(found.end, SearchEnd::Bracketed);
        prop_assert!(at / STEP <= rate && rate <= at, "{} for {}", rate, at);
    }

    /// Near the knee chance decides: the answer is where at least some trials hold, and it held
    /// last.
    #[test]
    fn a_noisy_knee_is_found_where_it_is_noisy_or_a_little_below(
        at in 1.0..6.0_f64,
        noise in prop::collection::vec(0.0..1.0_f64, TRIALS_MAX),
    ) {
        let at = 10_f64.powf(at);
        // Holds for certain up to 0.9 of it, and never above 1.1.
        let mut count = 0;
        let found = search(1000.0, |rate| {
            count += 1;
            let chance = (rate / at - 0.9) / 0.2;
            ControlFlow::Continue(if noise[count - 1] >= chance { good(rate) } else { slow(rate) })
        });
        let rate = found.rate.expect("a rate");
        // The third step down, the first that leads past 0.9 of it from the top, is one of 22 %.
        prop_assert!(0.7 * at <= rate && rate <= 1.1 * at, "{} for {}", rate, at);
        let last = found.trials.last().expect("a trial");
        prop_assert!(last.asked == rate && last.why_not().is_none());
    }

    #[test]
    fn it_ends_in_time_whatever_the_server_does(
        start: f64,
        holds in prop::collection::vec(any::<bool>(), TRIALS_MAX),
        client in prop::collection::vec(any::<bool>(), TRIALS_MAX),
    ) {
        prop_assume!(!start.is_nan());
        let mut count = 0;
        let found = search(start, |rate| {
            count += 1;
            let trial = if holds[count - 1] { good(rate) } else { slow(rate) };
            ControlFlow::Continue(Trial { is_client_limit: client[count - 1], ..trial })
        });
        prop_assert!(found.trials.iter().all(|trial| (RATE_MIN..=RATE_MAX).contains(&trial.asked)));
        // What is found held in the last trial.
        if let Some(rate) = found.rate {
            let last = found.trials.last().expect("a trial");
            prop_assert!(last.asked == rate && last.why_not().is_none());
        } else {
            prop_assert!(matches!(found.end, SearchEnd::NothingHolds | SearchEnd::Unsteady));
        }
    }
}
