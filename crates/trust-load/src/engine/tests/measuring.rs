//! What a run measures, and when.

use super::*;

#[test]
fn a_stall_is_seen_in_an_open_loop_and_hidden_by_a_closed_one() {
    const STALL: Duration = Duration::from_secs(1);
    // The server does nothing for a second, once.
    let stalling = || {
        let begun = std::sync::OnceLock::new();
        move |stream: TcpStream, _| {
            let begun: Instant = *begun.get_or_init(Instant::now);
            let mut is_over = false;
            echo(stream, move |_, _| {
                if !is_over && begun.elapsed() >= STALL / 2 {
                    is_over = true;
                    thread::sleep(STALL);
                }
            });
        }
    };
    let length = Length::Time(Duration::from_secs(4));
    let base = shape(server(stalling()));
    let open = summary(&Shape { pace: open(500.0), in_flight: 1, length, ..base.clone() });
    // A quarter of all messages were due in the stall: on average they waited for half of it.
    assert_eq!(open.counts.answered, 2000);
    let p99 = Duration::from_nanos(open.latency.value_at_quantile(0.99));
    assert!(p99 >= STALL * 9 / 10, "{p99:?}");
    let waited = open.latency.len() - open.latency.count_between(0, 100_000_000);
    assert!(waited >= 400, "{waited} waited longer than 0.1 s");
    assert!(Duration::from_nanos(open.service.value_at_quantile(0.99)) < STALL / 2);

    let closed = summary(&Shape { length, ..shape(server(stalling())) });
    assert!(Duration::from_nanos(closed.latency.value_at_quantile(0.99)) < STALL / 2);
    assert!(Duration::from_nanos(closed.latency.max()) > STALL * 9 / 10);
}

#[test]
fn an_open_loop_sends_as_many_as_are_due_whatever_the_number_of_places() {
    for (count, arrivals) in
        [(1, Arrivals::Constant), (8, Arrivals::Constant), (8, Arrivals::Poisson)]
    {
        let shape = Shape {
            places: places(count),
            pace: Pace::Open { rate: 1000.0, arrivals },
            in_flight: 100,
            warm_up: Duration::from_millis(500),
            length: Length::Time(Duration::from_secs(2)),
            ..echoed()
        };
        let mut kept = Kept::default();
        let summary = run_with(&shape, &mut kept);
        let due = summary.counts.sent;
        match arrivals {
            Arrivals::Constant => assert_eq!(due, 2000),
            Arrivals::Poisson => assert!((1700..2300).contains(&due), "{due}"),
        }
        assert_eq!((summary.counts.answered, summary.counts.unsent), (due, 0));
        assert_eq!(summary.latency.len(), due);
        assert_eq!(summary.took, Duration::from_secs(2));
        let answered = kept.answered();
        // What was on the way when the warm-up ended; a busy machine answers it after the end.
        let left = summary.counts.answered_in_time - summary.counts.kept_up;
        assert!(answered >= due + left, "{answered} of {due} and {left}");
        let all = summary.counts.warm_up + answered;
        assert!(all == 2500 || arrivals == Arrivals::Poisson, "{all}");
        assert!(kept.phases.contains(&Phase::Measuring));
    }
}

#[test]
fn what_was_due_and_never_answered_is_in_the_percentiles() {
    // Answers nothing after its first frame.
    let serve = |mut stream: TcpStream, _| {
        echo_one(&mut stream).expect("a frame");
        std::mem::forget(stream);
    };
    let limit = Duration::from_millis(500);
    let shape = Shape {
        pace: open(100.0),
        timeout: Some(limit),
        length: Length::Time(Duration::from_millis(400)),
        ..shape(server(serve))
    };
    let summary = summary(&shape);
    let counts = summary.counts;
    assert_eq!(counts.answered + counts.failed + counts.unsent, 40, "{counts:?}");
    assert!(summary.latency.len() > 20, "{}", summary.latency.len());
    assert!(summary.latency.value_at_quantile(0.5) >= limit.as_nanos() as u64);
    assert!(summary.errors.count(Cause::Timeout) > 0);
}

