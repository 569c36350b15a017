//! How long a box keeps connections on which nothing goes, and how it ends them.
//!
//! A client that waits sees a FIN or a RST when it comes. It does not see that a box has forgotten
//! the connection, until it sends something. So there are many clients, and one after the other
//! asks something, each after a longer silence than the one before.

use std::time::{Duration, Instant};

use trust_cli::text::seconds;

use crate::trial::CaseTrial;
use crate::verdict::{Judged, Verdict};
use crate::wire::{ConnectionEnd, Wire};

/// Clients of a ladder at most.
const RUNGS_MAX: u32 = 30;

/// The longest difference between the silences of two clients after which no one looks closer.
const FINE: Duration = Duration::from_secs(1);

/// How often it is looked whether something came.
const LOOK: Duration = Duration::from_millis(20);

/// How often a client that sends says a byte.
const SAYS_EVERY: Duration = Duration::from_millis(500);

/// Bytes of the message that it sends, as far as the protocol has such.
const SAID_BYTES: u64 = 4096;

/// Longest wait for the answer to what is asked after a silence, unless the run's patience is
/// shorter.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// What a client does in the meantime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meanwhile {
    /// Nothing.
    Silent,
    /// Nothing, but its kernel sends keepalive probes (tcp(7), SO_KEEPALIVE).
    Keepalive,
    /// It sends a message byte by byte, to which nothing is answered.
    Sends,
}

/// What became of idle connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleEnd {
    /// They were not ended for as long as it was waited.
    Kept {
        /// The longest silence after which a message was still answered.
        within: Duration,
    },
    /// A FIN or a RST came.
    Ended {
        /// After how much silence.
        after: Duration,
        /// Which of both.
        by: ConnectionEnd,
    },
    /// No end came, and nothing was answered.
    Dropped {
        /// The longest silence after which a message was answered.
        kept: Duration,
        /// The shortest one after which none was.
        lost: Duration,
        /// Whether a RST answers what is sent then.
        is_reset: bool,
    },
}

impl IdleEnd {
    /// In a few words.
    pub fn text(&self) -> String {
        match self {
            IdleEnd::Kept { within } => format!("not ended within {}", seconds(rounded(*within))),
            IdleEnd::Ended { after, by } => {
                let by = if *by == ConnectionEnd::Reset { "a RST" } else { "a FIN" };
                format!("ended by {by} after {}", seconds(rounded(*after)))
            }
            IdleEnd::Dropped { kept, lost, is_reset } => format!(
                "forgotten without a word after {} to {}: what is sent then is {}",
                seconds(rounded(*kept)),
                seconds(rounded(*lost)),
                if *is_reset { "answered by a RST" } else { "lost" }
            ),
        }
    }

    /// After how much silence at the latest, if they were ended.
    pub fn after(&self) -> Option<Duration> {
        match self {
            IdleEnd::Kept { .. } => None,
            IdleEnd::Ended { after, .. } => Some(*after),
            IdleEnd::Dropped { lost, .. } => Some(*lost),
        }
    }

    /// Between which silences it was dropped, if they are too far apart.
    fn coarse(&self) -> Option<(Duration, Duration)> {
        match self {
            IdleEnd::Dropped { kept, lost, .. } => Some((*kept, *lost)),
            _ => None,
        }
        .filter(|(kept, lost)| *lost - *kept > FINE)
    }
}

fn rounded(time: Duration) -> Duration {
    Duration::from_millis((time.as_millis() as u64 + 50) / 100 * 100)
}

/// What became of one client: its silence, and how it was answered or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Answered(Duration),
    Unanswered { silence: Duration, is_reset: bool },
    Ended(Duration, ConnectionEnd),
}

