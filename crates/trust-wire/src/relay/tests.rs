use alloc::collections::VecDeque;
use alloc::vec;

use super::*;
use crate::disconnect::During;
use crate::turn::{Question, Readiness, Refusal, Unread};
use RelaySide::{Client, Upstream};

mod bulk;
mod lifting;
mod rearming;
mod timing;

const LINGER: Duration = Duration::from_secs(2);
const RESET: Refusal = Refusal::Failed { errno: 104, class: ErrnoClass::Reset };
const BROKEN_PIPE: Refusal = Refusal::Failed { errno: 32, class: ErrnoClass::BrokenPipe };

/// What one side's kernel has and takes.
#[derive(Default)]
struct Kernel {
    /// What receiving brings: bytes, or nothing for FIN, or an error.
    incoming: VecDeque<Result<&'static [u8], Refusal>>,
    /// How many more bytes it takes.
    room: usize,
    send_error: Option<Refusal>,
    sent: Vec<u8>,
    /// When each send took how much.
    sends: Vec<(Timestamp, usize)>,
    unacknowledged: u64,
    fin_after: Option<usize>,
    /// What is in its pipe, and how much was moved into it each time.
    pipe: Vec<u8>,
    splices: Vec<usize>,
    /// Where splicing from it stops until something is received, and how.
    mark: Option<Result<usize, Refusal>>,
    /// How often it was asked for readiness.
    questions: usize,
}

/// A relay over two kernels, and what became of it.
struct Scene {
    relay: Relay,
    readiness: [Readiness; 2],
    kernels: [Kernel; 2],
    now: Timestamp,
    closed: Option<[RelayClose; 2]>,
}

impl RelayIo for (&mut [Kernel; 2], Timestamp) {
    fn receive(&mut self, from: RelaySide, buffer: &mut [u8]) -> Result<usize, Refusal> {
        let kernel = &mut self.0[from.index()];
        kernel.mark = None;
        let bytes = kernel.incoming.pop_front().unwrap_or(Err(Refusal::WouldBlock))?;
        let (now, later) = bytes.split_at(buffer.len().min(bytes.len()));
        if !later.is_empty() {
            kernel.incoming.push_front(Ok(later));
        }
        buffer[..now.len()].copy_from_slice(now);
        Ok(now.len())
    }

    fn send(&mut self, to: RelaySide, bytes: &[u8]) -> Result<usize, Refusal> {
        let kernel = &mut self.0[to.index()];
        if let Some(error) = kernel.send_error {
            return Err(error);
        }
        assert_eq!(kernel.fin_after, None, "nothing is sent after FIN");
        let taken = bytes.len().min(kernel.room);
        kernel.room -= taken;
        kernel.sent.extend_from_slice(&bytes[..taken]);
        kernel.sends.extend((taken > 0).then_some((self.1, taken)));
        if taken == 0 { Err(Refusal::WouldBlock) } else { Ok(taken) }
    }

    fn splice_in(&mut self, from: RelaySide, max: usize) -> Option<Result<usize, Refusal>> {
        let kernel = &mut self.0[from.index()];
        if kernel.mark.is_some() {
            return kernel.mark;
        }
        let bytes = match kernel.incoming.pop_front() {
            Some(Ok(b"")) => {
                kernel.incoming.push_front(Ok(b""));
                return Some(Ok(0));
            }
            Some(Ok(bytes)) => bytes,
            Some(Err(refusal)) => return Some(Err(refusal)),
            None => return Some(Err(Refusal::WouldBlock)),
        };
        let (now, later) = bytes.split_at(max.min(bytes.len()));
        if !later.is_empty() {
            kernel.incoming.push_front(Ok(later));
        }
        let to = &mut self.0[from.other().index()];
        assert!(to.pipe.is_empty(), "a pipe is empty before it is filled");
        to.pipe.extend_from_slice(now);
        to.splices.push(now.len());
        Some(Ok(now.len()))
    }

