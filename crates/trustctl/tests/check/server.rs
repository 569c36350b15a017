//! Small servers, each in its own process: right, or wrong in one way.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use trust_testkit::program::{Finished, Home, Launch};

/// Largest payload of all of them.
const MAX_FRAME: u64 = 65_536;

/// What a dying server says first.
pub(crate) const LAST_WORDS: &str = "this length is too much for me";

/// What a server says that dies of a connection without a header.
pub(crate) const NO_HEADER: &str = "a connection began without a PROXY header";

/// How the name of a kind begins whose connections are to begin with a PROXY header.
const BEHIND_HEADER: &str = "behind-header-";

/// The exit code of a server that dies.
pub(crate) const DEATH_CODE: i32 = 7;

/// Runs the server of this kind on this port, forever.
pub(crate) fn run(kind: &str, port: &str) -> ExitCode {
    let behind_header = kind.strip_prefix(BEHIND_HEADER);
    let is_behind_header = behind_header.is_some();
    let named = Kind::named(behind_header.unwrap_or(kind));
    let (Ok(port), Some(kind)) = (port.parse::<u16>(), named) else {
        return ExitCode::from(64);
    };
    let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
        return ExitCode::FAILURE;
    };
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        let others = CLIENTS.fetch_add(1, Ordering::SeqCst);
        if kind == Kind::Limited && others >= PLACES {
            CLIENTS.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        thread::spawn(move || {
            let _place = Place;
            let is_reset = |error: &io::Error| error.kind() == ErrorKind::ConnectionReset;
            let taken = take(kind);
            if is_behind_header && !takes_header(&stream) {
                let _ = writeln!(io::stderr(), "{NO_HEADER}");
                std::process::exit(DEATH_CODE);
            }
            if serve(stream, kind).is_err_and(|error| is_reset(&error)) {
                match kind {
                    Kind::DiesOfReset => std::process::exit(DEATH_CODE),
                    Kind::KeepsFilesOfResets => std::mem::forget(File::open("/dev/null")),
                    _ => {}
                }
            }
            if let Ok(Some(pipe)) = taken {
                PIPES.lock().unwrap_or_else(PoisonError::into_inner).push(pipe);
            }
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Right, with a four-byte length.
    Right,
    /// Right, with a two-byte length, low byte first.
    U16Le,
    /// Answers everything like a web server.
    Http,
    /// Right, with a two-byte length, high byte first.
    U16Be,
    /// It has no messages: bytes are echoed as they come.
    Raw,
    /// A receive of less than a header ends the process.
    DiesOfHalfAHeader,
    /// A length above the limit ends the process.
    Dies,
    /// A length above the limit ends the connection with an RST.
    Resets,
    /// An empty message is not answered, nor is anything after it.
    NoEmpty,
    /// Right, with a timeout of two seconds, and slow: [`SERVICE_TIME`] per message.
    Slow,
    /// With a timeout of two seconds for the beginning of a message, and none for its rest.
    WaitsForTheRest,
    /// An RST ends the process, as an unhandled error does in Node.
    DiesOfReset,
    /// Right, with slots for [`PLACES`] clients; others are disconnected at once.
    Limited,
    /// It answers no one while another client is inside a message.
    BlocksOthers,
    /// A payload loses its last byte while another client is connected.
    Mixes,
    /// Right; each client takes a pipe from a pool, which grows to the highest number of clients.
    PoolsPipes,
    /// Right; each client takes memory from a heap that grows to a certain size and is reused from
    /// then on.
    GrowsAHeap,
    /// Right; each client takes a little of a heap that existed from the beginning.
    UsesItsHeap,
    /// Each client leaves some memory behind: [`KEPT_BYTES`].
    KeepsALittle,
    /// Each client that resets leaves a file open.
    KeepsFilesOfResets,
    /// A header that comes in pieces ends the connection with an RST: `read` instead of
    /// `readFully`.
    ReadsOnce,
    /// The last byte of its first answer is wrong.
    WrongOnce,
    /// Right, and takes [`PAIR_TIME`] per message.
    TakesMoments,
    /// Right, and sends its answers as urgent data.
    Urgent,
    /// It reads and answers nothing.
    Silent,
    /// It ends a client that it had to wait for to read, when [`TIMEOUT`] is nearly over, and sends
    /// slowly until then: so a right server looks to a client that is too slow to make room in
    /// time.
    GivesUpLate,
    /// It ends a client that it had to wait for to read, as soon as that reads again.
    GivesUpSoon,
    /// It loses what it owes to a client that it had to wait for to read, and ends it after
    /// [`TIMEOUT`].
    Loses,
}

/// Service time at which two answers take as long as a delayed acknowledgement.
const PAIR_TIME: Duration = Duration::from_millis(25);

/// Pipes not in use.
static PIPES: Mutex<Vec<(io::PipeReader, io::PipeWriter)>> = Mutex::new(vec![]);

/// Memory that was used once, and its upper limit: more than the allowance of 64 MiB.
static HEAP: Mutex<Vec<Vec<u8>>> = Mutex::new(vec![]);
const HEAP_PARTS: usize = 96;
const HEAP_PART_BYTES: usize = 1 << 20;

/// A heap that exists from the beginning: more than all clients of a run use of it, at [`LITTLE`]
/// each, one page.
const HEAP_BYTES: usize = 256 << 20;
const LITTLE: usize = 4096;
static HEAP_USED: AtomicUsize = AtomicUsize::new(0);

/// What each client leaves behind: little enough to stay within the allowance in total, but more
/// than fits into holes in the heap.
const KEPT_BYTES: usize = 16 << 10;

/// The resources that a client takes and that a server may keep.
fn take(kind: Kind) -> io::Result<Option<(io::PipeReader, io::PipeWriter)>> {
    let heap = || HEAP.lock().unwrap_or_else(PoisonError::into_inner);
    match kind {
        Kind::GrowsAHeap => {
            let mut heap = heap();
            if heap.len() < HEAP_PARTS {
                heap.push(vec![1; HEAP_PART_BYTES]);
            }
        }
        // Zeroed memory is allocated at once, but resident only once written to.
        Kind::UsesItsHeap => {
            let mut heap = heap();
            if heap.is_empty() {
                heap.push(vec![0; HEAP_BYTES]);
            }
            let at = HEAP_USED.fetch_add(LITTLE, Ordering::Relaxed) % HEAP_BYTES;
            heap[0][at] = 1;
        }
        Kind::KeepsALittle => heap().push(vec![1; KEPT_BYTES]),
        _ => {}
    }
    let pool = || PIPES.lock().unwrap_or_else(PoisonError::into_inner).pop();
    match kind == Kind::PoolsPipes {
        false => Ok(None),
        true => pool().map_or_else(io::pipe, Ok).map(Some),
    }
}

/// How many clients a server with a limit serves.
const PLACES: usize = 10;

/// The number of connected clients.
static CLIENTS: AtomicUsize = AtomicUsize::new(0);

/// A client's slot, released when dropped.
struct Place;

impl Drop for Place {
    fn drop(&mut self) {
        CLIENTS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether an answer has been sent.
static HAS_ANSWERED: AtomicBool = AtomicBool::new(false);

/// Held by the client that is inside a message.
static INSIDE: Mutex<()> = Mutex::new(());

/// The timeout of servers that have one, for receives and for sends.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The time that a slow server takes per message: so long that the bytes in the kernels' buffers
/// keep it busy for longer than a client of the check sends.
const SERVICE_TIME: Duration = Duration::from_millis(500);

impl Kind {
    fn named(name: &str) -> Option<Kind> {
        Some(match name {
            "right" => Kind::Right,
            "u16le" => Kind::U16Le,
            "http" => Kind::Http,
            "u16be" => Kind::U16Be,
            "raw" => Kind::Raw,
            "dies-of-half-a-header" => Kind::DiesOfHalfAHeader,
            "dies" => Kind::Dies,
            "resets" => Kind::Resets,
            "no-empty" => Kind::NoEmpty,
            "slow" => Kind::Slow,
            "waits-for-the-rest" => Kind::WaitsForTheRest,
            "dies-of-a-reset" => Kind::DiesOfReset,
            "limited" => Kind::Limited,
            "blocks-others" => Kind::BlocksOthers,
            "mixes" => Kind::Mixes,
            "pools-pipes" => Kind::PoolsPipes,
            "grows-a-heap" => Kind::GrowsAHeap,
            "uses-its-heap" => Kind::UsesItsHeap,
            "keeps-a-little" => Kind::KeepsALittle,
            "keeps-files-of-resets" => Kind::KeepsFilesOfResets,
            "reads-once" => Kind::ReadsOnce,
            "takes-moments" => Kind::TakesMoments,
            "wrong-once" => Kind::WrongOnce,
            "urgent" => Kind::Urgent,
            "silent" => Kind::Silent,
            "gives-up-late" => Kind::GivesUpLate,
            "gives-up-soon" => Kind::GivesUpSoon,
            "loses" => Kind::Loses,
            _ => return None,
        })
    }
}

/// Takes the PROXY header, and not a byte more. A RST may have overtaken it.
fn takes_header(mut stream: &TcpStream) -> bool {
    let mut take = || -> io::Result<bool> {
        let mut header = vec![0; 8];
        stream.read_exact(&mut header)?;
        if header.starts_with(b"PROXY ") {
            while !header.ends_with(b"\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte)?;
                header.push(byte[0]);
            }
            return Ok(true);
        }
        let mut rest = [0; 8];
        stream.read_exact(&mut rest)?;
        let mut addresses = vec![0; usize::from(rest[7])];
        stream.read_exact(&mut addresses)?;
        Ok([&header[..], &rest[..4]].concat() == b"\r\n\r\n\0\r\nQUIT\n")
    };
    take().unwrap_or_else(|error| error.kind() == ErrorKind::ConnectionReset)
}

fn serve(mut stream: TcpStream, kind: Kind) -> io::Result<()> {
    if kind == Kind::Http {
        let _ = stream.read(&mut [0; 4096])?;
        return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    }
    if kind == Kind::Silent {
        return io::copy(&mut stream, &mut io::sink()).map(drop);
    }
    stream.set_nodelay(true)?;
    if kind == Kind::Slow {
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
    }
    if matches!(kind, Kind::GivesUpLate | Kind::GivesUpSoon | Kind::Loses) {
        stream.set_write_timeout(Some(TIMEOUT / 20))?;
    }
    if kind == Kind::Raw {
        return io::copy(&mut stream.try_clone()?, &mut stream).map(drop);
    }
    loop {
        if kind == Kind::WaitsForTheRest {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.peek(&mut [0])?;
            stream.set_read_timeout(None)?;
        }
        let mut header = vec![0; if matches!(kind, Kind::U16Le | Kind::U16Be) { 2 } else { 4 }];
        match kind {
            Kind::ReadsOnce | Kind::DiesOfHalfAHeader => match stream.read(&mut header)? {
                0 => return Ok(()),
                4 => {}
                _ if kind == Kind::DiesOfHalfAHeader => std::process::exit(DEATH_CODE),
                _ => return SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
            },
            _ => stream.read_exact(&mut header)?,
        }
        let len = match header[..] {
            [high, low] if kind == Kind::U16Be => u64::from(u16::from_be_bytes([high, low])),
            [low, high] => u64::from(u16::from_le_bytes([low, high])),
            [a, b, c, d] => u64::from(u32::from_be_bytes([a, b, c, d])),
            _ => 0,
        };
        if len > MAX_FRAME {
            match kind {
                Kind::Dies => {
                    writeln!(io::stderr(), "{LAST_WORDS}")?;
                    std::process::exit(DEATH_CODE);
                }
                Kind::Resets => return SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
                _ => return leave(&mut stream),
            }
        }
        if len == 0 && kind == Kind::NoEmpty {
            continue;
        }
        let _inside = (kind == Kind::BlocksOthers).then(|| INSIDE.lock());
        header.resize(header.len() + len as usize, 0);
        let at = header.len() - len as usize;
        stream.read_exact(&mut header[at..])?;
        match kind {
            Kind::Slow => thread::sleep(SERVICE_TIME),
            Kind::TakesMoments => thread::sleep(PAIR_TIME),
            _ => {}
        }
        let is_wrong = match kind {
            Kind::Mixes => CLIENTS.load(Ordering::SeqCst) > 1,
            Kind::WrongOnce => !HAS_ANSWERED.swap(true, Ordering::SeqCst),
            _ => false,
        };
        if let Some(last) = header.last_mut().filter(|_| is_wrong) {
            *last ^= 1;
        }
        match kind {
            Kind::Urgent => send_urgently(&stream, &header)?,
            Kind::GivesUpLate | Kind::GivesUpSoon | Kind::Loses => {
                let unsent = send_in_time(&mut stream, &header)?;
                if !unsent.is_empty() {
                    return give_up(&mut stream, kind, unsent);
                }
            }
            _ => stream.write_all(&header)?,
        }
    }
}

/// Sends what the client has room for in time; the rest.
fn send_in_time<'a>(stream: &mut TcpStream, mut bytes: &'a [u8]) -> io::Result<&'a [u8]> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            sent => bytes = &bytes[sent?..],
        }
    }
    Ok(bytes)
}

