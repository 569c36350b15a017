//! Ending a connection so that the server never sees a RST that no case is about.

use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::SockRef;
use trust_net::stream::Incoming;

use super::{RECEIVE_BYTES, Wire};
use crate::transcript::What;

/// Longest time to receive what still comes after our FIN, if it comes without a long pause. The
/// end of a client that has read nothing takes longest.
const LEAVE_MAX: Duration = Duration::from_secs(3);

impl Wire<'_> {
    /// Closes cleanly: sends FIN, receives until the server's FIN, then closes. Closing with unread
    /// bytes would send a RST (RFC 1122, 4.2.2.13). Dropping a wire does the same.
    pub fn close(self) {
        self.record(What::Closed);
    }

    /// Closes at once, as a client does that has nothing to read: a RST if there is something.
    pub fn close_at_once(mut self) {
        self.record(What::Closed);
        self.leaves_at_once = true;
    }

    /// Closes with RST (SO_LINGER with a time of zero, `socket(7)`). A unix socket has none: it is
    /// closed at once, and the server's next send fails with EPIPE.
    pub fn reset(mut self) {
        if !self.setup.is_tcp() {
            return self.close_at_once();
        }
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        self.record(What::SentReset);
        self.leaves_at_once = true;
    }

    /// Sends FIN and receives until the server's. The wait is shorter if it did not come before.
    fn leave(&mut self) {
        if self.end.is_some() || self.leaves_at_once {
            return;
        }
        self.stream.half_close();
        let (rate, until) = (&self.setup.rate, Instant::now() + LEAVE_MAX);
        let mut buffer = vec![0; RECEIVE_BYTES];
        while Instant::now() < until {
            match self.stream.receive(&mut buffer) {
                Incoming::Bytes(_) => {}
                Incoming::End => return rate.note_leaving(true),
                Incoming::Failed(_) => return,
                Incoming::Nothing => match self.wait(PollFlags::IN, rate.patience_to_leave()) {
                    Ok(true) => {}
                    Ok(false) => return rate.note_leaving(false),
                    Err(_) => return,
                },
            }
        }
        self.note("it still sends, so closing may reset the connection");
    }
}

impl Drop for Wire<'_> {
    fn drop(&mut self) {
        self.leave();
        self.setup.rate.count_closed();
    }
}
