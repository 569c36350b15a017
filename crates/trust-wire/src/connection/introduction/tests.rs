use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::*;
use crate::connection::{Phase, Probe, Received};
use crate::disconnect::ErrnoClass;
use crate::limits::{LIFETIME_GRACE, Limits, Mode};
use crate::{Opening, Protocol};

const LINE: &[u8] = b"PROXY UNKNOWN\r\n";

fn at(seconds: f64) -> Timestamp {
    Timestamp::from_start(Duration::from_secs_f64(seconds))
}

fn limits() -> Limits {
    let (two, five) = (Duration::from_secs(2), Duration::from_secs(5));
    Limits { proxy_header: Some(two), timeout: Some(five), ..Limits::default() }
}

fn awaiting(limits: Limits) -> Connection {
    Connection::new(Arc::new(limits), at(0.0))
}

fn reason(connection: &Connection) -> Option<Reason> {
    connection.cause().map(|cause| cause.reason)
}

fn step(connection: &mut Connection, now: Timestamp) -> Option<CloseStep> {
    connection.poll_close(now, Probe::default)
}

fn unread(bytes: u64) -> Probe {
    Probe { unread: bytes, ..Probe::default() }
}

#[track_caller]
fn introduced<'a>(connection: &mut Connection, bytes: &'a [u8], now: Timestamp) -> &'a [u8] {
    let (header, rest) = connection.handle_header(bytes, now).expect("it is whole");
    assert_eq!((header, connection.awaits_header()), (ProxyHeader::Socket, false));
    rest
}

/// Takes bytes of which nothing comes yet.
#[track_caller]
fn takes(connection: &mut Connection, bytes: &[u8], now: Timestamp) {
    if connection.awaits_header() {
        assert_eq!(connection.handle_header(bytes, now), None);
    } else {
        assert!(matches!(connection.handle_received(0, bytes, now), Received::Nothing));
    }
    assert!(connection.room().is_empty());
}

#[test]
fn a_header_in_any_pieces_is_no_part_of_the_stream() {
    let stream = [LINE, b"hello"].concat();
    for cut in 0..=LINE.len() {
        let mut connection = awaiting(limits());
        let (first, second) = stream.split_at(cut);
        let mut rest = first;
        if cut < LINE.len() {
            takes(&mut connection, first, at(1.0));
            assert_eq!((connection.phase(), connection.mode()), (Phase::Connected, Mode::Auto));
            rest = second;
        }
        let rest = introduced(&mut connection, rest, at(1.0));
        assert!(b"hello".starts_with(rest), "cut at {cut}");
        assert_eq!((connection.totals().bytes_in, connection.buffered()), (0, 0));
        assert!(matches!(
            connection.handle_received(0, b"hello", at(1.0)),
            Received::Raw(b"hello")
        ));
        assert_eq!((connection.totals().bytes_in, connection.mode()), (5, Mode::Raw));
    }
}

#[test]
fn silence_counts_from_the_header_s_end_and_the_header_s_time_from_accept() {
    let mut connection = awaiting(limits());
    assert_eq!(connection.poll_deadline(), at(2.0));
    for (byte, now) in LINE[..14].iter().zip([0.3, 0.6, 0.9, 1.2, 1.5, 1.8]) {
        takes(&mut connection, &[*byte], at(now));
        assert_eq!(connection.poll_deadline(), at(2.0), "no byte renews it");
    }
    introduced(&mut connection, &LINE[6..], at(1.9));
    assert_eq!(connection.poll_deadline(), at(6.9));
    connection.handle_deadline(at(6.9), Probe::default());
    assert_eq!(reason(&connection), Some(Reason::RecvTimeout));
}

