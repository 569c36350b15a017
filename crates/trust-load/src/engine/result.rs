//! What a run comes to.

use trust_cli::text::grouped;

use super::{Ended, Engine, Stopped, TICK};
use crate::shape::{Length, Pace};
use crate::summary::{BUSY, Cause, Client, End, LATE, LATE_SHARE, Summary};
use crate::tally::Tally;

impl Engine<'_> {
    /// Puts together what was seen.
    pub(super) fn finish(mut self, stopped: Option<Stopped>) -> Ended {
        let now = self.timetable.now();
        self.meter.stop(now);
        let until = match (&stopped, self.shape.length) {
            (Some(_), _) => now.min(self.timetable.end),
            (None, Length::Time(_)) => self.timetable.end,
            (None, Length::Messages { .. }) => self.tally.last_settled,
        };
        self.end_last_part(until, stopped.is_some());
        let took = until.saturating_sub(self.timetable.measure_from);
        let end = match &stopped {
            Some(Stopped::Signal(signal)) => End::Stopped(signal.name()),
            Some(Stopped::Listener) | None => End::Complete,
        };
        let (client, began) = (self.client(), self.timetable.began());
        let rate = match self.shape.pace {
            Pace::Open { rate, .. } => Some(self.shape.places.share(rate)),
            Pace::Closed { .. } => None,
        };
        let achieved_rate = self.tally.achieved_rate(took);
        let sustained_rate = self.tally.sustained_rate(took);
        let Tally { counts, errors, foreign, .. } = self.tally;
        let (connect, wrong) = (self.tally.connect.clone(), std::mem::take(&mut self.tally.wrong));
        let (latency, service) = self.tally.into_histograms();
        let summary = Summary {
            began,
            took,
            rate,
            achieved_rate,
            sustained_rate,
            latency,
            service,
            connect,
            counts,
            errors,
            wrong,
            foreign,
            client,
            end,
        };
        let signal = match stopped {
            Some(Stopped::Signal(signal)) => Some(signal),
            _ => None,
        };
        Ended { summary, signal, is_cut: self.is_cut }
    }

    /// What the client had to do with the result.
    pub(super) fn client(&self) -> Client {
        let (ran, cpu, busy) = self.meter.measured.unwrap_or_default();
        let mut client = Client {
            cpu,
            busy,
            late: self.tally.delays.late.clone(),
            held_back: self.tally.delays.held_back,
            put_off: self.tally.delays.put_off,
            limits: vec![],
        };
        let mut limits = vec![];
        // A run this short is all start-up, and says nothing about which side waits for the other.
        if busy >= BUSY && ran >= TICK {
            limits.push(format!(
                "The client was busy {:.0} % of the time: the numbers are its own as \
                 much as the server's. More shards, each on its own processor, can load more.",
                100.0 * busy
            ));
        }
        if client.is_late() {
            limits.push(format!(
                "The client was late: it sent {} messages more than {} ms after they were due \
                 although their connection was free, and 1 % of all messages at least {:.1} ms \
                 late.",
                grouped(client.late_messages()),
                LATE.as_millis(),
                1e3 * client.late_at().as_secs_f64()
            ));
        }
        // After a failure the client pauses as well, but then the errors show what was wrong.
        let sent = self.tally.counts.sent as f64;
        if !self.shape.connecting.gap.is_zero() && client.put_off as f64 > LATE_SHARE * sent {
            limits.push(format!(
                "{} messages were due before --connect-rate let the client make a connection for \
                 them: that wait is in their latency, and none of the server's.",
                grouped(client.put_off)
            ));
        }
        let no_port = self.tally.errors.count(Cause::NoPort);
        if no_port > 0 {
            limits.push(format!(
                "{no_port} connections were not even tried, because this host had no port or no \
                 descriptor left for them."
            ));
        }
        client.limits = limits;
        client
    }
}
