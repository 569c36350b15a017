//! The search for a rate: what was found, and trial by trial.

use crate::report::units::rate;
use crate::summary::Searched;

/// The columns of [`rows`].
pub const COLUMNS: [&str; 3] = ["asked for", "achieved", "result"];

/// What was found, in a sentence.
pub fn sentence(searched: &Searched) -> String {
    let Searched { budgets, found } = searched;
    let budgets = budgets.join(", ");
    let mut said = match found.rate {
        Some(highest) => {
            let highest = rate(highest);
            format!("The highest rate that holds {budgets}: {highest} messages/s; {}.", found.end)
        }
        None => format!("No rate that holds {budgets}: {}.", found.end),
    };
    if let Some((low, high)) = found.disagreement() {
        let (low, high) = (rate(low), rate(high));
        said += &match low == high {
            true => format!(" Trials disagree at {low} messages/s."),
            false => format!(" Trials disagree between {low} and {high} messages/s."),
        };
    }
    said
}

/// A row per trial: messages per second that were asked for, those that were achieved, and whether
/// the rate holds.
pub fn rows(searched: &Searched) -> impl Iterator<Item = [String; 3]> {
    searched.found.trials.iter().map(|trial| {
        let result = match trial.why_not() {
            None => "holds".to_owned(),
            Some(why) if trial.is_client_limit => format!("{why} (the client was the limit)"),
            Some(why) => why,
        };
        [format!("{}/s", rate(trial.asked)), format!("{}/s", rate(trial.achieved)), result]
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::{Found, SearchEnd, Trial};

    #[test]
    fn the_rate_and_each_trial_are_told() {
        let trial = |asked, broken: Option<&str>, is_client_limit| Trial {
            asked,
            due: asked,
            achieved: asked,
            errors: 0,
            broken: broken.map(str::to_owned),
            is_client_limit,
        };
        let trials =
            vec![trial(1000.0, None, false), trial(2000.0, Some("p99<5ms: 7.31 ms"), true)];
        let found = Found { rate: Some(1000.0), end: SearchEnd::ClientLimit, trials };
        let mut searched = Searched { budgets: vec!["p99<5ms".into()], found };
        assert_eq!(
            sentence(&searched),
            "The highest rate that holds p99<5ms: 1,000 messages/s; the client was the limit; the \
             server may hold more."
        );
        let rows: Vec<_> = rows(&searched).collect();
        assert_eq!(rows[0], ["1,000/s", "1,000/s", "holds"]);
        assert_eq!(rows[1][2], "p99<5ms: 7.31 ms (the client was the limit)");
        let again = trial(1000.0, Some("p99<5ms: 5.20 ms"), false);
        searched.found.trials.push(again);
        assert!(sentence(&searched).ends_with("more. Trials disagree at 1,000 messages/s."));
        searched.found.trials.push(trial(2000.0, None, false));
        let expected = "more. Trials disagree between 1,000 and 2,000 messages/s.";
        assert!(sentence(&searched).ends_with(expected), "{}", sentence(&searched));
        searched.found = Found { rate: None, end: SearchEnd::NothingHolds, trials: vec![] };
        assert_eq!(
            sentence(&searched),
            "No rate that holds p99<5ms: not even the lowest rate holds."
        );
    }
}