    fn splice_out(&mut self, to: RelaySide, len: usize) -> Result<usize, Refusal> {
        let pipe = core::mem::take(&mut self.0[to.index()].pipe);
        assert_eq!(pipe.len(), len);
        let taken = self.send(to, &pipe);
        self.0[to.index()].pipe.extend_from_slice(&pipe[taken.unwrap_or(0)..]);
        taken
    }

    fn ask(&mut self, side: RelaySide, _question: Question) {
        self.0[side.index()].questions += 1;
    }

    fn unacknowledged(&mut self, side: RelaySide) -> u64 {
        self.0[side.index()].unacknowledged
    }

    fn shutdown_send(&mut self, to: RelaySide) {
        let kernel = &mut self.0[to.index()];
        assert_eq!(kernel.fin_after.replace(kernel.sent.len()), None, "FIN is sent once");
    }

    fn now(&mut self) -> Timestamp {
        self.1
    }
}

impl Scene {
    fn new() -> Scene {
        let kernel = || Kernel { room: 1000, ..Kernel::default() };
        Scene {
            relay: Relay::new(LINGER),
            readiness: [Readiness::default(); 2],
            kernels: [kernel(), kernel()],
            now: Timestamp::default(),
            closed: None,
        }
    }

    fn kernel(&mut self, side: RelaySide) -> &mut Kernel {
        &mut self.kernels[side.index()]
    }

    /// What comes from a side, and a turn.
    fn receive<const N: usize>(
        &mut self,
        from: RelaySide,
        what: [Result<&'static [u8], Refusal>; N],
    ) {
        self.kernel(from).incoming.extend(what);
        self.readiness[from.index()].note(Unread::ToTheEnd, false);
        self.turn();
    }

    /// A side takes more, and a turn.
    fn make_room(&mut self, side: RelaySide, room: usize) {
        self.kernel(side).room = room;
        self.readiness[side.index()].note(Unread::Nothing, true);
        self.turn();
    }

    fn turn(&mut self) {
        let Scene { relay, readiness, kernels, now, closed } = self;
        let mut turn = RelayTurn::new(readiness, 1000);
        loop {
            match turn.step(relay, &mut (&mut *kernels, *now), &mut [0; BULK_MIN]) {
                RelayStep::Closed(close) => {
                    *closed = Some(close);
                    return;
                }
                RelayStep::Over => return,
                _ => {}
            }
        }
    }

    /// Lets time pass, with a turn whenever the relay wants one.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while self.closed.is_none() && self.relay.poll_deadline() <= until {
            self.now = self.relay.poll_deadline();
            self.turn();
        }
        self.now = until;
    }
}

#[test]
fn a_fin_goes_on_after_the_last_byte_and_the_other_direction_lives_on() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).room = 3;
    scene.receive(Client, [Ok(b"question"), Ok(b"")]);
    assert_eq!(scene.relay.sendable(Upstream), b"stion");
    // FIN is not even looked for while something is held.
    assert_eq!(scene.relay.end(Client), StreamEnd::None);
    scene.make_room(Upstream, 1000);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(8));
    scene.receive(Upstream, [Ok(b"answer")]);
    assert_eq!(scene.kernel(Client).sent, b"answer");
    assert_eq!((scene.kernel(Client).fin_after, scene.closed), (None, None));

    scene.kernel(Client).unacknowledged = 7;
    scene.receive(Upstream, [Ok(b"")]);
    assert_eq!((scene.kernel(Client).fin_after, scene.closed), (Some(6), None));
    scene.kernel(Client).unacknowledged = 0;
    scene.wait(Duration::from_millis(100));
    assert_eq!(scene.closed, Some([RelayClose::Close; 2]));
    assert_eq!(RelaySide::BOTH.map(|side| scene.relay.end(side)), [StreamEnd::Fin; 2]);
}

