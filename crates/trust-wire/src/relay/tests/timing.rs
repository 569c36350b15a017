//! When, how fast and in which pieces bytes are sent.

use super::*;

/// Bytes for a source that has many.
static BYTES: [u8; 64] = [7; 64];

fn milliseconds(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// When each piece for the upstream was sent, in milliseconds, and how long it was.
fn sends(scene: &Scene) -> Vec<(u64, usize)> {
    let sends = scene.kernels[Upstream.index()].sends.iter();
    let since = |at: Timestamp| at.since(Timestamp::default()).as_millis() as u64;
    sends.map(|(at, len)| (since(*at), *len)).collect()
}

/// A scene with a rule that holds from the start for what goes to an upstream that takes much, and
/// a client that sends so often as much as one receive takes.
fn paced(action: FaultAction, count: usize) -> Scene {
    let mut scene = faulted(FaultPlace::Byte(0), action);
    scene.kernel(Upstream).room = usize::MAX;
    scene.kernel(Client).incoming.extend(core::iter::repeat_n(Ok(&BYTES[..]), count));
    scene.receive(Client, []);
    scene
}

#[test]
fn what_is_delayed_is_sent_so_long_after_it_came_and_so_is_fin() {
    let (time, jitter) = (milliseconds(20), Duration::ZERO);
    let mut scene = faulted(FaultPlace::Byte(2), FaultAction::Delay { time, jitter, seed: 0 });
    scene.receive(Client, [Ok(b"ab")]);
    scene.receive(Client, [Ok(b"c")]);
    scene.wait(milliseconds(5));
    scene.receive(Client, [Ok(b"de")]);
    scene.wait(milliseconds(5));
    scene.receive(Client, [Ok(b"")]);
    scene.wait(milliseconds(100));
    assert_eq!(sends(&scene), [(0, 2), (20, 1), (25, 2)]);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(5));
}

#[test]
fn a_delay_alone_makes_nothing_slower() {
    let (time, jitter) = (milliseconds(20), Duration::ZERO);
    let mut scene = paced(FaultAction::Delay { time, jitter, seed: 0 }, 100);
    assert_eq!(scene.relay.held(Upstream).len(), 6400);
    scene.wait(milliseconds(20));
    assert_eq!(scene.kernel(Upstream).sent.len(), 6400);
    assert!(scene.relay.held(Upstream).is_empty());
}

#[test]
fn no_more_is_held_than_may_be_and_that_is_reported_once() {
    let mut scene = Scene::new();
    scene.relay = Relay::new(LINGER).with_hold(1000);
    let action = FaultAction::Delay { time: milliseconds(20), jitter: Duration::ZERO, seed: 0 };
    let fault = RelayFault { rule: 0, place: FaultPlace::Byte(0), action };
    scene.relay.arm(Upstream, vec![fault], None);
    scene.kernel(Upstream).room = usize::MAX;
    scene.kernel(Client).incoming.extend(core::iter::repeat_n(Ok(&BYTES[..]), 50));
    scene.receive(Client, []);
    assert!((900..1100).contains(&scene.relay.held(Upstream).len()));
    assert!(scene.relay.take_full(Upstream) && !scene.relay.take_full(Upstream));
    scene.wait(milliseconds(200));
    assert_eq!(scene.kernel(Upstream).sent.len(), 3200);
    assert!(scene.relay.take_full(Upstream), "it was reached again");
}

