//! Peers that do their worst against a limit: each is gone by the limit and its grace period, and
//! with it everything that the kernel holds for it.
//!
//! The bytes left to the kernel are checked after every `client_close` of every case, see
//! `Server::closes`.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use trust_wire::LIFETIME_GRACE;
use trust_wire::closing::TOTAL_LINGER_LIMITS;

use super::case::Case;
use trust_testkit::event::{self, Event};
use trust_testkit::kernel::{self, Socket};
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::scene::Scene;
use trust_testkit::server::Server;

pub(crate) const CASES: &[Case] = &[
    Case::new("answers fit the kernel, never read", answers_never_read).alias(70),
    Case::new("lingers and trickles", lingers_and_trickles).alias(71),
    Case::new("old, and never reads", old_and_never_reads).alias(72),
    Case::new("old, and reads a little", old_and_reads_a_little).alias(73),
    Case::new("old, and never finishes a frame", old_inside_a_frame).alias(74),
    Case::new("turned away, and trickles", turned_away_and_trickles).alias(75).except(&[
        (Model::Iterative, "it serves one client, and the next one waits in the backlog"),
        (Model::Inetd, "how many programs there are is for the super-server to say"),
    ]),
    Case::new("half-closed at a drain, never reads", half_closed_at_a_drain).alias(76),
    Case::new("killed while it waits for a peer", killed_while_it_waits).alias(77),
];

/// A limit of the server in `docs/LIMITS.md`: what the worst peer gets, and what bounds a peer that
/// stays within it.
struct Bound {
    limit: &'static str,
    peer: &'static str,
    gone_by: String,
    end: &'static str,
    keeps_to_it: &'static str,
    cases: &'static [&'static str],
}

/// Everything that a server does for a peer for a limited time.
fn bounds() -> Vec<Bound> {
    let linger_total = format!("{TOTAL_LINGER_LIMITS} × `--linger-timeout`");
    let graced = format!("`--max-lifetime` + {} s", LIFETIME_GRACE.as_secs());
    let bound = |limit, peer, gone_by: &str, end, keeps_to_it, cases| Bound {
        limit,
        peer,
        gone_by: gone_by.to_owned(),
        end,
        keeps_to_it,
        cases,
    };
    let with_linger = format!("1 × `--timeout`, then {linger_total}");
    vec![
        bound(
            "`--timeout`, receiving",
            "is silent, and stays",
            &with_linger,
            "`recv_timeout`, FIN",
            "a raw byte now and then: `--max-lifetime`",
            &["silence after connect", "silence inside a header", "lingers and trickles"],
        ),
        bound(
            "`--timeout`, sending",
            "acknowledges nothing",
            "1¼ × `--timeout`",
            "`send_timeout`, RST",
            "a slow reader: `--max-lifetime`",
            &[
                "half-close and never read",
                "sends and never reads",
                "answers fit the kernel, never read",
            ],
        ),
        bound(
            "`--frame-timeout`",
            "never finishes a frame",
            "1 × `--frame-timeout`",
            "`frame_timeout`, RST",
            "frame after frame: `--max-lifetime`",
            &["a byte now and then"],
        ),
        bound(
            "`--proxy-timeout`",
            "never finishes its PROXY header",
            "1 × `--proxy-timeout`",
            "`proxy_header_timeout`, RST",
            "no one",
            &["PROXY header, a byte now and then", "PROXY header, never the rest"],
        ),
        bound(
            "`--linger-timeout`, silent",
            "does not send FIN",
            "1 × `--linger-timeout`",
            "the first reason, FIN",
            "a byte now and then: the next row",
            &["silence after connect", "lingers and trickles"],
        ),
        bound(
            "`--linger-timeout`, in all",
            "keeps on sending",
            &linger_total,
            "the first reason, FIN",
            "acknowledges a little now and then: `--max-lifetime`",
            &["lingers and trickles"],
        ),
        bound(
            "`--linger-timeout`, sending",
            "acknowledges nothing",
            &linger_total,
            "`send_timeout`, RST",
            "a slow reader: `--max-lifetime`",
            &["answers fit the kernel, never read"],
        ),
        bound(
            "`--max-lifetime`",
            "does not finish, or does not read",
            &graced,
            "`max_lifetime`, RST",
            "no one",
            &["old, and never reads", "old, and reads a little", "old, and never finishes a frame"],
        ),
        bound(
            "`--drain-timeout`",
            "does not finish, or does not read",
            "1 × `--drain-timeout`",
            "`drain_timeout`, RST",
            "no one",
            &["SIGTERM with a stuck peer", "half-closed at a drain, never reads"],
        ),
        bound(
            "`--max-clients`",
            "is turned away, and stays",
            &linger_total,
            "`client_reject`, FIN",
            "no one",
            &["one client too many", "turned away, and trickles"],
        ),
        bound(
            "`--max-frame`",
            "declares too much, and stays",
            "what it is owed, then as lingering",
            "`frame_too_large`, FIN",
            "a slow reader: `--max-lifetime`",
            &[
                "length MAX+1",
                "rubbish after 4 MB of owed answers",
                "answers fit the kernel, never read",
                "lingers and trickles",
            ],
        ),
    ]
}