#[test]
fn a_rst_goes_on_once_everything_before_it_was_delivered() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).room = 3;
    scene.receive(Client, [Ok(b"question"), Err(RESET)]);
    assert_eq!(scene.relay.sendable(Upstream), b"stion");
    scene.kernel(Upstream).unacknowledged = 8;
    scene.make_room(Upstream, 1000);
    assert_eq!((scene.kernel(Upstream).sent.len(), scene.closed), (8, None));
    scene.wait(LINGER / 2);
    assert_eq!(scene.closed, None);
    scene.kernel(Upstream).unacknowledged = 0;
    scene.wait(Duration::from_millis(100));
    assert_eq!(scene.closed.map(|[_, upstream]| upstream), Some(RelayClose::Reset));
    assert_eq!(scene.kernel(Upstream).fin_after, None);
    assert_eq!(scene.relay.end(Client), StreamEnd::Failed(104, ErrnoClass::Reset));
    assert_eq!(scene.relay.end(Upstream), StreamEnd::None);
}

#[test]
fn the_wait_for_delivery_ends_without_progress() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).unacknowledged = 4;
    scene.receive(Client, [Ok(b"last"), Err(RESET)]);
    scene.wait(LINGER - Duration::from_millis(1));
    assert_eq!(scene.closed, None);
    scene.wait(LOOK_MAX);
    assert_eq!(scene.closed.map(|[_, upstream]| upstream), Some(RelayClose::Reset));
    assert_eq!(scene.relay.delivery(Upstream), Delivery { received: 4, due: 4, sent: 4 });
}

#[test]
fn progress_prolongs_the_wait_up_to_five_times_in_all() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).unacknowledged = 60;
    scene.receive(Client, [Ok(&[7; 60]), Err(RESET)]);
    let mut waited = Duration::ZERO;
    while scene.closed.is_none() {
        scene.kernel(Upstream).unacknowledged -= 1;
        scene.wait(LINGER / 4);
        waited += LINGER / 4;
    }
    let all = LINGER * WAITS_IN_ALL;
    assert!(waited >= all && waited <= all + LINGER / 4, "{waited:?}");
    assert!(scene.kernel(Upstream).unacknowledged > 0);
}

#[test]
fn a_rst_that_is_stuck_behind_a_full_receiver_is_passed_on_all_the_same() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).room = 3;
    scene.receive(Client, [Ok(b"question")]);
    scene.kernel(Client).incoming.extend([Ok(&b"more"[..]), Err(RESET)]);
    assert!(!scene.relay.handle_failing(Client), "receiving will report it");
    scene.turn();
    scene.wait(LINGER + LOOK_MAX);
    assert_eq!(scene.closed.map(|[_, upstream]| upstream), Some(RelayClose::Reset));
}

#[test]
fn what_comes_for_a_side_that_is_gone_is_dropped_so_that_its_peer_can_read_on() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).room = 3;
    scene.receive(Client, [Ok(b"question"), Err(RESET)]);
    scene.make_room(Upstream, 0);
    scene.receive(Upstream, [Ok(b"a part"), Ok(b"of the answer")]);
    scene.make_room(Upstream, 1000);
    assert_eq!(scene.kernel(Upstream).sent, b"question");
    assert_eq!(scene.kernel(Upstream).incoming, []);
}

#[test]
fn a_send_that_fails_does_not_cost_what_the_peer_had_sent() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).send_error = Some(RESET);
    scene.kernel(Upstream).incoming.extend([Ok(&b"last words"[..]), Ok(b"")]);
    scene.receive(Client, [Ok(b"question")]);
    assert_eq!(scene.kernel(Client).sent, b"last words");
    // To the kernel the stream ends with FIN once the RST was reported.
    assert_eq!(scene.relay.end(Upstream), StreamEnd::Failed(104, ErrnoClass::Reset));
    assert_eq!(scene.kernel(Client).fin_after, None);
    assert_eq!(scene.closed.map(|[client, _]| client), Some(RelayClose::Reset));
}

#[test]
fn a_rst_after_a_fin_goes_on_as_a_fin_and_a_rst() {
    let mut scene = Scene::new();
    scene.receive(Upstream, [Ok(b"bye"), Ok(b"")]);
    assert_eq!(scene.kernel(Client).fin_after, Some(3));
    scene.kernel(Upstream).send_error = Some(BROKEN_PIPE);
    scene.receive(Client, [Ok(b"too late")]);
    assert_eq!(scene.closed.map(|[client, _]| client), Some(RelayClose::Reset));
    assert_eq!(scene.relay.delivery(Upstream), Delivery { received: 8, due: 8, sent: 0 });
}

