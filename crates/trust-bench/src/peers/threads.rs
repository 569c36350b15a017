//! One thread per connection, with only the standard library.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Bytes received per call: a message of 16 KiB and its header.
const BUFFER_BYTES: usize = 16 * 1024 + 4;

/// Stack bytes per thread: enough for the buffer and for std, and small enough for 10,000 threads.
const STACK_BYTES: usize = 64 * 1024;

/// Serves until an error.
///
/// # Errors
///
/// Errors of accept(2), and of starting a thread.
pub(super) fn serve(listener: &TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
            // Whatever the outcome, dropping the stream closes the connection, which the peer sees.
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