/// The table of `docs/LIMITS.md`.
///
/// # Panics
///
/// If a bound refers to a case that does not exist.
pub(crate) fn table(cases: &[Case]) -> String {
    let mut table = String::from(
        "| limit | the peer | is gone by | with | who keeps to it for ever, and what bounds that \
         | held by hostile |\n\
         |---|---|---|---|---|---|\n",
    );
    let title = |name: &&str| {
        let case = cases.iter().find(|case| case.name == *name);
        case.unwrap_or_else(|| panic!("a limit refers to {name:?}, which is not a case")).title()
    };
    for Bound { limit, peer, gone_by, end, keeps_to_it, cases } in bounds() {
        let held_by = cases.iter().map(title).collect::<Vec<_>>().join("; ");
        let _ =
            writeln!(table, "| {limit} | {peer} | {gone_by} | {end} | {keeps_to_it} | {held_by} |");
    }
    table
}

/// The receive buffer of a peer that takes next to nothing without reading.
const SMALL_BUFFER: usize = 2 * 1024;

/// How late a deadline may be, in addition to a quarter of its limit: on a busy machine, and much
/// less than if a limit failed.
const LATE: Duration = Duration::from_secs(3);

/// Frames whose answers fit into the server's kernel but not into the peer's.
fn questions() -> Vec<u8> {
    frame(&pattern(1_000)).repeat(50)
}

/// A peer that has sent [`questions`], all of which are answered, and that reads nothing.
pub(super) fn answered_peer(server: &Server) -> Peer {
    let mut peer = Peer::connect_with_receive_buffer(server.address(), SMALL_BUFFER);
    peer.send(&questions());
    peer
}

/// Checks that a connection was not held for longer than `limit`.
#[track_caller]
fn gone_by(close: &Event, limit: Duration) {
    let held = Duration::from_secs_f64(close.number("duration_ms") / 1000.0);
    assert!(held <= limit + LATE, "held for {held:?}, not {limit:?}: {close:?}");
}

/// The owed answers fit into the kernel's buffers, so that only acknowledgements are missing at the
/// end.
fn answers_never_read(model: Model) {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let limits = ["--timeout", "1", "--linger-timeout", "0.5"];
    let scene = Scene::start(model, &limits);
    let is_cut = |scene: &Scene, mut peer: Peer, limit: Duration| {
        let close = scene.closes(peer.address(), "send_timeout");
        let all = questions().len() as u64;
        assert_eq!(
            close.count("bytes_out"),
            all,
            "nothing is owed but acknowledgements: {close:?}"
        );
        gone_by(&close, limit);
        peer.is_reset();
        scene.others_are_well();
    };
    // The peer has finished: between frames, and inside one.
    for rest in [&b""[..], &[0, 0]] {
        let mut peer = answered_peer(&scene);
        peer.send(rest);
        peer.half_close();
        is_cut(&scene, peer, TIMEOUT * 5 / 4);
    }
    // The server has finished: the peer does not finish, or only then.
    for finishes in [false, true] {
        let mut peer = answered_peer(&scene);
        peer.send(&u32::MAX.to_be_bytes());
        scene.event_about(peer.address(), "frame_too_large");
        if finishes {
            peer.half_close();
        }
        is_cut(&scene, peer, TIMEOUT * 5 / 4);
    }
    reads_late(&scene);
    scene.ends();

    // Not waiting for the peer's FIN does not mean not waiting for acknowledgements.
    let scene = Scene::start(model, &["--timeout", "1", "--linger-timeout", "0"]);
    let mut peer = answered_peer(&scene);
    peer.send(&u32::MAX.to_be_bytes());
    is_cut(&scene, peer, TIMEOUT * 5 / 4);
    reads_late(&scene);
    scene.ends();
}

