//! A relay in this process that changes connections in known ways.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// What a relay does when a client has finished sending.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFin {
    /// The server learns of it, and its answers still reach the client.
    PassesOn,
    /// The connection ends on both sides.
    ClosesBoth,
}

/// What it does with a connection on which nothing goes for [`IDLE_LIMIT`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnIdle {
    Keeps,
    Closes,
    /// It passes nothing on from then on, and does not end either.
    Forgets,
}

/// Bytes that it passes on at a time.
pub(crate) const PIECE_MAX: usize = 8192;

pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(2);

/// How a relay treats connections.
#[derive(Clone, Copy)]
pub(crate) struct Relay {
    pub(crate) on_fin: OnFin,
    pub(crate) on_idle: OnIdle,
    /// How long it waits for more before it passes an answer on.
    pub(crate) holds: Duration,
    /// What it sends to the server before anything else.
    pub(crate) header: &'static [u8],
    /// Where it counts the connections that came.
    pub(crate) count: Option<&'static AtomicUsize>,
    /// How many it serves at the same time. It ends those above that.
    pub(crate) most: usize,
}

impl Relay {
    /// It changes nothing.
    pub(crate) const TRUE: Relay = Relay {
        on_fin: OnFin::PassesOn,
        on_idle: OnIdle::Keeps,
        holds: Duration::ZERO,
        header: b"",
        count: None,
        most: usize::MAX,
    };

    /// Who has finished sending loses what has not been answered. It is slow with answers, so that
    /// none of them is ahead of the client's FIN.
    pub(crate) const CLOSES_BOTH: Relay =
        Relay { on_fin: OnFin::ClosesBoth, holds: Duration::from_millis(100), ..Relay::TRUE };

    /// Passes on to this server, as long as this process runs.
    pub(crate) fn start(self, upstream: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || {
            let here = AtomicUsize::new(0);
            thread::scope(|scope| {
                for client in listener.incoming().flatten() {
                    if let Some(count) = self.count {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    if here.load(Ordering::SeqCst) < self.most {
                        here.fetch_add(1, Ordering::SeqCst);
                        let here = &here;
                        scope.spawn(move || {
                            let passed = self.pass_on(&client, upstream);
                            here.fetch_sub(1, Ordering::SeqCst);
                            passed
                        });
                    }
                }
            });
        });
        address
    }

    fn pass_on(self, client: &TcpStream, upstream: SocketAddr) -> io::Result<()> {
        let mut server = TcpStream::connect(upstream)?;
        server.write_all(self.header)?;
        let limit = Some(IDLE_LIMIT).filter(|_| self.on_idle != OnIdle::Keeps);
        client.set_read_timeout(limit)?;
        server.set_read_timeout(limit)?;
        thread::scope(|scope| {
            scope.spawn(|| {
                self.copy(&server, client, self.holds)
                    .and_then(|()| client.shutdown(Shutdown::Write))
            });
            self.copy(client, &server, Duration::ZERO)?;
            match self.on_fin {
                OnFin::PassesOn => server.shutdown(Shutdown::Write),
                OnFin::ClosesBoth => {
                    client.shutdown(Shutdown::Both)?;
                    server.shutdown(Shutdown::Both)
                }
            }
        })
    }

    /// Until the end of what comes from there.
    fn copy(self, from: &TcpStream, mut to: &TcpStream, holds: Duration) -> io::Result<()> {
        let (mut buffer, mut is_forgotten) = ([0; PIECE_MAX], false);
        loop {
            match receive(from, &mut buffer, holds) {
                Ok(0) => return Ok(()),
                Ok(_) if is_forgotten => {}
                Ok(count) => to.write_all(&buffer[..count])?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => match self.on_idle {
                    OnIdle::Forgets => is_forgotten = true,
                    OnIdle::Keeps | OnIdle::Closes => return Ok(()),
                },
                Err(error) => return Err(error),
            }
        }
    }
}

fn receive(mut from: &TcpStream, buffer: &mut [u8], holds: Duration) -> io::Result<usize> {
    if !holds.is_zero() {
        // The end waits for nothing.
        if from.peek(&mut [0])? > 0 {
            thread::sleep(holds);
        }
    }
    from.read(buffer)
}
