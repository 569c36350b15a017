//! Servers whose messages declare a length, right ones and wrong ones. They answer with the payload
//! in capital letters.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Condvar, Mutex, PoisonError};

/// Bytes of messages that are answered, at most.
const PAYLOAD_MAX: usize = 4096;

/// The longest message that is taken where it is limited.
const SMALL_MAX: usize = 256 * 1024;

/// What each client costs where clients cost much.
const COST: usize = 1024 * 1024;

/// The budget that declared lengths are charged to.
const BUDGET: usize = 8 * 1024 * 1024;

/// How a message declares its length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In four bytes in front.
    Length,
    /// In digits, in a line in front; CR LF follows.
    Counted,
}

/// What is done about a declared length.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Right: memory grows with what arrives.
    Grows,
    /// Right: memory of the kernel is set aside, and not written to.
    Reserves,
    /// Right: long messages are refused, with an answer after which the connection stays open.
    Refuses,
    /// Right, though each client costs much: long messages are refused too.
    Costly,
    /// As much memory is filled.
    Fills,
    /// A budget of all clients is charged with it, and who finds it empty waits.
    Charges,
}

static LEFT: Mutex<usize> = Mutex::new(BUDGET);
static GIVEN_BACK: Condvar = Condvar::new();

/// A part of the budget, given back when dropped.
struct Charge(usize);

impl Charge {
    fn take(bytes: usize) -> Charge {
        let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = |left: &mut usize| *left < bytes;
        let mut left = GIVEN_BACK.wait_while(left, wait).unwrap_or_else(PoisonError::into_inner);
        *left -= bytes;
        Charge(bytes)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        *LEFT.lock().unwrap_or_else(PoisonError::into_inner) += self.0;
        GIVEN_BACK.notify_all();
    }
}

pub(super) fn serve(mut stream: TcpStream, form: Form, care: Care) -> io::Result<()> {
    let cost = vec![1_u8; if care == Care::Costly { COST } else { 0 }];
    std::hint::black_box(&cost);
    let (mut kept, mut buffer) = (vec![], [0; PAYLOAD_MAX]);
    loop {
        let (begin, len) = loop {
            match header(form, &kept) {
                Some(header) => break header,
                None => receive(&mut stream, &mut buffer, &mut kept)?,
            }
        };
        let end = begin + len + if form == Form::Counted { 2 } else { 0 };
        if matches!(care, Care::Refuses | Care::Costly) && len > SMALL_MAX {
            stream.write_all(b"too long\r\n")?;
            while stream.read(&mut buffer)? > 0 {}
            return stream.shutdown(Shutdown::Both);
        }
        let memory: Vec<u8> = match care {
            Care::Fills => vec![1; len],
            Care::Reserves => Vec::with_capacity(len),
            _ => vec![],
        };
        std::hint::black_box(&memory);
        let _charge = (care == Care::Charges).then(|| Charge::take(len));
        while kept.len() < end {
            receive(&mut stream, &mut buffer, &mut kept)?;
        }
        let mut answer: Vec<u8> = kept.drain(..end).collect();
        answer[begin..].make_ascii_uppercase();
        stream.write_all(&answer)?;
    }
}

/// Where the payload begins and its length, if that is known.
fn header(form: Form, bytes: &[u8]) -> Option<(usize, usize)> {
    match form {
        Form::Length => {
            let header = bytes.first_chunk()?;
            Some((header.len(), u32::from_be_bytes(*header) as usize))
        }
        Form::Counted => {
            let line = bytes.iter().position(|byte| *byte == b'\n')?;
            let text = str::from_utf8(&bytes[..line]).ok()?;
            Some((line + 1, text.strip_prefix("put ")?.trim_end().parse().ok()?))
        }
    }
}

fn receive(stream: &mut TcpStream, buffer: &mut [u8], kept: &mut Vec<u8>) -> io::Result<()> {
    match stream.read(buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        count => {
            kept.extend_from_slice(&buffer[..count]);
            Ok(())
        }
    }
}