#[test]
fn a_header_that_is_late_or_wrong_ends_with_rst_and_shows_how_it_began() {
    let ended = |connection: &mut Connection| {
        let opening = connection.poll_opening().map(|opening| *opening);
        assert_eq!(connection.poll_cause(), connection.cause());
        assert_eq!(step(connection, at(2.0)), Some(CloseStep::Reset));
        (reason(connection), opening)
    };
    let mut connection = awaiting(limits());
    connection.handle_deadline(at(2.0), Probe::default());
    assert_eq!(ended(&mut connection), (Some(Reason::ProxyHeaderTimeout), None));

    let mut connection = awaiting(limits());
    takes(&mut connection, &LINE[..9], at(1.0));
    connection.handle_deadline(at(2.0), Probe::default());
    let opening = Opening::new(&LINE[..9], None);
    assert_eq!(ended(&mut connection), (Some(Reason::ProxyHeaderTimeout), Some(opening)));

    let mut connection = awaiting(limits());
    takes(&mut connection, b"\0\0\0\x05hello", at(1.0));
    let missing = Some(Reason::ProxyHeaderInvalid(BadProxyHeader::Missing));
    let (reason, opening) = ended(&mut connection);
    assert_eq!(reason, missing);
    assert!(matches!(opening.and_then(|it| it.protocol()), Some(Protocol::Frames(_))));

    let mut connection = awaiting(limits());
    takes(&mut connection, &LINE[..9], at(1.0));
    connection.handle_end_of_stream();
    let unfinished = Some(Reason::ProxyHeaderInvalid(BadProxyHeader::Unfinished));
    assert_eq!(ended(&mut connection), (unfinished, Some(opening_of(&LINE[..9]))));
}

fn opening_of(start: &[u8]) -> Opening {
    Opening::new(start, None)
}

#[test]
fn a_header_that_had_arrived_in_time_is_taken_however_late_it_is_received() {
    let mut connection = awaiting(limits());
    takes(&mut connection, &LINE[..3], at(0.0));
    connection.handle_deadline(at(2.0), unread(12));
    assert_eq!(introduced(&mut connection, &LINE[3..], at(9.0)), b"");
    assert_eq!(connection.poll_deadline(), at(14.0));

    // What comes after the first look is late.
    let mut connection = awaiting(limits());
    takes(&mut connection, &LINE[..3], at(0.0));
    connection.handle_deadline(at(2.0), unread(1));
    takes(&mut connection, &LINE[3..4], at(2.0));
    connection.handle_deadline(at(2.0), unread(11));
    assert_eq!(reason(&connection), Some(Reason::ProxyHeaderTimeout));
}

#[test]
fn who_leaves_before_the_first_byte_has_only_looked() {
    let mut connection = awaiting(limits());
    connection.handle_end_of_stream();
    assert_eq!(reason(&connection), Some(Reason::PeerFin));
    assert!(connection.poll_opening().is_none());
    assert_eq!(step(&mut connection, at(0.0)), Some(CloseStep::Close));

    // With an RST the opening shows the caller whether it was inside the header.
    for (begun, has_opening) in [(&b""[..], false), (b"PRO", true)] {
        let mut connection = awaiting(limits());
        takes(&mut connection, begun, at(0.0));
        connection.handle_error(104, ErrnoClass::Reset, During::Receive);
        assert_eq!(connection.poll_opening().is_some(), has_opening);
        assert_eq!(reason(&connection), Some(Reason::ClientReset));
        assert_eq!(step(&mut connection, at(0.0)), Some(CloseStep::Close));
    }
}

#[test]
fn a_drain_answers_what_had_come_behind_the_header() {
    let stream = [LINE, b"hello"].concat();
    for cut in [0, 3, 14] {
        let mut connection = awaiting(limits());
        takes(&mut connection, &stream[..cut], at(0.0));
        connection.retire(Reason::Drain, (stream.len() - cut) as u64);
        assert_eq!(reason(&connection), None);
        let more: Vec<u8> = [&stream[cut..], b", late"].concat();
        let rest = introduced(&mut connection, &more, at(0.1));
        assert!(matches!(connection.handle_received(0, rest, at(0.1)), Received::Raw(b"hello")));
        assert_eq!(reason(&connection), Some(Reason::Drain));
    }
    // The header alone.
    let mut connection = awaiting(limits());
    connection.retire(Reason::Drain, LINE.len() as u64);
    assert_eq!(introduced(&mut connection, LINE, at(0.1)), b"");
    assert_eq!(reason(&connection), Some(Reason::Drain));
}

