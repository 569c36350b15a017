//! Servers that do not echo, each in its own process: right, or wrong in one way. They answer a
//! line with a line, or a payload with a payload ([`declared`]).

mod declared;
mod workers;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use declared::{Care, Form};
use socket2::SockRef;
use workers::Retired;

use super::queue::{self, Queue};

/// The longest line.
const LINE_MAX: usize = 4096;

/// Between two things that a server says by itself.
const HEARTBEAT: Duration = Duration::from_millis(20);

/// What a long answer ends with: 70 kB.
static NUMBERS: LazyLock<String> =
    LazyLock::new(|| (0..10_000).map(|number| format!(" {number:06}")).collect());

/// Connections after which a server that changes has changed.
const CHANGES_AFTER: u64 = 12;

/// Runs the server of this kind on this port, forever; or a worker for that many connections.
pub(crate) fn run(kind: &str, port: &str) -> ExitCode {
    if let ("worker", Ok(connections)) = (kind, port.parse()) {
        return match workers::work(connections) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let (Ok(port), Some(kind)) = (port.parse::<u16>(), named(kind)) else {
        return ExitCode::from(64);
    };
    let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) else {
        return ExitCode::FAILURE;
    };
    serve_all(&listener, kind);
    ExitCode::SUCCESS
}

/// Starts a server of this kind in this process.
pub(crate) fn start(kind: &str) -> SocketAddr {
    let kind = named(kind).expect("there is such a kind");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || serve_all(&listener, kind));
    address
}

