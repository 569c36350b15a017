//! Whole lives of connections, told step by step.

use super::*;
use crate::frame::encode_frame;
use alloc::vec;
use alloc::vec::Vec;

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_start(Duration::from_secs_f64(seconds))
}

fn open(mode: Mode) -> Connection {
    let limits =
        Limits { mode, max_lifetime: Some(Duration::from_secs(3600)), ..Limits::default() };
    Connection::new(Arc::new(limits), at(0.0))
}

fn frame(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![];
    encode_frame(payload, &mut frame);
    frame
}

/// Receives and echoes; the kernel takes `room` bytes of the answer.
fn echo(connection: &mut Connection, bytes: &[u8], room: usize, now: Timestamp) -> Vec<u8> {
    let (answer, frames) = match connection.handle_received(0, bytes, now) {
        Received::Nothing => return vec![],
        Received::Raw(raw) => (raw.to_vec(), 0),
        Received::Frames(decoded) => (decoded.frames().parts().concat(), decoded.count),
    };
    let sent = room.min(answer.len());
    connection.handle_answered(&[&answer], frames, sent, now);
    answer
}

fn reason(connection: &Connection) -> Reason {
    connection.cause().expect("the end is decided").reason
}

/// More deadlines than are due before any limit is over.
const ROUNDS: u32 = 100;

/// What a look at the socket says when everything is acknowledged.
fn all_acknowledged() -> Probe {
    Probe::default()
}

/// A look at the socket that is not to be taken.
fn nobody_asks() -> Probe {
    panic!("nothing can be unacknowledged, or the peer's FIN is missing");
}

fn unacknowledged(bytes: u64) -> Probe {
    Probe { unacknowledged: bytes, ..Probe::default() }
}

#[test]
fn the_first_byte_decides_in_auto_mode() {
    let mut connection = open(Mode::Auto);
    assert_eq!(echo(&mut connection, b"hello", 99, at(0.0)), b"hello");
    assert_eq!(connection.mode(), Mode::Raw);
    assert_eq!(echo(&mut connection, b"\0\0", 99, at(0.0)), b"\0\0", "raw stays raw");

    let mut connection = open(Mode::Auto);
    assert_eq!(echo(&mut connection, b"\0", 99, at(0.0)), b"");
    assert_eq!(connection.mode(), Mode::Framed);
    assert_eq!(echo(&mut connection, b"\0\0\x01x", 99, at(0.0)), frame(b"x"));
}

#[test]
fn the_part_of_a_frame_that_a_peer_left_behind_is_never_echoed() {
    let mut connection = open(Mode::Framed);
    let whole = frame(b"whole");
    let stream = [&whole[..], &frame(b"unfinished")[..7]].concat();
    assert_eq!(echo(&mut connection, &stream, 99, at(0.0)), whole);
    connection.handle_end_of_stream();
    assert_eq!(reason(&connection), Reason::TruncatedFrame { have: 7, need: 14 });
    assert_eq!(connection.poll_close(at(0.0), all_acknowledged), Some(CloseStep::Close));
    assert_eq!(connection.totals().frames_in, 1);
}

#[test]
fn a_connection_that_owes_is_not_read_and_pays_before_it_ends() {
    let mut connection = open(Mode::Framed);
    let stream = [frame(b"first"), frame(b"second")].concat();
    echo(&mut connection, &stream, 5, at(0.0));
    assert!(!connection.wants_receive() && connection.wants_send());
    assert_eq!(connection.owed(), &stream[5..]);
    assert_eq!(connection.totals().frames_out, 0);
    connection.handle_sent(10, at(1.0));
    assert_eq!(connection.totals().frames_out, 1);
    connection.handle_sent(4, at(1.0));
    assert!(connection.wants_receive() && !connection.wants_send());
    assert_eq!(connection.totals().frames_out, 2);
}

