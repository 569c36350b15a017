//! Faults that come and go while bytes flow.

use super::*;

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Ends rules of what goes to the upstream, and has others happen from here on.
fn rearm(scene: &mut Scene, disarmed: &[usize], faults: &[(usize, FaultPlace, FaultAction)]) {
    let (position, elapsed) = scene.relay.place(Upstream, scene.now);
    let faults = faults
        .iter()
        .cloned()
        .map(|(rule, place, action)| RelayFault { rule, place, action }.later(position, elapsed));
    scene.relay.rearm(Upstream, scene.now, disarmed, faults.collect());
    scene.turn();
}

/// When each piece for the upstream was sent, in milliseconds, and how long it was.
fn sends(scene: &Scene) -> Vec<(u64, usize)> {
    let sends = scene.kernels[Upstream.index()].sends.iter();
    let since = |at: Timestamp| at.since(Timestamp::default()).as_millis() as u64;
    sends.map(|(at, len)| (since(*at), *len)).collect()
}

const HERE: FaultPlace = FaultPlace::Byte(0);

fn delay(time: u64) -> FaultAction {
    let (time, jitter) = (milliseconds(time), Duration::ZERO);
    FaultAction::Delay { time, jitter, seed: 0 }
}

#[test]
fn a_delay_holds_what_comes_from_then_on_and_lets_all_go_when_it_is_removed() {
    let mut scene = Scene::new();
    scene.receive(Client, [Ok(b"ab")]);
    rearm(&mut scene, &[], &[(7, HERE, delay(20))]);
    scene.receive(Client, [Ok(b"cde")]);
    scene.wait(milliseconds(20));
    scene.receive(Client, [Ok(b"fghi")]);
    scene.wait(milliseconds(5));
    rearm(&mut scene, &[7], &[]);
    scene.receive(Client, [Ok(b"j"), Ok(b"")]);
    assert_eq!(sends(&scene), [(0, 2), (20, 3), (25, 4), (25, 1)]);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(10));
    assert!(!scene.relay.needs_time(), "nothing is left of it");
}

#[test]
fn a_delay_that_is_replaced_holds_what_waits_as_long_as_the_new_one() {
    for (new, expected) in [(50, 50), (10, 10), (2, 5)] {
        let mut scene = Scene::new();
        rearm(&mut scene, &[], &[(1, HERE, delay(20))]);
        scene.receive(Client, [Ok(b"abc")]);
        scene.wait(milliseconds(5));
        rearm(&mut scene, &[1], &[(2, HERE, delay(new))]);
        scene.wait(milliseconds(60));
        assert_eq!(sends(&scene), [(expected, 3)], "{new} ms");
    }
}

#[test]
fn two_delays_add_up_and_one_that_is_removed_takes_its_part() {
    let mut scene = Scene::new();
    rearm(&mut scene, &[], &[(1, HERE, delay(20))]);
    rearm(&mut scene, &[], &[(2, HERE, delay(30))]);
    scene.receive(Client, [Ok(b"abc")]);
    rearm(&mut scene, &[1], &[]);
    scene.wait(milliseconds(60));
    assert_eq!(sends(&scene), [(30, 3)]);
}

#[test]
fn a_rate_of_zero_holds_what_waits_until_it_is_removed() {
    let mut scene = Scene::new();
    rearm(&mut scene, &[], &[(1, HERE, delay(20))]);
    scene.receive(Client, [Ok(b"abc")]);
    rearm(&mut scene, &[], &[(2, HERE, FaultAction::Rate(0))]);
    scene.receive(Client, [Ok(b"de"), Ok(b"")]);
    scene.wait(milliseconds(1000));
    assert_eq!((sends(&scene), scene.kernel(Upstream).fin_after), (vec![], None));
    rearm(&mut scene, &[2], &[]);
    assert_eq!(scene.kernel(Upstream).sent, b"abcde");
    assert_eq!(scene.kernel(Upstream).fin_after, Some(5));
}

