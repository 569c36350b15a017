//! What the line on a terminal says of how a run goes.

use std::time::Duration;

use trust_cli::progress::BAR_COLUMNS;
use trust_cli::text::grouped;

use crate::report::count;
use crate::report::units::{rate, time};
use crate::summary::{Live, Phase};

/// What there is room for, the most important first, and how much is done, if a bar fits before it.
pub fn line(live: &Live, room: usize) -> (String, Option<f64>) {
    let phase = match live.phase {
        Phase::Waiting => "waiting",
        Phase::Connecting => "connecting",
        Phase::WarmUp => "warm-up",
        Phase::Measuring => "measuring",
        Phase::Finishing => "finishing",
    };
    let mut pieces = vec![format!("{phase} {}", clock(live.elapsed))];
    if live.phase != Phase::Waiting {
        // There is none before the first interval is over.
        pieces.extend(
            (live.rate > 0.0 || live.p50.is_some()).then(|| format!("{}/s", rate(live.rate))),
        );
        pieces.extend(live.p50.map(|p50| format!("p50 {}", time(p50))));
        pieces.extend(live.tail.map(|(name, tail)| format!("{name} {}", time(tail))));
        pieces.push(count(live.errors, "error"));
    }
    // What is left of a second is not nothing.
    let left = live.left.map(|left| Duration::from_secs(left.as_millis().div_ceil(1000) as u64));
    pieces.extend(left.map(|left| format!("{} left", clock(left))));
    if live.phase != Phase::Waiting {
        pieces.push(format!("{} open", grouped(live.connections)));
    }
    let mut text = String::new();
    for piece in pieces {
        let gap = if text.is_empty() { "" } else { "  " };
        if text.chars().count() + gap.len() + piece.chars().count() > room {
            break;
        }
        text = text + gap + &piece;
    }
    if text.is_empty() {
        text = phase.chars().take(room).collect();
    }
    let has_room = text.chars().count() + BAR_COLUMNS <= room;
    (text, live.done.filter(|_| has_room))
}

/// `0:07`, `12:34`, `1:02:03`
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live() -> Live {
        Live {
            phase: Phase::Measuring,
            elapsed: Duration::from_secs(7),
            done: Some(0.25),
            left: Some(Duration::from_millis(20_100)),
            connections: 64,
            answered: 140_000,
            rate: 19_998.0,
            p50: Some(105_000),
            tail: Some(("p99", 1_590_000)),
            errors: 3,
        }
    }

    #[test]
    fn the_most_important_stays_when_there_is_little_room() {
        let all = "measuring 0:07  19,998/s  p50 105 µs  p99 1.59 ms  3 errors  0:21 left  64 open";
        let cases = [(119, 79, Some(0.25)), (77, 70, None), (39, 36, None), (7, 7, None)];
        for (room, shown, done) in cases {
            let text: String = all.chars().take(shown).collect();
            assert_eq!(line(&live(), room), (text, done), "{room}");
        }
        for room in 0..140 {
            let (text, done) = line(&live(), room);
            let bar = if done.is_some() { BAR_COLUMNS } else { 0 };
            assert!(text.chars().count() + bar <= room, "{room}: {text}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_shown() {
        let live = Live { done: None, left: None, p50: None, tail: None, errors: 1, ..live() };
        assert_eq!(line(&live, 120).0, "measuring 0:07  19,998/s  1 error  64 open");
        assert_eq!(line(&live, 120).1, None);
        let early = Live { rate: 0.0, ..live };
        assert_eq!(line(&early, 120).0, "measuring 0:07  1 error  64 open");
        let waiting = Live { phase: Phase::Waiting, ..live };
        assert_eq!(line(&waiting, 120).0, "waiting 0:07");
        assert_eq!(clock(Duration::from_secs(3_723)), "1:02:03");
    }
}