#[test]
fn a_rst_after_a_fin_is_noticed_although_nothing_is_sent() {
    let mut scene = Scene::new();
    scene.receive(Upstream, [Ok(b"")]);
    assert!(scene.relay.handle_failing(Upstream), "no receive will report it");
    scene.relay.handle_send_error(Upstream, 32, ErrnoClass::BrokenPipe);
    scene.turn();
    assert_eq!(scene.closed.map(|[client, _]| client), Some(RelayClose::Reset));
    assert_eq!(scene.relay.end(Client), StreamEnd::None);
}

#[test]
fn both_directions_get_their_turn() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).incoming.extend([Ok(&b"down"[..]); 20]);
    scene.readiness[1].note(Unread::ToTheEnd, false);
    scene.kernel(Client).incoming.extend([Ok(&b"up"[..]); 20]);
    scene.readiness[0].note(Unread::ToTheEnd, false);
    let mut turn = RelayTurn::new(&mut scene.readiness, 16);
    let mut got = vec![];
    while let RelayStep::Received(from, _) =
        turn.step(&mut scene.relay, &mut (&mut scene.kernels, scene.now), &mut [0; 64])
    {
        got.push(from);
    }
    assert_eq!(got, [Client, Upstream].repeat(8));
}

#[test]
fn a_call_that_would_block_waits_for_readiness() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).room = 0;
    scene.receive(Client, [Ok(b"question")]);
    let io = &mut (&mut scene.kernels, scene.now);
    let mut turn = RelayTurn::new(&mut scene.readiness, 16);
    assert_eq!(turn.step(&mut scene.relay, io, &mut [0; 64]), RelayStep::Over);
    scene.readiness[1].note(Unread::Nothing, true);
    let mut turn = RelayTurn::new(&mut scene.readiness, 16);
    let refused = turn.step(&mut scene.relay, io, &mut [0; 64]);
    assert_eq!(refused, RelayStep::Refused(Upstream, During::Send));
}

#[test]
fn a_client_whose_upstream_cannot_be_reached_gets_a_fin_and_is_waited_for() {
    let scene = || Scene { relay: Relay::refusal(LINGER), ..Scene::new() };
    let mut leaving = scene();
    leaving.receive(Client, [Ok(b"question")]);
    assert_eq!((leaving.kernel(Client).fin_after, leaving.closed), (Some(0), None));
    leaving.receive(Client, [Ok(b"")]);
    assert_eq!(leaving.closed, Some([RelayClose::Close; 2]));
    let mut staying = scene();
    staying.turn();
    staying.wait(LINGER + LOOK_MAX);
    assert_eq!(staying.closed, Some([RelayClose::Close; 2]));
}

#[test]
fn a_peer_that_never_stops_sending_does_not_put_off_the_end() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).incoming.extend([Ok(&b"down"[..]); 100]);
    scene.readiness[1].note(Unread::ToTheEnd, false);
    scene.kernel(Client).incoming.extend([Err(RESET)]);
    scene.readiness[0].note(Unread::ToTheEnd, false);
    let mut turn = RelayTurn::new(&mut scene.readiness, 16);
    let mut last = RelayStep::Over;
    for _ in 0..100 {
        last = turn.step(&mut scene.relay, &mut (&mut scene.kernels, scene.now), &mut [0; 64]);
        if matches!(last, RelayStep::Closed(_) | RelayStep::Unfinished | RelayStep::Over) {
            break;
        }
    }
    assert!(matches!(last, RelayStep::Closed([_, RelayClose::Reset])), "{last:?}");
    assert!(!scene.kernel(Upstream).incoming.is_empty());
}