#[test]
fn what_a_rate_of_zero_holds_is_bounded() {
    let mut scene = Scene::new();
    rearm(&mut scene, &[], &[(1, HERE, FaultAction::Rate(0))]);
    scene.receive(Client, [Ok(b"abc"), Ok(b"def")]);
    assert_eq!(scene.relay.held_len(Upstream), 3);
    assert!(!scene.relay.wants_receive(Client));
}

#[test]
fn places_count_from_where_they_were_armed() {
    let mut scene = Scene::new();
    scene.receive(Client, [Ok(b"abc")]);
    rearm(&mut scene, &[], &[(1, FaultPlace::Byte(2), FaultAction::Close)]);
    scene.receive(Client, [Ok(b"defgh")]);
    assert_eq!(scene.kernel(Upstream).sent, b"abcde");
    assert_eq!(scene.kernel(Upstream).fin_after, Some(5));
    assert_eq!(scene.kernel(Client).fin_after, Some(0));
}

#[test]
fn times_count_from_when_they_were_armed() {
    let mut scene = Scene::new();
    rearm(&mut scene, &[], &[(1, HERE, FaultAction::Rate(1000))]);
    scene.wait(milliseconds(500));
    let time = FaultPlace::Time(milliseconds(100));
    rearm(&mut scene, &[1], &[(2, time, FaultAction::Close)]);
    scene.wait(milliseconds(99));
    assert_eq!(scene.kernel(Upstream).fin_after, None);
    scene.wait(milliseconds(1));
    assert_eq!(scene.kernel(Upstream).fin_after, Some(0));
}

#[test]
fn a_place_that_has_been_passed_does_not_come() {
    let mut scene = Scene::new();
    scene.receive(Client, [Ok(b"abc")]);
    let fault =
        |at| RelayFault { rule: 1, place: FaultPlace::Byte(at), action: FaultAction::Close };
    scene.relay.rearm(Upstream, scene.now, &[], vec![fault(2), fault(5)]);
    scene.receive(Client, [Ok(b"defgh")]);
    assert_eq!(scene.kernel(Upstream).sent, b"abcde");
}

#[test]
fn a_stall_before_fin_ends_when_it_is_removed() {
    let mut scene = Scene::new();
    let stall = FaultAction::Stall(milliseconds(1000));
    rearm(&mut scene, &[], &[(1, FaultPlace::End, stall)]);
    scene.receive(Client, [Ok(b"abc"), Ok(b"")]);
    scene.wait(milliseconds(100));
    assert_eq!(scene.kernel(Upstream).fin_after, None);
    rearm(&mut scene, &[1], &[]);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(3));
}

#[test]
fn what_is_held_can_be_dropped_with_what_follows() {
    let mut scene = Scene::new();
    rearm(&mut scene, &[], &[(1, HERE, delay(20)), (1, HERE, FaultAction::Rate(1_000_000))]);
    scene.receive(Client, [Ok(b"abc")]);
    scene.relay.drop_held(Upstream);
    let time = FaultPlace::Time(milliseconds(5));
    let faults = [(2, HERE, FaultAction::BlackHole), (2, time, FaultAction::Close)];
    rearm(&mut scene, &[], &faults);
    scene.receive(Client, [Ok(b"def")]);
    scene.wait(milliseconds(5));
    assert_eq!(scene.kernel(Upstream).sent, b"");
    assert_eq!(scene.kernel(Upstream).fin_after, Some(0));
    assert_eq!(scene.relay.delivery(Upstream), Delivery { received: 6, due: 0, sent: 0 });
}

