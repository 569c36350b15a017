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
    let start = milliseconds(5000);
    scene.wait(start);
    scene.receive(Client, [Ok(b"ab")]);
    scene.receive(Client, [Ok(b"c")]);
    scene.wait(milliseconds(5));
    scene.receive(Client, [Ok(b"de")]);
    scene.wait(milliseconds(5));
    scene.receive(Client, [Ok(b"")]);
    scene.wait(milliseconds(100));
    assert_eq!(sends(&scene), [(5000, 2), (5020, 1), (5025, 2)]);
    assert_eq!(scene.kernel(Upstream).fin_after, Some(5));
}

#[test]
fn a_delay_alone_makes_nothing_slower() {
    let (time, jitter) = (milliseconds(20), Duration::ZERO);
    let mut scene = paced(FaultAction::Delay { time, jitter, seed: 0 }, 100);
    assert_eq!(scene.relay.held_len(Upstream), 6400);
    scene.wait(milliseconds(20));
    assert_eq!(scene.kernel(Upstream).sent.len(), 6400);
    assert_eq!(scene.relay.held_len(Upstream), 0);
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
    assert!((900..1100).contains(&scene.relay.held_len(Upstream)));
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
    for (rate, late) in [(500, 0), (1000, 300), (64_000, 400), (256_000, 450)] {
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

/// When connections that share a rate sent something: the time, which one, and how much. A round
/// gives each of those a turn whose deadline has come, after so many more microseconds at most.
fn share(scenes: &mut [Scene], late: u64, time: Duration) -> Vec<(Duration, usize, u64)> {
    let (mut sends, mut seen) = (vec![], vec![0; scenes.len()]);
    let (mut now, mut number) = (Timestamp::default(), 0);
    while now.since(Timestamp::default()) < time {
        for (index, scene) in scenes.iter_mut().enumerate() {
            if number > 0 && scene.relay.poll_deadline() > now {
                continue;
            }
            scene.now = now;
            while scene.kernel(Client).incoming.len() < 8 {
                scene.kernel(Client).incoming.push_back(Ok(&BYTES));
            }
            scene.receive(Client, []);
            let total = scene.kernel(Upstream).sent.len() as u64;
            if total > seen[index] {
                sends.push((now.since(Timestamp::default()), index, total - seen[index]));
                seen[index] = total;
            }
        }
        number += 1;
        let lateness = Duration::from_micros(draw(5, number) % (late + 1));
        let deadlines = scenes.iter().map(|scene| scene.relay.poll_deadline());
        now = deadlines.min().expect("one of them") + lateness;
    }
    sends
}

/// So many connections that share that rate.
fn sharing(count: usize, rate: u64) -> Vec<Scene> {
    let rate = SharedRate::new(rate);
    (0..count).map(|_| paced(FaultAction::SharedRate(rate.clone()), 0)).collect()
}

#[test]
fn a_rate_that_is_shared_is_kept_by_all_together_and_each_gets_its_part() {
    let cases =
        [(1, 64_000, 0), (2, 64_000, 400), (10, 64_000, 0), (10, 256_000, 450), (3, 1000, 300)];
    for (count, rate, late) in cases {
        let sends = share(&mut sharing(count, rate), late, milliseconds(2000));
        let total: u64 = sends.iter().map(|(.., bytes)| bytes).sum();
        assert!(total * 100 >= rate * 2 * 98, "{count}: {total} of {} at {rate}", rate * 2);
        for index in 0..count {
            let own: u64 = sends.iter().filter(|it| it.1 == index).map(|(.., bytes)| bytes).sum();
            let part = total / count as u64;
            assert!((part * 9 / 10..=part * 11 / 10 + 1).contains(&own), "{own} of {part}");
        }
        let quantum = (rate / 1000).max(1);
        for window in [milliseconds(5), milliseconds(1000)] {
            for (from, (began, ..)) in sends.iter().enumerate() {
                let inside = sends[from..].iter().take_while(|(at, ..)| *at < *began + window);
                let bytes: u64 = inside.map(|(.., bytes)| bytes).sum();
                let most = rate * window.as_millis() as u64 / 1000 + quantum;
                assert!(bytes <= most, "{count}: {bytes} in {window:?} at {rate}");
            }
        }
    }
}

#[test]
fn a_stall_of_the_program_earns_no_more_than_a_quantum_whoever_shares_the_rate() {
    let mut scenes = sharing(10, 64_000);
    share(&mut scenes, 0, milliseconds(100));
    let before: usize = scenes.iter().map(|scene| scene.kernels[1].sent.len()).sum();
    for scene in &mut scenes {
        scene.now = Timestamp::default() + milliseconds(5000);
        scene.receive(Client, []);
    }
    let after: usize = scenes.iter().map(|scene| scene.kernels[1].sent.len()).sum();
    assert!((1..=64).contains(&(after - before)), "{} at once", after - before);
}

#[test]
fn a_stream_that_cannot_be_sent_leaves_its_part_of_a_shared_rate_to_others() {
    let rate = FaultAction::SharedRate(SharedRate::new(64_000));
    let dribble = FaultAction::Dribble { bytes: 1, per: milliseconds(10_000) };
    // One receiver takes nothing, and another rule keeps back what is for the second one.
    let rules =
        [(0, vec![rate.clone()]), (1000, vec![rate.clone(), dribble]), (64_100, vec![rate])];
    let mut scenes = rules.map(|(room, actions)| {
        let mut scene = Scene::new();
        (scene.kernel(Upstream).room, scene.kernel(Client).room) = (room, usize::MAX);
        arm(&mut scene, actions);
        scene
    });
    for step in 1..=1000 {
        let now = Timestamp::default() + milliseconds(step);
        for scene in &mut scenes {
            scene.kernel(Client).incoming.resize(8, Ok(&BYTES[..]));
            scene.wait(now.since(scene.now));
            // What comes from the other side gives it a turn.
            scene.receive(Upstream, [Ok(b"answer")]);
            scene.receive(Client, []);
        }
    }
    let sent = scenes[2].kernel(Upstream).sent.len();
    assert!((63_000..=64_064).contains(&sent), "{sent} in a second");
}

#[test]
fn short_messages_cost_no_more_of_a_shared_rate_than_they_are_long() {
    let mut scene = sharing(1, 64_000).remove(0);
    for _ in 0..1000 {
        scene.receive(Client, [Ok(&BYTES[..10])]);
        scene.wait(Duration::from_micros(200));
    }
    scene.wait(milliseconds(1));
    assert_eq!(scene.kernel(Upstream).sent.len(), 10_000);
}

#[test]
fn a_shared_rate_that_begins_later_replaces_the_first() {
    let mut scene = Scene::new();
    scene.kernel(Upstream).room = usize::MAX;
    let rates = [1000, 64_000].map(|rate| FaultAction::SharedRate(SharedRate::new(rate)));
    arm(&mut scene, rates.to_vec());
    share(core::slice::from_mut(&mut scene), 0, milliseconds(1000));
    assert!((63_000..=64_064).contains(&scene.kernel(Upstream).sent.len()));
}

/// Has these hold from the start for what goes to the upstream.
fn arm(scene: &mut Scene, actions: Vec<FaultAction>) {
    let numbered = actions.into_iter().enumerate();
    let place = FaultPlace::Byte(0);
    let faults = numbered.map(|(rule, action)| RelayFault { rule, place: place.clone(), action });
    scene.relay.arm(Upstream, faults.collect(), None);
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
    let fired = FiredFault { rule: 0, position: 5, frame: None, is_lifted: false };
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

/// A scene with these rules for what goes to the upstream, whose frames have a length of one byte.
fn framed(faults: &[(FaultPlace, FaultAction)]) -> Scene {
    let mut scene = Scene::new();
    let numbered = faults.iter().cloned().enumerate();
    let faults = numbered.map(|(rule, (place, action))| RelayFault { rule, place, action });
    let format = crate::format::LengthFormat::parse("u8").map(FrameFormat::Length);
    scene.relay.arm(Upstream, faults.collect(), format);
    scene
}

fn frame(number: u64) -> FaultPlace {
    FaultPlace::Frame { number, part: FramePart::Byte(0) }
}

fn delay(time: Duration) -> FaultAction {
    FaultAction::Delay { time, jitter: Duration::ZERO, seed: 0 }
}

#[test]
fn what_a_time_inserts_comes_before_what_is_received_then() {
    let insert = FaultAction::Insert((*b"X").into());
    let mut scene = faulted(FaultPlace::Time(milliseconds(10)), insert);
    scene.receive(Client, [Ok(b"ab")]);
    // The time comes between the look at the clock and the receive.
    scene.relay.handle_time(scene.now + milliseconds(10));
    assert_eq!(scene.relay.handle_received(Client, b"cd"), b"");
    scene.turn();
    assert_eq!(scene.kernel(Upstream).sent, b"abXcd");
}

#[test]
fn whatever_comes_out_is_delayed() {
    let start = FaultPlace::Byte(0);
    let insert = FaultAction::Insert((*b"X").into());
    for (rules, stream, expected) in [
        (vec![(frame(1), FaultAction::AddLength(1))], &b"\x01a"[..], &b"\x02a"[..]),
        (vec![(frame(1), FaultAction::SwapFrame)], b"\x01a", b"\x01a"),
        (vec![(FaultPlace::Byte(0), insert.clone())], b"\x01a", b"X\x01a"),
        (vec![(FaultPlace::End, insert)], b"\x01a", b"\x01aX"),
    ] {
        let delayed = (start.clone(), delay(milliseconds(100)));
        let mut scene = framed(&[&[delayed], &rules[..]].concat());
        scene.wait(milliseconds(50));
        scene.receive(Client, [Ok(stream), Ok(b"")]);
        scene.wait(milliseconds(99));
        assert_eq!(scene.kernel(Upstream).sent, b"", "{rules:?}");
        scene.wait(milliseconds(1));
        assert_eq!(scene.kernel(Upstream).sent, expected, "{rules:?}");
        assert_eq!(scene.kernel(Upstream).fin_after, Some(expected.len()), "{rules:?}");
    }
}

#[test]
fn a_delay_at_the_end_is_for_fin_alone() {
    let mut scene = faulted(FaultPlace::End, delay(milliseconds(20)));
    scene.wait(milliseconds(50));
    scene.receive(Client, [Ok(b"ab"), Ok(b"")]);
    assert_eq!((scene.kernel(Upstream).sent.len(), scene.kernels[1].fin_after), (2, None));
    scene.wait(milliseconds(20));
    assert_eq!(scene.kernel(Upstream).fin_after, Some(2));
}

#[test]
fn what_was_merged_is_not_kept_again_for_being_sent_in_parts() {
    let merge = FaultAction::Merge { bytes: 50, within: milliseconds(1000) };
    let mut scene = faulted(FaultPlace::Byte(0), merge.clone());
    scene.kernel(Upstream).room = 20;
    scene.receive(Client, [Ok(&BYTES[..50])]);
    scene.make_room(Upstream, 1000);
    assert_eq!(sends(&scene), [(0, 20), (0, 30)]);

    let mut scene = Scene::new();
    let split = FaultAction::Split { first: 1, every: 10 };
    let start = || FaultPlace::Byte(0);
    let rules = [(start(), split), (start(), merge)].into_iter().enumerate();
    let faults = rules.map(|(rule, (place, action))| RelayFault { rule, place, action });
    scene.relay.arm(Upstream, faults.collect(), None);
    scene.receive(Client, [Ok(&BYTES[..50])]);
    assert_eq!(scene.kernel(Upstream).sent.len(), 50);
    assert_eq!(scene.kernel(Upstream).sends.len(), 10);
}

#[test]
fn what_can_never_be_merged_because_too_little_may_be_held_is_sent() {
    let mut scene = Scene::new();
    scene.relay = Relay::new(LINGER).with_hold(100);
    let action = FaultAction::Merge { bytes: 1000, within: milliseconds(5000) };
    let fault = RelayFault { rule: 0, place: FaultPlace::Byte(0), action };
    scene.relay.arm(Upstream, vec![fault], None);
    scene.receive(Client, [Ok(&BYTES), Ok(&BYTES)]);
    assert_eq!(sends(&scene), [(0, 128)]);
}

#[test]
fn a_dribble_pauses_after_few_bytes_too() {
    let mut scene = paced(FaultAction::Dribble { bytes: 30, per: milliseconds(100) }, 0);
    for _ in 0..25 {
        scene.receive(Client, [Ok(b"abc")]);
        scene.wait(milliseconds(10));
    }
    assert_eq!(sends(&scene), [(0, 3), (100, 27), (200, 30)]);
}

#[test]
fn what_is_kept_is_passed_on_before_a_reset() {
    let mut scene = framed(&[(frame(1), FaultAction::SwapFrame)]);
    scene.receive(Client, [Ok(b"\x01a"), Err(RESET)]);
    assert_eq!(scene.kernel(Upstream).sent, b"\x01a");
    assert_eq!(scene.closed.map(|[_, upstream]| upstream), Some(RelayClose::Reset));
}

#[test]
fn what_is_kept_is_passed_on_also_if_a_send_has_reported_the_reset() {
    let mut scene = framed(&[(frame(1), FaultAction::SwapFrame)]);
    scene.kernel(Client).send_error = Some(RESET);
    scene.kernel(Client).incoming.extend([Ok(&b"\x01a"[..]), Ok(b"")]);
    scene.receive(Upstream, [Ok(b"answer")]);
    assert_eq!(scene.kernel(Upstream).sent, b"\x01a");
    assert_eq!(scene.closed.map(|[_, upstream]| upstream), Some(RelayClose::Reset));
}

#[test]
fn a_source_that_is_not_read_from_is_not_idle() {
    let mut scene = faulted(FaultPlace::Idle(milliseconds(30)), FaultAction::Reset);
    scene.kernel(Upstream).room = 3;
    scene.receive(Client, [Ok(b"abcdef"), Ok(b"gh")]);
    scene.wait(milliseconds(200));
    assert_eq!(scene.relay.take_fired(Upstream), []);
    scene.make_room(Upstream, 1000);
    assert_eq!(scene.kernel(Upstream).sent, b"abcdefgh");
    scene.wait(milliseconds(30));
    assert_eq!(scene.relay.take_fired(Upstream).len(), 1);
}

#[test]
fn a_frame_that_is_too_long_to_be_kept_stays_where_it_is() {
    let mut scene = Scene::new();
    scene.relay = Relay::new(LINGER).with_hold(11);
    let rules = [(frame(1), FaultAction::SwapFrame), (frame(2), FaultAction::DuplicateFrame)];
    let numbered = rules.into_iter().enumerate();
    let faults = numbered.map(|(rule, (place, action))| RelayFault { rule, place, action });
    let format = crate::format::LengthFormat::parse("u8").map(FrameFormat::Length);
    scene.relay.arm(Upstream, faults.collect(), format);
    scene.receive(Client, [Ok(b"\x07aaaaaaa\x07bbbbbbb\x01c")]);
    assert_eq!(scene.kernel(Upstream).sent, b"\x07bbbbbbb\x07aaaaaaa\x01c");
}

#[test]
fn a_send_is_late_only_if_something_waited_for_a_time() {
    let mut scene = faulted(FaultPlace::Byte(2), FaultAction::Stall(milliseconds(10)));
    scene.receive(Client, [Ok(b"ab")]);
    scene.wait(milliseconds(20));
    scene.receive(Client, [Ok(b"cd")]);
    assert_eq!(scene.relay.take_due(Upstream), None);
    let mut scene = faulted(FaultPlace::Byte(2), FaultAction::Stall(milliseconds(10)));
    scene.receive(Client, [Ok(b"abcd")]);
    scene.wait(milliseconds(20));
    let due = Timestamp::default() + milliseconds(10);
    assert_eq!(scene.relay.take_due(Upstream), Some(due));
}
