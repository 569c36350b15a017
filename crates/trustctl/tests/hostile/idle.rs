//! What a server does while its clients are idle: nothing, whatever they did before.

use std::thread;
use std::time::Duration;

use rustix::net::SendFlags;
use rustix::process::Signal;
use socket2::SockRef;

use super::bounds::answered_peer;
use super::case::Case;
use trust_testkit::kernel::{self, Effort, Efforts};
use trust_testkit::model::Model;
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::server::Server;

pub(crate) const CASES: &[Case] =
    &[Case::new("an idle second, after whatever came", idle_costs_nothing).alias(68)];

/// How a client begins before it goes idle.
struct Opening {
    name: &'static str,
    /// Returns the connections that stay open.
    open: fn(&Server) -> Vec<Peer>,
    /// The server's only slot is taken.
    is_full: bool,
}

impl Opening {
    const fn new(name: &'static str, open: fn(&Server) -> Vec<Peer>) -> Opening {
        Opening { name, open, is_full: false }
    }

    /// For a server whose only slot is taken.
    const fn without_a_place(name: &'static str, open: fn(&Server) -> Vec<Peer>) -> Opening {
        Opening { name, open, is_full: true }
    }
}

/// Every way of beginning in this suite; to add one, add a line. Each is held with every model, and
/// then again while the server drains.
const OPENINGS: &[Opening] = &[
    Opening::new("silence", |server| sends(server, b"")),
    Opening::new("raw, answered", |server| echoes(server, b"raw")),
    Opening::new("a frame, answered", |server| echoes(server, &frame(b"framed"))),
    Opening::new("a byte of a header", |server| sends(server, &[0])),
    Opening::new("a header", |server| sends(server, &[0, 0, 1, 0])),
    Opening::new("a frame but for its last byte", |server| {
        let whole = frame(&pattern(40_000));
        sends(server, &whole[..whole.len() - 1])
    }),
    Opening::new("a whole frame and half of the next", |server| {
        let mut peers = echoes(server, &frame(b"whole"));
        peers[0].send(&frame(b"half")[..6]);
        peers
    }),
    Opening::new("a refused header", |server| refused(server, b"")),
    Opening::new("a refused header, and more", |server| refused(server, b"more")),
    Opening::new("a refused header, then half-close", |server| {
        let mut peers = refused(server, b"");
        peers[0].half_close();
        peers
    }),
    Opening::new("a refused header, then RST", |server| reset(refused(server, b""))),
    Opening::new("a TLS ClientHello", |server| {
        echoes(server, &[&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3][..], &[7; 500]].concat())
    }),
    Opening::new("an HTTP request", |server| echoes(server, b"GET / HTTP/1.1\r\n\r\n")),
    Opening::new("half-close", |server| half_closes(sends(server, b""))),
    Opening::new("half-close inside a frame", |server| half_closes(sends(server, &[0, 0, 0]))),
    Opening::new("raw, then half-close", |server| half_closes(sends(server, b"raw"))),
    Opening::new("RST", |server| reset(sends(server, b""))),
    Opening::new("RST inside a frame", |server| reset(sends(server, &[0, 0, 0, 9]))),
    Opening::new("raw, then RST", |server| reset(echoes(server, b"raw"))),
    Opening::new("an urgent byte", |server| urgent(sends(server, b""), b'!')),
    Opening::new("raw, and an urgent byte", |server| urgent(echoes(server, b"raw"), b'!')),
    Opening::new("an urgent byte of a header", |server| urgent(sends(server, b""), 0)),
    Opening::new("an urgent byte of a payload", |server| {
        urgent(sends(server, &frame(b"urgent")[..5]), b'r')
    }),
    Opening::new("an urgent byte, then half-close", |server| {
        half_closes(urgent(echoes(server, b"raw"), b'!'))
    }),
    Opening::new("an urgent byte, then RST", |server| reset(urgent(echoes(server, b"raw"), b'!'))),
    Opening::new("an urgent byte after a refused header", |server| {
        urgent(refused(server, b""), b'!')
    }),
    Opening::new("raw, never read", |server| never_reads(server, b"raw")),
    Opening::new("frames, never read", |server| never_reads(server, &frame(&pattern(30_000)))),
    Opening::new("empty frames, never read", |server| never_reads(server, &[0; 4_096])),
    Opening::new("never read, then half-close", |server| half_closes(never_reads(server, b"raw"))),
    Opening::new("all answered, unread, then half-close", |server| {
        half_closes(unread(server, b""))
    }),
    Opening::new("all answered, unread, then a refused header", |server| {
        unread(server, &u32::MAX.to_be_bytes())
    }),
    Opening::new("all answered, unread, refused, then half-close", |server| {
        half_closes(unread(server, &u32::MAX.to_be_bytes()))
    }),
    Opening::new("never read, then RST", |server| reset(never_reads(server, b"raw"))),
    Opening::new("never read, and an urgent byte", |server| {
        let peers = never_reads(server, b"raw");
        // Room for one more byte, after a closed window that only the urgent mark gets through.
        let room = SockRef::from(peers[0].stream()).set_send_buffer_size(16 << 20);
        room.expect("set SO_SNDBUF");
        urgent(peers, b'!')
    }),
    Opening::new("never read, then a little", |server| {
        let mut peers = never_reads(server, b"raw");
        peers[0].receives(&b"raw".repeat(1_000));
        peers
    }),
    Opening::without_a_place("turned away", turned_away),
    Opening::without_a_place("turned away, and sends", |server| {
        let mut peers = turned_away(server);
        peers[0].send(b"is there a place?");
        peers
    }),
    Opening::without_a_place("turned away, and an urgent byte", |server| {
        urgent(turned_away(server), b'!')
    }),
    Opening::without_a_place("turned away, then half-close", |server| {
        half_closes(turned_away(server))
    }),
    Opening::without_a_place("turned away, then RST", |server| reset(turned_away(server))),
];