/// What the clients show together.
fn judge(rungs: &[Rung]) -> Option<IdleEnd> {
    // A server or a box that is busy may end one a little later than another.
    let ends = rungs.iter().filter_map(|rung| match rung {
        Rung::Ended(after, by) => Some((*after, *by)),
        _ => None,
    });
    let answered = rungs.iter().filter_map(|rung| match rung {
        Rung::Answered(silence) => Some(*silence),
        _ => None,
    });
    let lost = rungs.iter().filter_map(|rung| match rung {
        Rung::Unanswered { silence, is_reset } => Some((*silence, *is_reset)),
        _ => None,
    });
    let kept = answered.max();
    match (ends.min_by_key(|(after, _)| *after), lost.min()) {
        (Some((after, by)), lost) if lost.is_none_or(|(lost, _)| after <= lost) => {
            Some(IdleEnd::Ended { after, by })
        }
        (_, Some((lost, is_reset))) => {
            let kept = kept.unwrap_or_default().min(lost);
            Some(IdleEnd::Dropped { kept, lost, is_reset })
        }
        (_, None) => kept.map(|within| IdleEnd::Kept { within }),
    }
}

/// A client that waits.
struct Waiting<'s> {
    /// Which of the trials it belongs to.
    side: usize,
    wire: Wire<'s>,
    since: Instant,
    /// After how much silence it asks.
    asks_after: Duration,
    /// What it says meanwhile, and when the next byte is due.
    unsaid: Vec<u8>,
    next: Instant,
}

