//! Contenders take turns.

use std::io;

use crate::outcome::{PeerOutcome, Rows};

/// One that takes turns, or is out.
pub struct Contender<'a, T> {
    name: &'static str,
    outcome: PeerOutcome<T>,
    turn: Option<Box<dyn FnMut() -> io::Result<T> + 'a>>,
}

impl<'a, T> Contender<'a, T> {
    /// One that measures something in each of its turns.
    pub fn ready(name: &'static str, turn: impl FnMut() -> io::Result<T> + 'a) -> Contender<'a, T> {
        let outcome = PeerOutcome::Measured(vec![]);
        Contender { name, outcome, turn: Some(Box::new(turn)) }
    }

    /// One that does not take part, and why.
    pub fn out(name: &'static str, outcome: PeerOutcome<T>) -> Contender<'a, T> {
        Contender { name, outcome, turn: None }
    }
}

/// Runs one round that does not count and then all others. A failure ends a contender.
pub fn take_turns<T>(rounds: usize, mut contenders: Vec<Contender<'_, T>>) -> Rows<T> {
    for round in 0..=rounds {
        for index in order(round, contenders.len()) {
            let Contender { outcome, turn, .. } = &mut contenders[index];
            let Some(take) = turn else { continue };
            match (take(), &mut *outcome) {
                (Ok(sample), PeerOutcome::Measured(samples)) if round > 0 => samples.push(sample),
                (Ok(_), _) => {}
                (Err(error), _) => {
                    *outcome = PeerOutcome::Failed(error.to_string());
                    *turn = None;
                }
            }
        }
    }
    contenders.into_iter().map(|one| (one.name, one.outcome)).collect()
}

/// The order of `count` contenders in a round. Another one starts each time, and every second round
/// reverses the one before, so that it does not matter who is first or who follows whom.
pub fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |turn| {
        let turn = if round.is_multiple_of(2) { turn } else { count - 1 - turn };
        (turn + round / 2) % count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_round_does_not_count_and_a_failure_is_the_end() {
        let mut turns = 0;
        let counting = Contender::ready("counting", || {
            turns += 1;
            Ok(turns)
        });
        let mut failures = 0;
        let failing = Contender::ready("failing", || {
            failures += 1;
            if failures == 3 { Err(io::Error::other("it broke")) } else { Ok(failures) }
        });
        let out = Contender::out("out", PeerOutcome::Skipped("not installed".to_owned()));
        let rows = take_turns(4, vec![counting, failing, out]);
        let [(_, counted), (_, failed), (_, skipped)] = &rows[..] else { panic!("{rows:?}") };
        assert!(matches!(counted, PeerOutcome::Measured(all) if all[..] == [2, 3, 4, 5]));
        assert!(matches!(failed, PeerOutcome::Failed(why) if why == "it broke"));
        assert!(matches!(skipped, PeerOutcome::Skipped(_)));
        assert_eq!(failures, 3, "no turn after the failure");
    }

    #[test]
    fn everybody_takes_one_turn_a_round_and_is_first_and_last_equally_often() {
        for count in 1..=14 {
            let (mut first, mut last) = (vec![0; count], vec![0; count]);
            for round in 0..2 * count {
                let mut turns: Vec<usize> = order(round, count).collect();
                first[turns[0]] += 1;
                last[turns[count - 1]] += 1;
                turns.sort_unstable();
                assert!(turns.into_iter().eq(0..count), "round {round} of {count}");
            }
            assert_eq!((first, last), (vec![2; count], vec![2; count]), "of {count}");
        }
        assert_eq!(order(0, 0).count(), 0);
    }
}
