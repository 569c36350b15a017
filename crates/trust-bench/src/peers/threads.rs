//! A thread a connection, with the standard library alone.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Bytes received with one call: a message of 16 KiB and its header.
const BUFFER_BYTES: usize = 16 * 1024 + 4;

/// Bytes of stack a thread: enough for the buffer and what std needs, so that 10,000 threads fit.
const STACK_BYTES: usize = 64 * 1024;

/// Serves for ever.
///
/// # Errors
///
/// Those of accept(2), and of starting a thread.
pub(super) fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            // However it ends, the peer is told by the closing socket.
            let _ = echo(stream);
        })?;
    }
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; BUFFER_BYTES];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            received => stream.write_all(&buffer[..received])?,
        }
    }
}
