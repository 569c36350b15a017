//! What a relay does to one direction on purpose, at exact places of its stream.
//!
//! Every place counts the bytes that came from the source, before any fault changed them, so it
//! does not depend on how the network cut the stream, nor on other faults.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::time::Timestamp;

mod draw;
mod fault;
mod frames;
mod kept;
mod lasting;
mod pace;
mod places;
mod search;
mod timing;

use self::frames::{FrameEvent, FrameTracker};
use self::kept::{KeptFor, KeptFrame};
use self::lasting::{Effect, Lasting};
use self::pace::SendPace;
use self::places::{Armed, Pending, Places};
use self::timing::{Delay, Timing};

pub use self::draw::draw;
pub use self::fault::{
    Chance, FaultAction, FaultPlace, FiredFault, FramePart, RelayFault, flip_mask,
};
pub(super) use self::timing::{Gate, HOLD_DEFAULT};

pub use self::frames::{FrameFormat, FrameOpening, LostFraming};
pub use self::pace::SharedRate;

/// For how many bytes of a stream without frames one delay is drawn: an Ethernet frame carries
/// about as many.
const JITTER_LEN: u64 = 1460;

/// How much is inserted into what one receive brings, about.
const INSERTED_MAX: u64 = 1 << 20;

/// The faults of one direction, and how far its stream has come.
#[derive(Debug, Default)]
pub(super) struct FaultFlow {
    /// Bytes from the source.
    position: u64,
    frames: Option<FrameTracker>,
    places: Places,
    /// What rules have begun and not ended, but for when bytes are sent.
    lasting: Lasting,
    /// What is done to the next bytes, in this order.
    changes: Vec<ByteChange>,
    kept: Vec<KeptFrame>,
    /// Bytes of the output so far.
    output: u64,
    fired: Vec<FiredFault>,
    pub(super) timing: Timing,
    /// How many bytes are received at once at most, because of what is inserted.
    most_at_once: Option<u64>,
    /// And in all: each receive asks for that.
    window: Option<u64>,
}

/// What is known of the place of a fault in a frame.
enum Placed {
    At(u64),
    Later,
    Never,
}

#[derive(Debug)]
struct ByteChange {
    /// How many bytes come before those that it changes.
    skip: usize,
    bytes: Box<[u8]>,
    done: usize,
    is_xor: bool,
}

impl FaultFlow {
    /// A direction with these faults, before its first byte. Without a format there are no frames.
    pub(super) fn new(faults: Vec<RelayFault>, format: Option<FrameFormat>) -> FaultFlow {
        let frames = format.map(FrameTracker::new);
        let mut flow = FaultFlow { frames, ..FaultFlow::default() };
        for fault in faults {
            flow.bound_growth(&fault);
            flow.places.add(fault, 0);
        }
        flow.places.sort();
        flow.begin_frame();
        flow.window = flow.most_at_once;
        flow
    }

    /// Ends what these rules do.
    pub(super) fn disarm(&mut self, rules: &[usize]) {
        for rule in rules {
            self.places.disarm(*rule);
            self.lasting.lift(*rule);
            self.timing.disarm(*rule);
        }
    }

    /// Ends what these rules do, and has these faults happen from here on, after so many bytes of
    /// the output were sent.
    pub(super) fn rearm(
        &mut self,
        disarmed: &[usize],
        faults: Vec<RelayFault>,
        sent: u64,
        output: &mut Vec<u8>,
    ) {
        self.disarm(disarmed);
        let rules: Vec<usize> = faults.iter().map(|fault| fault.rule).collect();
        for fault in faults {
            self.bound_growth(&fault);
            self.places.add(fault, self.position);
        }
        self.places.sort();
        self.bound_window();
        self.process(&[], output);
        self.timing.pace_what_is_held(&rules, sent);
        self.timing.delay_anew();
    }

    /// The rules of which something may happen, or goes on.
    pub(super) fn rules(&self) -> BTreeSet<usize> {
        self.places.rules().chain(self.lasting.rules()).chain(self.timing.rules()).collect()
    }

    /// Ends what all rules do.
    pub(super) fn disarm_all(&mut self) {
        let rules: Vec<usize> = self.rules().into_iter().collect();
        self.disarm(&rules);
    }