#[test]
fn a_bad_header_ends_in_order_after_everything_before_it() {
    let mut connection = open(Mode::Framed);
    let stream = [&frame(b"good")[..], b"\xff\xff\xff\xff"].concat();
    echo(&mut connection, &stream, 3, at(0.0));
    let cause = connection.poll_cause().expect("told at once");
    assert_eq!(cause.reason, Reason::FrameTooLarge { declared: u32::MAX });
    assert_eq!(connection.poll_close(at(0.0), all_acknowledged), None, "bytes are still owed");
    assert!(connection.wants_receive(), "discards while it pays");
    assert_eq!(echo(&mut connection, b"rubbish", 99, at(0.1)), b"");
    connection.handle_sent(5, at(0.2));
    assert_eq!(connection.poll_close(at(0.2), all_acknowledged), Some(CloseStep::ShutdownSend));
    assert_eq!(connection.poll_close(at(0.2), all_acknowledged), None);
    connection.handle_error(104, ErrnoClass::Reset, During::Receive);
    assert_eq!(connection.poll_close(at(0.3), all_acknowledged), Some(CloseStep::Close));
    assert_eq!(reason(&connection), cause.reason, "the first reason stays");
    assert_eq!(connection.poll_cause(), None);
}

#[test]
fn a_failure_while_paying_replaces_an_orderly_cause() {
    let mut connection = open(Mode::Raw);
    echo(&mut connection, b"owed", 0, at(0.0));
    connection.retire(Reason::Drain, 0);
    assert_eq!(connection.poll_cause().map(|cause| cause.reason), Some(Reason::Drain));
    connection.handle_error(104, ErrnoClass::Reset, During::Send);
    let cause = connection.poll_cause().expect("a new cause");
    assert_eq!((cause.reason, cause.errno), (Reason::ClientReset, Some(104)));
}

#[test]
fn silence_ends_in_order_and_not_before_its_time() {
    for stream in [&b""[..], b"\0\0\0", b"\0\0\0\x09abc"] {
        let mut connection = open(Mode::Auto);
        if !stream.is_empty() {
            echo(&mut connection, stream, 99, at(2.0));
        }
        let due = connection.poll_deadline();
        assert_eq!(due, if stream.is_empty() { at(5.0) } else { at(7.0) });
        connection.handle_deadline(due, Probe::default());
        assert_eq!(reason(&connection), Reason::RecvTimeout);
        assert_eq!(connection.poll_close(due, all_acknowledged), Some(CloseStep::ShutdownSend));
        assert_eq!(connection.poll_deadline(), due + Duration::from_secs(2));
        connection.handle_deadline(due + Duration::from_secs(2), Probe::default());
        assert_eq!(connection.poll_close(due, all_acknowledged), Some(CloseStep::Close));
    }
}

#[test]
fn one_byte_before_every_timeout_does_not_hold_a_place_for_ever() {
    let mut connection = open(Mode::Framed);
    let slow_frame = frame(&[7; 200]);
    for (i, byte) in slow_frame.iter().enumerate() {
        let now = at(4.9 * i as f64);
        if connection.poll_deadline() < now {
            break;
        }
        echo(&mut connection, &[*byte], 99, now);
    }
    assert_eq!(connection.poll_deadline(), at(30.0));
    connection.handle_deadline(at(30.0), Probe::default());
    assert_eq!(reason(&connection), Reason::FrameTimeout);
    assert_eq!(connection.poll_close(at(30.0), all_acknowledged), Some(CloseStep::Reset));
}

#[test]
fn the_frame_clock_stands_still_while_the_connection_is_not_read() {
    let mut connection = open(Mode::Framed);
    let stream = [&frame(b"owed for 100 s")[..], b"\0"].concat();
    echo(&mut connection, &stream, 0, at(0.0));
    for second in 1..=17 {
        connection.handle_sent(1, at(f64::from(second)));
    }
    assert!(connection.poll_deadline() < at(30.0), "only the send deadline counts");
    connection.handle_sent(1, at(100.0));
    connection.handle_deadline(at(101.0), Probe::default());
    echo(&mut connection, b"\0", 99, at(104.0));
    echo(&mut connection, b"\0", 99, at(108.0));
    assert_eq!(connection.frame_deadline(), at(130.0));
    assert_eq!(connection.poll_deadline(), at(113.0));
}

