//! How long a box keeps connections on which little goes, and how it ends them.
//!
//! A client that waits sees a FIN or a RST when it comes. It does not see that a box has forgotten
//! the connection, until it sends something. So there are many clients, and one after the other
//! asks something, each after a longer silence than the one before.

use std::time::{Duration, Instant};

use trust_cli::text::seconds;

use crate::request::{Answers, Request};
use crate::trial::CaseTrial;
use crate::verdict::{Judged, Verdict};
use crate::wire::{ConnectionEnd, Wire};

/// Clients of a ladder at most.
const RUNGS_MAX: u32 = 30;

/// The longest difference between the silences of two clients after which no one looks closer.
const FINE: Duration = Duration::from_secs(1);

/// The same between two neighbours of a short ladder: each asks a little late.
const RUNG: Duration = Duration::from_millis(850);

/// Two silences that are nearer to each other than that are told as one.
const EXACT: Duration = Duration::from_millis(200);

/// How often it is looked whether something came.
const LOOK: Duration = Duration::from_millis(20);

/// How often a client that sends says a byte, and how often one that receives takes some; and the
/// longest time between two bytes of a short message.
const STEP: Duration = Duration::from_millis(500);
const STEP_MAX: Duration = Duration::from_secs(5);

/// Bytes of the message that is sent slowly, as far as the protocol has such.
const SAID_BYTES: u64 = 4096;

/// Bytes of answers that are received slowly: more than our kernel takes, and few enough that the
/// server has all the requests before it waits.
const OWED_BYTES: u64 = 64 * 1024;

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
    /// It sends nothing, and receives answers little by little.
    Receives,
}

impl Meanwhile {
    /// All of them.
    pub const ALL: [Meanwhile; 4] =
        [Meanwhile::Silent, Meanwhile::Keepalive, Meanwhile::Sends, Meanwhile::Receives];

    /// After which silences clients ask something, up to the longest.
    fn silences(self, most: Duration) -> Vec<Duration> {
        if self == Meanwhile::Sends {
            // An unfinished message leaves no way to ask.
            return vec![most];
        }
        let rungs = (most.as_secs_f64() / RUNG.as_secs_f64()).ceil().max(1.0) as u32;
        let rungs = rungs.min(RUNGS_MAX);
        // Most limits are whole seconds, and who asks just then shows nothing.
        let halves = (1..=rungs).map(|number| most * (2 * number - 1) / (2 * rungs));
        halves.chain([most]).collect()
    }
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
        /// The longest silence after which it had not.
        kept: Duration,
        /// After how much silence at the latest.
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
            IdleEnd::Ended { kept, after, by } => {
                let by = if *by == ConnectionEnd::Reset { "a RST" } else { "a FIN" };
                format!("ended by {by} after {}", between(*kept, *after))
            }
            IdleEnd::Dropped { kept, lost, is_reset } => format!(
                "forgotten without a word after {}: what is sent then is {}",
                between(*kept, *lost),
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

    /// Between which silences it ended.
    fn range(&mut self) -> Option<(&mut Duration, &mut Duration)> {
        match self {
            IdleEnd::Kept { .. } => None,
            IdleEnd::Ended { kept, after, .. } => Some((kept, after)),
            IdleEnd::Dropped { kept, lost, .. } => Some((kept, lost)),
        }
    }

    /// The same, if they are too far apart.
    fn coarse(mut self) -> Option<(Duration, Duration)> {
        let (kept, after) = self.range()?;
        (*after - *kept > FINE).then_some((*kept, *after))
    }

    /// Takes what a closer look has shown, and returns whether that is much more.
    fn narrow(&mut self, closer: IdleEnd) -> bool {
        let (low, high) = match closer {
            IdleEnd::Kept { within } => (within, None),
            IdleEnd::Ended { kept, after, .. } => (kept, Some(after)),
            IdleEnd::Dropped { kept, lost, .. } => (kept, Some(lost)),
        };
        let Some((kept, after)) = self.range() else { return false };
        let known = *after - *kept;
        *after = high.map_or(*after, |high| high.min(*after));
        *kept = low.max(*kept).min(*after);
        *after - *kept + FINE / 4 < known
    }
}

/// Two silences, or one if nothing can have been in between for long.
fn between(kept: Duration, after: Duration) -> String {
    match after - kept < EXACT {
        true => seconds(rounded(after)),
        false => format!("{} to {}", seconds(rounded(kept)), seconds(rounded(after))),
    }
}

fn rounded(time: Duration) -> Duration {
    Duration::from_millis((time.as_millis() as u64 + 50) / 100 * 100)
}

/// What became of one client: its silence, and how it was answered or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    Answered(Duration),
    Unanswered {
        silence: Duration,
        is_reset: bool,
    },
    /// At the last look before, after `kept`, it had not.
    Ended {
        kept: Duration,
        after: Duration,
        by: ConnectionEnd,
    },
}

