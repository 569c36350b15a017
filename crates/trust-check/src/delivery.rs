//! What was done on a connection before something went wrong, so that it can be done again.

use std::time::Duration;

/// The most bytes that are kept of a connection: what is longer cannot be shown in a few lines.
const BYTES_MAX: usize = 16 * 1024;

/// What was done on a connection since everything was in order, and for which requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// What was exchanged at the beginning of the connection.
    pub beginning: Vec<DeliveryStep>,
    /// What was done after that, since the last answer that was right.
    pub steps: Vec<DeliveryStep>,
    /// The requests whose answers did not come; none if nothing was to come.
    pub requests: Vec<Vec<u8>>,
    bytes: usize,
}

/// Something that a client does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryStep {
    /// Sends these bytes.
    Send(Vec<u8>),
    /// Sends bytes that are not to be shown.
    SendSecret,
    /// Does nothing for that long, once all is acknowledged.
    Pause(Duration),
    /// Sends FIN.
    Finish,
}

impl Delivery {
    /// Adds a send, or another part of it, as the kernel took it.
    pub fn add_sent(&mut self, bytes: &[u8], is_secret: bool) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.is_too_long() {
            return;
        }
        match self.steps.last_mut() {
            Some(DeliveryStep::SendSecret) if is_secret => {}
            Some(DeliveryStep::Send(before)) if !is_secret => before.extend_from_slice(bytes),
            _ if is_secret => self.steps.push(DeliveryStep::SendSecret),
            _ => self.steps.push(DeliveryStep::Send(bytes.to_vec())),
        }
    }

    /// Adds something else.
    pub fn add(&mut self, step: DeliveryStep) {
        self.steps.push(step);
    }

    /// Whether it is too long to be kept.
    pub fn is_too_long(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// What was done so far was the beginning of the connection.
    pub fn end_beginning(&mut self) {
        self.beginning.append(&mut self.steps);
        self.bytes = 0;
    }

    /// All answers came, so that what led to them does not matter.
    pub fn forget(&mut self) {
        self.steps.clear();
        self.bytes = 0;
    }

    /// The same, for these requests; `None` if it was too long.
    pub fn of(&self, requests: Vec<Vec<u8>>) -> Option<Delivery> {
        (!self.is_too_long()).then(|| Delivery { requests, ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_what_was_done_since_the_last_right_answer() {
        let mut delivery = Delivery::default();
        delivery.add_sent(&[7], true);
        delivery.add_sent(&[8], true);
        delivery.end_beginning();
        delivery.add_sent(&[1], false);
        delivery.forget();
        delivery.add_sent(&[2], false);
        delivery.add_sent(&[3], false);
        delivery.add(DeliveryStep::Finish);
        let kept = delivery.of(vec![vec![2, 3]]).unwrap();
        assert_eq!(kept.beginning, [DeliveryStep::SendSecret]);
        assert_eq!(kept.steps, [DeliveryStep::Send(vec![2, 3]), DeliveryStep::Finish]);
        assert_eq!(kept.requests, [[2, 3]]);
    }

    #[test]
    fn what_is_too_long_is_not_kept() {
        let mut delivery = Delivery::default();
        delivery.add_sent(&[0; BYTES_MAX + 1], false);
        assert!(delivery.steps.is_empty());
        assert_eq!(delivery.of(vec![]), None);
        delivery.forget();
        delivery.add_sent(&[0], false);
        assert!(delivery.of(vec![]).is_some());
    }
}