#[test]
fn a_stall_is_noticed_within_one_and_a_quarter_limits() {
    for owed in [0, 8] {
        let mut connection = open(Mode::Raw);
        echo(&mut connection, b"answered", 8 - owed, at(0.0));
        // Another answer just before each probe: sending is not progress.
        let mut now = at(0.0);
        while connection.cause().is_none() {
            now = connection.poll_deadline();
            connection.handle_deadline(now, unacknowledged(connection.totals().bytes_out));
        }
        assert_eq!(reason(&connection), Reason::SendTimeout);
        assert_eq!(connection.poll_close(now, all_acknowledged), Some(CloseStep::Reset));
        assert!(now >= at(5.0) && now <= at(6.25), "{now:?}");
    }
}

#[test]
fn a_send_of_which_the_kernel_takes_nothing_does_not_put_off_a_stall() {
    let mut connection = open(Mode::Raw);
    echo(&mut connection, b"answered", 0, at(0.0));
    connection.handle_sent(0, at(4.0));
    connection.handle_deadline(at(5.0), unacknowledged(0));
    assert_eq!(reason(&connection), Reason::SendTimeout);
}

#[test]
fn a_deadline_of_another_kind_does_not_put_off_a_stall() {
    let limits = Limits { max_lifetime: Some(Duration::from_secs(4)), ..Limits::default() };
    let mut connection = Connection::new(Arc::new(limits), at(0.0));
    echo(&mut connection, b"answered", 0, at(0.0));
    for second in [1.25, 2.5, 3.75, 4.0] {
        assert!(connection.poll_deadline() <= at(second));
        connection.handle_deadline(at(second), Probe::default());
    }
    assert_eq!(reason(&connection), Reason::MaxLifetime);
    assert_eq!(connection.poll_deadline(), at(5.0));
    connection.handle_deadline(at(5.0), Probe::default());
    assert_eq!(reason(&connection), Reason::SendTimeout);
}

/// On a unix socket every message takes memory of its own, of which 768 bytes are the least.
#[test]
fn memory_that_is_given_back_is_progress_however_much_of_it_is_left() {
    let memory = |bytes| Probe { is_memory: true, ..unacknowledged(bytes) };
    let mut connection = open(Mode::Raw);
    for _ in 0..10 {
        echo(&mut connection, b"x", 1, at(0.0));
    }
    connection.handle_deadline(at(1.25), memory(7680));
    for (seconds, left) in [(5.0, 6912), (9.0, 6144), (13.0, 5376)] {
        connection.handle_deadline(at(seconds), memory(left));
        assert_eq!(connection.cause(), None, "one of them was read");
    }
    // More of them are sent than are read.
    echo(&mut connection, b"yy", 2, at(16.0));
    connection.handle_deadline(at(17.0), memory(6144));
    connection.handle_deadline(at(21.9), memory(6144));
    assert_eq!(connection.cause(), None);
    connection.handle_deadline(at(22.0), memory(6144));
    assert_eq!(reason(&connection), Reason::SendTimeout);
}

#[test]
fn memory_holds_no_fin_and_nothing_is_left_but_what_was_sent() {
    let memory = |bytes| Probe { is_memory: true, ..unacknowledged(bytes) };
    let mut connection = open(Mode::Raw);
    echo(&mut connection, b"answered", 8, at(0.0));
    connection.handle_end_of_stream();
    let close = |connection: &mut Connection, seconds, bytes| {
        connection.poll_close(at(seconds), || memory(bytes))
    };
    assert_eq!(close(&mut connection, 0.0, 768), Some(CloseStep::ShutdownSend));
    assert_eq!(close(&mut connection, 0.1, 768), None);
    // A FIN does not count, so this is no progress.
    connection.handle_deadline(at(4.9), memory(768));
    assert_eq!(close(&mut connection, 4.9, 768), None);
    assert_eq!(close(&mut connection, 5.0, 0), Some(CloseStep::Close));
    assert_eq!(reason(&connection), Reason::PeerFin);

    // Nor is it while the peer's FIN is waited for.
    let mut lingering = open(Mode::Raw);
    echo(&mut lingering, b"answered", 8, at(0.0));
    lingering.retire(Reason::Drain, 0);
    assert_eq!(close(&mut lingering, 0.0, 768), Some(CloseStep::ShutdownSend));
    for seconds in [0.5, 1.0, 1.5] {
        lingering.handle_deadline(at(seconds), memory(768));
    }
    lingering.handle_deadline(at(2.0), memory(768));
    assert_eq!(reason(&lingering), Reason::SendTimeout);
}