/// No limit expires while the openings are held.
const PATIENT: [&str; 8] = [
    "--timeout",
    "120",
    "--frame-timeout",
    "120",
    "--linger-timeout",
    "120",
    "--drain-timeout",
    "120",
];

/// What an idle second may cost all processes of a server together. Each wait that sleeps ends with
/// a turn; a loop that does not sleep shows in the time.
const ALLOWED: Effort = Effort { cpu: Duration::from_millis(10), turns: 20 };

fn idle_costs_nothing(model: Model) {
    let own = Efforts::of([std::process::id()]).sum();
    assert!(own.turns > 0 && !own.cpu.is_zero(), "the kernel does not count effort: {own:?}");
    let (turned_away, served): (Vec<&Opening>, Vec<&Opening>) =
        OPENINGS.iter().partition(|opening| opening.is_full);
    let groups = match model {
        Model::Event | Model::Process => vec![served, turned_away],
        // The super-server decides how many there are.
        Model::Inetd => vec![served],
        // It has time for one client; the others would wait, and do nothing.
        Model::Iterative => served.into_iter().map(|opening| vec![opening]).collect(),
    };
    let mut found = idle_seconds(model, &groups);
    let alone: Vec<_> = groups.concat().into_iter().map(|opening| vec![opening]).collect();
    if !found.is_empty() && alone.len() > groups.len() {
        found.extend(idle_seconds(model, &alone));
    }
    assert!(found.is_empty(), "no client did anything, but:\n{}", found.join("\n"));
}

type Group = Vec<&'static Opening>;

/// Holds each group against a separate server, all for the same idle second, and then for another
/// one during a drain. Returns a line for each server that did more than it may.
fn idle_seconds(model: Model, groups: &[Group]) -> Vec<String> {
    let open = |group: &Group| {
        let is_full = group[0].is_full;
        let places: &[&str] = if is_full { &["--max-clients", "1"] } else { &[] };
        let server = Server::of(model, [&PATIENT[..], places].concat());
        let mut held = if is_full { echoes(&server, b"the only place") } else { Vec::new() };
        held.extend(group.iter().flat_map(|opening| (opening.open)(&server)));
        (server, held)
    };
    let opened: Vec<(Server, Vec<Peer>)> = groups.iter().map(open).collect();
    let mut found = idle_second("", groups, &opened);
    for (server, _) in &opened {
        server.signal(Signal::TERM);
        if model != Model::Inetd {
            server.wait_for_event("drain_start", |_| true, trust_testkit::STEP_DEADLINE);
        }
    }
    found.extend(idle_second(", at a drain", groups, &opened));
    for peer in opened.iter().flat_map(|(_, held)| held) {
        // Peers that are gone do not send.
        let flags = SendFlags::OOB | SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let _ = rustix::net::send(peer.stream(), b"!", flags);
    }
    found.extend(idle_second(", and an urgent byte at a drain", groups, &opened));
    found
}