    /// Nothing is held any longer, after so many bytes of the output were sent.
    pub(super) fn skip_held(&mut self, sent: u64) {
        self.kept.clear();
        self.output = sent;
        self.timing.skip_held(sent);
    }

    /// Has so little received at once that what is inserted again and again is bounded too.
    fn bound_growth(&mut self, fault: &RelayFault) {
        let FaultAction::Insert(bytes) = &fault.action else { return };
        let place = match &fault.place {
            FaultPlace::First { of, .. } => of,
            place => place,
        };
        let step = match place {
            // A frame has one byte at least.
            FaultPlace::EveryBytes(step) | FaultPlace::EveryFrames(step) => (*step).max(1),
            FaultPlace::RandomFrames(_) => 1,
            _ => return,
        };
        let limit = (INSERTED_MAX / (bytes.len() as u64 / step + 1)).max(1);
        self.most_at_once = Some(self.most_at_once.map_or(limit, |most| most.min(limit)));
    }

    /// Up to which position bytes may pass without being shown to it: with fewer bytes in all, no
    /// byte is changed, and nothing happens among or after them. Without frames, and if nothing
    /// depends on the time.
    pub(super) fn quiet_until(&self) -> u64 {
        let is_quiet = self.frames.is_none()
            && !self.lasting.drops()
            && self.changes.is_empty()
            && self.places.searches.is_empty();
        if is_quiet { self.places.next() } else { 0 }
    }

    /// Goes on to that position: bytes have passed without being shown to it.
    pub(super) fn skip_to(&mut self, position: u64) {
        self.output += position - self.position;
        self.position = position;
    }

