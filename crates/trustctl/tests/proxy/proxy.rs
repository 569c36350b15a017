//! A proxy under test, and one of its connections: the client's end and the server's.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use trust_testkit::STEP_DEADLINE;
use trust_testkit::event::{self, Event};
use trust_testkit::peer::Peer;
pub(crate) use trust_testkit::peer::{accept, upstream};
use trust_testkit::program::{Finished, Home, Running};

/// A proxy that listens on a free port, killed and reaped when dropped.
pub(crate) struct Proxy {
    running: Running,
    start: Event,
    pub(crate) home: Home,
}

impl Proxy {
    /// Starts a proxy in front of that upstream.
    #[track_caller]
    pub(crate) fn start(upstream: impl ToString, flags: &[&str]) -> Proxy {
        let upstream = upstream.to_string();
        Proxy::of(&[&["0", &upstream], flags].concat())
    }

    /// Starts a proxy with these arguments; returns when it listens.
    #[track_caller]
    pub(crate) fn of<A: AsRef<OsStr>>(arguments: &[A]) -> Proxy {
        let home = Home::new();
        let launch = home.trustctl(["proxy"]).args(arguments);
        let running = launch.start();
        let start = running.wait_for_event("proxy_start", |_| true, STEP_DEADLINE);
        Proxy { running, start, home }
    }

    pub(crate) fn port(&self) -> u16 {
        u16::try_from(self.start.count("port")).expect("a port fits into 16 bits")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port()))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(crate) fn start_event(&self) -> &Event {
        &self.start
    }

    #[track_caller]
    pub(crate) fn client(&self) -> Peer {
        Peer::connect(self.address())
    }

    /// Checks that a client is reset that only connects, and maybe before it knows that it is
    /// connected; its address.
    #[track_caller]
    pub(crate) fn resets_a_client(&self) -> SocketAddr {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a free port");
        let own = socket.local_addr().expect("an address").as_socket().expect("of TCP");
        match socket.connect_timeout(&self.address().into(), STEP_DEADLINE) {
            Ok(()) => Peer::over(socket.into()).receives_reset(),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        own
    }

    /// The event of that name about a client.
    #[track_caller]
    pub(crate) fn event_about(&self, peer: SocketAddr, name: &str) -> Event {
        let peer = peer.to_string();
        self.event(name, |event| event.text("peer") == peer)
    }

    #[track_caller]
    pub(crate) fn event(&self, name: &str, fits: impl Fn(&Event) -> bool) -> Event {
        self.running.wait_for_event(name, fits, STEP_DEADLINE)
    }

    /// How a client's connection ended: the reason, and of each side how its stream ended and what
    /// it got.
    #[track_caller]
    pub(crate) fn ends(&self, peer: SocketAddr, reason: &str, sides: [&str; 4]) -> Event {
        let close = self.event_about(peer, "proxy_close");
        assert_eq!(close.text("reason"), reason, "{close:?}");
        let fields = ["client_end", "client_got", "upstream_end", "upstream_got"];
        assert_eq!(fields.map(|field| close.text(field)), sides, "{close:?}");
        close
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        self.running.signal(signal);
    }

    /// Stops it with SIGTERM, which cuts nothing; its events.
    #[track_caller]
    pub(crate) fn stop(self) -> Vec<Event> {
        self.running.signal(Signal::TERM);
        self.has_stopped(0)
    }

    /// Its events, once it has ended with that exit code.
    #[track_caller]
    pub(crate) fn has_stopped(self, code: i32) -> Vec<Event> {
        let events = self.running.wait().exits_with(code).events();
        event::check_run(&events);
        let named = |name| event::named(&events, name).len();
        let stop = event::only(&events, "proxy_stop");
        assert_eq!(named("proxy_close") as u64, stop.count("connections"), "{stop:?}");
        events
    }
}

/// A connection through a proxy: the client's end, and the server's.
pub(crate) struct Through {
    pub(crate) proxy: Proxy,
    pub(crate) client: Peer,
    pub(crate) server: Peer,
}

impl Through {
    #[track_caller]
    pub(crate) fn start(flags: &[&str]) -> Through {
        let listener = upstream();
        let address = listener.local_addr().expect("an address");
        let proxy = Proxy::start(address, flags);
        let client = proxy.client();
        let server = accept(&listener);
        // Before that it does not know that the upstream is there.
        proxy.event_about(client.address(), "proxy_connect");
        Through { proxy, client, server }
    }
}

/// A proxy that refuses these arguments with that exit code.
#[track_caller]
pub(crate) fn refused(arguments: &[&str], code: i32) -> Finished {
    let finished = Home::new().trustctl(["proxy"]).args(arguments).run();
    finished.exits_with(code).complains_in_one_line()
}