fn idle_second(when: &str, groups: &[Group], opened: &[(Server, Vec<Peer>)]) -> Vec<String> {
    let servers = || opened.iter().map(|(server, _)| server);
    settle(servers());
    let before: Vec<_> = servers().map(Server::efforts).collect();
    // The measured time.
    thread::sleep(Duration::from_secs(1));
    let after = servers().map(Server::efforts);
    let spent = before.iter().zip(after).map(|(before, after)| after.since(before));
    let is_too_much = |spent: &Effort| spent.cpu > ALLOWED.cpu || spent.turns > ALLOWED.turns;
    let too_much = groups.iter().zip(spent).filter(|(_, spent)| is_too_much(spent));
    let tell = |(group, spent): (&Group, Effort)| {
        let name = match group[..] {
            [opening] => opening.name.to_owned(),
            _ => format!("all {} together", group.len()),
        };
        format!("{name}{when}: {:?} of CPU time in {} turns", spent.cpu, spent.turns)
    };
    too_much.map(tell).collect()
}

/// Waits until no server has anything left to do. If that never happens, the caller finds out.
fn settle<'a>(servers: impl Iterator<Item = &'a Server> + Clone) {
    const LOOKS: usize = 60;
    const QUIET: Duration = Duration::from_millis(40);
    for _ in 0..LOOKS {
        let before: Vec<_> = servers.clone().map(Server::efforts).collect();
        thread::park_timeout(QUIET);
        let is_quiet = |(server, before): (&Server, &Efforts)| {
            // A thread waiting for a processor has not done anything either.
            server.all_threads_are('S') && server.efforts().since(before) == Effort::default()
        };
        if servers.clone().zip(&before).all(is_quiet) {
            return;
        }
    }
}

fn sends(server: &Server, bytes: &[u8]) -> Vec<Peer> {
    let mut peer = server.peer();
    peer.send(bytes);
    vec![peer]
}

fn echoes(server: &Server, bytes: &[u8]) -> Vec<Peer> {
    let mut peers = sends(server, bytes);
    peers[0].receives(bytes);
    peers
}

/// A peer that has been sent the server's FIN, while the server waits for the peer's.
fn refused(server: &Server, more: &[u8]) -> Vec<Peer> {
    let mut peers = sends(server, &[0, 0xFF, 0, 0]);
    peers[0].receives_end();
    peers[0].send(more);
    peers
}

fn turned_away(server: &Server) -> Vec<Peer> {
    let mut peer = server.peer();
    peer.receives_end();
    vec![peer]
}

fn urgent(mut peers: Vec<Peer>, byte: u8) -> Vec<Peer> {
    peers[0].send_urgent(byte);
    peers
}

fn half_closes(mut peers: Vec<Peer>) -> Vec<Peer> {
    peers[0].half_close();
    peers
}

fn reset(peers: Vec<Peer>) -> Vec<Peer> {
    peers.into_iter().for_each(Peer::reset);
    vec![]
}

/// A peer that reads none of its answers, which fit into the kernel: only acknowledgements are
/// missing.
fn unread(server: &Server, then: &[u8]) -> Vec<Peer> {
    let mut peer = answered_peer(server);
    peer.send(then);
    vec![peer]
}

/// A peer that reads no answers, and sends until it is blocked.
fn never_reads(server: &Server, bytes: &[u8]) -> Vec<Peer> {
    /// Receive buffer of a peer that takes next to nothing without reading.
    const SMALL_BUFFER: usize = 16 * 1024;
    /// How many looks in a row must see nothing move.
    const LOOKS: usize = 50;
    /// Minimum number of bytes to send at once.
    const BLOCK: usize = 64 * 1024;
    let block = bytes.repeat(BLOCK.div_ceil(bytes.len()));
    let peer = Peer::connect_with_receive_buffer(server.address(), SMALL_BUFFER);
    let (mut sent, mut looks) = (0, 0);
    kernel::wait_until("a peer that never reads being stuck", || {
        looks += 1;
        loop {
            let more = peer.sends_what_fits(&block[sent % block.len()..]);
            if more == 0 {
                return looks >= LOOKS;
            }
            (sent, looks) = (sent + more, 0);
        }
    });
    vec![peer]
}
