//! Asks the server whole requests, one at a time, and returns what it answers.

use std::sync::Arc;
use std::time::Duration;

use crate::exchange::learned::{Checked, Learned, LearnedExchange};
use crate::setup::Setup;
use crate::transcript::Transcript;
use crate::verdict::Judged;
use crate::wire::{ConnectionEnd, Wire};

/// How long nothing has come when an answer counts as whole whose end is not known.
const QUIET: Duration = Duration::from_millis(300);

/// How long a server may take to speak first.
const GREETING: Duration = Duration::from_millis(700);

/// The most bytes of an answer.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// What was answered to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// What was sent.
    pub request: Vec<u8>,
    /// What came.
    pub answer: Vec<u8>,
    /// Whether that is all, as far as that is known.
    pub is_whole: bool,
    /// How the connection ended; `None` if it did not.
    pub end: Option<ConnectionEnd>,
}

/// What was answered on one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampledConnection {
    /// To what each connection begins with.
    pub before: Vec<Answered>,
    /// To the requests, up to the first that was not answered.
    pub answers: Vec<Answered>,
}

/// Asks a server on connections of their own.
#[derive(Clone, Copy, Debug)]
pub struct Sampler<'s> {
    /// Where the server is, and how patient we are.
    pub setup: &'s Setup,
    /// What is known of its protocol.
    pub learned: &'s Learned,
}

impl Sampler<'_> {
    /// What the server says before it is asked: nothing, most of the time.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`].
    pub fn greeting(&self) -> Judged<Vec<u8>> {
        let mut wire = Wire::connect(self.setup, 1, &Transcript::default())?;
        let (mut greeting, mut patience) = (vec![], GREETING);
        while greeting.len() < ANSWER_MAX
            && wire.receive_into(&mut greeting, ANSWER_MAX, patience.min(self.setup.patience))?
        {
            patience = QUIET;
        }
        Ok(greeting)
    }

    /// Sends these requests of the exchange, each after the answer to the one before.
    ///
    /// # Errors
    ///
    /// As [`Wire::connect`] and [`Wire::send`].
    pub fn converse(
        &self,
        exchange: &Arc<LearnedExchange>,
        requests: &[Vec<u8>],
        patience: Duration,
    ) -> Judged<SampledConnection> {
        let mut wire = Wire::connect(self.setup, 1, &Transcript::default())?;
        let (mut before, mut answers) = (vec![], vec![]);
        for step in &self.learned.before {
            let answered = ask(&mut wire, step, step.request(0), self.setup.patience)?;
            let is_over = !answered.is_whole || answered.end.is_some();
            before.push(answered);
            if is_over {
                return Ok(SampledConnection { before, answers });
            }
        }
        for request in requests {
            let answered = ask(&mut wire, exchange, request.clone(), patience)?;
            let is_over = !answered.is_whole || answered.end.is_some();
            answers.push(answered);
            if is_over {
                break;
            }
        }
        Ok(SampledConnection { before, answers })
    }

    /// The same with the first copy of the exchange, alone.
    ///
    /// # Errors
    ///
    /// As [`Sampler::converse`].
    pub fn ask_once(&self, exchange: &Arc<LearnedExchange>) -> Judged<SampledConnection> {
        self.converse(exchange, &[exchange.request(0)], self.setup.patience)
    }
}

fn ask(
    wire: &mut Wire<'_>,
    exchange: &Arc<LearnedExchange>,
    request: Vec<u8>,
    patience: Duration,
) -> Judged<Answered> {
    wire.sending_secret(exchange.is_secret(), |wire| wire.try_send(&request, patience))?;
    let mut answer = vec![];
    let quiet = QUIET.min(patience);
    let is_whole = loop {
        let is_over = wire.end().is_some();
        match exchange.answer_so_far(&request, 0, &answer, is_over) {
            Checked::Right(len) => {
                wire.keep(answer.split_off(len));
                break true;
            }
            Checked::Wrong(_) => break false,
            Checked::More | Checked::Another => {}
        }
        let is_quiet_enough = !exchange.has_end() && !answer.is_empty();
        let wait = if is_quiet_enough { quiet } else { patience };
        let has_come =
            answer.len() < ANSWER_MAX && wire.receive_into(&mut answer, ANSWER_MAX, wait)?;
        // An answer may end with the connection.
        if !has_come && is_over == wire.end().is_some() {
            break is_quiet_enough;
        }
    };
    // Its end may come a little later. More bytes do not belong to the answer, so that is none.
    let len = answer.len();
    wire.receive_into(&mut answer, ANSWER_MAX, wait_for_end(exchange, quiet))?;
    let is_whole = is_whole && answer.len() == len;
    Ok(Answered { request, answer, is_whole, end: wire.end() })
}

/// An answer whose end is not known was waited for already.
fn wait_for_end(exchange: &LearnedExchange, quiet: Duration) -> Duration {
    if exchange.has_end() { quiet } else { Duration::ZERO }
}