#[test]
fn what_a_dying_side_had_acknowledged_is_no_progress_to_be_surpassed() {
    let mut scene = Scene::new();
    scene.receive(Upstream, [Ok(&[7; 60])]);
    scene.kernel(Upstream).room = 3;
    scene.receive(Client, [Ok(b"question")]);
    assert!(!scene.relay.handle_failing(Client));
    scene.kernel(Upstream).unacknowledged = 3;
    scene.turn();
    // Its last bytes are received, and the receiver acknowledges them one by one.
    scene.kernel(Upstream).unacknowledged = 8;
    scene.make_room(Upstream, 5);
    scene.receive(Client, [Err(RESET)]);
    for _ in 0..6 {
        scene.kernel(Upstream).unacknowledged -= 1;
        scene.wait(LINGER / 2);
    }
    assert_eq!(scene.closed, None);
}

#[test]
fn what_a_side_had_acknowledged_that_fails_during_the_wait_is_no_progress_to_be_surpassed() {
    let mut scene = Scene::new();
    scene.receive(Upstream, [Ok(&[7; 60]), Ok(b"")]);
    scene.kernel(Client).unacknowledged = 10;
    scene.kernel(Upstream).unacknowledged = 8;
    scene.receive(Client, [Ok(b"question"), Ok(b"")]);
    scene.wait(LINGER / 2);
    scene.relay.handle_send_error(Client, 32, ErrnoClass::BrokenPipe);
    for _ in 0..6 {
        scene.kernel(Upstream).unacknowledged -= 1;
        scene.wait(LINGER / 2);
    }
    assert_eq!(scene.closed, None);
}

#[test]
fn the_acknowledgement_of_a_fin_is_progress() {
    let mut scene = Scene::new();
    scene.kernel(Client).unacknowledged = 1;
    scene.kernel(Upstream).unacknowledged = 1;
    scene.receive(Client, [Ok(b"")]);
    scene.receive(Upstream, [Ok(b"")]);
    scene.wait(LINGER / 2);
    scene.kernel(Upstream).unacknowledged = 0;
    scene.wait(LINGER / 2 + LOOK_MAX);
    assert_eq!(scene.closed, None);
    scene.wait(LINGER);
    assert_eq!(scene.closed, Some([RelayClose::Close; 2]));
}

#[test]
fn a_fin_and_a_rst_that_are_noticed_together_are_passed_on_together() {
    let mut scene = Scene::new();
    assert!(!scene.relay.handle_failing(Client), "nothing is received yet");
    scene.receive(Client, [Ok(b"last"), Ok(b"")]);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(4));
    assert_eq!(scene.closed.map(|[_, upstream]| upstream), Some(RelayClose::Reset));
}

/// A scene with one rule for what goes to the upstream.
fn faulted(place: FaultPlace, action: FaultAction) -> Scene {
    let mut scene = Scene::new();
    scene.relay.arm(Upstream, vec![RelayFault { rule: 0, place, action }], None);
    scene
}

#[test]
fn a_stall_is_no_shorter_for_a_source_that_is_gone() {
    let time = LINGER * 3;
    let mut scene = faulted(FaultPlace::Byte(2), FaultAction::Stall(time));
    scene.receive(Client, [Ok(b"abcd")]);
    assert!(!scene.relay.handle_failing(Client));
    scene.kernel(Client).incoming.extend([Err(RESET)]);
    scene.turn();
    scene.wait(time - Duration::from_millis(1));
    assert_eq!((scene.closed, scene.kernel(Upstream).sent.len()), (None, 2));
    scene.wait(LOOK_MAX);
    assert_eq!(scene.kernel(Upstream).sent, b"abcd");
    assert_eq!(scene.closed.map(|[_, upstream]| upstream), Some(RelayClose::Reset));
}

#[test]
fn a_wait_that_becomes_a_stall_is_not_looked_at_again_and_again() {
    let mut scene = faulted(FaultPlace::Byte(6), FaultAction::Stall(LINGER * 3));
    scene.kernel(Upstream).room = 3;
    scene.receive(Client, [Ok(b"abcdefgh")]);
    assert!(!scene.relay.handle_failing(Client));
    scene.kernel(Client).incoming.extend([Err(RESET)]);
    scene.turn();
    scene.wait(LINGER / 2);
    scene.make_room(Upstream, 1000);
    assert_eq!(scene.kernel(Upstream).sent, b"abcdef");
    assert_eq!(scene.relay.poll_deadline(), scene.now + LINGER * 3);
}

