//! Faults that end at a place, or happen so often.

use super::*;

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// A scene with a rule for what goes to the upstream that begins and ends at these places.
fn lifted(begin: FaultPlace, action: FaultAction, until: FaultPlace) -> Scene {
    let mut scene = Scene::new();
    let faults = [(begin, action), (until, FaultAction::Lift)];
    let faults = faults.map(|(place, action)| RelayFault { rule: 0, place, action });
    scene.relay.arm(Upstream, faults.into(), None);
    scene.turn();
    scene
}

/// When each piece for the upstream was sent, in milliseconds, and how long it was.
fn sends(scene: &Scene) -> Vec<(u64, usize)> {
    let sends = scene.kernels[Upstream.index()].sends.iter();
    let since = |at: Timestamp| at.since(Timestamp::default()).as_millis() as u64;
    sends.map(|(at, len)| (since(*at), *len)).collect()
}

/// Where things happened, and whether they ended there.
fn fired(scene: &mut Scene) -> Vec<(u64, bool)> {
    let fired = scene.relay.take_fired(Upstream).into_iter();
    fired.map(|it| (it.position, it.is_lifted)).collect()
}

const START: FaultPlace = FaultPlace::Byte(0);

fn delay() -> FaultAction {
    FaultAction::Delay { time: milliseconds(20), jitter: Duration::ZERO, seed: 0 }
}

#[test]
fn what_comes_after_the_end_of_a_delay_waits_for_what_came_before_alone() {
    let mut scene = lifted(START, delay(), FaultPlace::Byte(4));
    scene.receive(Client, [Ok(b"abcdef")]);
    scene.wait(milliseconds(25));
    scene.receive(Client, [Ok(b"gh"), Ok(b"")]);
    assert_eq!(sends(&scene), [(20, 6), (25, 2)]);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(8));
    assert_eq!(fired(&mut scene), [(0, false), (4, true)]);
}

#[test]
fn a_pace_ends_after_exactly_the_bytes_before_its_end() {
    let dribble = FaultAction::Dribble { bytes: 2, per: milliseconds(100) };
    let mut scene = lifted(START, dribble, FaultPlace::Byte(5));
    scene.receive(Client, [Ok(b"abcdefghij")]);
    scene.wait(milliseconds(500));
    assert_eq!(sends(&scene), [(0, 2), (100, 2), (200, 1), (200, 5)]);
    scene.receive(Client, [Ok(b"klmnop")]);
    assert_eq!(scene.kernel(Upstream).sent, b"abcdefghijklmnop");
    assert!(!scene.relay.needs_time(), "nothing is left of it");
}

#[test]
fn a_pace_that_ends_at_a_time_ends_for_what_waits_too() {
    let dribble = FaultAction::Dribble { bytes: 1, per: milliseconds(1000) };
    let mut scene = lifted(START, dribble, FaultPlace::Time(milliseconds(50)));
    scene.receive(Client, [Ok(b"abcdef")]);
    scene.wait(milliseconds(60));
    assert_eq!(sends(&scene), [(0, 1), (50, 5)]);
    assert_eq!(fired(&mut scene), [(0, false), (6, true)]);
}

#[test]
fn what_is_merged_is_sent_where_that_ends() {
    let merge = FaultAction::Merge { bytes: 1000, within: milliseconds(5000) };
    let mut scene = lifted(START, merge, FaultPlace::Byte(6));
    scene.receive(Client, [Ok(b"abc")]);
    assert_eq!(sends(&scene), []);
    scene.receive(Client, [Ok(b"defghi")]);
    assert_eq!(sends(&scene), [(0, 6), (0, 3)]);
}

#[test]
fn a_fin_that_was_kept_back_passes_once_that_has_ended() {
    for action in [FaultAction::BlackHole, FaultAction::SwallowFin] {
        let drops = action == FaultAction::BlackHole;
        let mut scene = lifted(START, action, FaultPlace::Byte(3));
        scene.receive(Client, [Ok(b"abcde"), Ok(b"")]);
        let expected: &[u8] = if drops { b"de" } else { b"abcde" };
        assert_eq!(scene.kernel(Upstream).sent, expected);
        assert_eq!(scene.kernel(Upstream).fin_after, Some(expected.len()));
    }
    let until = FaultPlace::Time(milliseconds(30));
    let mut scene = lifted(FaultPlace::End, FaultAction::SwallowFin, until);
    scene.receive(Client, [Ok(b"abc"), Ok(b"")]);
    scene.wait(milliseconds(29));
    assert_eq!(scene.kernel(Upstream).fin_after, None);
    scene.wait(milliseconds(1));
    assert_eq!(scene.kernel(Upstream).fin_after, Some(3));
}

