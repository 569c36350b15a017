//! A server whose answers wait in a queue while the kernel takes no more: right, or wrong in one
//! way.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use rustix::event::{PollFd, PollFlags, poll};
use socket2::SockRef;

use super::server::{answer_to, closed_in_order};

/// Bytes of the send buffer, which the kernel doubles, where one large answer is to wait.
const SEND_BUFFER: usize = 8 * 1024;

/// Bytes in the queue from which on no line is answered.
const QUEUE_MAX: usize = 128 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// Right.
    Right,
    /// What send(2) does not take of an answer is forgotten.
    OneSend,
    /// What send(2) does not take of an answer is sent after all others.
    RestLast,
    /// An answer for which the queue has no room is dropped.
    DropsWhenFull,
    /// Lines for which the queue had no room are only looked at when more comes.
    WakesForInput,
    /// A client that has finished gets nothing of what waits.
    DropsAtFin,
    /// A client that is refused gets nothing of what waits.
    DropsAtRefusal,
    /// A refused client's connection is closed with unread bytes, so that the kernel drops what it
    /// has not sent.
    ResetsAtRefusal,
}

struct Client {
    stream: TcpStream,
    kind: Queue,
    input: Vec<u8>,
    /// Answers, or what is left of them.
    output: VecDeque<Vec<u8>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The client has finished.
    Finished,
    /// Nothing more is answered.
    Refused,
}

pub(crate) fn serve(stream: TcpStream, kind: Queue) -> io::Result<()> {
    if kind == Queue::DropsAtRefusal {
        SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER)?;
    }
    stream.set_nonblocking(true)?;
    let (input, output) = (vec![], VecDeque::new());
    Client { stream, kind, input, output, state: State::Open }.serve()
}

impl Client {
    fn serve(mut self) -> io::Result<()> {
        let mut has_news = true;
        loop {
            if has_news || self.kind != Queue::WakesForInput {
                self.answer_lines()?;
            }
            self.send()?;
            if self.has_line() && self.output.is_empty() && self.kind != Queue::WakesForInput {
                continue;
            }
            if self.output.is_empty() && self.state != State::Open && !self.has_line() {
                break;
            }
            has_news = self.wait_and_receive()?;
        }
        self.stream.set_nonblocking(false)?;
        match (self.state, self.kind) {
            (State::Refused, Queue::ResetsAtRefusal) => Ok(()),
            (State::Refused, _) => closed_in_order(&mut self.stream, &mut [0; 4096]),
            _ => self.stream.shutdown(Shutdown::Both),
        }
    }

    fn has_line(&self) -> bool {
        self.state != State::Refused && self.input.contains(&b'\n')
    }

    fn queued(&self) -> usize {
        self.output.iter().map(Vec::len).sum()
    }

    fn answer_lines(&mut self) -> io::Result<()> {
        let is_lossy = self.kind == Queue::DropsWhenFull;
        while self.has_line() && (self.queued() < QUEUE_MAX || is_lossy) {
            let end = self.input.iter().position(|byte| *byte == b'\n').unwrap_or_default();
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let is_refused = line.starts_with(b"!");
            if is_refused {
                self.state = State::Refused;
            }
            if is_refused && self.kind == Queue::DropsAtRefusal {
                self.send()?;
                self.output.clear();
            }
            let answer = match is_refused {
                true => b"! refused".to_vec(),
                false => answer_to(&line[..end]),
            };
            if !is_lossy || self.queued() < QUEUE_MAX {
                self.output.push_back([&answer[..], b"\n"].concat());
            }
        }
        Ok(())
    }

    fn send(&mut self) -> io::Result<()> {
        while let Some(mut answer) = self.output.pop_front() {
            let sent = match self.stream.write(&answer) {
                Ok(sent) => sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error),
            };
            answer.drain(..sent);
            match (answer.is_empty(), self.kind) {
                (true, _) => {}
                (false, Queue::OneSend) if sent > 0 => {}
                (false, Queue::RestLast) if sent > 0 => self.output.push_back(answer),
                (false, _) => self.output.push_front(answer),
            }
            if sent == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Waits for something to do, and returns whether something came.
    fn wait_and_receive(&mut self) -> io::Result<bool> {
        let mut flags = PollFlags::empty();
        let has_room = self.queued() < QUEUE_MAX || self.kind == Queue::DropsAtFin;
        if self.state == State::Open && has_room {
            flags |= PollFlags::IN;
        }
        if !self.output.is_empty() {
            flags |= PollFlags::OUT;
        }
        if flags.is_empty() {
            // What it waits for cannot come.
            return Err(ErrorKind::UnexpectedEof.into());
        }
        poll(&mut [PollFd::new(&self.stream, flags)], None)?;
        if !flags.contains(PollFlags::IN) {
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => {
                self.state = State::Finished;
                if self.kind == Queue::DropsAtFin {
                    self.output.clear();
                    self.input.clear();
                }
            }
            Ok(count) => self.input.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}