fn serve_all(listener: &TcpListener, kind: Kind) {
    if let Kind::Workers(retired) = kind {
        return workers::supervise(listener, retired);
    }
    if kind == Kind::ServesThree {
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while let Ok((stream, _)) = listener.accept() {
                        let _ = serve(stream, kind);
                    }
                });
            }
        });
        return;
    }
    for stream in listener.incoming().flatten() {
        if kind == Kind::GreetsOneAtATime {
            let _ = serve(stream, kind);
            continue;
        }
        thread::spawn(move || {
            let is_one_too_many = OPEN.fetch_add(1, Ordering::SeqCst) >= 2;
            let _ = match kind {
                Kind::TwoAtATime if is_one_too_many => turn_away(stream),
                Kind::GreetsTwo if is_one_too_many => serve(stream, Kind::GreetsNoMore),
                Kind::AdmitsTwo if is_one_too_many => serve(stream, Kind::AdmitsNoMore),
                _ => serve(stream, kind),
            };
            OPEN.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn named(kind: &str) -> Option<Kind> {
    let kinds = [
        ("right", Kind::Right),
        ("greets", Kind::Greets),
        ("greets-one-receive", Kind::GreetsOneReceive),
        ("greets-two", Kind::GreetsTwo),
        ("admits-two", Kind::AdmitsTwo),
        ("greets-one-at-a-time", Kind::GreetsOneAtATime),
        ("serves-three", Kind::ServesThree),
        ("heartbeats", Kind::Heartbeats),
        ("complains", Kind::Complains),
        ("remembers", Kind::Remembers),
        ("closes", Kind::Closes),
        ("answers-early", Kind::AnswersEarly),
        ("reads-on", Kind::ReadsOn),
        ("workers-replaced", Kind::Workers(Retired::Replaced)),
        ("worker-missed", Kind::Workers(Retired::Missed)),
        ("says-goodbye", Kind::SaysGoodbye),
        ("two-at-a-time", Kind::TwoAtATime),
        ("ten-requests", Kind::TenRequests),
        ("answers-behind", Kind::AnswersBehind),
        ("resets", Kind::Resets),
        ("out-of-order", Kind::OutOfOrder),
        ("one-receive", Kind::OneReceive),
        ("drops-second", Kind::DropsSecond),
        ("executes-cut", Kind::ExecutesCut),
        ("says-so", Kind::SaysSo),
        ("no-half-close", Kind::NoHalfClose),
        ("counts", Kind::Counts),
        ("changes", Kind::Changes),
        ("silent", Kind::Silent),
        ("tls", Kind::Tls),
        ("tls-alone", Kind::TlsAlone),
        ("warms-up", Kind::WarmsUp),
        ("once", Kind::Once),
        ("executes-late", Kind::ExecutesLate),
        ("crosses", Kind::Crosses),
        ("complains-in-plain-text", Kind::ComplainsInPlainText),
        ("executes-early", Kind::ExecutesEarly),
        ("waits-for-a-byte", Kind::WaitsForAByte),
        ("drops-what-is-early", Kind::DropsWhatIsEarly),
        ("goes-on-in-plain-text", Kind::GoesOnInPlainText),
        ("drops-with-upgrade", Kind::DropsWithUpgrade),
        ("proxied", Kind::Proxied),
        ("drops-part-after-header", Kind::DropsPartAfterHeader),
        ("length-grows", Kind::Declared(Form::Length, Care::Grows)),
        ("length-reserves", Kind::Declared(Form::Length, Care::Reserves)),
        ("length-costly", Kind::Declared(Form::Length, Care::Costly)),
        ("length-fills", Kind::Declared(Form::Length, Care::Fills)),
        ("length-charges", Kind::Declared(Form::Length, Care::Charges)),
        ("counted-grows", Kind::Declared(Form::Counted, Care::Grows)),
        ("counted-refuses", Kind::Declared(Form::Counted, Care::Refuses)),
        ("counted-fills", Kind::Declared(Form::Counted, Care::Fills)),
        ("queues", Kind::Queues(Queue::Right)),
        ("one-send", Kind::Queues(Queue::OneSend)),
        ("rest-last", Kind::Queues(Queue::RestLast)),
        ("drops-when-full", Kind::Queues(Queue::DropsWhenFull)),
        ("wakes-for-input", Kind::Queues(Queue::WakesForInput)),
        ("drops-at-fin", Kind::Queues(Queue::DropsAtFin)),
        ("drops-at-refusal", Kind::Queues(Queue::DropsAtRefusal)),
        ("resets-at-refusal", Kind::Queues(Queue::ResetsAtRefusal)),
        ("http-ten-requests", Kind::HttpTenRequests),
    ];
    kinds.iter().find(|(name, _)| *name == kind).map(|(_, kind)| *kind)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Right.
    Right,
    /// Right; it speaks first, and wants a name before anything else.
    Greets,
    /// The same, and what a receive brings is taken for a line.
    GreetsOneReceive,
    /// Right; it greets and takes the names of two clients at a time.
    GreetsTwo,
    /// What a client too many finds there: another answer to its name.
    GreetsNoMore,
    /// Right; it takes the names of two clients at a time.
    AdmitsTwo,
    /// What a client too many finds there: no answer to its name.
    AdmitsNoMore,
    /// Right; a second client is greeted when the first one has left.
    GreetsOneAtATime,
    /// Right; it serves three clients at a time, and lets others wait.
    ServesThree,
    /// Right; it says something by itself all the time.
    Heartbeats,
    /// Right; every fourth line of a connection is answered with a complaint instead.
    Complains,
    /// The answer depends on the line before.
    Remembers,
    /// Right; it closes after each answer.
    Closes,
    /// Right; a line that begins with a certain word is answered before it is whole, and that ends
    /// the connection.
    AnswersEarly,
    /// Right, though no client that does not read makes it wait: it keeps the lines and answers
    /// them later.
    ReadsOn,
    /// Each connection is served by one of several processes.
    Workers(Retired),
    /// Right; it says goodbye to a client that has finished.
    SaysGoodbye,
    /// Right; a third client is told that there is no room.
    TwoAtATime,
    /// Right; it answers ten requests of a connection, and says so then.
    TenRequests,
    /// Right, though it waits with answers while more of a line is there.
    AnswersBehind,
    /// Right; it resets the connection instead of refusing something with words.
    Resets,
    /// Right; of the messages that it has, the last one is answered first. They are no lines: each
    /// has its length in two bytes, then two bytes of id.
    OutOfOrder,
    /// What a receive brings is taken for a line.
    OneReceive,
    /// Of several lines in one receive only the first is answered.
    DropsSecond,
    /// What has come of a line is answered when the client has finished.
    ExecutesCut,
    /// The same, with an error.
    SaysSo,
    /// A client that has finished is not answered.
    NoHalfClose,
    /// Each answer has a number of its own.
    Counts,
    /// After a while it answers differently, and what comes in pieces not at all.
    Changes,
    /// It reads and answers nothing.
    Silent,
    /// It expects TLS, and answers everything else with an alert.
    Tls,
    /// It expects TLS, and closes after everything else.
    TlsAlone,
    /// Right; its first answer has a word more.
    WarmsUp,
    /// Right; a line can come once per connection.
    Once,
    /// Right; what is set is set a while after the answer.
    ExecutesLate,
    /// The answer for a client that has left goes to the next one, and so on.
    Crosses,
    /// After it has accepted TLS it answers lines that it has received with an error.
    ComplainsInPlainText,
    /// A line that sets something has its effect as it comes, byte by byte.
    ExecutesEarly,
    /// It greets after it has received something, or when the client before has sent something.
    WaitsForAByte,
    /// Right; what comes before its greeting is dropped.
    DropsWhatIsEarly,
    /// After it has accepted TLS it answers lines that it has received.
    GoesOnInPlainText,
    /// What has come with a request to upgrade is dropped.
    DropsWithUpgrade,
    /// Right; it expects a PROXY header of version 1.
    Proxied,
    /// The same, and a part of a line that comes with the header is dropped.
    DropsPartAfterHeader,
    /// Its messages declare a length.
    Declared(Form, Care),
    /// Right; it speaks HTTP, and its tenth answer says that it is the last.
    HttpTenRequests,
    /// Answers wait in a queue of its own while the kernel takes no more: see there.
    Queues(Queue),
}

/// A TLS alert: the handshake has failed.
const ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 40];

/// What `set` has set, and held by a client that was not greeted.
static STATE: Mutex<Vec<u8>> = Mutex::new(vec![]);
static GREETING: Mutex<()> = Mutex::new(());

/// Answers of all clients, where they cross.
static CROSSED: Mutex<VecDeque<Vec<u8>>> = Mutex::new(VecDeque::new());

static OPEN: AtomicU64 = AtomicU64::new(0);
static ANSWERS: AtomicU64 = AtomicU64::new(0);
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

fn serve(mut stream: TcpStream, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::OutOfOrder => return serve_out_of_order(stream),
        Kind::HttpTenRequests => return serve_http(stream),
        Kind::Queues(queue) => return queue::serve(stream, queue),
        Kind::ReadsOn => return serve_reading_on(stream),
        _ => {}
    }
    if let Kind::Declared(form, care) = kind {
        return declared::serve(stream, form, care);
    }
    let has_changed = CONNECTIONS.fetch_add(1, Ordering::SeqCst) >= CHANGES_AFTER;
    let greets = matches!(
        kind,
        Kind::Greets
            | Kind::GreetsOneReceive
            | Kind::GreetsTwo
            | Kind::GreetsNoMore
            | Kind::GreetsOneAtATime
            | Kind::AdmitsTwo
            | Kind::AdmitsNoMore
            | Kind::WaitsForAByte
            | Kind::DropsWhatIsEarly
    );
    if kind == Kind::Heartbeats {
        // Otherwise an answer waits until the heartbeat before it is acknowledged.
        stream.set_nodelay(true)?;
        let mut stream = stream.try_clone()?;
        thread::spawn(move || {
            while stream.write_all(b"* tick\n").is_ok() {
                thread::sleep(HEARTBEAT);
            }
        });
    }
    if greets {
        greet(&mut stream, kind)?;
    }
    let (mut answered, mut served) = (vec![], 0);
    let (mut kept, mut buffer, mut has_name) = (vec![], [0; LINE_MAX], !greets);
    let mut received = match kind {
        Kind::Proxied | Kind::DropsPartAfterHeader => header_received(&mut stream, kind)?,
        _ => vec![],
    };
    loop {
        if received.is_empty() {
            let count = stream.read(&mut buffer)?;
            received.extend_from_slice(&buffer[..count]);
        }
        if received.is_empty() {
            match kind {
                Kind::SaysGoodbye => stream.write_all(b"~ bye\n")?,
                Kind::ExecutesCut if !kept.is_empty() => answer(&mut stream, kind, &kept)?,
                Kind::SaysSo if !kept.is_empty() => stream.write_all(b"! cut\n")?,
                _ => {}
            }
            return stream.shutdown(Shutdown::Both);
        }
        if kind == Kind::TlsAlone {
            let is_tls = received[0] == 0x16;
            return if is_tls { stream.write_all(&ALERT) } else { Ok(()) };
        }
        kept.append(&mut received);
        if kept.len() > LINE_MAX {
            return stream.shutdown(Shutdown::Both);
        }
        if matches!(kind, Kind::OneReceive | Kind::GreetsOneReceive) {
            kept.retain(|byte| *byte != b'\n');
            kept.push(b'\n');
        }
        if let Some(early) = kept.strip_prefix(b"set ").filter(|_| kind == Kind::ExecutesEarly) {
            *lock(&STATE) = early.to_vec();
        }
        if kind == Kind::AnswersEarly && kept.starts_with(b"early") {
            return stream.write_all(b"EARLY\n");
        }
        if kind == Kind::AnswersBehind && !kept.ends_with(b"\n") {
            continue;
        }
        let end = kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let mut lines: Vec<Vec<u8>> = kept
            .drain(..end)
            .collect::<Vec<u8>>()
            .split(|it| *it == b'\n')
            .map(Vec::from)
            .collect();
        lines.pop();
        match kind {
            Kind::DropsSecond => lines.truncate(1),
            Kind::Changes if has_changed && lines.is_empty() => return Ok(()),
            Kind::NoHalfClose if has_finished(&stream)? => return Ok(()),
            _ => {}
        }
        for (number, line) in lines.iter().cloned().enumerate() {
            if line == b"tls" {
                stream.write_all(b"+ go ahead\n")?;
                if kind == Kind::GoesOnInPlainText {
                    continue;
                }
                if kind == Kind::ComplainsInPlainText && lines.len() > number + 1 {
                    stream.write_all(b"! no TLS\n")?;
                }
                return closed_in_order(&mut stream, &mut buffer);
            }
            if line == b"dots" {
                let after = lines[number + 1..].iter().map(|line| line.len() + 1).sum::<usize>();
                let lost = kind == Kind::DropsWithUpgrade;
                stream.write_all(b"+ dots\n")?;
                return answer_dots(stream, if lost { 0 } else { after + kept.len() });
            }
            if !has_name {
                has_name = line.starts_with(b"name ");
                let said: &[u8] = match (has_name, kind) {
                    (true, Kind::AdmitsNoMore) => b"",
                    (true, Kind::GreetsNoMore) => b"! no room\n",
                    (true, _) => b"* hello\n",
                    (false, _) => b"! who are you?\n",
                };
                stream.write_all(said)?;
                continue;
            }
            if line.starts_with(b"!") && kind == Kind::Resets {
                return SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            if line.starts_with(b"!") {
                stream.write_all(b"! refused\n")?;
                return closed_in_order(&mut stream, &mut buffer);
            }
            if kind == Kind::Changes && has_changed {
                stream.write_all(b"= busy\n")?;
                continue;
            }
            if kind == Kind::Once && answered.contains(&line) {
                stream.write_all(b"! said before\n")?;
                continue;
            }
            served += 1;
            if kind == Kind::Complains && served % 4 == 0 {
                stream.write_all(b"! slow down\n")?;
                continue;
            }
            if kind == Kind::TenRequests && served > 10 {
                stream.write_all(b"~ enough\n")?;
                return closed_in_order(&mut stream, &mut buffer);
            }
            let is_other = answered.last().is_some_and(|last| *last != line);
            if kind == Kind::Remembers && is_other {
                stream.write_all(b"- ")?;
            }
            answer(&mut stream, kind, &line)?;
            answered.push(line);
            if kind == Kind::Closes {
                return stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn greet(stream: &mut TcpStream, kind: Kind) -> io::Result<()> {
    match kind {
        Kind::WaitsForAByte => {
            let before = lock(&GREETING);
            stream.write_all(b"* welcome\n")?;
            stream.peek(&mut [0])?;
            drop(before);
            return Ok(());
        }
        Kind::DropsWhatIsEarly => {
            thread::sleep(Duration::from_millis(20));
            stream.set_nonblocking(true)?;
            // Nothing may be there.
            let _ = stream.read(&mut [0; LINE_MAX]);
            stream.set_nonblocking(false)?;
        }
        _ => {}
    }
    stream.write_all(b"* welcome\n")
}

/// Receives a PROXY header, and returns what came with it of the stream.
fn header_received(stream: &mut TcpStream, kind: Kind) -> io::Result<Vec<u8>> {
    let (mut got, mut buffer) = (vec![], [0; LINE_MAX]);
    while !got.contains(&b'\n') {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => got.extend_from_slice(&buffer[..count]),
        }
    }
    let end = got.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    if !got.starts_with(b"PROXY ") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut rest = got.split_off(end);
    if kind == Kind::DropsPartAfterHeader && !rest.ends_with(b"\n") {
        rest.clear();
    }
    Ok(rest)
}

/// Speaks another protocol, in which each byte is answered with a dot. `received` bytes have come
/// already.
fn answer_dots(mut stream: TcpStream, received: usize) -> io::Result<()> {
    let mut count = received;
    loop {
        stream.write_all(&vec![b'.'; count])?;
        count = stream.read(&mut [0; LINE_MAX])?;
        if count == 0 {
            return Ok(());
        }
    }
}

fn lock<T>(mutex: &'static Mutex<T>) -> MutexGuard<'static, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn turn_away(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(b"~ no room\n")?;
    closed_in_order(&mut stream, &mut [0; LINE_MAX])
}

/// Nothing more is answered, and what still comes is read, so that no RST overtakes the answers.
pub(crate) fn closed_in_order(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    while stream.read(buffer)? > 0 {}
    Ok(())
}

fn serve_reading_on(mut stream: TcpStream) -> io::Result<()> {
    let (sender, lines) = mpsc::channel::<Vec<u8>>();
    let mut answers = stream.try_clone()?;
    let writer = thread::spawn(move || {
        for line in lines {
            answers.write_all(&[&answer_to(&line)[..], b"\n"].concat())?;
        }
        answers.shutdown(Shutdown::Write)
    });
    let (mut kept, mut buffer) = (vec![], [0; LINE_MAX]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..count]);
        while let Some(end) = kept.iter().position(|byte| *byte == b'\n') {
            let line = kept.drain(..=end).take(end).collect();
            // A client that has left reads no answers.
            let _ = sender.send(line);
        }
    }
    drop(sender);
    writer.join().unwrap_or(Ok(()))
}

fn serve_out_of_order(mut stream: TcpStream) -> io::Result<()> {
    let (mut kept, mut buffer) = (vec![], [0; LINE_MAX]);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return stream.shutdown(Shutdown::Both);
        }
        kept.extend_from_slice(&buffer[..count]);
        let mut answers: Vec<Vec<u8>> = vec![];
        while let Some(header) = kept.first_chunk() {
            let end = 2 + usize::from(u16::from_be_bytes(*header));
            if kept.len() < end {
                break;
            }
            let mut message: Vec<u8> = kept.drain(..end).collect();
            message[4..].make_ascii_uppercase();
            answers.push(message);
        }
        answers.reverse();
        stream.write_all(&answers.concat())?;
    }
}

fn serve_http(mut stream: TcpStream) -> io::Result<()> {
    let (mut kept, mut buffer, mut answered) = (vec![], [0; LINE_MAX], 0);
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return stream.shutdown(Shutdown::Both);
        }
        kept.extend_from_slice(&buffer[..count]);
        while let Some(end) = kept.windows(4).position(|it| it == b"\r\n\r\n") {
            kept.drain(..end + 4);
            answered += 1;
            let last = if answered == 10 { "Connection: close\r\n" } else { "" };
            let answer = format!("HTTP/1.1 200 OK\r\n{last}Content-Length: 2\r\n\r\nok");
            stream.write_all(answer.as_bytes())?;
            if answered == 10 {
                return closed_in_order(&mut stream, &mut buffer);
            }
        }
    }
}

