//! What a worker waits with.

use std::io::{self, ErrorKind};
use std::time::Duration;

use mio::{Events, Poll, Registry};
use trust_wire::Timestamp;

use crate::alarm::Alarm;
use crate::observer::Event;
use crate::service::Service;
use crate::shared::Shared;

/// What a worker waits with.
pub(super) struct Poller {
    poll: Poll,
    alarm: Alarm,
    /// Until when events are asked for without sleeping; moved on by every event.
    awake_until: Timestamp,
}

impl Poller {
    pub(super) fn new(poll: Poll, alarm: Alarm) -> Poller {
        Poller { poll, alarm, awake_until: Timestamp::default() }
    }

    pub(super) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    pub(super) fn is_awake(&self, now: Timestamp) -> bool {
        now < self.awake_until
    }

    pub(super) fn note_alarm(&mut self) {
        self.alarm.note_went_off();
    }

    /// Waits for readiness until `until`; returns what time it is then.
    pub(super) fn wait<S: Service>(
        &mut self,
        events: &mut Events,
        until: Timestamp,
        now: Timestamp,
        shared: &Shared<S>,
    ) -> io::Result<Timestamp> {
        let timeout = (until <= now).then_some(Duration::ZERO);
        if timeout.is_none() && until != Timestamp::NEVER {
            self.alarm.set_no_later_than(until, shared.clock)?;
        }
        match self.poll.poll(events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                events.clear();
                shared.observer.observe(&Event::Interrupted { during: None });
            }
            // The kernel was short of something for a moment (poll(2)): no readiness is lost by it.
            Err(error) if error.kind() == ErrorKind::WouldBlock => events.clear(),
            Err(error) => return Err(error),
        }
        let now = shared.now();
        if !events.is_empty() && !shared.config.busy_poll.is_zero() {
            self.awake_until = now + shared.config.busy_poll;
        }
        Ok(now)
    }
}