/// Ends a client that was waited for, in the way of that kind.
fn give_up(stream: &mut TcpStream, kind: Kind, unsent: &[u8]) -> io::Result<()> {
    stream.set_write_timeout(None)?;
    match kind {
        Kind::GivesUpSoon => stream.write_all(&unsent[..1]),
        Kind::Loses => {
            stream.set_read_timeout(Some(TIMEOUT))?;
            let mut buffer = vec![0; 1 << 16];
            while stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
            Ok(())
        }
        _ => {
            let count = unsent.len().min(32);
            let pause = TIMEOUT.mul_f64(0.8) / count as u32;
            unsent[..count].chunks(1).try_for_each(|byte| {
                thread::sleep(pause);
                stream.write_all(byte)
            })
        }
    }
}

fn send_urgently(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = SockRef::from(stream).send_out_of_band(bytes)?;
        bytes = &bytes[count..];
    }
    Ok(())
}

/// FIN first, then wait for the client's, so that there is no RST.
fn leave(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}

/// The command that starts a server of this kind.
pub(crate) fn command(kind: &str) -> String {
    let own = std::env::current_exe().expect("the path of this executable");
    format!("exec '{}' serve {kind} {{port}}", own.display())
}

/// Runs `trustctl check` with these flags on a server of this kind, which it starts itself.
pub(crate) fn check(kind: &str, flags: &[&str]) -> Finished {
    launch(&Home::new(), kind, flags).run()
}

/// The same, not yet started.
pub(crate) fn launch(home: &Home, kind: &str, flags: &[&str]) -> Launch {
    home.trustctl(["check", "--command", &command(kind)]).args(flags).without_env("NO_COLOR")
}