/// A peer that finally reads gets everything, and is closed right then, not at a limit.
fn reads_late(scene: &Scene) {
    for rest in [&b""[..], &u32::MAX.to_be_bytes()] {
        let mut peer = answered_peer(scene);
        peer.send(rest);
        peer.half_close();
        // The peer's pause, not a wait of the test.
        thread::sleep(Duration::from_millis(300));
        peer.receives_to_end(&questions());
        let reason = if rest.is_empty() { "peer_fin" } else { "frame_too_large" };
        let close = scene.closes(peer.address(), reason);
        assert_eq!(close.count("unacked_bytes"), 0, "{close:?}");
    }
}

fn lingers_and_trickles(model: Model) {
    const LINGER: Duration = Duration::from_millis(400);
    let scene = Scene::start(model, &["--timeout", "1", "--linger-timeout", "0.4"]);
    for (sent, reason) in [(&[0, 0xFF, 0, 0][..], "frame_too_large"), (b"", "recv_timeout")] {
        for trickles in [false, true] {
            let mut peer = scene.peer();
            peer.send(sent);
            peer.receives_end();
            let (address, twin) = (peer.address(), peer.twin());
            let (close, _) = while_trickling(twin, trickles, || scene.closes(address, reason));
            let limits = if trickles { TOTAL_LINGER_LIMITS } else { 1 };
            gone_by(&close, Duration::from_secs(1) + limits * LINGER);
            scene.others_are_well();
        }
    }
    scene.ends();
}

/// Lets a peer send a byte now and then, if `trickles`, until `happens` returns. Also returns
/// whether the peer met an RST, because the call that does hides it from later ones.
fn while_trickling<T>(peer: Peer, trickles: bool, happens: impl FnOnce() -> T) -> (T, bool) {
    const PAUSE: Duration = Duration::from_millis(150);
    let (done, over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let trickling = scope.spawn(move || {
            while over.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                if trickles && let Err(error) = peer.stream().write(b"x") {
                    return error.kind() == ErrorKind::ConnectionReset;
                }
            }
            false
        });
        let outcome = happens();
        drop(done);
        (outcome, trickling.join().expect("it has checked nothing"))
    })
}

/// Flags of a server that limits only the lifetime of its connections.
const ONLY_A_LIFE: [&str; 6] = ["--timeout", "0", "--frame-timeout", "0", "--max-lifetime", "1"];
const LIFE: Duration = Duration::from_secs(1);

/// Checks that the connection of that peer exceeded its lifetime and was cut off at the end of the
/// grace period.
#[track_caller]
fn is_outlived(scene: &Scene, peer: SocketAddr) {
    // Other waits end after ten seconds; this one is for a limit of six.
    let close = scene.closes(peer, "max_lifetime");
    gone_by(&close, LIFE + LIFETIME_GRACE);
    let held = Duration::from_secs_f64(close.number("duration_ms") / 1000.0);
    assert!(held >= LIFE + LIFETIME_GRACE, "cut after {held:?}: {close:?}");
    let event = scene.event_about(peer, "max_lifetime");
    assert_eq!(event.text("level"), "warn", "{event:?}");
    scene.others_are_well();
}

