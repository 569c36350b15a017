//! The lower bound: a bare readiness loop that sends back what it receives.
//!
//! No framing, no limits, no deadlines, no log, no drain. Bytes that the kernel does not take at
//! once are kept, because a server that loses bytes is useless.

use std::hint::black_box;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use crate::echoing::EchoingSocket;

use crate::readiness::{ENDING, EVENTS, INTEREST};

/// Bytes received per call: no message of any shape needs a second one.
const BUFFER_BYTES: usize = 256 * 1024;

const LISTENER: u64 = u64::MAX;

/// Serves until an error.
///
/// # Errors
///
/// Errors of epoll(7) and of accept(2).
pub(super) fn serve(listener: &TcpListener) -> io::Result<()> {
    serve_with(listener, || {})
}

/// The same, but each turn of a connection also executes as many instructions as our server does,
/// on as many lines of the instruction cache. What this costs is the price of having code at all.
///
/// # Errors
///
/// Like [`serve`].
pub(super) fn serve_padded(listener: &TcpListener) -> io::Result<()> {
    serve_with(listener, pad)
}

macro_rules! steps {
    ($number:ident: $($distance:literal)*) => {$(
        $number = black_box($number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left($distance));
    )*};
}

/// About 600 instructions without a loop.
#[inline(never)]
fn pad() {
    let mut number: u64 = 1;
    steps!(number: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
        17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    steps!(number: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
        17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    steps!(number: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
        17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    steps!(number: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
        17 18 19 20 21 22 23 24 25 26 27 28 29 30 31);
    black_box(number);
}

fn serve_with(listener: &TcpListener, pad: impl Fn()) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(LISTENER);
    epoll::add(&epoll, listener, data, epoll::EventFlags::IN)?;
    let mut peers: Vec<Option<EchoingSocket>> = vec![];
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let (slot, flags) = (event.data.u64(), event.flags);
            match slot {
                LISTENER => accept_all(listener, &epoll, &mut peers)?,
                _ => {
                    let Some(peer) = peers[slot as usize].as_mut() else { continue };
                    let is_ending = flags.intersects(ENDING);
                    pad();
                    if peer.turn(is_ending, &mut buffer).is_none() {
                        peers[slot as usize] = None;
                    }
                }
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    epoll: &OwnedFd,
    peers: &mut Vec<Option<EchoingSocket>>,
) -> io::Result<()> {
    loop {
        let socket = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => socket,
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(error) => return Err(error.into()),
        };
        // Descriptors are the lowest free numbers, so they serve as slots.
        let slot = socket.as_raw_fd() as usize;
        if peers.len() <= slot {
            peers.resize_with(slot + 1, || None);
        }
        let data = epoll::EventData::new_u64(slot as u64);
        epoll::add(epoll, &socket, data, INTEREST)?;
        peers[slot] = Some(EchoingSocket::new(socket));
    }
}
