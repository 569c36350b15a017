//! The calls that a connection may make: turns end, and an idle connection makes no calls.

use std::time::Duration;

use trust_wire::During;

use crate::check::{Violation, require};

/// Calls that may return EAGAIN when nothing is to be had, until something happens: one that reads
/// to the end, one of a drain, and one spare.
const IN_VAIN_MAX: u32 = 3;

/// Calls that may return EAGAIN, per second and direction, although the kernel reports the socket
/// ready: the first, the one after the immediate question, ten after pauses, and one spare. A
/// question covers both directions.
const REFUSED_MAX: u32 = 13;

const SECOND: Duration = Duration::from_secs(1);

/// Counts the calls of a connection that move nothing.
#[derive(Debug, Default)]
pub struct Effort {
    /// How many since something last happened.
    in_vain: u32,
    /// How many by direction, in the second from `since`; reset by any success.
    refused: [u32; 2],
    /// Edges of readiness that the network produced in that second.
    edges: u32,
    since: Duration,
}

impl Effort {
    /// The network has news for the connection.
    pub fn note_edge(&mut self) {
        self.in_vain = 0;
        self.edges += 1;
    }

    /// A call moved bytes or received the end.
    pub fn note_success(&mut self) {
        *self = Effort::default();
    }

    /// A call returned EAGAIN; `is_ready` says whether the kernel reports the socket ready all the
    /// same.
    ///
    /// # Errors
    ///
    /// If there were too many.
    pub fn note_refusal(
        &mut self,
        during: During,
        is_ready: bool,
        now: Duration,
    ) -> Result<(), Violation> {
        if !is_ready {
            self.in_vain += 1;
            return require(
                self.in_vain <= IN_VAIN_MAX,
                "a connection to which nothing happens costs nothing",
                || format!("{now:?}: {self:?}"),
            );
        }
        if now > self.since + SECOND {
            *self = Effort { since: now, in_vain: self.in_vain, ..Effort::default() };
        }
        let refused = &mut self.refused[during as usize];
        *refused += 1;
        require(
            *refused <= REFUSED_MAX + 2 * self.edges,
            "a socket that is ready and takes nothing is not asked all the time",
            || format!("{now:?}: {self:?}"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn ten_questions_a_second_are_allowed_for_ever_and_more_are_not() {
        let mut effort = Effort::default();
        assert!(
            (0..1000).all(|tenth| effort.note_refusal(During::Send, true, ms(100 * tenth)).is_ok())
        );
        assert!(!(0..20).all(|_| effort.note_refusal(During::Send, true, ms(100_000)).is_ok()));
    }

    #[test]
    fn what_cannot_succeed_is_tried_a_few_times_until_something_happens() {
        let mut effort = Effort::default();
        for round in 0..10 {
            assert!(
                (0..IN_VAIN_MAX)
                    .all(|_| effort.note_refusal(During::Send, false, ms(round)).is_ok())
            );
            effort.note_edge();
        }
        assert!(
            !(0..=IN_VAIN_MAX).all(|_| effort.note_refusal(During::Send, false, ms(100)).is_ok())
        );
    }

    #[test]
    fn a_question_may_be_answered_for_both_directions() {
        let mut effort = Effort::default();
        let both = |effort: &mut Effort, now| {
            [During::Receive, During::Send]
                .iter()
                .all(|during| effort.note_refusal(*during, true, now).is_ok())
        };
        assert!((0..1000).all(|tenth| both(&mut effort, ms(100 * tenth))));
    }
}