/// A process can be stopped between reading the clock and asking the socket.
#[test]
fn acknowledgements_count_from_when_they_were_seen() {
    let late = |bytes| Probe { asked_at: at(600.0), ..unacknowledged(bytes) };
    let mut connection = open(Mode::Raw);
    echo(&mut connection, b"answered", 8, at(0.0));
    echo(&mut connection, b"after the pause", 15, at(600.0));
    connection.handle_deadline(at(1.25), late(15));
    connection.handle_deadline(at(601.5), unacknowledged(15));
    assert_eq!(connection.cause(), None, "sent 1.5 s ago");
    connection.handle_deadline(at(605.0), unacknowledged(15));
    assert_eq!(reason(&connection), Reason::SendTimeout);

    let mut lingering = open(Mode::Raw);
    echo(&mut lingering, b"answered", 8, at(0.0));
    lingering.retire(Reason::Drain, 0);
    assert_eq!(lingering.poll_close(at(0.0), all_acknowledged), Some(CloseStep::ShutdownSend));
    lingering.handle_deadline(at(0.5), late(3));
    lingering.handle_deadline(at(601.5), unacknowledged(3));
    assert_eq!(lingering.poll_close(at(601.5), all_acknowledged), None);
    assert_eq!(lingering.poll_deadline(), at(602.0));
}

#[test]
fn a_peer_that_was_busy_reading_during_a_pause_is_not_cut_after_it() {
    let mut connection = open(Mode::Raw);
    echo(&mut connection, b"read at leisure", 15, at(0.0));
    connection.handle_deadline(at(1.25), unacknowledged(7));
    let after_pause = Probe { asked_at: at(600.0), ..Probe::default() };
    connection.handle_deadline(at(600.0), after_pause);
    assert_eq!((connection.cause(), connection.poll_deadline()), (None, at(603.75)));
}

#[test]
fn a_slow_reader_that_acknowledges_is_not_cut() {
    let mut connection = open(Mode::Raw);
    echo(&mut connection, &[7; 1000], 1000, at(0.0));
    let mut unread = 1000;
    let mut now = at(0.0);
    while unread > 0 {
        now = connection.poll_deadline();
        unread -= 1;
        connection.handle_deadline(now, unacknowledged(unread));
        assert_eq!(connection.cause(), None);
    }
    let due = connection.poll_deadline();
    assert_eq!(due, now + Duration::from_secs_f64(3.75), "silence counts from the last probe");
}

#[test]
fn an_unreachable_peer_is_named_at_the_send_deadline() {
    let mut connection = open(Mode::Raw);
    echo(&mut connection, b"x", 1, at(0.0));
    let first = connection.poll_deadline();
    let probe = Probe { error: Some((113, ErrnoClass::Unreachable)), ..unacknowledged(1) };
    connection.handle_deadline(first, probe);
    assert_eq!(connection.cause(), None, "the path may come back");
    connection.handle_deadline(at(5.0), unacknowledged(1));
    let cause = connection.cause().expect("stalled");
    assert_eq!((cause.reason, cause.errno), (Reason::ClientUnreachable, Some(113)));
}

#[test]
fn a_drain_answers_what_had_begun_and_nothing_later() {
    let mut connection = open(Mode::Framed);
    let begun = frame(b"begun before the drain");
    echo(&mut connection, &begun[..2], 99, at(0.0));
    let second = frame(b"its first byte was in the kernel");
    connection.retire(Reason::Drain, begun.len() as u64 - 2 + 1);
    assert_eq!(connection.cause(), None);
    let stream = [&begun[2..], &second, &frame(b"too late")].concat();
    let answer = echo(&mut connection, &stream, 99, at(0.1));
    assert_eq!(answer, [begun, second].concat());
    assert_eq!(reason(&connection), Reason::Drain);
}