/// Measures on both sides at the same time for as long as `most`, and as finely as a second.
///
/// # Errors
///
/// Only when the run is to end.
pub fn measure(
    trials: &mut [CaseTrial<'_>; 2],
    most: Duration,
    meanwhile: Meanwhile,
) -> Judged<[Option<IdleEnd>; 2]> {
    let rungs = (most.as_secs_f64() / FINE.as_secs_f64()).ceil().max(1.0) as u32;
    let rungs = if meanwhile == Meanwhile::Sends { 1 } else { rungs.min(RUNGS_MAX) };
    let silences = (1..=rungs).map(|number| most * number / rungs).collect::<Vec<_>>();
    let mut found = ladder(trials, &silences, meanwhile)?;
    while let Some((kept, lost)) = found.iter().flatten().find_map(IdleEnd::coarse) {
        let step = ((lost - kept) / RUNGS_MAX).max(FINE / 2);
        let silences = (1..=RUNGS_MAX).map(|number| kept + step * number);
        let silences: Vec<Duration> = silences.take_while(|silence| *silence <= lost).collect();
        let finer = ladder(trials, &silences, meanwhile)?;
        let better = |side: usize| match (&found[side], &finer[side]) {
            (Some(IdleEnd::Dropped { .. }), Some(better @ IdleEnd::Dropped { .. })) => {
                Some(*better)
            }
            (known, _) => *known,
        };
        let better = [better(0), better(1)];
        if better == found {
            break;
        }
        found = better;
    }
    Ok(found)
}

/// One client for each of these silences on each side.
fn ladder(
    trials: &mut [CaseTrial<'_>; 2],
    silences: &[Duration],
    meanwhile: Meanwhile,
) -> Judged<[Option<IdleEnd>; 2]> {
    let mut waiting = vec![];
    for (side, trial) in trials.iter_mut().enumerate() {
        let room = trial.setup.crowd(silences.len()).max(1);
        let step = silences.len().div_ceil(room);
        // The longest silence is always among them.
        for asks_after in silences.iter().rev().step_by(step) {
            match begin(trial, side, *asks_after, meanwhile) {
                Ok(client) => waiting.push(client),
                Err(stopped @ Verdict::Skipped(_)) => return Err(stopped),
                // The server or the box may have no room for more.
                Err(_) => break,
            }
        }
    }
    let mut rungs = [vec![], vec![]];
    while !waiting.is_empty() {
        let mut still = vec![];
        for mut client in waiting {
            let side = client.side;
            match look(&mut trials[side], &mut client)? {
                Some(rung) => rungs[side].push(rung),
                None => still.push(client),
            }
        }
        // After a longer silence nothing else can be expected.
        let is_lost = |rung: &Rung| matches!(rung, Rung::Unanswered { .. });
        still.retain(|client: &Waiting<'_>| !rungs[client.side].iter().any(is_lost));
        waiting = still;
        trials[0].pause(LOOK)?;
    }
    Ok(rungs.map(|rungs| judge(&rungs)))
}

fn begin<'s>(
    trial: &mut CaseTrial<'s>,
    side: usize,
    asks_after: Duration,
    meanwhile: Meanwhile,
) -> Judged<Waiting<'s>> {
    let hello = trial.message(16);
    let mut wire = trial.connect()?;
    wire.send_request(&hello)?;
    wire.expect_answers(&[&hello])?;
    wire.be_patient_for(ANSWER_PATIENCE.min(trial.setup.patience));
    if meanwhile == Meanwhile::Keepalive {
        wire.keep_alive();
    }
    let unsaid = match meanwhile {
        Meanwhile::Sends => {
            // Never the last byte.
            let mut bytes = trial.message(SAID_BYTES).bytes.clone();
            bytes.pop();
            bytes.reverse();
            if SAYS_EVERY * bytes.len() as u32 <= asks_after {
                return Err(Verdict::inconclusive("no message is long enough"));
            }
            bytes
        }
        Meanwhile::Silent | Meanwhile::Keepalive => vec![],
    };
    let since = Instant::now();
    Ok(Waiting { side, wire, since, asks_after, unsaid, next: since + SAYS_EVERY })
}

/// What has become of the client, if it is known by now.
fn look(trial: &mut CaseTrial<'_>, client: &mut Waiting<'_>) -> Judged<Option<Rung>> {
    let now = Instant::now();
    let silence = now - client.since;
    let mut got = vec![];
    client.wire.receive_into(&mut got, 1, Duration::ZERO)?;
    if let Some(end) = client.wire.end() {
        return Ok(Some(Rung::Ended(silence, end)));
    }
    if now >= client.next
        && let Some(byte) = client.unsaid.pop()
    {
        client.wire.try_send(&[byte], Duration::ZERO)?;
        client.next = now + SAYS_EVERY;
    }
    if silence < client.asks_after {
        return Ok(None);
    }
    if !client.unsaid.is_empty() {
        // It has not ended, and cannot be asked: its message is unfinished.
        return Ok(Some(Rung::Answered(silence)));
    }
    let hello = trial.message(16);
    let asked = client.wire.send_request(&hello);
    match asked.and_then(|()| client.wire.expect_answers(&[&hello])) {
        Ok(()) => Ok(Some(Rung::Answered(silence))),
        Err(stopped @ Verdict::Skipped(_)) => Err(stopped),
        Err(_) => {
            let is_reset = client.wire.end() == Some(ConnectionEnd::Reset);
            Ok(Some(Rung::Unanswered { silence, is_reset }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_end_that_comes_is_the_timeout() {
        let fin = |after| Rung::Ended(after, ConnectionEnd::Fin);
        let rungs = [Rung::Answered(s(3)), Rung::Answered(s(6)), fin(s(7)), fin(s(7))];
        let ended = IdleEnd::Ended { after: s(7), by: ConnectionEnd::Fin };
        assert_eq!(judge(&rungs), Some(ended));
        assert_eq!(ended.text(), "ended by a FIN after 7 s");
    }

    #[test]
    fn a_connection_that_is_forgotten_shows_when_something_is_asked() {
        let lost = |silence| Rung::Unanswered { silence, is_reset: true };
        let dropped = IdleEnd::Dropped { kept: s(6), lost: s(8), is_reset: true };
        assert_eq!(judge(&[Rung::Answered(s(6)), lost(s(8)), lost(s(9))]), Some(dropped));
        let text = dropped.text();
        assert!(text.starts_with("forgotten without a word after 6 s to 8 s: "), "{text}");
        assert!(text.ends_with("answered by a RST"), "{text}");
    }

    #[test]
    fn a_connection_that_is_kept_is_known_for_the_longest_silence() {
        let kept = IdleEnd::Kept { within: s(9) };
        assert_eq!(judge(&[Rung::Answered(s(6)), Rung::Answered(s(9))]), Some(kept));
        assert_eq!(judge(&[]), None);
        assert_eq!(kept.after(), None);
    }
}