fn answer(stream: &mut TcpStream, kind: Kind, line: &[u8]) -> io::Result<()> {
    let mut answer = answer_to(line);
    if let Some(value) = line.strip_prefix(b"set ") {
        let (value, delay) = (value.to_vec(), Duration::from_millis(30));
        match kind == Kind::ExecutesLate {
            true => drop(thread::spawn(move || {
                thread::sleep(delay);
                *lock(&STATE) = value;
            })),
            false => *lock(&STATE) = value,
        }
    } else if line == b"get" {
        answer.clone_from(&lock(&STATE));
    }
    match kind {
        Kind::Silent => return Ok(()),
        Kind::Crosses => {
            answer.push(b'\n');
            lock(&CROSSED).push_back(answer);
            if has_left(stream)? {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let next = lock(&CROSSED).pop_front().unwrap_or_default();
            return stream.write_all(&next);
        }
        Kind::Tls => return stream.write_all(&ALERT),
        Kind::WarmsUp if ANSWERS.fetch_add(1, Ordering::SeqCst) == 0 => {
            answer.extend_from_slice(b" at last");
        }
        Kind::Counts => {
            answer.extend(format!(" {}", ANSWERS.fetch_add(1, Ordering::SeqCst)).into_bytes());
        }
        _ => {}
    }
    answer.push(b'\n');
    stream.write_all(&answer)
}

/// The line in capital letters; after a long one, also numbers.
pub(crate) fn answer_to(line: &[u8]) -> Vec<u8> {
    let mut answer = line.to_ascii_uppercase();
    if line.starts_with(b"long") {
        answer.extend_from_slice(NUMBERS.as_bytes());
    }
    answer
}

/// Whether the client has reset the connection, after a moment in which it may.
fn has_left(stream: &TcpStream) -> io::Result<bool> {
    thread::sleep(Duration::from_millis(5));
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    Ok(peeked.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock))
}

/// Whether the client's FIN has come, after a moment in which it may.
fn has_finished(stream: &TcpStream) -> io::Result<bool> {
    thread::sleep(Duration::from_millis(20));
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    Ok(matches!(peeked, Ok(0)))
}