/// What the clients show together.
fn judge(rungs: &[Rung]) -> Option<IdleEnd> {
    let answered = rungs.iter().filter_map(|rung| match rung {
        Rung::Answered(silence) => Some(*silence),
        _ => None,
    });
    let longest = answered.max();
    // A server or a box that is busy may end one a little later than another.
    let ends = rungs.iter().filter_map(|rung| match *rung {
        Rung::Answered(_) => None,
        // Its answer was late: another one came after a longer silence.
        Rung::Unanswered { silence, .. } if longest.is_some_and(|it| it > silence) => None,
        Rung::Ended { kept, after, by } => {
            let kept = kept.max(longest.unwrap_or_default()).min(after);
            Some((after, IdleEnd::Ended { kept, after, by }))
        }
        Rung::Unanswered { silence: lost, is_reset } => {
            let kept = longest.unwrap_or_default();
            Some((lost, IdleEnd::Dropped { kept, lost, is_reset }))
        }
    });
    let first = ends.min_by_key(|(after, _)| *after).map(|(_, end)| end);
    first.or(longest.map(|within| IdleEnd::Kept { within }))
}

// Many fields: what it does meanwhile, and what it asks then.
/// A client that waits.
struct Waiting<'s> {
    /// Of which of the ladders, and of which of the trials.
    ladder: usize,
    side: usize,
    wire: Wire<'s>,
    since: Instant,
    /// The silence at the last look at which it had not ended.
    kept: Duration,
    /// After how much silence it asks.
    asks_after: Duration,
    /// When it does the next step, and how long it waits between two.
    next: Instant,
    step: Duration,
    /// What it says step by step, the last byte first.
    unsaid: Vec<u8>,
    /// Bytes that it receives at each step, if it has asked for some and receives them slowly.
    share: Option<usize>,
    /// What it has asked for, and what it has received of the answers.
    asked: Vec<Request>,
    got: Vec<u8>,
    /// The silence after which it asks, once that is over, and until when it waits for an answer.
    asking: Option<(Duration, Instant)>,
    has_asked: bool,
}

/// The clients that do the same meanwhile: after which silences they ask something.
type Ladder = (Meanwhile, Vec<Duration>);

/// Measures on both sides, and everything that clients may do, at the same time, for as long as
/// `most` and as finely as a second.
///
/// # Errors
///
/// Only when the run is to end.
pub fn measure(
    trials: &mut [CaseTrial<'_>; 2],
    most: Duration,
) -> Judged<Vec<(Meanwhile, [Option<IdleEnd>; 2])>> {
    let ladders = Meanwhile::ALL.map(|meanwhile| (meanwhile, meanwhile.silences(most)));
    let mut found = climb(trials, &ladders)?;
    loop {
        let coarse = found.iter().zip(Meanwhile::ALL).enumerate();
        let coarse = coarse.filter_map(|(number, (ends, meanwhile))| {
            let (kept, after) = ends.iter().flatten().find_map(|end| end.coarse())?;
            let step = ((after - kept) / RUNGS_MAX).max(FINE / 2);
            let silences = (1..=RUNGS_MAX).map(|number| kept + step * number);
            let silences = silences.take_while(|silence| *silence <= after).collect();
            Some((number, (meanwhile, silences)))
        });
        let (numbers, ladders): (Vec<usize>, Vec<Ladder>) = coarse.unzip();
        let mut is_better = false;
        for (number, closer) in numbers.into_iter().zip(climb(trials, &ladders)?) {
            for (known, closer) in found[number].iter_mut().zip(closer) {
                if let (Some(known), Some(closer)) = (known, closer) {
                    is_better |= known.narrow(closer);
                }
            }
        }
        if !is_better {
            return Ok(Meanwhile::ALL.into_iter().zip(found).collect());
        }
    }
}

/// One client for each silence on each side; what came of each ladder.
fn climb(trials: &mut [CaseTrial<'_>; 2], ladders: &[Ladder]) -> Judged<Vec<[Option<IdleEnd>; 2]>> {
    let mut waiting = vec![];
    let mut rungs: Vec<[Vec<Rung>; 2]> = ladders.iter().map(|_| [vec![], vec![]]).collect();
    let wanted: usize = ladders.iter().map(|(_, silences)| silences.len()).sum();
    for side in 0..2 {
        // Both sides lead to the same server.
        let room = trials[side].setup.crowd(2 * wanted) / 2 / ladders.len().max(1);
        for (ladder, (meanwhile, silences)) in ladders.iter().enumerate() {
            let step = silences.len().div_ceil(room.max(1)).max(1);
            // The longest silence is always among them.
            for asks_after in silences.iter().rev().step_by(step) {
                waiting = look_at(trials, waiting, &mut rungs)?;
                match begin(&mut trials[side], *asks_after, *meanwhile) {
                    Ok(client) => waiting.push(Waiting { ladder, side, ..client }),
                    Err(stopped @ Verdict::Skipped(_)) => return Err(stopped),
                    // The server or the box may have no room for more.
                    Err(_) => break,
                }
            }
        }
    }
    while !waiting.is_empty() {
        waiting = look_at(trials, waiting, &mut rungs)?;
        trials[0].pause(LOOK)?;
    }
    Ok(rungs.iter().map(|sides| sides.each_ref().map(|rungs| judge(rungs))).collect())
}

/// Notes what has become of them, and returns those of which more is to be seen.
fn look_at<'s>(
    trials: &[CaseTrial<'s>; 2],
    waiting: Vec<Waiting<'s>>,
    rungs: &mut [[Vec<Rung>; 2]],
) -> Judged<Vec<Waiting<'s>>> {
    let mut still = vec![];
    for mut client in waiting {
        let (ladder, side) = (client.ladder, client.side);
        match look(&trials[side], &mut client)? {
            Some(rung) => rungs[ladder][side].push(rung),
            None => still.push(client),
        }
    }
    // After a longer silence nothing else can be expected.
    let is_over = |rung: &Rung| !matches!(rung, Rung::Answered(_));
    still.retain(|client: &Waiting<'_>| {
        client.asking.is_some() || !rungs[client.ladder][client.side].iter().any(is_over)
    });
    Ok(still)
}

