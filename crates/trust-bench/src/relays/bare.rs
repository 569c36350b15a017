//! What the bare relays share: a readiness loop over pairs of sockets.
//!
//! No limits, no deadlines, no log, no drain, and a failure of one side closes both. What is needed
//! to pass on every byte and every FIN is there, because a relay that loses some is useless.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, accept_with, shutdown};
use socket2::{Domain, Socket, Type};

use crate::readiness::{ENDING, EVENTS, INTEREST};

const LISTENER: u64 = u64::MAX;

/// How the bytes of one direction get from one socket to the other.
pub(super) trait Carry: Default {
    /// What all directions share.
    type Shared;

    /// Whether it has bytes that the receiver has not taken. Then it waits until the receiver is
    /// writable, and receives nothing meanwhile.
    fn is_owing(&self) -> bool;

    /// Carries what it can. With a FIN announced, it receives until it has seen that. Returns
    /// whether everything up to the source's FIN was carried.
    fn carry(
        &mut self,
        from: &OwnedFd,
        to: &OwnedFd,
        is_ending: bool,
        shared: &mut Self::Shared,
    ) -> Result<bool, Errno>;
}

/// Two sockets, the client's first.
struct RelayedPair<C> {
    sockets: [OwnedFd; 2],
    /// By the side that they come from.
    directions: [OneDirection<C>; 2],
}

#[derive(Default)]
struct OneDirection<C> {
    carry: C,
    /// The source's FIN was announced.
    is_ending: bool,
    /// It was passed on.
    is_over: bool,
}

/// Relays until an error.
///
/// # Errors
///
/// Errors of epoll(7) and of accept(2).
pub(super) fn relay<C: Carry>(
    listener: &TcpListener,
    server: SocketAddr,
    mut shared: C::Shared,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let data = epoll::EventData::new_u64(LISTENER);
    epoll::add(&epoll, listener, data, epoll::EventFlags::IN)?;
    let mut pairs: Vec<Option<RelayedPair<C>>> = vec![];
    let mut free = vec![];
    let mut events = Vec::with_capacity(EVENTS);
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut are_waiting = false;
        for event in &events {
            let (number, flags) = (event.data.u64(), event.flags);
            if number == LISTENER {
                are_waiting = true;
                continue;
            }
            let (slot, side) = ((number >> 1) as usize, (number & 1) as usize);
            let Some(pair) = &mut pairs[slot] else { continue };
            pair.directions[side].is_ending |= flags.intersects(ENDING);
            if !matches!(pair.turn(side, &mut shared), Ok(true)) {
                pairs[slot] = None;
                free.push(slot);
            }
        }
        // Last, so that no event of this round is taken for one of a pair in the place of another.
        if are_waiting {
            accept_all(listener, server, &epoll, &mut pairs, &mut free)?;
        }
    }
}

fn accept_all<C: Carry>(
    listener: &TcpListener,
    server: SocketAddr,
    epoll: &OwnedFd,
    pairs: &mut Vec<Option<RelayedPair<C>>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let client = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(client) => client,
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(error) => return Err(error.into()),
        };
        // The server is on this host: it accepts or refuses at once.
        let upstream = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
        if upstream.connect(&server.into()).is_err() {
            continue;
        }
        upstream.set_tcp_nodelay(true)?;
        upstream.set_nonblocking(true)?;
        let pair = RelayedPair {
            sockets: [client, upstream.into()],
            directions: [OneDirection::default(), OneDirection::default()],
        };
        let slot = free.pop().unwrap_or_else(|| {
            pairs.push(None);
            pairs.len() - 1
        });
        for (side, socket) in pair.sockets.iter().enumerate() {
            let data = epoll::EventData::new_u64((slot << 1 | side) as u64);
            epoll::add(epoll, socket, data, INTEREST)?;
        }
        pairs[slot] = Some(pair);
    }
}

impl<C: Carry> RelayedPair<C> {
    /// Does what one of the sockets is ready for; returns whether the connection goes on.
    fn turn(&mut self, side: usize, shared: &mut C::Shared) -> Result<bool, Errno> {
        let other = 1 - side;
        if self.directions[other].carry.is_owing() {
            self.carry_from(other, shared)?;
        }
        // If it owes something, the event is not about the socket that it waits for.
        if !self.directions[side].carry.is_owing() {
            self.carry_from(side, shared)?;
        }
        Ok(self.directions.iter().any(|direction| !direction.is_over))
    }

    fn carry_from(&mut self, side: usize, shared: &mut C::Shared) -> Result<(), Errno> {
        let (from, to) = (&self.sockets[side], &self.sockets[1 - side]);
        let OneDirection { carry, is_ending, is_over } = &mut self.directions[side];
        if !*is_over && carry.carry(from, to, *is_ending, shared)? {
            shutdown(to, Shutdown::Write)?;
            *is_over = true;
        }
        Ok(())
    }
}
