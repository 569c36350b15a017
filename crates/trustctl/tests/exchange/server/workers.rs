//! Worker processes that share a listener and retire after a number of connections.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitStatus};
use std::thread;

use super::{Kind, serve};

/// Connections after which a worker retires.
const CONNECTIONS: usize = 10;

/// How many workers there are.
const WORKERS: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Retired {
    /// Another worker comes in the place of one that has retired.
    Replaced,
    /// One worker retires, and no other comes in its place; the rest stay.
    Missed,
}

/// Serves with workers on this listener, forever.
pub(super) fn supervise(listener: &TcpListener, retired: Retired) {
    thread::scope(|scope| {
        for number in 0..WORKERS {
            scope.spawn(move || {
                let stays = retired == Retired::Missed && number > 0;
                while run_worker(listener, stays).is_ok() && retired == Retired::Replaced {}
            });
        }
    });
}

/// Runs a worker until it retires.
fn run_worker(listener: &TcpListener, stays: bool) -> io::Result<ExitStatus> {
    let count = if stays { usize::MAX } else { CONNECTIONS };
    let arguments = ["serve", "worker", &count.to_string()];
    let listener = OwnedFd::from(listener.try_clone()?);
    Command::new(std::env::current_exe()?).args(arguments).stdin(listener).status()
}

/// A worker: serves that many connections of the listener on its standard input.
pub(super) fn work(connections: usize) -> io::Result<()> {
    let listener = TcpListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.incoming().flatten().take(connections).try_for_each(|stream| {
        // How one of them ends is nothing to the others.
        let _ = serve(stream, Kind::Right);
        Ok(())
    })
}
