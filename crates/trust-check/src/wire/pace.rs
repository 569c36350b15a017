//! Exchanges of many messages, for which a slow server may need longer than a case can wait.

use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use trust_cli::text::{grouped, seconds};

use super::Wire;
use crate::request::Request;
use crate::setup::Setup;
use crate::verdict::{Judged, Verdict};

/// Bytes of one send where there is a time for all of them: what a slow server takes in a moment.
const SENT_AT_ONCE: usize = 16 * 1024;

/// Longest time for the one exchange of a case.
const EXCHANGE_TIME_MAX: Duration = Duration::from_secs(10);

/// How fast a server answers, and until when a case asks it for more.
///
/// Every exchange is measured. The next one is only begun if, at that rate, it takes a part of the
/// patience: some servers answer nothing before they have handled all that they received, and they
/// are not to look dead meanwhile. So a case begins with a message and sends ten times as many each
/// time.
#[derive(Clone, Debug)]
pub struct Pace {
    began: Instant,
    limit: Duration,
    /// Longest expected time of one exchange.
    step: Duration,
    answered: u64,
    /// What a message took in the last exchange; `None` before the first one.
    message: Option<Duration>,
}

impl Pace {
    /// A case asks for no more messages after this time.
    pub fn within(limit: Duration, setup: &Setup) -> Pace {
        let (step, began) = (setup.patience / 2, Instant::now());
        Pace { began, limit, step, answered: 0, message: None }
    }

    /// Messages that came back right so far.
    pub fn answered(&self) -> u64 {
        self.answered
    }

    /// Whether so many more messages can be expected in time.
    ///
    /// # Errors
    ///
    /// Inconclusive if not, with the rate that was seen.
    pub fn expect(&self, count: usize) -> Judged<()> {
        let message = self.message.unwrap_or(Duration::ZERO);
        let expected = message.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
        let left = self.limit.saturating_sub(self.began.elapsed());
        match expected <= self.step.min(left) && !left.is_zero() {
            true => Ok(()),
            false => Err(self.too_slow()),
        }
    }

    /// Notes that so many messages were answered; `path` is the time that the path alone takes.
    pub fn note(&mut self, count: usize, took: Duration, path: Duration) {
        self.answered += count as u64;
        let count = u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        self.message = Some(took.saturating_sub(path) / count);
    }

    fn too_slow(&self) -> Verdict {
        let rate = match self.message.filter(|message| !message.is_zero()) {
            Some(message) => per_second(1.0 / message.as_secs_f64()),
            None => "thousands of".to_owned(),
        };
        Verdict::inconclusive(format!(
            "too slow: {} messages came back right in {}, at {rate} messages per second",
            grouped(self.answered),
            seconds(self.began.elapsed())
        ))
    }
}

impl Wire<'_> {
    /// Sends these messages and waits for their answers at the same time, so that neither side
    /// waits for the other to read. The first `sent` bytes of them are taken as sent; `slowness` is
    /// a pause before each receive.
    ///
    /// # Errors
    ///
    /// As [`Wire::send`] and [`Wire::expect_answers`], and inconclusive if that takes longer than a
    /// case can wait.
    pub fn exchange(
        &mut self,
        messages: &[&Request],
        sent: usize,
        slowness: Duration,
    ) -> Judged<()> {
        let mut pace = Pace::within(EXCHANGE_TIME_MAX, self.setup);
        self.exchange_with(messages, sent, slowness, &mut pace)
    }

    /// The same without pauses, as one of several exchanges of a case, if there is time for it.
    ///
    /// # Errors
    ///
    /// As [`Wire::exchange`].
    pub fn exchange_at(
        &mut self,
        messages: &[&Request],
        sent: usize,
        pace: &mut Pace,
    ) -> Judged<()> {
        self.exchange_with(messages, sent, Duration::ZERO, pace)
    }

    fn exchange_with(
        &mut self,
        messages: &[&Request],
        sent: usize,
        slowness: Duration,
        pace: &mut Pace,
    ) -> Judged<()> {
        pace.expect(messages.len())?;
        let (began, path) = (Instant::now(), self.round_trip());
        let until = pace.began + pace.limit;
        let right = self.exchange_until(messages, sent, slowness, until)?;
        pace.note(right, began.elapsed(), path);
        match right == messages.len() {
            true => Ok(()),
            false => Err(pace.too_slow()),
        }
    }

    /// Sends as much as the server takes without a pause longer than `patience`, but for about
    /// `time` at most; the number of bytes.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn try_send_for(
        &mut self,
        bytes: &[u8],
        patience: Duration,
        time: Duration,
    ) -> Judged<usize> {
        let (began, mut sent) = (Instant::now(), 0);
        for part in bytes.chunks(SENT_AT_ONCE) {
            if began.elapsed() >= time {
                break;
            }
            let count = self.try_send(part, patience)?;
            sent += count;
            if count < part.len() {
                break;
            }
        }
        Ok(sent)
    }

    /// Waits for the end of the connection without receiving, for at most `patience`; whether it
    /// came. A FIN comes after everything else, so it is only seen if our kernel has room for all
    /// of it.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn await_end_unread(&self, patience: Duration) -> Judged<bool> {
        self.wait(PollFlags::RDHUP, patience)
    }
}

/// A rate in words: exact where it is small.
fn per_second(rate: f64) -> String {
    match rate {
        rate if rate < 10.0 => format!("{rate:.1}"),
        rate => grouped(rate.round() as u64),
    }
}