#[test]
fn a_drain_does_not_wait_for_a_header() {
    for (begun, unread) in [(0, 0), (3, 0), (3, 4)] {
        let mut connection = awaiting(limits());
        takes(&mut connection, &LINE[..begun], at(0.0));
        connection.retire(Reason::Drain, unread as u64);
        if unread > 0 {
            assert_eq!(reason(&connection), None);
            takes(&mut connection, &LINE[begun..begun + unread], at(0.0));
        }
        assert_eq!(reason(&connection), Some(Reason::Drain));
        assert_eq!(step(&mut connection, at(0.0)), Some(CloseStep::ShutdownSend));
        takes(&mut connection, &LINE[begun + unread..], at(0.0));
    }
}

#[test]
fn a_cut_resets_who_has_begun_a_header() {
    for (begun, expected) in [(0, CloseStep::Close), (3, CloseStep::Reset)] {
        let mut connection = awaiting(limits());
        takes(&mut connection, &LINE[..begun], at(0.0));
        connection.abort(Reason::SecondSignal, Probe::default());
        assert_eq!(reason(&connection), Some(Reason::SecondSignal));
        assert_eq!(step(&mut connection, at(0.0)), Some(expected));
    }
}

#[test]
fn the_longest_life_counts_from_accept() {
    let life = Some(Duration::from_secs(1));
    let mut connection = awaiting(Limits { max_lifetime: life, ..limits() });
    assert_eq!(connection.poll_deadline(), at(1.0));
    connection.handle_deadline(at(1.0), Probe::default());
    assert_eq!(reason(&connection), Some(Reason::MaxLifetime));

    let mut connection = awaiting(Limits { max_lifetime: life, ..limits() });
    introduced(&mut connection, LINE, at(0.5));
    assert_eq!(connection.poll_deadline(), at(1.0));

    // Without a limit of its own, a header that never ends lives as long as that and the grace.
    let proxy_header = Some(Duration::MAX);
    let mut connection = awaiting(Limits { max_lifetime: life, proxy_header, ..limits() });
    takes(&mut connection, b"P", at(0.0));
    connection.handle_deadline(at(1.0), unread(14));
    assert_eq!(connection.poll_deadline(), at(1.0) + LIFETIME_GRACE);
    connection.handle_deadline(at(6.0), unread(14));
    assert_eq!(step(&mut connection, at(6.0)), Some(CloseStep::Reset));
    assert_eq!(reason(&connection), Some(Reason::MaxLifetime));
}

#[test]
fn who_is_turned_away_need_not_introduce_itself() {
    let mut connection = Connection::reject(Arc::new(limits()), at(0.0));
    assert_eq!(step(&mut connection, at(0.0)), Some(CloseStep::ShutdownSend));
    takes(&mut connection, LINE, at(0.0));
    connection.handle_end_of_stream();
    assert_eq!(step(&mut connection, at(0.0)), Some(CloseStep::Close));
    assert_eq!(reason(&connection), Some(Reason::AtCapacity));
}

#[test]
fn memory_for_a_header_is_earned_and_given_back() {
    let header = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\x10\0"[..], &[0; 4096]].concat();
    assert_eq!(header.len(), PROXY_HEADER_MAX);
    let mut connection = awaiting(limits());
    takes(&mut connection, &header[..100], at(0.0));
    assert!(connection.buffered() <= 1024, "{}", connection.buffered());
    takes(&mut connection, &header[100..4000], at(0.0));
    let more = [&header[4000..], &[b'x'; 60_000]].concat();
    assert_eq!(introduced(&mut connection, &more, at(0.0)).len(), 60_000);
    assert_eq!(connection.buffered(), 0);
}