#[test]
fn jitter_changes_how_long_and_never_the_order() {
    let (time, jitter) = (milliseconds(20), milliseconds(5));
    let run = |seed| {
        let mut scene = faulted(FaultPlace::Byte(0), FaultAction::Delay { time, jitter, seed });
        scene.kernel(Upstream).room = usize::MAX;
        // 73 of them are one piece.
        for _ in 0..1000 {
            scene.receive(Client, [Ok(&BYTES[..20])]);
            scene.wait(milliseconds(2));
        }
        scene.wait(milliseconds(100));
        assert_eq!(scene.kernel(Upstream).sent.len(), 20_000);
        sends(&scene)
    };
    let delays = |sends: &[(u64, usize)]| -> Vec<u64> {
        let messages = sends.iter().flat_map(|(at, len)| core::iter::repeat_n(at, len / 20));
        messages.enumerate().map(|(index, at)| at - 2 * index as u64).collect()
    };
    let first = run(1);
    let delayed = delays(&first);
    assert!(delayed.iter().all(|delay| (15..=25).contains(delay)), "{delayed:?}");
    assert!(delayed.iter().any(|delay| *delay != delayed[0]), "{delayed:?}");
    assert_eq!(first, run(1));
    assert_ne!(first, run(2));
}

#[test]
fn a_rate_holds_in_every_window_also_when_the_program_is_woken_late() {
    for (rate, late) in [(500, 0), (1000, 700), (64_000, 400), (256_000, 450)] {
        let mut scene = paced(FaultAction::Rate(rate), 0);
        let end = milliseconds(2000);
        let mut sent_at: Vec<(Duration, u64)> = vec![];
        let (mut number, mut seen) = (0, 0);
        while scene.now.since(Timestamp::default()) < end {
            while scene.kernel(Client).incoming.len() < 4 {
                scene.kernel(Client).incoming.push_back(Ok(&BYTES));
            }
            scene.receive(Client, []);
            let total = scene.kernel(Upstream).sent.len() as u64;
            if total > seen {
                sent_at.push((scene.now.since(Timestamp::default()), total - seen));
                seen = total;
            }
            number += 1;
            let lateness = Duration::from_micros(draw(3, number) % (late + 1));
            scene.now = scene.relay.poll_deadline() + lateness;
        }
        let expected = rate * 2;
        assert!(seen * 1000 >= expected * 995, "{seen} of {expected} at {rate}");
        let quantum = (rate / 1000).max(1);
        for (from, (began, _)) in sent_at.iter().enumerate() {
            let until = *began + milliseconds(1000);
            let inside = sent_at[from..].iter().take_while(|(at, _)| *at < until);
            let bytes: u64 = inside.map(|(_, bytes)| bytes).sum();
            assert!(bytes <= rate + quantum, "{bytes} in a second at {rate}");
        }
    }
}

#[test]
fn a_pause_earns_no_more_than_a_quantum() {
    let mut scene = paced(FaultAction::Rate(64_000), 0);
    scene.wait(milliseconds(5000));
    scene.kernel(Client).incoming.extend([Ok(&BYTES[..]), Ok(&BYTES[..])]);
    scene.receive(Client, []);
    assert_eq!(scene.kernel(Upstream).sent.len(), 64);
    scene.wait(milliseconds(2));
    assert_eq!(scene.kernel(Upstream).sent.len(), 128);
}

#[test]
fn a_dribble_sends_so_many_bytes_so_often() {
    let mut scene = paced(FaultAction::Dribble { bytes: 30, per: milliseconds(100) }, 1);
    scene.wait(milliseconds(1000));
    assert_eq!(sends(&scene), [(0, 30), (100, 30), (200, 4)]);
}

#[test]
fn a_split_has_its_borders_where_the_stream_has_them() {
    let split = FaultAction::Split { first: 3, every: 10 };
    let mut scene = faulted(FaultPlace::Byte(5), split.clone());
    scene.receive(Client, [Ok(&BYTES[..22])]);
    let lengths: Vec<usize> = sends(&scene).iter().map(|(_, len)| *len).collect();
    assert_eq!(lengths, [5, 3, 7, 3, 4]);
    // The rest of a piece that came in two.
    scene.receive(Client, [Ok(&BYTES[..6])]);
    let lengths: Vec<usize> = sends(&scene).iter().map(|(_, len)| *len).collect();
    assert_eq!(lengths, [5, 3, 7, 3, 4, 3, 3]);
}