#[test]
fn clients_that_did_not_come_owe_nothing() {
    let mut shape = Shape {
        places: places(10),
        pace: open(100.0),
        length: Length::Time(Duration::from_secs(1)),
        ..echoed()
    };
    shape.connecting.gap = Duration::from_millis(400);
    let summary = summary(&shape);
    assert!((1..=4).contains(&summary.counts.connections), "{:?}", summary.counts);
    assert_eq!((summary.counts.unsent, summary.counts.failed), (0, 0));
    assert_eq!(summary.latency.len(), summary.counts.answered);
}

#[test]
fn what_waits_behind_a_message_that_timed_out_is_in_the_percentiles_too() {
    // Answers for a while, and then nothing.
    let begun = std::sync::OnceLock::new();
    let serve = move |mut stream: TcpStream, _| {
        let begun: Instant = *begun.get_or_init(Instant::now);
        while begun.elapsed() < Duration::from_millis(500) {
            if echo_one(&mut stream).is_err() {
                return;
            }
        }
        std::mem::forget(stream);
    };
    let shape = Shape {
        pace: open(200.0),
        in_flight: 1000,
        timeout: Some(Duration::from_millis(600)),
        grace: Duration::from_millis(600),
        length: Length::Time(Duration::from_secs(1)),
        ..shape(server(serve))
    };
    let summary = summary(&shape);
    let counts = summary.counts;
    assert_eq!(counts.answered + counts.failed + counts.unsent, 200, "{counts:?}");
    assert!(counts.answered < 150, "{counts:?}");
    // Each of them had waited longer than those that were answered.
    assert_eq!(summary.latency.len(), 200);
    // What was never sent has no service time.
    assert_eq!(summary.service.len(), 200 - counts.unsent);
}

#[test]
fn a_flood_that_nobody_answers_is_counted_at_once() {
    let serve = |stream: TcpStream, _| std::mem::forget(stream);
    let shape = Shape {
        places: places(2),
        pace: open(1e7),
        in_flight: 1,
        timeout: Some(Duration::from_millis(200)),
        grace: Duration::from_millis(200),
        length: Length::Time(Duration::from_secs(1)),
        ..shape(server(serve))
    };
    let begun = Instant::now();
    let summary = summary(&shape);
    let counts = summary.counts;
    assert_eq!(counts.answered + counts.failed + counts.unsent, 10_000_000, "{counts:?}");
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    let longest = Duration::from_nanos(summary.latency.max());
    // A histogram rounds up, by a thousandth at most.
    assert!(longest <= begun.elapsed() * 1001 / 1000, "{longest:?}");
    assert!(summary.latency.len() > 9_000_000);
}

#[test]
fn the_run_lasts_until_the_last_message_failed() {
    let once = |mut stream: TcpStream, _| {
        let _ = echo_one(&mut stream);
        std::mem::forget(stream);
    };
    let limit = Duration::from_millis(500);
    let shape = Shape { timeout: Some(limit), ..shape(server(once)) };
    let summary = summary(&shape);
    assert_eq!((summary.counts.answered, summary.counts.failed), (1, 9));
    assert!(summary.took >= limit, "{:?}", summary.took);
}

#[test]
fn what_comes_back_while_measuring_counts_for_the_rate_also_if_the_warm_up_sent_it() {
    let (measuring, told) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    // Keeps the first ten messages until the warm-up is over.
    let serve = move |mut stream: TcpStream, _| {
        let mut frames = [0; 10 * 68];
        stream.read_exact(&mut frames).expect("ten messages");
        told.lock().expect("one connection").recv_timeout(PATIENCE).expect("it measures");
        stream.write_all(&frames).expect("the client is there");
        echo(stream, |_, _| ());
    };
    let shape = Shape {
        in_flight: 10,
        warm_up: Duration::from_millis(300),
        length: messages(1, 30),
        ..shape(server(serve))
    };
    let tell = |live: &Live| {
        if live.phase == Phase::Measuring {
            measuring.send(()).expect("the server waits");
        }
    };
    let mut observers = (Kept::default(), tell);
    let summary = run_with(&shape, &mut observers);
    let (counts, answered) = (summary.counts, observers.0.answered());
    assert_eq!((counts.sent, counts.answered, counts.warm_up), (20, 20, 0), "{counts:?}");
    assert_eq!((counts.answered_in_time, answered), (30, 30), "{counts:?}");
    assert_eq!(summary.latency.len(), 20);
}

