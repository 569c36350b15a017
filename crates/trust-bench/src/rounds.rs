//! The order of turns.

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