#[test]
fn a_drain_ends_idle_connections_at_once() {
    for mode in [Mode::Auto, Mode::Framed, Mode::Raw] {
        let mut connection = open(mode);
        connection.retire(Reason::Drain, 0);
        assert_eq!(connection.poll_close(at(0.0), all_acknowledged), Some(CloseStep::ShutdownSend));
    }
}

#[test]
fn only_unfinished_business_counts_as_cut() {
    let mut idle = open(Mode::Raw);
    idle.retire(Reason::Drain, 0);
    assert_eq!(idle.poll_close(at(0.0), all_acknowledged), Some(CloseStep::ShutdownSend));
    // The FIN has not been acknowledged yet.
    idle.abort(Reason::DrainTimeout, unacknowledged(1));
    assert_eq!(
        (reason(&idle), idle.poll_close(at(1.0), all_acknowledged)),
        (Reason::Drain, Some(CloseStep::Close))
    );

    let mut halfway = open(Mode::Framed);
    echo(&mut halfway, b"\0", 9, at(0.0));
    halfway.retire(Reason::Drain, 0);
    halfway.abort(Reason::DrainTimeout, Probe::default());
    assert_eq!(halfway.poll_close(at(1.0), all_acknowledged), Some(CloseStep::Reset));
    assert_eq!(reason(&halfway), Reason::DrainTimeout);

    let mut unread = open(Mode::Raw);
    echo(&mut unread, b"x", 1, at(0.0));
    unread.retire(Reason::Drain, 0);
    assert_eq!(unread.poll_close(at(0.0), all_acknowledged), Some(CloseStep::ShutdownSend));
    unread.abort(Reason::SecondSignal, unacknowledged(2));
    assert_eq!(reason(&unread), Reason::SecondSignal);
    assert_eq!(unread.poll_close(at(1.0), all_acknowledged), Some(CloseStep::Reset));

    let mut unserved = open(Mode::Framed);
    unserved.retire(Reason::Drain, 100);
    unserved.abort(Reason::DrainTimeout, Probe { unread: 100, ..Probe::default() });
    assert_eq!(reason(&unserved), Reason::DrainTimeout, "what the kernel holds had begun");

    let mut untouched = open(Mode::Auto);
    untouched.abort(Reason::SecondSignal, Probe::default());
    assert_eq!(untouched.poll_close(at(1.0), all_acknowledged), Some(CloseStep::Close));
}

#[test]
fn an_old_connection_finishes_its_frame_and_ends() {
    let limits = Limits { max_lifetime: Some(Duration::from_secs(3)), ..Limits::default() };
    let mut connection = Connection::new(Arc::new(limits), at(0.0));
    echo(&mut connection, b"\0\0", 99, at(2.9));
    assert_eq!(connection.poll_deadline(), at(3.0));
    connection.handle_deadline(at(3.0), Probe::default());
    assert_eq!(connection.cause(), None);
    assert_eq!(echo(&mut connection, b"\0\0", 99, at(3.1)), frame(b""));
    assert_eq!(reason(&connection), Reason::MaxLifetime);
}

/// A connection whose peer sent 8 bytes and FIN, was answered, and acknowledged nothing.
fn half_closed(limits: Limits) -> Connection {
    let mut connection = Connection::new(Arc::new(limits), at(0.0));
    echo(&mut connection, b"answered", 99, at(0.0));
    connection.handle_end_of_stream();
    assert_eq!(reason(&connection), Reason::PeerFin);
    connection
}

#[test]
fn what_is_acknowledged_is_closed_at_once() {
    let mut connection = half_closed(Limits::default());
    assert_eq!(connection.poll_close(at(0.1), all_acknowledged), Some(CloseStep::Close));

    let mut untouched = open(Mode::Auto);
    untouched.handle_end_of_stream();
    assert_eq!(untouched.poll_close(at(0.1), nobody_asks), Some(CloseStep::Close));
}