#[test]
fn merged_bytes_are_sent_at_once_or_after_a_time_or_at_the_end() {
    let merge = FaultAction::Merge { bytes: 100, within: milliseconds(10) };
    let mut scene = faulted(FaultPlace::Byte(0), merge);
    scene.receive(Client, [Ok(&BYTES)]);
    assert_eq!(sends(&scene), []);
    scene.receive(Client, [Ok(&BYTES)]);
    assert_eq!(sends(&scene), [(0, 100)]);
    scene.wait(milliseconds(50));
    assert_eq!(sends(&scene), [(0, 100), (10, 28)]);
    scene.receive(Client, [Ok(b"end"), Ok(b"")]);
    assert_eq!(sends(&scene)[2..], [(50, 3)]);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(131));
}

#[test]
fn a_window_bounds_what_is_received_at_once() {
    let mut scene = faulted(FaultPlace::Byte(0), FaultAction::Window(10));
    assert_eq!(scene.relay.receive_limit(Client), 10);
    assert_eq!(scene.relay.receive_limit(Upstream), usize::MAX);
    scene.receive(Client, [Ok(&BYTES[..10])]);
    assert_eq!(scene.kernel(Upstream).sent.len(), 10);
}

#[test]
fn a_fault_at_a_time_happens_wherever_the_stream_is() {
    let mut scene = faulted(FaultPlace::Time(milliseconds(30)), FaultAction::BlackHole);
    scene.receive(Client, [Ok(b"abc")]);
    scene.wait(milliseconds(29));
    scene.receive(Client, [Ok(b"de")]);
    scene.wait(milliseconds(1));
    let fired = FiredFault { rule: 0, position: 5, frame: None };
    assert_eq!(scene.relay.take_fired(Upstream), [fired]);
    scene.receive(Client, [Ok(b"fgh")]);
    assert_eq!(scene.kernel(Upstream).sent, b"abcde");
}

#[test]
fn a_fault_when_idle_waits_for_a_pause_that_is_long_enough() {
    let mut scene = faulted(FaultPlace::Idle(milliseconds(30)), FaultAction::Close);
    for _ in 0..4 {
        scene.wait(milliseconds(20));
        scene.receive(Client, [Ok(b"a")]);
    }
    assert_eq!(scene.kernel(Upstream).fin_after, None);
    scene.wait(milliseconds(29));
    assert_eq!(scene.kernel(Upstream).fin_after, None);
    scene.wait(milliseconds(1));
    assert_eq!(scene.kernel(Upstream).fin_after, Some(4));
}

#[test]
fn a_reset_of_one_side_sends_fin_to_the_other() {
    for (sides, closes) in [
        ([true, false], [RelayClose::Reset, RelayClose::Close]),
        ([false, true], [RelayClose::Close, RelayClose::Reset]),
        ([true, true], [RelayClose::Reset; 2]),
    ] {
        let mut scene = faulted(FaultPlace::Byte(2), FaultAction::ResetSides(sides));
        scene.kernel(Client).unacknowledged = 1;
        scene.receive(Client, [Ok(b"abcd")]);
        assert_eq!(scene.kernel(Upstream).sent, b"ab");
        for side in RelaySide::BOTH {
            assert_eq!(scene.kernel(side).fin_after.is_some(), !sides[side.index()]);
        }
        // Both must have what they should get before it.
        assert_eq!(scene.closed, None);
        scene.kernel(Client).unacknowledged = 0;
        scene.wait(LOOK_MAX);
        assert_eq!(scene.closed, Some(closes));
    }
}

#[test]
fn a_source_that_is_gone_makes_nothing_faster() {
    let mut scene = paced(FaultAction::Dribble { bytes: 16, per: milliseconds(5000) }, 1);
    assert!(!scene.relay.handle_failing(Client));
    scene.receive(Client, [Err(RESET)]);
    scene.wait(milliseconds(14_999));
    assert_eq!((scene.kernel(Upstream).sent.len(), scene.closed), (48, None));
    scene.wait(milliseconds(100));
    assert_eq!(scene.kernel(Upstream).sent.len(), 64);
    assert_eq!(scene.closed.map(|[_, upstream]| upstream), Some(RelayClose::Reset));
}