#[test]
fn what_comes_after_a_fault_ended_the_stream_is_not_owed() {
    for action in [FaultAction::Finish, FaultAction::Hold, FaultAction::BlackHole] {
        let (is_hold, is_finish) = (action == FaultAction::Hold, action == FaultAction::Finish);
        let mut scene = faulted(FaultPlace::Byte(2), action);
        scene.receive(Client, [Ok(b"abcd"), Ok(b"efgh"), Ok(b"")]);
        assert_eq!(scene.kernel(Upstream).sent, b"ab");
        assert_eq!(scene.relay.delivery(Upstream).due, 2);
        // Only what is held keeps its source waiting.
        assert_eq!(scene.kernel(Client).incoming.is_empty(), !is_hold);
        assert_eq!(scene.kernel(Upstream).fin_after, is_finish.then_some(2));
    }
}

#[test]
fn a_reset_by_rule_comes_after_what_was_before_it_and_for_both() {
    let mut scene = faulted(FaultPlace::Byte(2), FaultAction::Reset);
    scene.kernel(Upstream).unacknowledged = 2;
    scene.receive(Client, [Ok(b"abcd")]);
    assert_eq!((scene.kernel(Upstream).sent.len(), scene.closed), (2, None));
    scene.kernel(Upstream).unacknowledged = 0;
    scene.wait(LOOK_MAX);
    assert_eq!(scene.closed, Some([RelayClose::Reset; 2]));
    assert!(scene.relay.is_imposed() && scene.relay.failed_first().is_none());
}

#[test]
fn a_close_by_rule_sends_fin_to_both_and_waits_for_theirs() {
    let mut scene = faulted(FaultPlace::Byte(2), FaultAction::Close);
    scene.receive(Client, [Ok(b"abcd")]);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(2));
    assert_eq!((scene.kernel(Client).fin_after, scene.closed), (Some(0), None));
    scene.receive(Client, [Ok(b"more"), Ok(b"")]);
    scene.receive(Upstream, [Ok(b"answer"), Ok(b"")]);
    assert_eq!(scene.closed, Some([RelayClose::Close; 2]));
    assert_eq!(scene.kernel(Client).sent, b"");
}

#[test]
fn a_reset_that_looks_like_the_end_is_no_end_to_a_rule() {
    let insert = FaultAction::Insert((*b"added").into());
    let mut scene = faulted(FaultPlace::End, insert);
    // A send has reported the RST, after which receiving reports the end of the stream.
    scene.kernel(Client).send_error = Some(RESET);
    scene.kernel(Client).incoming.extend([Ok(&b"last"[..]), Ok(b"")]);
    scene.receive(Upstream, [Ok(b"answer")]);
    assert_eq!(scene.kernel(Upstream).sent, b"last");
    assert_eq!(scene.relay.take_fired(Upstream), []);
}

#[test]
fn fin_waits_for_what_a_rule_adds_at_the_end() {
    let insert = FaultAction::Insert((*b"added").into());
    let mut scene = faulted(FaultPlace::End, insert);
    scene.kernel(Upstream).room = 6;
    scene.receive(Client, [Ok(b"abcd"), Ok(b"")]);
    assert_eq!((scene.relay.sendable(Upstream), scene.kernels[1].fin_after), (&b"ded"[..], None));
    scene.make_room(Upstream, 1000);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(9));
}

#[test]
fn a_fault_far_away_happens_at_its_byte_and_is_news_once() {
    let mut scene = faulted(FaultPlace::Byte(30), FaultAction::Finish);
    for _ in 0..4 {
        scene.receive(Client, [Ok(b"abcdef")]);
        assert!(!scene.relay.take_news());
        assert_eq!(scene.relay.side(Upstream).quiet_until, 30);
    }
    scene.receive(Client, [Ok(b"abcdefg")]);
    assert!(scene.relay.take_news() && !scene.relay.take_news());
    assert_eq!(scene.relay.take_fired(Upstream)[0].position, 30);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(30));
    assert_eq!(scene.kernel(Upstream).sent, b"abcdef".repeat(5));
}