#[test]
fn a_half_closed_peer_keeps_its_place_until_all_is_acknowledged() {
    let mut connection = half_closed(Limits::default());
    let close = |connection: &mut Connection, second, bytes| {
        connection.poll_close(at(second), || unacknowledged(bytes))
    };
    assert_eq!(close(&mut connection, 0.1, 8), Some(CloseStep::ShutdownSend));
    assert!(connection.awaits_acknowledgement() && !connection.wants_receive());
    // From here on our own FIN counts as a byte for the kernel.
    assert_eq!(close(&mut connection, 0.2, 9), None);
    assert_eq!(close(&mut connection, 0.3, 2), None);
    assert_eq!(close(&mut connection, 0.4, 1), Some(CloseStep::Close), "a FIN alone is none");
    assert_eq!(reason(&connection), Reason::PeerFin);
}

#[test]
fn a_half_closed_peer_that_stops_to_acknowledge_is_cut() {
    let mut connection = half_closed(Limits::default());
    assert!(connection.poll_close(at(0.0), || unacknowledged(8)).is_some());
    let mut now = at(0.0);
    let mut left = 9;
    for _ in 0..ROUNDS {
        if connection.phase() == Phase::Closed {
            break;
        }
        now = connection.poll_deadline();
        // A slow reader at first.
        left -= u64::from(now < at(10.0) && left > 4);
        connection.handle_deadline(now, unacknowledged(left));
        assert_eq!(connection.poll_cause().is_some(), now > at(10.0) || now == at(1.25), "{now:?}");
    }
    assert_eq!(reason(&connection), Reason::SendTimeout);
    assert_eq!(connection.poll_close(now, nobody_asks), Some(CloseStep::Reset));
    assert!(now >= at(10.0) && now <= at(12.5), "{now:?}");
}

#[test]
fn a_fin_while_lingering_does_not_end_the_wait_for_acknowledgements() {
    for ends_by_fin in [true, false] {
        let mut connection = open(Mode::Raw);
        echo(&mut connection, b"answered", 99, at(0.0));
        connection.retire(Reason::Drain, 0);
        let first = connection.poll_close(at(0.0), nobody_asks);
        assert_eq!(first, Some(CloseStep::ShutdownSend));
        if ends_by_fin {
            connection.handle_end_of_stream();
            assert_eq!(connection.poll_close(at(0.1), || unacknowledged(9)), None);
        }
        let due = if ends_by_fin { at(5.0) } else { at(2.0) };
        for _ in 0..ROUNDS {
            if connection.poll_deadline() <= due {
                connection.handle_deadline(connection.poll_deadline(), unacknowledged(9));
            }
        }
        assert_eq!(reason(&connection), Reason::SendTimeout, "by FIN: {ends_by_fin}");
        assert_eq!(connection.poll_close(due, nobody_asks), Some(CloseStep::Reset));
    }
}

#[test]
fn without_a_linger_timeout_only_acknowledgements_are_waited_for() {
    let limits = Limits { linger_timeout: Duration::ZERO, mode: Mode::Raw, ..Limits::default() };
    for answered in [0, 8] {
        let mut connection = Connection::new(Arc::new(limits.clone()), at(0.0));
        echo(&mut connection, &b"answered"[..answered], 99, at(0.0));
        connection.retire(Reason::Drain, 0);
        let ask = || unacknowledged(answered as u64);
        let expected = if answered == 0 { CloseStep::Close } else { CloseStep::ShutdownSend };
        assert_eq!(connection.poll_close(at(0.0), ask), Some(expected));
        if answered > 0 {
            assert!(connection.wants_receive(), "discards meanwhile");
            assert_eq!(connection.poll_close(at(0.1), || unacknowledged(9)), None);
            let step = connection.poll_close(at(0.2), all_acknowledged);
            assert_eq!(step, Some(CloseStep::Close));
        }
        assert_eq!(reason(&connection), Reason::Drain);
    }
}