#[test]
fn the_warm_up_ends_on_time_also_in_a_turn_that_takes_long() {
    const WARM_UP: Duration = Duration::from_secs(1);

    let shape =
        Shape { places: places(20), warm_up: WARM_UP, length: Length::Time(WARM_UP), ..echoed() };
    let mut answered = None;
    // Holds the engine up once, from the warm-up into the measured part.
    let hold = |live: &Live| {
        if answered.is_none() && live.phase == Phase::WarmUp {
            answered = Some(live.answered);
            thread::sleep(WARM_UP);
        }
    };
    let counts = run_with(&shape, &mut (Kept::default(), hold)).counts;
    assert_eq!(Some(counts.warm_up), answered, "{counts:?}");
    assert!(counts.answered > 0 && counts.kept_up <= counts.answered_in_time, "{counts:?}");
}

#[test]
fn seconds_in_which_this_process_did_not_run_are_intervals_as_well() {
    let shape = Shape { length: Length::Time(Duration::from_millis(3_500)), ..echoed() };
    let mut is_over = false;
    // Holds the engine up once while it measures.
    let hold = |live: &Live| {
        let is_time = live.phase == Phase::Measuring && live.elapsed >= Duration::from_millis(400);
        if is_time && !std::mem::replace(&mut is_over, true) {
            thread::sleep(Duration::from_millis(2_200));
        }
    };
    let mut holds = (Kept::default(), hold);
    let summary = run_with(&shape, &mut holds);
    let (answered, intervals) = (holds.0.answered(), holds.0.intervals);
    let starts: Vec<u128> = intervals.iter().map(|(start, ..)| start.as_millis()).collect();
    assert_eq!(starts, [0, 1000, 2000, 3000], "{intervals:?}");
    for (_, length, _) in &intervals[..3] {
        assert_eq!(*length, INTERVAL, "{intervals:?}");
    }
    assert!(intervals[3].1 >= INTERVAL / 2, "{intervals:?}");
    // In one whole second it did not run.
    assert_eq!(intervals[1].2, 0, "{intervals:?}");
    assert_eq!(answered, summary.counts.answered);
}

#[test]
fn a_run_that_is_counted_ends_its_last_interval_with_the_last_answer() {
    // It answers the client's FIN late.
    let serve = |stream: TcpStream, _| {
        let kept = stream.try_clone().expect("a descriptor");
        echo(stream, |_, _| ());
        thread::sleep(FAREWELL_MAX / 2);
        drop(kept);
    };
    let shape = Shape { pace: open(10.0), length: messages(1, 8), ..shape(server(serve)) };
    let mut kept = Kept::default();
    let summary = run_with(&shape, &mut kept);
    let [(start, length, answered)] = kept.intervals[..] else { panic!("{:?}", kept.intervals) };
    assert_eq!((start, length, answered), (Duration::ZERO, summary.took, 8));
}

#[test]
fn what_was_due_and_not_sent_is_counted_to_the_message_from_the_end_of_the_warm_up_on() {
    let serve = |stream: TcpStream, _| std::mem::forget(stream);
    let shape = Shape {
        places: places(2),
        pace: open(3000.0),
        in_flight: 1,
        timeout: Some(Duration::from_millis(900)),
        grace: Duration::from_millis(900),
        warm_up: Duration::from_millis(77),
        length: Length::Time(Duration::from_millis(450)),
        ..shape(server(serve))
    };
    let counts = summary(&shape).counts;
    // Due from 231/3000 s to before 1581/3000 s; none is sent before the end but the first two, in
    // the warm-up.
    assert_eq!((counts.sent, counts.unsent), (0, 1350), "{counts:?}");
}