/// A client that has been answered once, and begins to wait.
fn begin<'s>(
    trial: &mut CaseTrial<'s>,
    asks_after: Duration,
    meanwhile: Meanwhile,
) -> Judged<Waiting<'s>> {
    let hello = trial.setup.hello();
    let mut wire = match meanwhile {
        Meanwhile::Receives => trial.connect_narrow()?,
        _ => trial.connect()?,
    };
    wire.send_request(&hello)?;
    wire.expect_answers(&[&hello])?;
    let steps = (asks_after.as_secs_f64() / STEP.as_secs_f64()).ceil().max(1.0) as usize;
    let (mut unsaid, mut asked, mut share, mut step) = (vec![], vec![], None, STEP);
    match meanwhile {
        Meanwhile::Silent => {}
        Meanwhile::Keepalive => wire.keep_alive(),
        Meanwhile::Sends => {
            // Never the last byte.
            unsaid = trial.message(SAID_BYTES).bytes.clone();
            unsaid.pop();
            unsaid.reverse();
            step = STEP.max(asks_after / unsaid.len().max(1) as u32);
            if step > STEP_MAX {
                return Err(Verdict::inconclusive("no message is long enough"));
            }
        }
        Meanwhile::Receives => {
            let Ok(long) = trial.long_answers(SAID_BYTES, OWED_BYTES) else {
                return Err(Verdict::inconclusive("no answer is long enough"));
            };
            asked = long;
            let requests: Vec<u8> = asked.iter().flat_map(|it| &it.bytes).copied().collect();
            wire.send(&requests)?;
            let owed: usize = asked.iter().map(Request::answer_len).sum();
            share = Some(owed.div_ceil(steps));
        }
    }
    let since = Instant::now();
    Ok(Waiting {
        ladder: 0,
        side: 0,
        wire,
        since,
        kept: Duration::ZERO,
        asks_after,
        next: since + step,
        step,
        unsaid,
        share,
        asked,
        got: vec![],
        asking: None,
        has_asked: false,
    })
}