#[test]
fn what_the_kernel_has_given_up_is_not_waited_for() {
    let given_up = |error| Probe { is_over: true, error, ..unacknowledged(9) };
    let unreachable = Some((110, ErrnoClass::Unreachable));
    let reset = Some((104, ErrnoClass::Reset));
    let whys = [
        (unreachable, Reason::ClientUnreachable),
        (reset, Reason::PeerFin),
        (None, Reason::PeerFin),
    ];
    for (error, expected) in whys {
        let limits = Limits { timeout: None, ..Limits::default() };
        let mut connection = half_closed(limits);
        assert!(connection.poll_close(at(0.0), || unacknowledged(8)).is_some());
        assert_eq!(connection.poll_deadline(), Timestamp::NEVER, "no limit is in force");
        let step = connection.poll_close(at(900.0), || given_up(error));
        assert_eq!(step, Some(CloseStep::Close), "{error:?}");
        assert_eq!(reason(&connection), expected, "{error:?}");
    }
}

#[test]
fn an_error_that_leaves_the_connection_alive_ends_it_with_rst() {
    for (class, step) in [
        (ErrnoClass::Other, CloseStep::Reset),
        (ErrnoClass::Reset, CloseStep::Close),
        (ErrnoClass::BrokenPipe, CloseStep::Close),
    ] {
        let mut connection = open(Mode::Raw);
        echo(&mut connection, b"answered", 99, at(0.0));
        connection.handle_error(5, class, During::Receive);
        assert_eq!(connection.poll_close(at(0.0), nobody_asks), Some(step), "{class:?}");
    }
}

#[test]
fn an_old_connection_is_cut_when_its_grace_is_over() {
    let limits = Limits {
        timeout: None,
        frame_timeout: None,
        linger_timeout: Duration::from_secs(60),
        max_lifetime: Some(Duration::from_secs(3)),
        ..Limits::default()
    };
    let frame = frame(b"answered");
    // In the middle of a frame; owing, to a peer that reads a little now and then; all sent, and
    // never read.
    for (bytes, room) in [(&frame[..5], 99), (&frame[..], 4), (&frame[..], 99)] {
        let mut connection = Connection::new(Arc::new(limits.clone()), at(0.0));
        echo(&mut connection, bytes, room, at(0.0));
        let (mut now, mut told) = (at(0.0), 0);
        for _ in 0..ROUNDS {
            if connection.phase() == Phase::Closed {
                break;
            }
            now = connection.poll_deadline();
            connection.handle_sent(connection.owed().len().min(1), now);
            connection.handle_deadline(now, unacknowledged(4));
            connection.poll_close(now, || unacknowledged(4));
            told += u32::from(connection.poll_cause().is_some());
        }
        assert_eq!((reason(&connection), told), (Reason::MaxLifetime, 1));
        assert_eq!(connection.poll_close(now, nobody_asks), Some(CloseStep::Reset));
        assert!(now <= at(8.0), "{now:?}");
    }
}

#[test]
fn the_grace_begins_when_the_process_sees_that_the_life_is_over() {
    let limits = Limits { max_lifetime: Some(Duration::from_secs(3)), ..Limits::default() };
    let mut connection = Connection::new(Arc::new(limits), at(0.0));
    echo(&mut connection, b"\0", 99, at(2.0));
    let stopped = Probe { asked_at: at(600.0), unread: 3, ..Probe::default() };
    connection.handle_deadline(at(3.0), stopped);
    assert_eq!(echo(&mut connection, b"\0\0\0", 99, at(600.0)), frame(b""));
    assert_eq!(reason(&connection), Reason::MaxLifetime);
    assert_eq!(connection.poll_close(at(600.0), nobody_asks), Some(CloseStep::ShutdownSend));
    assert_eq!(connection.poll_deadline(), at(600.5), "the first look for acknowledgements");
}