#[test]
fn a_hold_until_a_time_loses_nothing_and_reads_nothing_meanwhile() {
    let (time, place) = (milliseconds(50), FaultPlace::Byte(2));
    let mut scene = lifted(place, FaultAction::HoldUntil(time), FaultPlace::Time(time));
    scene.receive(Client, [Ok(b"abcd"), Ok(b"ef"), Ok(b"")]);
    scene.wait(milliseconds(49));
    assert_eq!(scene.kernel(Client).incoming.len(), 2);
    scene.wait(milliseconds(1));
    assert_eq!(sends(&scene), [(0, 2), (50, 2), (50, 2)]);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(6));
    assert_eq!(fired(&mut scene), [(2, false)]);
}

#[test]
fn a_hold_whose_end_came_before_it_does_not_happen() {
    let (time, place) = (milliseconds(50), FaultPlace::Byte(2));
    let mut scene = lifted(place, FaultAction::HoldUntil(time), FaultPlace::Time(time));
    scene.wait(milliseconds(60));
    scene.receive(Client, [Ok(b"abcd")]);
    assert_eq!(sends(&scene), [(60, 4)]);
    assert_eq!(fired(&mut scene), []);
}

#[test]
fn a_rule_that_ends_where_it_begins_never_happens() {
    let place = || FaultPlace::Byte(3);
    for action in [FaultAction::BlackHole, FaultAction::Drop(2), FaultAction::Reset, delay()] {
        let mut scene = lifted(place(), action, place());
        scene.receive(Client, [Ok(b"abcdef")]);
        assert_eq!(scene.kernel(Upstream).sent, b"abcdef");
        assert_eq!(fired(&mut scene), []);
    }
}

#[test]
fn only_what_its_own_rule_began_ends() {
    let mut scene = Scene::new();
    let fault = |rule, at, action| RelayFault { rule, place: FaultPlace::Byte(at), action };
    let faults = vec![
        fault(0, 1, FaultAction::Drop(4)),
        fault(1, 2, FaultAction::Drop(3)),
        fault(0, 3, FaultAction::Lift),
        fault(2, 0, FaultAction::Window(3)),
        fault(3, 0, FaultAction::Window(5)),
        fault(2, 1, FaultAction::Lift),
    ];
    scene.relay.arm(Upstream, faults, None);
    assert_eq!(scene.relay.receive_limit(Client), 3);
    // Two of the first rule, and then those of the second one.
    scene.receive(Client, [Ok(b"a"), Ok(b"bcdef"), Ok(b"ghi")]);
    assert_eq!(scene.kernel(Upstream).sent, b"aghi");
    assert_eq!(scene.relay.receive_limit(Client), 5);
}

#[test]
fn what_begins_and_ends_by_pauses_does_so_in_their_order() {
    let idle = |time| FaultPlace::Idle(milliseconds(time));
    let mut scene = lifted(idle(10), FaultAction::BlackHole, idle(20));
    // Both are noticed late, and together.
    scene.now = scene.now + milliseconds(30);
    scene.receive(Client, []);
    assert_eq!(fired(&mut scene), [(0, false), (0, true)]);
    scene.receive(Client, [Ok(b"abc")]);
    assert_eq!(scene.kernel(Upstream).sent, b"abc");
}

#[test]
fn a_place_that_comes_again_counts_so_often_and_no_more() {
    let insert = || FaultAction::Insert((*b"!").into());
    for (of, expected) in [
        (FaultPlace::EveryBytes(2), &b"aa!aa!aaa"[..]),
        (FaultPlace::Match((*b"aa").into()), b"aa!aa!aaa"),
    ] {
        let mut scene = faulted(FaultPlace::First { times: 2, of: Box::new(of) }, insert());
        for byte in b"aaaaaaa".chunks(1) {
            scene.receive(Client, [Ok(byte)]);
        }
        assert_eq!(scene.kernel(Upstream).sent, expected);
        assert_eq!(scene.relay.side(Upstream).quiet_until, u64::MAX);
    }
}