    /// Takes bytes that pass unchanged, and among and after which nothing happens; `false`: that is
    /// not so, and nothing was done.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> bool {
        let Places { in_frames, at_starts, searches, .. } = &self.places;
        let is_quiet = self.places.next() > self.position + bytes.len() as u64
            && !self.lasting.drops()
            && self.changes.is_empty()
            && self.kept.is_empty()
            && self.timing.is_idle()
            && searches.is_empty()
            && at_starts.is_empty()
            && in_frames.is_empty();
        if !is_quiet {
            return false;
        }
        self.follow(bytes);
        self.output += bytes.len() as u64;
        true
    }

    /// Goes on by these bytes, whatever becomes of them.
    pub(super) fn follow(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let reach = self.frames.as_ref().map(|frames| frames.reach(self.position, rest));
            let (now, later) = rest.split_at(reach.unwrap_or(rest.len()));
            // What is kept is no longer sent.
            self.follow_frames(now, &mut Vec::new());
            rest = later;
        }
        // Nothing happens at places that are only followed.
        while self.places.armed.pop_if(|armed| armed.at <= self.position).is_some() {}
    }

    /// Goes on by bytes that come before the next event of the frames at most. What was kept until
    /// then comes out.
    fn follow_frames(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
        self.position += bytes.len() as u64;
        let Some(frames) = &mut self.frames else { return };
        frames.advance(self.position, bytes);
        while let Some(event) = self.frames.as_mut().and_then(|it| it.next_event(self.position)) {
            match event {
                FrameEvent::Header => {
                    self.resolve();
                    self.release_header(true, output);
                }
                FrameEvent::End => {
                    self.begin_frame();
                    self.release_frames(output);
                }
                FrameEvent::Lost => {
                    self.places.in_frames.clear();
                    self.places.at_starts.clear();
                    let lost = self.frames.as_ref().map_or(0, |frames| frames.number);
                    let is_open = |armed: &Armed| armed.frame.is_none_or(|frame| frame < lost);
                    self.places.armed.retain(is_open);
                    self.lasting.lose_frames();
                    self.release_all(output);
                }
            }
        }
    }

    /// A frame begins here: arms what is at a known distance from its start, and what the end of
    /// the one before it was waited for. What that one was too short for never happens.
    fn begin_frame(&mut self) {
        let Some(FrameTracker { number, start, .. }) = self.frames else { return };
        let is_open =
            |armed: &Armed| armed.at <= start || armed.frame.is_none_or(|frame| frame >= number);
        self.places.armed.retain(is_open);
        self.lasting.begin_frame(number);
        self.places.begin_frame(number, start);
        self.arm_in_frames(|of, part| match part {
            FramePart::Byte(count) if of == number => {
                start.checked_add(count).map_or(Placed::Never, Placed::At)
            }
            FramePart::End if number.checked_sub(1) == Some(of) => Placed::At(start),
            // It has come, and was too short, or its header does not say how long it is.
            _ if of < number => Placed::Never,
            _ => Placed::Later,
        });
    }

    /// The header of the current frame is whole: arms what is at a known distance from its end.
    fn resolve(&mut self) {
        let Some(FrameTracker { number, end: Some(end), .. }) = self.frames else { return };
        let position = self.position;
        self.arm_in_frames(|of, part| match part {
            FramePart::Payload if of == number => Placed::At(position),
            FramePart::BeforeEnd(count) if of == number => {
                // In the header it would have been passed already.
                let at = end.checked_sub(count).filter(|at| *at >= position);
                at.map_or(Placed::Never, Placed::At)
            }
            _ => Placed::Later,
        });
    }

    /// Arms the faults in frames whose places are known now.
    fn arm_in_frames(&mut self, place: impl Fn(u64, FramePart) -> Placed) {
        for (of, part, what) in core::mem::take(&mut self.places.in_frames) {
            match place(of, part) {
                Placed::At(at) => self.places.arm(Armed::once(at, what, Some(of))),
                Placed::Later => self.places.in_frames.push((of, part, what)),
                Placed::Never => {}
            }
        }
    }

    /// Takes bytes from the source, and appends what becomes of them to the output. Without bytes:
    /// does what happens before the first one.
    pub(super) fn process(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
        let mut rest = bytes;
        loop {
            self.fire_due(output);
            if rest.is_empty() {
                return;
            }
            let until = self.places.next() - self.position;
            let until = usize::try_from(until).unwrap_or(usize::MAX);
            let mut count = rest.len().min(until).min(self.same_delay());
            if let Some(frames) = &self.frames {
                count = frames.reach(self.position, &rest[..count]);
            }
            for (search, ..) in &self.places.searches {
                count = search.next_end(&rest[..count]).unwrap_or(count);
            }
            let (now, later) = rest.split_at(count);
            self.put(now, output);
            self.follow_frames(now, output);
            self.places.find(self.position, now);
            rest = later;
        }
    }

    /// Takes the end of the source's stream.
    pub(super) fn process_end(&mut self, output: &mut Vec<u8>) {
        self.timing.has_ended = true;
        if self.is_over() {
            return;
        }
        self.release_all(output);
        while !self.places.at_end.is_empty() {
            let what = self.places.at_end.remove(0);
            self.fire(what, output);
        }
        if !self.is_over() {
            self.delay();
        }
    }

    /// How many of the next bytes are delayed by the same time.
    fn same_delay(&self) -> usize {
        match self.timing.has_jitter() && self.frame().is_none() {
            // No more than that constant.
            true => (JITTER_LEN - self.position % JITTER_LEN) as usize,
            false => usize::MAX,
        }
    }

    /// Has what comes next in the output wait as long as delays say.
    fn delay(&mut self) {
        let piece = self.frame().map_or(self.position / JITTER_LEN, |(number, _)| number);
        self.timing.delay(self.output, piece);
    }

    /// In which frame the stream is, and after how many of its bytes.
    fn frame(&self) -> Option<(u64, u64)> {
        self.frames.as_ref()?.place(self.position)
    }

    /// Sends the header that was kept until it is whole, or that will not be.
    fn release_header(&mut self, is_whole: bool, output: &mut Vec<u8>) {
        let format = self.frames.as_ref().and_then(FrameTracker::length_format);
        for index in 0..self.kept.len() {
            if let KeptFor::Length(by) = self.kept[index].kept_for {
                if let (true, Some(format)) = (is_whole, format) {
                    self.kept[index].change_length(format, by);
                }
                let bytes = core::mem::take(&mut self.kept[index].bytes);
                // Others may keep the frame that it belongs to.
                self.emit(&bytes, index + 1, output);
            }
        }
        self.kept.retain(|kept| !matches!(kept.kept_for, KeptFor::Length(_)));
    }

    /// Sends frames that were kept until here.
    fn release_frames(&mut self, output: &mut Vec<u8>) {
        let Some((begins, _)) = self.frame() else { return };
        let (due, kept) =
            core::mem::take(&mut self.kept).into_iter().partition(|it| it.is_due(begins));
        self.kept = kept;
        let due: Vec<KeptFrame> = due;
        due.iter().for_each(|kept| self.emit(&kept.bytes, usize::MAX, output));
    }

    /// Sends what is kept, because what it waits for does not come.
    pub(super) fn release_all(&mut self, output: &mut Vec<u8>) {
        self.release_header(false, output);
        for kept in core::mem::take(&mut self.kept) {
            if kept.kept_for == KeptFor::Swap {
                self.emit(&kept.bytes, usize::MAX, output);
            }
        }
    }

    /// Appends bytes to the output, unless a frame from `keeper` on keeps them.
    fn emit(&mut self, bytes: &[u8], keeper: usize, output: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let start = output.len();
        output.extend_from_slice(bytes);
        self.keep(start, keeper, output);
        if output.len() > start {
            self.delay();
        }
        self.output += (output.len() - start) as u64;
    }

    /// Has frames from `keeper` on keep what they keep of the output from `start` on.
    fn keep(&mut self, start: usize, keeper: usize, output: &mut Vec<u8>) {
        let Some((number, _)) = self.frame() else { return };
        for kept in self.kept.iter_mut().skip(keeper) {
            kept.take(number, output, start);
        }
    }

    fn fire_due(&mut self, output: &mut Vec<u8>) {
        while let Some(what) = self.places.take_due(self.position) {
            self.fire(what, output);
        }
    }

    /// Does what happens at a time.
    fn fire_timed(&mut self, what: Pending, output: &mut Vec<u8>) {
        match what.action {
            FaultAction::Lift => self.lift(what.rule, None),
            _ => self.fire(what, output),
        }
    }

    /// Ends what a rule has begun: what paces it from that byte of the output on, or at once.
    fn lift(&mut self, rule: usize, at: Option<u64>) {
        self.places.disarm(rule);
        if self.lasting.lift(rule) | self.timing.lift(rule, at) {
            self.report(rule, true);
        }
    }

    /// Records that a rule has happened, or that what it had begun has ended.
    fn report(&mut self, rule: usize, is_lifted: bool) {
        self.bound_window();
        let (position, frame) = (self.position, self.frame());
        self.fired.push(FiredFault { rule, position, frame, is_lifted });
    }

    fn bound_window(&mut self) {
        self.window = self.lasting.window().into_iter().chain(self.most_at_once).min();
    }

    fn fire(&mut self, what: Pending, output: &mut Vec<u8>) {
        // After the end there is no place in the output at which anything could happen.
        if self.is_over() {
            return;
        }
        let Pending { rule, action, .. } = what;
        if let FaultAction::TruncateFrame(kept) = action
            && self.frame().is_none_or(|(_, byte)| byte != kept)
        {
            // The frame has no more bytes.
            return;
        }
        self.places.note_happened(rule);
        match action {
            FaultAction::Lift => return self.lift(rule, Some(self.output)),
            FaultAction::Stall(time) => self.gate(Gate::Stall(rule, time)),
            FaultAction::Hold => self.end(Gate::Hold, output),
            FaultAction::HoldUntil(time) => {
                self.gate(Gate::Until(rule, self.timing.began() + time));
            }
            FaultAction::Finish => self.end(Gate::Finish, output),
            FaultAction::Close => self.end(Gate::Close, output),
            FaultAction::Reset => self.end(Gate::Reset, output),
            FaultAction::ResetSides(sides) => self.end(Gate::ResetSides(sides), output),
            FaultAction::BlackHole => {
                self.release_all(output);
                self.lasting.begin(rule, Effect::BlackHole);
            }
            FaultAction::Drop(0) => {}
            FaultAction::Drop(count) => self.lasting.begin(rule, Effect::Drop(count)),
            FaultAction::DropFrames(count) => self.drop_frames(rule, count),
            FaultAction::TruncateFrame(_) => self.drop_frames(rule, 1),
            FaultAction::Flip { bits, seed } => {
                self.change(0, Box::new([flip_mask(bits, seed, self.position)]), true);
            }
            FaultAction::Xor(bytes) => self.change(0, bytes, true),
            FaultAction::Set(bytes) => self.change(0, bytes, false),
            FaultAction::Insert(bytes) => {
                // In front of a frame that is kept, or inside it.
                let is_inside = self.frame().is_some_and(|(_, byte)| byte > 0);
                self.emit(&bytes, if is_inside { 0 } else { usize::MAX }, output);
            }
            FaultAction::SwallowFin => self.lasting.begin(rule, Effect::SwallowFin),
            FaultAction::SetLength(value) => self.set_length(value),
            FaultAction::AddLength(by) => self.keep_frame(KeptFor::Length(by)),
            FaultAction::DuplicateFrame => self.keep_frame(KeptFor::Duplicate),
            FaultAction::SwapFrame => self.keep_frame(KeptFor::Swap),
            FaultAction::Delay { time, jitter, seed } => {
                self.timing.add_delay(rule, Delay { time, jitter, seed });
            }
            FaultAction::Rate(bytes) => self.gate(Gate::Pace(rule, SendPace::rate(bytes))),
            FaultAction::SharedRate(rate) => self.gate(Gate::Pace(rule, SendPace::shared(rate))),
            FaultAction::Dribble { bytes, per } => {
                self.gate(Gate::Pace(rule, SendPace::dribble(bytes, per)));
            }
            FaultAction::Split { first, every } => {
                let start = self.output;
                self.gate(Gate::Pace(rule, SendPace::Split { first, every, start }));
            }
            FaultAction::Slice { size, vary, per, seed } => {
                self.gate(Gate::Pace(rule, SendPace::slice(size, vary, per, seed)));
            }
            FaultAction::Merge { bytes, within } => {
                self.gate(Gate::Pace(rule, SendPace::merge(bytes, within)));
            }
            FaultAction::Window(bytes) => self.lasting.begin(rule, Effect::Window(bytes)),
        }
        self.report(rule, false);
    }

    /// Drops what is left of the current frame, and the `count - 1` whole ones after it.
    fn drop_frames(&mut self, rule: usize, count: u64) {
        if let Some((number, _)) = self.frame() {
            self.lasting.begin(rule, Effect::DropBefore(number.saturating_add(count)));
        }
    }

    /// Keeps the frame that begins here, or its header.
    fn keep_frame(&mut self, kept_for: KeptFor) {
        if let Some((number, 0)) = self.frame() {
            // A duplicate is of what a changed header became, and what is sent later is duplicated.
            let before = self.kept.partition_point(|kept| kept.kept_for.rank() <= kept_for.rank());
            self.kept.insert(before, KeptFrame::new(number, kept_for));
        }
    }

    /// Replaces the length field of the frame that begins here; the bytes before it stay.
    fn set_length(&mut self, value: u64) {
        let format = self.frames.as_ref().and_then(FrameTracker::length_format);
        let Some(format) = format else { return };
        let mut header = Vec::new();
        format.encode_raw(value, &mut header);
        self.change(format.length_at().start, header[format.length_at()].into(), false);
    }

    fn change(&mut self, skip: usize, bytes: Box<[u8]>, is_xor: bool) {
        self.changes.push(ByteChange { skip, bytes, done: 0, is_xor });
    }

    fn gate(&mut self, gate: Gate) {
        self.timing.gate(self.output, gate);
    }

    fn end(&mut self, gate: Gate, output: &mut Vec<u8>) {
        self.release_all(output);
        self.gate(gate);
    }

    fn is_over(&self) -> bool {
        self.timing.is_over()
    }

    /// Appends what becomes of the next bytes, at none of which anything happens.
    fn put(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
        if self.is_over() {
            return;
        }
        let dropped = self.lasting.drop_next(bytes.len());
        if dropped == bytes.len() && self.changes.is_empty() {
            return;
        }
        let start = output.len();
        output.extend_from_slice(bytes);
        for change in &mut self.changes {
            let skipped = change.skip.min(bytes.len());
            change.skip -= skipped;
            let changed = output[start + skipped..].iter_mut().zip(&change.bytes[change.done..]);
            let mut count = 0;
            for (byte, with) in changed {
                *byte = if change.is_xor { *byte ^ with } else { *with };
                count += 1;
            }
            change.done += count;
        }
        self.changes.retain(|change| change.done < change.bytes.len());
        output.drain(start..start + dropped);
        self.keep(start, 0, output);
        self.bound_kept(output);
        if output.len() > start {
            self.delay();
        }
        self.output += (output.len() - start) as u64;
    }

    /// Gives up keeping frames if they are too long.
    fn bound_kept(&mut self, output: &mut Vec<u8>) {
        let kept: usize = self.kept.iter().map(|kept| kept.bytes.len()).sum();
        if kept > self.timing.hold_limit() {
            self.timing.note_full();
            // Not whole ones, which would come out in the middle of this one.
            let Some((number, _)) = self.frame() else { return };
            let of_this = self.kept.extract_if(.., |kept| kept.number == number);
            for kept in of_this.filter(|kept| kept.kept_for != KeptFor::Duplicate) {
                output.extend_from_slice(&kept.bytes);
            }
        }
    }

    /// Whether nothing comes out of the bytes that follow.
    pub(super) fn drops_all(&self) -> bool {
        self.lasting.drops_all() || self.is_over()
    }

    /// Whether the source's FIN is passed on once everything was sent.
    pub(super) fn swallows_fin(&self) -> bool {
        self.lasting.swallows_fin()
    }

    /// Whether there is something to take that happened since the last time.
    pub(super) fn has_news(&self) -> bool {
        let has_lost = self.frames.as_ref().is_some_and(FrameTracker::is_newly_lost);
        !self.fired.is_empty() || has_lost || self.timing.is_newly_full()
    }

    /// Whether what happens depends on the time.
    pub(super) fn needs_time(&self) -> bool {
        let Places { timed, idle, need_time, .. } = &self.places;
        !self.timing.is_idle() || !timed.is_empty() || !idle.is_empty() || *need_time
    }

    /// Records that bytes come now.
    pub(super) fn note_received(&mut self) {
        self.timing.note_received();
    }

    /// Does what happens at a time that has come.
    pub(super) fn handle_time(&mut self, now: Timestamp, output: &mut Vec<u8>) {
        if self.timing.set_now(now) {
            self.process(&[], output);
        }
        let began = self.timing.began();
        while let Some((time, ..)) = self.places.timed.first()
            && began + *time <= now
        {
            let (_, what) = self.places.timed.remove(0);
            self.fire_timed(what, output);
        }
    }

    /// Does what happens when nothing has come for a while, if the source is read from; whether
    /// there was such a thing.
    pub(super) fn handle_idle(
        &mut self,
        now: Timestamp,
        is_read: bool,
        output: &mut Vec<u8>,
    ) -> bool {
        if !is_read {
            // It cannot be known what has come.
            self.timing.note_received();
            return false;
        }
        let received = self.timing.received();
        let mut has_happened = false;
        while let Some((time, _)) = self.places.idle.first()
            && received + *time <= now
        {
            let (_, what) = self.places.idle.remove(0);
            self.fire_timed(what, output);
            has_happened = true;
        }
        has_happened
    }

    /// When something happens next although no bytes come, after so many were sent.
    pub(super) fn deadline(&self, sent: u64) -> Timestamp {
        let (began, received) = (self.timing.began(), self.timing.received());
        let timed = self.places.timed.iter().map(|(time, ..)| began + *time);
        let idle = self.places.idle.iter().map(|(time, ..)| received + *time);
        timed.chain(idle).fold(self.timing.deadline(sent), Timestamp::min)
    }

    /// How many bytes are received at once at most.
    pub(super) fn window(&self) -> Option<u64> {
        self.window
    }

    /// Where the stream stopped making sense, once.
    pub(super) fn take_lost(&mut self) -> Option<LostFraming> {
        self.frames.as_mut()?.take_lost()
    }

    /// Frames that have come whole.
    pub(super) fn frames(&self) -> Option<u64> {
        self.frames.as_ref().map(FrameTracker::whole)
    }

    /// What has happened since the last call.
    pub(super) fn take_fired(&mut self) -> Vec<FiredFault> {
        core::mem::take(&mut self.fired)
    }
}

#[cfg(test)]
mod tests;