#[test]
fn the_end_of_the_grace_cuts_nothing_where_nothing_is_missing() {
    let limits = Limits {
        max_lifetime: Some(Duration::from_secs(3)),
        linger_timeout: Duration::from_secs(60),
        ..Limits::default()
    };
    let mut connection = Connection::new(Arc::new(limits), at(0.0));
    connection.handle_deadline(at(3.0), Probe::default());
    assert_eq!(connection.poll_close(at(3.0), nobody_asks), Some(CloseStep::ShutdownSend));
    assert_eq!(connection.poll_deadline(), at(8.0));
    connection.handle_deadline(at(8.0), unacknowledged(1));
    assert_eq!(connection.poll_close(at(8.0), nobody_asks), Some(CloseStep::Close));
}

#[test]
fn limits_that_are_off_set_no_deadline() {
    let limits = Limits { timeout: None, frame_timeout: None, ..Limits::default() };
    let mut connection = Connection::new(Arc::new(limits), at(0.0));
    echo(&mut connection, b"\0\0\0\0\0", 1, at(0.0));
    assert_eq!(connection.poll_deadline(), Timestamp::NEVER);
}

#[test]
fn bytes_that_wait_in_the_kernel_are_no_silence_and_no_slow_frame() {
    let mut connection = open(Mode::Framed);
    echo(&mut connection, b"\0", 99, at(0.0));
    let late = at(100.0);
    connection.handle_deadline(late, Probe { unread: 3, ..Probe::default() });
    assert_eq!(connection.cause(), None, "the server was late, not the peer");
    assert_eq!(echo(&mut connection, b"\0\0\0", 99, late), frame(b""));
}

/// Sends 100 kB per second of an endless frame, so fast that 50 kB more are always waiting to be
/// received; returns when the connection was cut, in seconds.
fn cut_while_more_is_waiting(connection: &mut Connection) -> Option<u32> {
    let waiting = Probe { unread: 50_000, ..Probe::default() };
    connection.handle_received(0, &(1u32 << 30).to_be_bytes(), at(0.0));
    (1..600).find(|tenth| {
        let now = at(f64::from(*tenth) / 10.0);
        let room = connection.room().len().min(10_000);
        connection.handle_received(room, &vec![0; 10_000 - room], now);
        if connection.poll_deadline() <= now {
            connection.handle_deadline(now, waiting);
        }
        connection.is_ending()
    })
}

#[test]
fn a_sender_whose_bytes_never_run_out_does_not_put_off_the_frame_timeout() {
    let limits = Limits {
        mode: Mode::Framed,
        max_payload: 1 << 30,
        frame_timeout: Some(Duration::from_secs(3)),
        ..Limits::default()
    };
    let mut connection = Connection::new(Arc::new(limits), at(0.0));
    // What had arrived in time is received in half a second.
    assert_eq!(cut_while_more_is_waiting(&mut connection), Some(35));
    assert_eq!(reason(&connection), Reason::FrameTimeout);
    assert_eq!(connection.poll_close(at(4.0), nobody_asks), Some(CloseStep::Reset));
}

#[test]
fn a_frame_whose_rest_had_arrived_in_time_is_answered_however_late_it_is_received() {
    let mut connection = open(Mode::Framed);
    let (slow, next) = (frame(&[7; 500]), frame(&[8; 500]));
    connection.handle_received(0, &slow[..100], at(0.0));
    let unread = (slow.len() - 100 + 250) as u64;
    connection.handle_deadline(at(30.0), Probe { unread, ..Probe::default() });
    let room = connection.room().len();
    assert!(matches!(
        connection.handle_received(room, &slow[100 + room..], at(31.0)),
        Received::Frames(decoded) if decoded.count == 1
    ));
    connection.handle_answered(&[&slow], 1, slow.len(), at(31.0));
    // The next one has a time of its own, and nothing of the first one's is left.
    connection.handle_received(0, &next[..250], at(31.0));
    connection.handle_deadline(at(60.9), Probe { unread: 1, ..Probe::default() });
    assert!(!connection.is_ending());
    connection.handle_deadline(at(61.0), Probe { unread: 1, ..Probe::default() });
    assert!(!connection.is_ending());
    let room = connection.room().len().min(1);
    connection.handle_received(room, &[8][room..], at(61.5));
    connection.handle_deadline(at(62.0), Probe { unread: 1, ..Probe::default() });
    assert_eq!(reason(&connection), Reason::FrameTimeout);
}
