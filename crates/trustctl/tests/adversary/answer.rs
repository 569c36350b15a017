//! Whether a client got everything it is owed, and whether its connection's counters agree.

use std::time::Duration;

use trust_wire::Mode;

use super::history::End;
use super::verdict::{Case, ensure};

impl Case<'_> {
    pub(crate) fn check_prefix(&self) -> Result<(), String> {
        let history = self.history;
        if let Some(wrong) = &history.wrong_echo {
            return Err(wrong.clone());
        }
        let (read, most) = (history.read_total(), self.answer(history.sent_total(), usize::MAX));
        ensure(read <= most, || format!("{read} bytes read, {most} owed for what was sent"))
    }

    /// Checks what a client read that saw the end, or could have seen it.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        let history = self.history;
        let (from, by) = self.logged.decided;
        let (read, out) = (history.read_total(), self.count("bytes_out"));
        let ended = history.end.map(|(end, _)| end);
        if ended == Some(End::OfStream) {
            ensure(read == out, || format!("{read} bytes and the end, {out} were sent"))?;
        }
        // Cut off before any end was in sight; or before it was acknowledged, which is no excuse
        // where acknowledgements arrive.
        let is_healthy = history.is_healthy_until(Duration::MAX);
        let is_cut =
            self.reason() == "frame_timeout" || self.reason() == "send_timeout" && is_healthy;
        ensure(!is_cut || ended != Some(End::OfStream), || {
            format!("{}, and the client saw an orderly end", self.reason())
        })?;
        let orderly = [
            "peer_fin",
            "truncated_frame",
            "frame_too_large",
            "recv_timeout",
            "max_lifetime",
            "drain",
        ];
        if !orderly.contains(&self.reason()) {
            return Ok(());
        }
        let bytes_in = self.count("bytes_in");
        let has_fin = ["peer_fin", "truncated_frame"].contains(&self.reason());
        // A fence lets frames through that began before the drain was requested, and certainly
        // those of which the server's kernel had a byte.
        let told = self.played.told_to_stop;
        let is_drained = by + self.early >= told.from;
        // Bytes that arrived after a silence, or after a connection was too old, were no longer
        // served.
        let sure_by = from.saturating_sub(self.under_way);
        let received = match self.reason() {
            "recv_timeout" | "max_lifetime" if history.is_healthy_until(from) => {
                history.sent_by(sure_by)
            }
            "recv_timeout" | "max_lifetime" => 0,
            // Besides the server's own figure: its kernel had acknowledged this much.
            "drain" => bytes_in.max(history.acknowledged_at_signal),
            _ => bytes_in,
        };
        let life = self.played.script.limits.max_lifetime;
        let is_old = life.is_some_and(|life| by + self.early >= self.logged.accepted + life);
        let least = match (is_drained, is_old) {
            _ if self.reason() == "frame_too_large" => self.answer(usize::MAX, usize::MAX),
            (_, true) => 0,
            (true, false) => self.answer(received, history.acknowledged_at_signal),
            (false, false) => self.answer(received, usize::MAX),
        };
        let received_at_most = bytes_in.min(history.maybe_sent_by(by + self.early));
        let most = self.answer(received_at_most, usize::MAX);
        if ended == Some(End::OfStream) && !self.was_cut() {
            ensure((least..=most).contains(&read), || {
                format!("{read} bytes and the end, owed are {least} to {most}")
            })?;
            ensure(self.answer(read, usize::MAX) == read, || {
                format!("{read} bytes and the end, which is inside a frame")
            })?;
        }
        // A client that waits for the end sees it, unless it keeps sending to a server that has
        // stopped listening.
        let keeps_quiet =
            history.sent_by(from.saturating_sub(self.under_way)) == history.sent_total();
        let is_waited_for = has_fin || !self.played.script.limits.linger_timeout.is_zero();
        let is_owed_an_end = history.is_healthy_until(Duration::MAX)
            && !history.is_careless
            && history.reads_freely_during(from, Duration::MAX)
            && (has_fin || keeps_quiet)
            && is_waited_for;
        ensure(!is_owed_an_end || ended == Some(End::OfStream), || {
            format!("{:?} after {read} of {out} bytes, {}", history.end, self.logged.close.line())
        })?;
        let soon = by + 2 * self.under_way + self.paused_since(by);
        let is_soon = history.end.is_none_or(|(_, seen)| seen <= soon);
        ensure(!is_owed_an_end || is_soon, || format!("{:?}, decided at {by:?}", history.end))
    }

    /// Whether a failure while lingering can have lost bytes in flight.
    fn was_cut(&self) -> bool {
        let cut = ["drain_timeout", "second_signal", "client_reset", "broken_pipe", "send_timeout"];
        self.logged.events.iter().any(|event| cut.contains(&event.name()))
    }

    pub(crate) fn check_totals(&self) -> Result<(), String> {
        let history = self.history;
        let [bytes_in, out, frames_in, frames_out] =
            ["bytes_in", "bytes_out", "frames_in", "frames_out"].map(|key| self.count(key));
        let line = || {
            format!(
                "{}, client {} sent, {} read",
                self.logged.close.line(),
                history.sent_total(),
                history.read_total()
            )
        };
        ensure(bytes_in <= history.sent_total() && out >= history.read_total(), line)?;
        ensure(out <= self.answer(bytes_in, usize::MAX), line)?;
        ensure(frames_out == self.model.answer_frames(out, usize::MAX), line)?;
        ensure(frames_in <= self.model.answer_frames(bytes_in, usize::MAX), line)?;
        ensure(frames_out <= frames_in, line)?;
        let mode = self.logged.close.text("mode");
        let is_framed = history.upload.first() == Some(&0);
        let asked = match self.played.script.limits.mode {
            Mode::Framed => "framed",
            Mode::Raw => "raw",
            Mode::Auto if bytes_in == 0 => "auto",
            Mode::Auto if is_framed => "framed",
            Mode::Auto => "raw",
        };
        // Bytes that came too late to be served decide nothing.
        ensure(mode == asked || mode == "auto" && out == 0, line)
    }
}
