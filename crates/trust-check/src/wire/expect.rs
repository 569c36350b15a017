//! What has to come, and what came instead.

use std::time::Duration;

use trust_cli::own_host::is_on_this_host;
use trust_cli::text::{grouped, seconds};

use super::{ConnectionEnd, RECEIVE_BYTES, Wire};
use crate::answer;
use crate::exchange::difference::shown;
use crate::request::{self, Answers, Request};
use crate::setup::{LARGE_MAX, OnReset};
use crate::verdict::{Evidence, Finding, Judged, SeenInstead, Verdict};

/// The fewest requests that a server with a limit takes on a connection: fewer are no use.
const LIMIT_MIN: usize = 8;

/// How long to wait for bytes that were never sent, where the server does not end the connection
/// either: they come with the answer or not at all.
const EXTRA_PATIENCE: Duration = Duration::from_millis(500);

impl Wire<'_> {
    /// Waits for the answers to these messages, and nothing else so far.
    ///
    /// # Errors
    ///
    /// A failure that says which answer is wrong, missing or split differently.
    pub fn expect_answers(&mut self, messages: &[&Request]) -> Judged<()> {
        self.expect_rest(vec![], messages)
    }

    /// The same where the beginning of the answers has been received already.
    ///
    /// # Errors
    ///
    /// As [`Wire::expect_answers`].
    pub fn expect_rest(&mut self, got: Vec<u8>, messages: &[&Request]) -> Judged<()> {
        let mut answers = Answers::to(messages);
        answers.add(&got);
        while answers.are_awaited() {
            let mut got = vec![];
            if !self.receive_into(&mut got, RECEIVE_BYTES, self.patience)? {
                break;
            }
            answers.add(&got);
        }
        self.judge_answers(messages, answers)
    }

    /// That what came before the request was whole is no goodbye.
    ///
    /// # Errors
    ///
    /// As [`Wire::expect_answers`], if it is one.
    pub fn expect_no_goodbye(&mut self, got: &[u8], message: &Request) -> Judged<()> {
        match self.is_goodbye(got) {
            true => self.expect_rest(got.to_vec(), &[message]),
            false => Ok(()),
        }
    }

    /// Whether all answers are there and right. What came after them is there to be received again.
    pub(super) fn judge_answers(
        &mut self,
        messages: &[&Request],
        mut answers: Answers<'_>,
    ) -> Judged<()> {
        if self.end == Some(ConnectionEnd::Fin) {
            answers.end();
        }
        self.keep(answers.take_excess());
        let is_expected = self.is_last;
        self.is_last |= answers.is_last();
        self.answered += answers.count();
        let Some(diagnosis) = answers.diagnosis(&self.setup.framing) else {
            self.delivery.forget();
            return Ok(());
        };
        if is_expected && self.answered >= LIMIT_MIN {
            let count = grouped(self.answered as u64);
            let said = format!("it ends the connection after {count} answers, and says so");
            return Err(Verdict::Allowed(said));
        }
        if is_expected {
            return Err(Verdict::inconclusive(
                "the server had said that it answers nothing more on this connection",
            ));
        }
        let is_short = !answers.is_wrong();
        let is_sent_away = self.is_sent_away(answers.rest())?;
        if is_sent_away && self.answered >= LIMIT_MIN {
            let count = grouped(self.answered as u64);
            return Err(Verdict::Allowed(format!(
                "it ends the connection after {count} answers, and says so: {}",
                shown(answers.rest())
            )));
        }
        // Proxies and firewalls that do not keep half-close do the same as such a server.
        let may_be_a_box = self.has_finished && !is_on_this_host(&self.setup.address);
        let who = if may_be_a_box { "the server, or a box between," } else { "the server" };
        let end = match self.end {
            Some(ConnectionEnd::Fin) => format!("; then {who} closed the connection"),
            Some(ConnectionEnd::Reset) => format!("; then {who} reset the connection"),
            _ if is_short => "; then nothing more came".to_owned(),
            _ => String::new(),
        };
        let waited = match self.end {
            None if is_short => format!(" for {}", seconds(self.patience)),
            _ => String::new(),
        };
        let evidence = match (is_sent_away && self.answered == 0, is_short) {
            (true, _) => self.refusal(),
            (false, true) => self.evidence(),
            (false, false) => Evidence::Bytes,
        };
        let got = format!("{diagnosis}{end}{waited}");
        let requests = messages.iter().map(|message| message.bytes.clone()).collect();
        Err(Verdict::fail_by(evidence, request::expectation(messages), got).having_seen(
            SeenInstead {
                answers: answers.count(),
                is_cut: is_short && !answers.rest().is_empty(),
                ..self.seen_instead(answers.rest(), requests)
            },
        ))
    }

    /// What came in place of an answer to these requests, or of the end.
    fn seen_instead(&self, rest: &[u8], requests: Vec<Vec<u8>>) -> SeenInstead {
        let (rest, is_over) = (rest.to_vec(), self.end.is_some());
        let delivery = self.delivery.of(requests);
        SeenInstead { answers: 0, rest, is_cut: false, is_over, asked: self.answered + 1, delivery }
    }

    /// What came after all that had to. What led to it was forgotten with the right answers.
    fn seen_too(&self, rest: Vec<u8>) -> SeenInstead {
        SeenInstead { delivery: None, ..self.seen_instead(&rest, vec![]) }
    }

    /// The evidence that something did not come: a time, or bytes that are lost because the
    /// connection has ended. One that ended before it brought a byte was refused.
    pub fn evidence(&self) -> Evidence {
        match (self.is_over(), self.received.is_some()) {
            (false, _) => Evidence::Time,
            (true, true) => Evidence::Bytes,
            (true, false) => self.refusal(),
        }
    }

    pub(super) fn refusal(&self) -> Evidence {
        Evidence::Refusal { beside: self.setup.rate.open_or_left_by(self.since).saturating_sub(1) }
    }

    /// Whether the server says goodbye instead of an answer, and ends the connection: it has no
    /// room for this client, or takes so many requests and no more.
    fn is_sent_away(&mut self, got: &[u8]) -> Judged<bool> {
        let mut got = got.to_vec();
        if !got.is_empty() && !self.is_goodbye(&got) {
            // Perhaps it is the beginning of one.
            self.receive_into(&mut got, RECEIVE_BYTES, self.setup.settle)?;
        }
        Ok(self.is_goodbye(&got) && self.drain(self.setup.prompt())?.1 != ConnectionEnd::Open)
    }

    /// Leaves the server alone for the settle time and wants nothing to come beside the answers.
    ///
    /// # Errors
    ///
    /// A failure if bytes came.
    pub fn expect_nothing_else(&mut self) -> Judged<()> {
        let mut got = vec![];
        self.receive_into(&mut got, RECEIVE_BYTES, self.setup.settle)?;
        match got.is_empty() {
            true => Ok(()),
            false => Err(Verdict::fail_by(
                Evidence::Bytes,
                "nothing comes but the answer",
                format!("{} bytes more: {}", got.len(), answer::shown(&got)),
            )
            .having_seen(self.seen_too(got))),
        }
    }

    /// Waits for `time` and wants nothing to come, and no end.
    ///
    /// # Errors
    ///
    /// A failure if something came or the connection ended.
    pub fn expect_silence(&mut self, time: Duration, expected: &str) -> Judged<()> {
        let mut got = vec![];
        self.receive_into(&mut got, RECEIVE_BYTES, time)?;
        match (got.len(), self.end) {
            (0, None) => Ok(()),
            (0, Some(ConnectionEnd::Reset)) => {
                let got = "the server reset the connection";
                Err(Verdict::fail_by(self.evidence(), expected, got))
            }
            (0, _) => {
                let got = "the server closed the connection";
                Err(Verdict::fail_by(self.evidence(), expected, got))
            }
            (count, _) => {
                let said = format!("{count} bytes came: {}", answer::shown(&got));
                let failure = Verdict::fail_by(Evidence::Bytes, expected, said);
                Err(failure.having_seen(self.seen_too(got)))
            }
        }
    }

    /// Waits for the end of the connection, up to `patience` after each byte, and returns what came
    /// before it.
    ///
    /// # Errors
    ///
    /// Only when the run is to end.
    pub fn drain(&mut self, patience: Duration) -> Judged<(Vec<u8>, ConnectionEnd)> {
        let mut got = vec![];
        // A server that sends for ever is no reason to read for ever.
        let limit = LARGE_MAX as usize * 2;
        while got.len() < limit && self.receive_into(&mut got, limit, patience)? {}
        Ok((got, self.end.unwrap_or(ConnectionEnd::Open)))
    }

    /// The same, without what the protocol allows as a goodbye: many servers say it to a client
    /// that has finished, too.
    fn drain_but_goodbye(&mut self, patience: Duration) -> Judged<(Vec<u8>, ConnectionEnd)> {
        let (mut got, end) = self.drain(patience)?;
        if end == ConnectionEnd::Fin && self.is_goodbye(&got) {
            got.clear();
        }
        Ok((got, end))
    }

    fn is_goodbye(&self, got: &[u8]) -> bool {
        self.setup.exchanges.as_ref().is_some_and(|learned| learned.is_goodbye(got))
    }

    /// Waits for the end of the connection, with no further bytes: a FIN, or a RST where that is as
    /// good. It must come before the server's timeout would cause it anyway.
    ///
    /// # Errors
    ///
    /// A failure if bytes came or no end, and what the run says about a RST.
    pub fn expect_end(&mut self, why: &str) -> Judged<()> {
        match self.expect_any_end(why)? {
            ConnectionEnd::Reset => {
                self.judge_reset(&format!("the server closes the connection, {why}"))
            }
            ConnectionEnd::Fin | ConnectionEnd::Open => Ok(()),
        }
    }

    /// Waits for the end of the connection after something that has to be refused: with no further
    /// bytes from an echo server, and with the answer that the protocol names from others.
    ///
    /// # Errors
    ///
    /// As [`Wire::expect_end`].
    pub fn expect_refusal(&mut self, why: &str) -> Judged<()> {
        let Some(learned) = &self.setup.exchanges else { return self.expect_end(why) };
        let expected = "the server closes the connection after a request that it has to refuse";
        let (answer, end) = self.drain(self.setup.prompt())?;
        let unlike = learned.unlike_refusal(&answer);
        match end {
            // It may have been on its way.
            ConnectionEnd::Reset if answer.is_empty() => return self.judge_reset(expected),
            // A proxy makes an end of a RST.
            ConnectionEnd::Fin if answer.is_empty() && unlike.is_some() && self.setup.is_tcp() => {
                let got = "it closed the connection without the answer that says why, as a proxy \
                           does whose server reset the connection";
                return self.judge_loss(expected, got);
            }
            _ => {}
        }
        if let Some(got) = unlike {
            return Err(Verdict::fail_by(Evidence::Bytes, expected, got));
        }
        match end {
            ConnectionEnd::Fin => Ok(()),
            ConnectionEnd::Reset => self.judge_reset(expected),
            ConnectionEnd::Open => {
                let got = format!("it was still open after {}", seconds(self.setup.prompt()));
                Err(Verdict::fail(expected, got))
            }
        }
    }

    /// Waits for the end of the connection, with no further bytes, and returns how it ended: never
    /// [`ConnectionEnd::Open`].
    ///
    /// # Errors
    ///
    /// A failure if bytes came or no end.
    pub fn expect_any_end(&mut self, why: &str) -> Judged<ConnectionEnd> {
        let expected = format!("the server closes the connection, {why}");
        match self.drain_but_goodbye(self.setup.prompt())? {
            (extra, _) if !extra.is_empty() => Err(Verdict::fail_by(
                Evidence::Bytes,
                expected,
                format!("{} bytes came first: {}", extra.len(), answer::shown(&extra)),
            )
            .having_seen(self.seen_instead(&extra, vec![]))),
            (_, ConnectionEnd::Open) => Err(Verdict::fail(
                expected,
                format!("it was still open after {}", seconds(self.setup.prompt())),
            )
            .having_seen(self.seen_instead(&[], vec![]))),
            (_, end) => Ok(end),
        }
    }

    /// What the run says about a RST where a FIN would do.
    ///
    /// # Errors
    ///
    /// A failure or a warning, if that is what it says.
    pub fn judge_reset(&self, expected: &str) -> Judged<()> {
        let got = "it reset the connection: what was under way to the client may be lost";
        self.judge_loss(expected, got)
    }

    /// The same about what a RST has lost.
    fn judge_loss(&self, expected: &str, got: &str) -> Judged<()> {
        if let (1.., evidence @ Evidence::Refusal { .. }) = (self.beside, self.evidence()) {
            // Perhaps it was turned away, which trying it alone shows.
            return Err(Verdict::fail_by(evidence, expected, got));
        }
        match self.setup.reset {
            OnReset::Pass => Ok(()),
            // Closing over unread bytes is ECONNRESET to the peer of a unix socket too, but only
            // after it has received everything that was sent to it: nothing can be lost.
            OnReset::Warn if !self.setup.is_tcp() => Ok(()),
            OnReset::Warn => {
                let (expected, got) = (expected.to_owned(), got.to_owned());
                Err(Verdict::Warn(Finding { expected, got, evidence: Evidence::Reset, seen: None }))
            }
            OnReset::Fail => Err(Verdict::fail_by(Evidence::Reset, expected, got)),
        }
    }

    /// Sends FIN and expects nothing more to come. Whether the server answers with its own is for
    /// other cases to judge.
    ///
    /// # Errors
    ///
    /// A failure if bytes came.
    pub fn expect_no_more(&mut self) -> Judged<()> {
        self.finish();
        let expected = match self.setup.exchanges {
            None => "nothing comes but the echo of what was sent",
            Some(_) => "nothing comes but the answers",
        };
        match self.drain_but_goodbye(self.setup.prompt().min(EXTRA_PATIENCE))? {
            (extra, _) if !extra.is_empty() => Err(Verdict::fail_by(
                Evidence::Bytes,
                expected,
                format!("{} bytes more: {}", extra.len(), answer::shown(&extra)),
            )
            .having_seen(self.seen_too(extra))),
            _ => Ok(()),
        }
    }
}