/// What has become of the client, if it is known by now.
fn look(trial: &CaseTrial<'_>, client: &mut Waiting<'_>) -> Judged<Option<Rung>> {
    let now = Instant::now();
    let silence = now - client.since;
    if silence >= client.asks_after && client.asking.is_none() {
        let patience = ANSWER_PATIENCE.min(trial.setup.patience);
        client.asking = Some((silence, now + patience));
    }
    let is_due = now >= client.next;
    if is_due {
        client.next = now + client.step;
    }
    let before = client.got.len();
    let limit = match client.share {
        Some(share) if client.asking.is_none() => before + if is_due { share } else { 0 },
        _ => usize::MAX,
    };
    while client.wire.receive_into(&mut client.got, limit, Duration::ZERO)? {}
    let end = client.wire.end();
    // One that receives slowly sees the end once it has received everything before that, and one
    // that has asked may see what it was answered.
    let is_seen = client.share.is_none() && !client.has_asked;
    let kept = if is_seen { client.kept } else { Duration::ZERO };
    client.kept = silence;
    let Some((after, until)) = client.asking else {
        if is_due && let Some(byte) = client.unsaid.pop() {
            client.wire.try_send(&[byte], Duration::ZERO)?;
        }
        return Ok(end.map(|by| Rung::Ended { kept, after: silence, by }));
    };
    let asked: Vec<&Request> = client.asked.iter().collect();
    let mut answers = Answers::to(&asked);
    answers.add(&client.got);
    let is_answered = answers.count() == asked.len();
    if client.has_asked && is_answered {
        return Ok(Some(Rung::Answered(after)));
    }
    // A RST may be what one gets that asks a box which has forgotten it.
    if let Some(by) = end
        && (client.share.is_some() || !client.has_asked || by == ConnectionEnd::Fin)
    {
        return Ok(Some(Rung::Ended { kept, after, by }));
    }
    if !client.unsaid.is_empty() {
        // It has not ended, and cannot be asked: its message is unfinished.
        return Ok(Some(Rung::Answered(after)));
    }
    if !is_answered {
        let is_lost = end.is_some() || now >= until || !answers.are_awaited();
        let is_reset = end == Some(ConnectionEnd::Reset);
        return Ok(is_lost.then_some(Rung::Unanswered { silence: after, is_reset }));
    }
    // An end may come right after the last answer.
    if client.got.len() == before {
        let hello = trial.setup.hello();
        client.wire.try_send(&hello.bytes, Duration::ZERO)?;
        client.asked.push(hello);
        client.has_asked = true;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn no_client_asks_when_a_limit_in_whole_seconds_is_reached() {
        let ms = |ms: &[u64]| ms.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        assert_eq!(Meanwhile::Silent.silences(s(3)), ms(&[375, 1125, 1875, 2625, 3000]));
        assert_eq!(Meanwhile::Sends.silences(s(3)), ms(&[3000]));
    }

    #[test]
    fn the_first_end_that_comes_is_the_timeout() {
        let fin = |after| Rung::Ended { kept: after, after, by: ConnectionEnd::Fin };
        let rungs = [Rung::Answered(s(3)), Rung::Answered(s(6)), fin(s(7)), fin(s(7))];
        let ended = IdleEnd::Ended { kept: s(7), after: s(7), by: ConnectionEnd::Fin };
        assert_eq!(judge(&rungs), Some(ended));
        assert_eq!(ended.text(), "ended by a FIN after 7 s");
    }

    #[test]
    fn an_end_behind_what_was_not_received_came_after_the_last_answer() {
        let end = Rung::Ended { kept: s(0), after: s(8), by: ConnectionEnd::Reset };
        let ended = judge(&[Rung::Answered(s(6)), end]);
        assert_eq!(ended.map(|it| it.text()).as_deref(), Some("ended by a RST after 6 s to 8 s"));
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
    fn an_answer_that_was_late_is_no_end() {
        let late = Rung::Unanswered { silence: s(5), is_reset: false };
        let kept = IdleEnd::Kept { within: s(9) };
        assert_eq!(judge(&[Rung::Answered(s(4)), late, Rung::Answered(s(9))]), Some(kept));
    }

    #[test]
    fn a_closer_look_loses_nothing_that_was_known() {
        let mut known = IdleEnd::Dropped { kept: s(10), lost: s(20), is_reset: false };
        assert!(known.narrow(IdleEnd::Dropped { kept: s(0), lost: s(12), is_reset: false }));
        assert_eq!(known, IdleEnd::Dropped { kept: s(10), lost: s(12), is_reset: false });
        assert!(known.narrow(IdleEnd::Kept { within: s(11) }));
        assert_eq!(known.coarse(), None);
        assert!(!known.narrow(IdleEnd::Kept { within: s(9) }));
    }

    #[test]
    fn a_connection_that_is_kept_is_known_for_the_longest_silence() {
        let kept = IdleEnd::Kept { within: s(9) };
        assert_eq!(judge(&[Rung::Answered(s(6)), Rung::Answered(s(9))]), Some(kept));
        assert_eq!(judge(&[]), None);
        assert_eq!(kept.after(), None);
    }
}
