//! Many bytes, which are moved through pipes.

use super::*;

/// What a receive brings that is one of many.
static FULL: [u8; BULK_MIN] = [7; BULK_MIN];
/// What a splice brings that is one of many.
static MUCH: [u8; 200_000] = [8; 200_000];

/// A scene whose client has sent much, with an upstream that takes so much.
fn bulk(room: usize) -> Scene {
    let mut scene = Scene::new();
    scene.kernel(Upstream).room = room;
    scene
}

/// Much that has come from the client.
fn receive_much(scene: &mut Scene) {
    scene.receive(Client, [Ok(&FULL), Ok(&MUCH), Ok(&MUCH)]);
}

/// How much the upstream got through its pipe, each time.
fn splices(scene: &Scene) -> &[usize] {
    &scene.kernels[Upstream.index()].splices
}

#[test]
fn many_bytes_are_moved_until_fewer_come() {
    let mut scene = bulk(usize::MAX);
    scene.receive(Client, [Ok(&FULL[1..]), Ok(b"few")]);
    assert_eq!(splices(&scene), []);
    receive_much(&mut scene);
    assert_eq!(splices(&scene), [MUCH.len(); 2]);
    // Nothing has come since, and then little.
    scene.receive(Client, [Ok(&MUCH), Ok(b"few"), Ok(b"few")]);
    assert_eq!(splices(&scene), [MUCH.len(), MUCH.len(), MUCH.len(), 3]);
    let sent = FULL.len() - 1 + 3 + FULL.len() + 3 * MUCH.len() + 3 + 3;
    assert_eq!(scene.kernel(Upstream).sent.len(), sent);
    let delivery = scene.relay.delivery(Upstream);
    let sent = sent as u64;
    assert_eq!((delivery.received, delivery.due, delivery.sent), (sent, sent, sent));
}

#[test]
fn what_is_in_a_pipe_goes_first_and_then_comes_fin() {
    let mut scene = bulk(FULL.len() + 1000);
    receive_much(&mut scene);
    scene.receive(Client, [Ok(b"")]);
    assert_eq!(scene.relay.piped(Upstream), MUCH.len() - 1000);
    assert!(scene.relay.wants_send(Upstream) && !scene.relay.wants_receive(Client));
    assert_eq!(scene.kernel(Upstream).fin_after, None);
    scene.make_room(Upstream, MUCH.len() - 1000);
    assert_eq!((scene.relay.piped(Upstream), scene.kernel(Upstream).fin_after), (MUCH.len(), None));
    scene.make_room(Upstream, usize::MAX);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(FULL.len() + 2 * MUCH.len()));
}

#[test]
fn a_reset_waits_for_what_is_in_a_pipe() {
    let mut scene = bulk(FULL.len() + 1000);
    receive_much(&mut scene);
    assert!(!scene.relay.handle_failing(Client));
    scene.receive(Client, [Err(RESET)]);
    assert_eq!(scene.closed, None);
    scene.make_room(Upstream, usize::MAX);
    assert_eq!(scene.kernel(Upstream).sent.len(), FULL.len() + 2 * MUCH.len());
    assert_eq!(scene.closed, Some([RelayClose::Close, RelayClose::Reset]));
}

#[test]
fn what_is_in_the_pipe_of_a_side_that_fails_is_due_and_not_sent() {
    let mut scene = bulk(FULL.len() + 1000);
    receive_much(&mut scene);
    scene.kernel(Upstream).send_error = Some(RESET);
    scene.make_room(Upstream, usize::MAX);
    assert_eq!(scene.relay.piped(Upstream), 0);
    let delivery = scene.relay.delivery(Upstream);
    assert_eq!(delivery.sent, FULL.len() as u64 + 1000);
    // The rest was received, and dropped.
    assert_eq!(delivery.due, (FULL.len() + 2 * MUCH.len()) as u64);
    assert_eq!(splices(&scene), [MUCH.len()]);
}

#[test]
fn a_fault_happens_at_its_byte_in_the_middle_of_many() {
    let first = FULL.len() + MUCH.len();
    for (at, moved) in [
        (first + 100_000, &[MUCH.len(), 99_999][..]),
        // Too few are left before it.
        (first + 100, &[MUCH.len()]),
        (first, &[MUCH.len() - 1]),
    ] {
        let mut scene = faulted(FaultPlace::Byte(at as u64), FaultAction::Finish);
        scene.kernel(Upstream).room = usize::MAX;
        receive_in_parts(&mut scene);
        assert_eq!(scene.kernel(Upstream).fin_after, Some(at));
        assert_eq!(scene.relay.take_fired(Upstream)[0].position, at as u64);
        assert_eq!(splices(&scene), moved);
    }
}

/// The same as [`receive_much`], in parts that a receive takes once it is not spliced.
fn receive_in_parts(scene: &mut Scene) {
    scene.kernel(Client).incoming.extend([Ok(&FULL[..]), Ok(&MUCH[..])]);
    scene.kernel(Client).incoming.extend([Ok(&MUCH[..]), Ok(&MUCH[..])]);
    scene.receive(Client, []);
}

#[test]
fn nothing_is_moved_past_faults_that_look_at_bytes_or_at_the_time() {
    for (place, action) in [
        (FaultPlace::Match((*b"needle").into()), FaultAction::Reset),
        (FaultPlace::Idle(LINGER), FaultAction::Reset),
        (FaultPlace::Byte(10), FaultAction::Drop(1 << 40)),
        (FaultPlace::Byte(10), FaultAction::Window(1000)),
    ] {
        let mut scene = faulted(place, action);
        scene.kernel(Upstream).room = usize::MAX;
        scene.receive(Client, [Ok(&FULL), Ok(&FULL), Ok(&FULL)]);
        assert_eq!(splices(&scene), []);
    }
    let mut framed = bulk(usize::MAX);
    let format = FrameFormat::Length(crate::LengthFormat::U32_BE);
    framed.relay.arm(Upstream, vec![], Some(format));
    framed.receive(Client, [Ok(&FULL), Ok(&FULL)]);
    assert_eq!(splices(&framed), []);
}

#[test]
fn an_urgent_byte_that_splicing_stops_at_is_received() {
    // With a FIN after it, it looks like the end of the stream.
    for stop in [Err(Refusal::WouldBlock), Ok(0)] {
        let mut scene = bulk(usize::MAX);
        receive_much(&mut scene);
        scene.kernel(Client).mark = Some(stop);
        scene.receive(Client, [Ok(b"!"), Ok(b"")]);
        let all = FULL.len() + 2 * MUCH.len() + 1;
        assert_eq!(scene.kernel(Upstream).sent.len(), all);
        assert_eq!(scene.kernel(Upstream).fin_after, Some(all));
    }
}

#[test]
fn an_expected_refusal_asks_for_no_readiness() {
    let mut scene = bulk(usize::MAX);
    scene.receive(Client, [Ok(&FULL)]);
    let before = scene.kernel(Client).questions;
    scene.kernel(Client).incoming.extend([Ok(&MUCH[..])]);
    scene.readiness[0].note(Unread::Bytes, false);
    scene.turn();
    assert_eq!(splices(&scene), [MUCH.len()]);
    assert_eq!(scene.kernel(Client).questions, before);
    scene.readiness[0].note(Unread::Bytes, false);
    scene.turn();
    assert_eq!(scene.kernel(Client).questions, before + 1);
}