#[test]
fn a_relay_that_is_finished_passes_nothing_on() {
    let mut scene = Scene::new();
    rearm(&mut scene, &[], &[(1, HERE, delay(20)), (1, FaultPlace::End, FaultAction::Reset)]);
    scene.receive(Client, [Ok(b"abc")]);
    scene.relay.finish();
    scene.receive(Client, [Ok(b"def"), Ok(b"")]);
    scene.receive(Upstream, [Ok(b"ghi"), Ok(b"")]);
    scene.wait(milliseconds(50));
    for side in RelaySide::BOTH {
        assert_eq!(scene.kernel(side).sent, b"", "{side:?}");
        assert_eq!(scene.kernel(side).fin_after, Some(0), "{side:?}");
    }
    assert_eq!(scene.closed, Some([RelayClose::Close; 2]));
}

#[test]
fn no_rule_is_left_that_was_disarmed_whatever_has_ended() {
    let time = FaultPlace::Time(milliseconds(5));
    let faults = [
        (1, HERE, delay(20)),
        (2, time.clone(), FaultAction::Close),
        (3, FaultPlace::Match((*b"x").into()), FaultAction::Stall(milliseconds(9))),
        (4, FaultPlace::Idle(milliseconds(50)), FaultAction::BlackHole),
    ];
    let mut scene = Scene::new();
    rearm(&mut scene, &[], &faults);
    scene.receive(Client, [Ok(b"abc")]);
    assert_eq!(scene.relay.rules(Upstream), [1, 2, 3, 4].into());
    scene.relay.finish();
    assert_eq!(scene.relay.rules(Upstream), [].into());
    scene.wait(milliseconds(60));
    assert_eq!(fired_rules(&mut scene), [1]);

    // A side that got its FIN, and one that is gone.
    let mut scene = Scene::new();
    rearm(&mut scene, &[], &[(5, FaultPlace::Byte(100), FaultAction::Close)]);
    scene.receive(Client, [Ok(b"abc"), Ok(b"")]);
    assert_eq!(scene.relay.rules(Upstream), [5].into());
    rearm(&mut scene, &[5], &[]);
    assert_eq!(scene.relay.rules(Upstream), [].into());
}

/// The rules that have happened to what goes to the upstream.
fn fired_rules(scene: &mut Scene) -> Vec<usize> {
    scene.relay.take_fired(Upstream).iter().map(|fired| fired.rule).collect()
}

#[test]
fn bytes_that_are_in_a_pipe_can_be_taken_out_to_be_held() {
    let mut relay = Relay::new(LINGER);
    relay.handle_spliced_in(Client, 5);
    relay.handle_spliced_out(Upstream, 2);
    relay.handle_unpiped(Upstream, b"cd");
    relay.handle_unpiped(Upstream, b"e");
    let fault = RelayFault { rule: 1, place: FaultPlace::Byte(5), action: FaultAction::Rate(0) };
    relay.rearm(Upstream, Timestamp::default(), &[], vec![fault]);
    assert_eq!((relay.piped(Upstream), relay.held_len(Upstream)), (0, 3));
    relay.handle_time(Timestamp::default());
    assert!(!relay.wants_send(Upstream));
    relay.rearm(Upstream, Timestamp::default(), &[1], vec![]);
    relay.handle_time(Timestamp::default());
    assert_eq!(relay.sendable(Upstream), b"cde");
}

#[test]
fn a_delay_is_never_negative_and_can_be_all_jitter() {
    let mut scene = Scene::new();
    let jitter = FaultAction::Delay { time: milliseconds(5), jitter: milliseconds(50), seed: 3 };
    rearm(&mut scene, &[], &[(1, HERE, jitter)]);
    scene.kernel(Upstream).room = usize::MAX;
    for _ in 0..20 {
        scene.receive(Client, [Ok(&[b'x'; 1460])]);
        scene.wait(milliseconds(60));
    }
    let waited: Vec<u64> = sends(&scene).iter().zip(0..).map(|((at, _), n)| at - n * 60).collect();
    assert!(waited.iter().all(|time| *time <= 55), "{waited:?}");
    assert!(waited.contains(&0) && waited.iter().any(|time| *time > 30), "{waited:?}");
}
