//! The lower bound: a bare readiness client that keeps frames in flight and counts what comes back.
//!
//! It compares nothing, times no messages, and has no deadlines except the start and the end of the
//! measured part. Bytes that the kernel does not take at once are sent later, because a client that
//! loses bytes is useless.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use socket2::{Domain, Socket, Type};

use super::Turn;
use crate::kernel;
use crate::load::Shape;
use crate::stream::Stream;

use crate::readiness::{ENDING, EVENTS, INTEREST};

/// Bytes received per call.
const BUFFER_BYTES: usize = 256 * 1024;

const TIMER: u64 = u64::MAX;

/// The connections that the client keeps busy.
struct BusyClient {
    /// What every connection sends, from the start for every batch: frames must be whole, but which
    /// ones does not matter.
    frames: Stream,
    connections: Vec<BusyConnection>,
    buffer: Vec<u8>,
    /// Frames that came back.
    messages: u64,
}

struct BusyConnection {
    socket: OwnedFd,
    /// Bytes received of a frame that has not come back completely.
    partial: usize,
    /// Bytes that the kernel has not taken.
    owed: usize,
}

/// Connects, keeps the frames in flight for `warm_up`, then for `length`; reports only the latter.
///
/// # Errors
///
/// Errors of sockets and epoll(7), a connection that ends, and no answers at all.
pub(super) fn run(
    address: SocketAddr,
    shape: Shape,
    warm_up: Duration,
    length: Duration,
) -> io::Result<Turn> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut client = BusyClient::connect(address, shape, &epoll)?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    let data = epoll::EventData::new_u64(TIMER);
    epoll::add(&epoll, &timer, data, epoll::EventFlags::IN | epoll::EventFlags::ET)?;
    expire_after(&timer, warm_up)?;
    client.begin(shape.in_flight)?;
    client.turn_until_the_timer(&epoll)?;
    let (started, cpu_before) = (Instant::now(), kernel::own_cpu_time());
    client.messages = 0;
    expire_after(&timer, length)?;
    client.turn_until_the_timer(&epoll)?;
    let cpu = kernel::own_cpu_time() - cpu_before;
    let turn = Turn { messages: client.messages, elapsed: started.elapsed(), cpu };
    if turn.messages == 0 {
        return Err(io::Error::other(format!("no answer in {length:?}")));
    }
    Ok(turn)
}

fn expire_after(timer: &OwnedFd, length: Duration) -> io::Result<()> {
    // A length of zero would stop the timer.
    let length = length.max(Duration::from_nanos(1));
    let value = Timespec { tv_sec: length.as_secs() as i64, tv_nsec: length.subsec_nanos().into() };
    let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(())
}

impl BusyClient {
    fn connect(address: SocketAddr, shape: Shape, epoll: &OwnedFd) -> io::Result<BusyClient> {
        let mut connections = Vec::with_capacity(shape.connections);
        for slot in 0..shape.connections {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.connect(&address.into())?;
            socket.set_tcp_nodelay(true)?;
            socket.set_nonblocking(true)?;
            // It ends with frames in flight, and should not leave 10,000 ports in TIME_WAIT for the
            // next one.
            socket.set_linger(Some(Duration::ZERO))?;
            epoll::add(epoll, &socket, epoll::EventData::new_u64(slot as u64), INTEREST)?;
            connections.push(BusyConnection { socket: socket.into(), partial: 0, owed: 0 });
        }
        let frames = Stream::new(shape.payload_len, shape.in_flight);
        Ok(BusyClient { frames, connections, buffer: vec![0; BUFFER_BYTES], messages: 0 })
    }

    fn begin(&mut self, in_flight: usize) -> io::Result<()> {
        for connection in &mut self.connections {
            connection.owed = in_flight * self.frames.frame_len;
            connection.send(&self.frames)?;
        }
        Ok(())
    }

    fn turn_until_the_timer(&mut self, epoll: &OwnedFd) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let mut is_over = false;
            for event in &events {
                let (slot, flags) = (event.data.u64(), event.flags);
                match slot {
                    TIMER => is_over = true,
                    _ => {
                        let is_ending = flags.intersects(ENDING);
                        let connection = &mut self.connections[slot as usize];
                        self.messages +=
                            connection.turn(is_ending, &self.frames, &mut self.buffer)?;
                    }
                }
            }
            if is_over {
                return Ok(());
            }
        }
    }
}