fn old_and_never_reads(model: Model) {
    let scene = Scene::of_mortals(model, &ONLY_A_LIFE);
    let mut peer = Peer::connect_with_receive_buffer(scene.address(), SMALL_BUFFER);
    scene.overfills(&peer, &frame(&pattern(65_536)));
    is_outlived(&scene, peer.address());
    peer.is_reset();
    // It has finished and everything is answered, and no other limit bounds the end that this
    // began.
    let mut peer = answered_peer(&scene);
    peer.half_close();
    is_outlived(&scene, peer.address());
    peer.is_reset();
    scene.ends();
}

fn old_and_reads_a_little(model: Model) {
    let scene = Scene::of_mortals(model, &ONLY_A_LIFE);
    let peer = Peer::connect_with_receive_buffer(scene.address(), SMALL_BUFFER);
    scene.overfills(&peer, &frame(&pattern(65_536)));
    let (done, over) = mpsc::channel::<()>();
    let address = peer.address();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut some = vec![0; 3_000];
            while over.recv_timeout(Duration::from_millis(500)) == Err(RecvTimeoutError::Timeout) {
                // It fails once the connection is reset, which is the point.
                let _ = peer.stream().read(&mut some);
            }
        });
        is_outlived(&scene, address);
        drop(done);
    });
    scene.ends();
}

fn old_inside_a_frame(model: Model) {
    let scene = Scene::of_mortals(model, &ONLY_A_LIFE);
    let mut peer = scene.peer();
    peer.send(&frame(&pattern(1_000))[..500]);
    let (address, twin) = (peer.address(), peer.twin());
    let ((), was_reset) = while_trickling(twin, true, || is_outlived(&scene, address));
    if !was_reset {
        peer.receives_reset();
    }
    scene.ends();
}

fn turned_away_and_trickles(model: Model) {
    const LINGER: Duration = Duration::from_millis(400);
    let flags = ["--max-clients", "1", "--timeout", "60", "--linger-timeout", "0.4"];
    let server = Server::of(model, flags);
    let mut served = server.peer();
    served.send_frame(b"first");
    served.receives_frame(b"first");
    let descriptors = server.descriptor_count();
    let began = Instant::now();
    let mut peers: Vec<Peer> = (0..3).map(|_| server.peer()).collect();
    peers.iter_mut().for_each(Peer::receives_end);
    let mut trickle = || {
        peers.iter().for_each(|peer| drop(peer.stream().write(b"x")));
        server.open_descriptors() == descriptors
    };
    kernel::wait_until("the end of those who were turned away", &mut trickle);
    let took = began.elapsed();
    assert!(took <= TOTAL_LINGER_LIMITS * LINGER + LATE, "{took:?}");
    served.send_frame(b"still there");
    served.receives_frame(b"still there");
    drop(peers);
    server.stop();
}

fn half_closed_at_a_drain(model: Model) {
    let server = Server::of(model, ["--timeout", "60", "--drain-timeout", "0.5"]);
    let mut peer = answered_peer(&server);
    peer.half_close();
    server.event_about(peer.address(), "client_disconnect");
    server.signal(Signal::TERM);
    let close = server.closes(peer.address(), "drain_timeout");
    assert_eq!(close.count("bytes_out"), questions().len() as u64, "{close:?}");
    peer.is_reset();
    let events = server.ends_with(1, &[]);
    assert_eq!(event::drained_and_cut(&events), (0, 1));
}

/// Only the kernel is left to cut off the peer, and it was told how long to wait.
fn killed_while_it_waits(model: Model) {
    let server = Server::of(model, ["--timeout", "1", "--linger-timeout", "0.2"]);
    let mut peer = answered_peer(&server);
    peer.half_close();
    let (SocketAddr::V4(near), SocketAddr::V4(far)) = (server.address(), peer.address()) else {
        panic!("peers come from 127.0.0.1");
    };
    kernel::wait_until("the server's FIN", || {
        Socket::find(near, far).is_some_and(|socket| socket.has_finished)
    });
    server.kill();
    kernel::wait_until("the end of what a killed server has left", || {
        Socket::find(near, far).is_none()
    });
}
