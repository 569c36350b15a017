//! Many bytes, which the proxy moves through pipes without looking at them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::thread;

use trust_testkit::files::Files;
use trust_testkit::kernel;
use trust_testkit::peer::{Peer, pattern};

use crate::proxy::{Proxy, Through};

/// More than both kernels and the proxy hold.
const LOTS: usize = 20_000_000;

/// Sends all of it from one side, and checks that it comes at the other.
#[track_caller]
fn passes(from: &Peer, to: &mut Peer, bytes: &[u8]) {
    thread::scope(|scope| {
        let mut from = from.twin();
        scope.spawn(move || from.send(bytes));
        to.receives(bytes);
    });
}

/// The pipes that the proxy has open.
fn pipes(proxy: &Proxy) -> usize {
    let of_process = format!("/proc/{}/fd", proxy.pid());
    let links = std::fs::read_dir(of_process).expect("of our own process").flatten();
    let targets = links.filter_map(|link| std::fs::read_link(link.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
}

#[test]
fn many_bytes_among_few_come_as_they_were_sent() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    let bytes = pattern(LOTS);
    let before = pipes(&proxy);
    client.send(b"few");
    server.receives(b"few");
    assert_eq!(pipes(&proxy), before, "there is no pipe until there are many bytes");
    for _ in 0..2 {
        passes(&client, &mut server, &bytes);
        passes(&server, &mut client, &bytes);
        client.send(b"few");
        server.receives(b"few");
    }
    assert!(pipes(&proxy) > before);
    client.half_close();
    server.receives_end();
    passes(&server, &mut client, &bytes);
    server.half_close();
    client.receives_end();
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!(close.count("bytes_up"), 2 * (LOTS as u64 + 3) + 3);
    assert_eq!(close.count("bytes_down"), 3 * LOTS as u64);
    assert_eq!((close.count("undelivered_up"), close.count("undelivered_down")), (0, 0));
    proxy.stop();
}

#[test]
fn a_fin_right_after_many_bytes_comes_after_the_last_of_them() {
    let Through { proxy, client, mut server } = Through::start(&[]);
    let bytes = pattern(LOTS);
    thread::scope(|scope| {
        let mut sends = client.twin();
        let bytes = &bytes;
        scope.spawn(move || {
            sends.send(bytes);
            sends.half_close();
        });
        server.receives_to_end(bytes);
    });
    server.half_close();
    proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    proxy.stop();
}

#[test]
fn a_fault_far_in_happens_at_its_byte() {
    let at = 13_000_001;
    let reset = format!("rst @ byte {at} up");
    let Through { proxy, client, mut server } = Through::start(&["--fault", &reset]);
    let (peer, bytes) = (client.address(), pattern(at));
    thread::scope(|scope| {
        let sends = client.twin();
        scope.spawn(move || {
            // It fails when the reset comes.
            let _ = sends.stream().write_all(&pattern(LOTS));
        });
        server.receives(&bytes);
        server.receives_reset();
    });
    let close = proxy.event_about(peer, "proxy_close");
    assert_eq!((close.text("reason"), close.text("upstream_got")), ("fault", "rst"));
    assert_eq!(close.count("undelivered_up"), 0);
    proxy.stop();
}

#[test]
fn a_byte_changed_far_in_is_the_only_one_that_is() {
    let at = 7_654_321;
    let set = format!("set \"!\" @ byte {at} down");
    let Through { proxy, mut client, mut server } = Through::start(&["--fault", &set]);
    let sent = pattern(LOTS);
    let mut expected = sent.clone();
    expected[at] = b'!';
    assert_ne!(expected, sent);
    thread::scope(|scope| {
        let mut sends = server.twin();
        scope.spawn(move || {
            sends.send(&sent);
            sends.half_close();
        });
        client.receives_to_end(&expected);
    });
    client.half_close();
    server.receives_end();
    proxy.stop();
}

#[test]
fn a_reset_of_the_source_comes_after_what_is_in_a_pipe() {
    let Through { proxy, mut client, mut server } = Through::start(&[]);
    passes(&server, &mut client, &pattern(LOTS));
    let answer = pattern(1_000_000);
    server.send(&answer);
    server.is_received();
    server.reset();
    client.receives(&answer);
    client.receives_reset();
    let close = proxy.ends(client.address(), "upstream_failed", ["open", "rst", "rst", "none"]);
    assert_eq!(close.count("bytes_down"), (LOTS + answer.len()) as u64);
    assert_eq!(close.count("undelivered_down"), 0);
    proxy.stop();
}

#[test]
fn a_receiver_that_stops_reading_and_resets_leaves_no_pipe_with_bytes() {
    let Through { proxy, mut client, server } = Through::start(&[]);
    passes(&server, &mut client, &pattern(LOTS));
    let peer = client.address();
    let bytes = pattern(65_536);
    let mut idle_looks = 0;
    kernel::wait_until("nothing being taken", || {
        idle_looks = if server.sends_what_fits(&bytes) == 0 { idle_looks + 1 } else { 0 };
        idle_looks > 20
    });
    client.reset();
    let close = proxy.event_about(peer, "proxy_close");
    assert_eq!((close.text("reason"), close.text("client_end")), ("client_failed", "rst"));
    assert!(close.count("undelivered_down") > 0, "{close:?}");
    drop(server);
    proxy.stop();
}

#[test]
fn a_receiver_that_resets_amid_many_bytes_ends_with_a_reset() {
    for _ in 0..10 {
        let Through { proxy, client, server } = Through::start(&[]);
        let peer = client.address();
        thread::scope(|scope| {
            let server = &server;
            let sends = scope.spawn(move || server.stream().write_all(&pattern(LOTS)));
            let mut got = vec![0; 5_000_000];
            if let Err(error) = client.stream().read_exact(&mut got) {
                let close = proxy.event_about(peer, "proxy_close");
                panic!("{error}: {close:?}; the server: {:?}", sends.join());
            }
            assert!(got == pattern(got.len()), "they differ");
            client.reset();
        });
        let close = proxy.event_about(peer, "proxy_close");
        assert_eq!((close.text("reason"), close.text("client_end")), ("client_failed", "rst"));
        proxy.stop();
    }
}

#[test]
fn urgent_bytes_amid_many_stay_in_the_stream() {
    let Through { proxy, client, mut server } = Through::start(&[]);
    let part = pattern(3_000_000);
    thread::scope(|scope| {
        let (part, mut sends) = (&part, client.twin());
        scope.spawn(move || {
            for _ in 0..5 {
                sends.send(part);
                sends.send_urgent(b'!');
                sends.send(part);
            }
            sends.send_urgent(b'?');
            sends.half_close();
        });
        for _ in 0..5 {
            server.receives(part);
            server.receives(b"!");
            server.receives(part);
        }
        server.receives_to_end(b"?");
    });
    server.half_close();
    proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    proxy.stop();
}

#[test]
fn many_bytes_go_through_unix_sockets() {
    let files = Files::new();
    let path = files.path("server.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let proxy = Proxy::start(format!("unix:{path}"), &[]);
    let mut client = proxy.client();
    let (mut server, _) = listener.accept().expect("a client");
    let bytes = pattern(LOTS);
    thread::scope(|scope| {
        let (bytes, mut sends) = (&bytes, client.twin());
        scope.spawn(move || {
            sends.send(bytes);
            sends.half_close();
        });
        let mut got = vec![];
        server.read_to_end(&mut got).expect("bytes");
        assert!(got == *bytes, "they differ");
    });
    thread::scope(|scope| {
        scope.spawn(|| {
            server.write_all(&bytes).expect("sends");
            server.shutdown(Shutdown::Write).expect("half-close");
        });
        client.receives_to_end(&bytes);
    });
    proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    proxy.stop();
}