impl BusyConnection {
    /// Does everything that the socket is ready for; returns how many frames came back.
    fn turn(&mut self, is_ending: bool, frames: &Stream, buffer: &mut [u8]) -> io::Result<u64> {
        if self.owed > 0 {
            self.send(frames)?;
        }
        let mut messages = 0;
        loop {
            let received = match recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((0, _)) => return Err(io::Error::other("the server closed a connection")),
                Ok((received, _)) => received,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(messages),
                Err(error) => return Err(error.into()),
            };
            self.partial += received;
            let whole = self.partial / frames.frame_len;
            if whole > 0 {
                self.partial -= whole * frames.frame_len;
                self.owed += whole * frames.frame_len;
                self.send(frames)?;
                messages += whole as u64;
            }
            if received < buffer.len() && !is_ending {
                return Ok(messages);
            }
        }
    }

    /// Sends owed bytes; those that the kernel does not take stay owed.
    fn send(&mut self, frames: &Stream) -> io::Result<()> {
        // The part of a frame not sent yet: its end lines up with the end of the frames.
        let position = (frames.frame_len - self.owed % frames.frame_len) % frames.frame_len;
        let bytes = frames.slice(position as u64, self.owed);
        match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
            Ok(sent) => self.owed -= sent,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::*;

    const SHAPE: Shape = Shape { connections: 3, payload_len: 100, in_flight: 4 };

    const FRAME_BYTES: usize = 104;

    const SHORT: Duration = Duration::from_millis(50);

    /// Long enough for some dozen echoes on any machine.
    const LONG: Duration = Duration::from_millis(500);

    /// Serves connections with `serve`, and passes on its results once they have ended.
    fn server(serve: fn(TcpStream) -> u64) -> (SocketAddr, Receiver<u64>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (ended, told) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, ended) = (stream.expect("a connection"), ended.clone());
                thread::spawn(move || ended.send(serve(stream)));
            }
        });
        (address, told)
    }

    /// Echoes a few bytes at a time, and only while exactly the right number of frames is in
    /// flight; returns the number of bytes sent back.
    fn echo_bit_by_bit(mut stream: TcpStream) -> u64 {
        stream.set_nodelay(true).expect("it is a TCP socket");
        let header = u32::try_from(SHAPE.payload_len).expect("small").to_be_bytes();
        let (mut came, mut went) = (vec![], 0);
        let mut buffer = [0; 4096];
        loop {
            let due = (went / FRAME_BYTES + SHAPE.in_flight) * FRAME_BYTES;
            while came.len() < due {
                let Ok(received @ 1..) = stream.read(&mut buffer) else { return went as u64 };
                came.extend_from_slice(&buffer[..received]);
            }
            assert_eq!(came.len(), due, "no more in flight than was asked for");
            assert!(came.chunks(FRAME_BYTES).all(|frame| frame.starts_with(&header)));
            let chunk = &came[went..went + 150];
            if stream.write_all(chunk).is_err() {
                return went as u64;
            }
            went += chunk.len();
        }
    }

    #[test]
    fn every_frame_that_comes_back_is_counted_once_and_followed_by_another() {
        let (address, told) = server(echo_bit_by_bit);
        let turn = run(address, SHAPE, Duration::ZERO, LONG).expect("all is well");
        let ended = || told.recv_timeout(Duration::from_secs(10)).expect("a connection's end");
        let went: u64 = (0..SHAPE.connections).map(|_| ended()).sum();
        // Messages that come back before or after the measured part are not counted.
        let uncounted = 2 * (SHAPE.connections * SHAPE.in_flight) as u64;
        let frames = went / FRAME_BYTES as u64;
        assert!(turn.messages > uncounted, "{turn:?}");
        assert!((frames - uncounted..=frames).contains(&turn.messages), "{turn:?}, {frames}");
        assert!(turn.elapsed >= LONG && turn.cpu > Duration::ZERO, "{turn:?}");
    }

    #[test]
    fn a_server_that_closes_fails_the_run() {
        let (address, _told) = server(|mut stream| stream.read(&mut [0; 2000]).unwrap_or(0) as u64);
        let error = run(address, SHAPE, SHORT, SHORT).expect_err("it closes");
        assert!(error.to_string().contains("closed a connection"), "{error}");
    }

    #[test]
    fn a_server_that_does_not_answer_fails_the_run() {
        let (address, _told) =
            server(|mut stream| io::copy(&mut stream, &mut io::sink()).unwrap_or(0));
        let error = run(address, SHAPE, SHORT, SHORT).expect_err("nothing comes back");
        assert!(error.to_string().contains("no answer"), "{error}");
    }
}
