//! Counts what our own code executes for an echo, and to relay a message, and compares it with
//! what is committed.
//!
//! Counted by callgrind, so it is the same number on every run with the same compiler, whatever
//! else the machine does: `make instructions` compares, `make instructions UPDATE=1` writes the
//! numbers anew.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to the terminal")]

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use trust_net::ServerConfig;
use trust_net::by_hand::{ByHand, by_hand};
use trust_net::service::Echo;
use trust_wire::decoder::Decoder;
use trust_wire::frame::encode_frame;
use trust_wire::relay::{
    FaultAction, FaultPlace, FrameFormat, Relay, RelayFault, RelayIo, RelaySide, RelayStep,
    RelayTurn,
};
use trust_wire::turn::{Question, Refusal, Unread};
use trust_wire::{Connection, LengthFormat, Limits, Probe, Readiness, Received, Timestamp};

/// How much more than the committed number is accepted.
const TOLERANCE: f64 = 0.05;

/// How often each case does its work, so that what surrounds it does not count.
const TIMES: u64 = 1000;

/// A case: its name, what is one of it, and the function. Callgrind counts inside of functions
/// whose name contains `counted_`, followed by the name of the case.
const CASES: &[Case] = &[
    ("decode_one", "frame of 64 B, one in a receive", counted_decode_one),
    ("decode_sixteen", "sixteen frames of 64 B in a receive", counted_decode_sixteen),
    ("decode_pieces", "frame of 64 KiB in pieces of 1460 B", counted_decode_pieces),
    ("echo_one", "echo of 64 B through the connection's core", counted_echo_one),
    ("echo_sixteen", "echo of sixteen times 64 B through it", counted_echo_sixteen),
    ("open_and_close", "connection opened, echoed once, ended by FIN", counted_open_and_close),
    ("turn_echo_one", "echo of 64 B through the event loop", turn_echo_one),
    ("turn_echo_sixteen", "echo of sixteen times 64 B through it", turn_echo_sixteen),
    (
        "turn_connect_close",
        "client accepted, echoed once, ended by FIN, through it",
        turn_connect_close,
    ),
    ("relay_one", "64 B relayed there and back through the relay's core", counted_relay_one),
    ("relay_armed", "the same with a fault at byte 2^60", counted_relay_armed),
    ("relay_framed", "the same with frames followed", counted_relay_framed),
];

type Case = (&'static str, &'static str, fn(&Input));

/// What the cases work on, made before anything is counted.
struct Input {
    one: Vec<u8>,
    sixteen: Vec<u8>,
    large: Vec<u8>,
    limits: Arc<Limits>,
}

impl Input {
    fn new() -> Input {
        let frames = |payload_len: usize, count: usize| {
            let mut bytes = vec![];
            let payload: Vec<u8> = (0..payload_len).map(|at| at as u8).collect();
            (0..count).for_each(|_| encode_frame(&payload, &mut bytes));
            bytes
        };
        Input {
            one: frames(64, 1),
            sixteen: frames(64, 16),
            large: frames(64 * 1024, 1),
            limits: Arc::new(Limits::default()),
        }
    }
}

#[inline(never)]
fn counted_decode_one(input: &Input) {
    decode(&input.one, usize::MAX);
}

#[inline(never)]
fn counted_decode_sixteen(input: &Input) {
    decode(&input.sixteen, usize::MAX);
}

#[inline(never)]
fn counted_decode_pieces(input: &Input) {
    decode(&input.large, 1460);
}

fn decode(bytes: &[u8], piece: usize) {
    let mut decoder = Decoder::new(64 * 1024);
    for _ in 0..TIMES {
        for piece in black_box(bytes).chunks(piece.min(bytes.len())) {
            let decoded = decoder.decode(0, piece, usize::MAX);
            black_box(decoded.frames().into_iter().map(<[u8]>::len).sum::<usize>());
        }
    }
}

#[inline(never)]
fn counted_echo_one(input: &Input) {
    echo(&input.one, &input.limits);
}

#[inline(never)]
fn counted_echo_sixteen(input: &Input) {
    echo(&input.sixteen, &input.limits);
}

fn echo(bytes: &[u8], limits: &Arc<Limits>) {
    let mut connection = Connection::new(Arc::clone(limits), Timestamp::default());
    for _ in 0..TIMES {
        turn(&mut connection, black_box(bytes));
    }
}

/// What a server may ask of a connection that is ready.
fn turn(connection: &mut Connection, bytes: &[u8]) {
    let now = Timestamp::default();
    black_box(connection.wants_send());
    black_box(connection.poll_close(now, Probe::default));
    black_box(connection.wants_receive());
    black_box(connection.room().len());
    let Received::Frames(decoded) = connection.handle_received(0, bytes, now) else {
        panic!("whole frames were put in");
    };
    let frames = decoded.frames();
    connection.handle_answered(&frames.parts(), frames.count(), frames.byte_len(), now);
    black_box(connection.poll_close(now, Probe::default));
    black_box(connection.poll_cause());
    black_box(connection.poll_deadline());
}

#[inline(never)]
fn counted_open_and_close(input: &Input) {
    for _ in 0..TIMES {
        let mut connection = Connection::new(Arc::clone(&input.limits), Timestamp::default());
        turn(&mut connection, black_box(&input.one));
        connection.handle_end_of_stream();
        black_box(connection.poll_close(Timestamp::default(), Probe::default));
        black_box(connection.poll_cause());
    }
}

#[inline(never)]
fn counted_relay_one(input: &Input) {
    relay(&input.one, vec![], None);
}

#[inline(never)]
fn counted_relay_armed(input: &Input) {
    let (rule, place) = (0, FaultPlace::Byte(1 << 60));
    relay(&input.one, vec![RelayFault { rule, place, action: FaultAction::Reset }], None);
}

#[inline(never)]
fn counted_relay_framed(input: &Input) {
    relay(&input.one, vec![], Some(FrameFormat::Length(LengthFormat::U32_BE)));
}

/// Two sockets in memory, which take everything.
struct RelayedBytes<'a>(&'a [u8]);

impl RelayIo for RelayedBytes<'_> {
    fn receive(&mut self, _from: RelaySide, buffer: &mut [u8]) -> Result<usize, Refusal> {
        buffer[..self.0.len()].copy_from_slice(self.0);
        Ok(self.0.len())
    }

    fn send(&mut self, _to: RelaySide, bytes: &[u8]) -> Result<usize, Refusal> {
        Ok(black_box(bytes).len())
    }

    fn ask(&mut self, _side: RelaySide, _question: Question) {}

    fn unacknowledged(&mut self, _side: RelaySide) -> u64 {
        0
    }

    fn shutdown_send(&mut self, _to: RelaySide) {}

    fn now(&mut self) -> Timestamp {
        Timestamp::default()
    }
}

/// Two turns each time, as each socket becomes readable.
fn relay(bytes: &[u8], faults: Vec<RelayFault>, format: Option<FrameFormat>) {
    let mut relay = Relay::new(LIMIT);
    for to in RelaySide::BOTH {
        relay.arm(to, faults.clone(), format.clone());
    }
    let mut io = RelayedBytes(black_box(bytes));
    let mut readiness = [Readiness::default(); 2];
    let mut buffer = vec![0; 64 * 1024];
    for _ in 0..TIMES {
        for from in RelaySide::BOTH {
            readiness[from.index()].note(Unread::Bytes, true);
            let mut turn = RelayTurn::new(&mut readiness, 16);
            while black_box(turn.step(&mut relay, &mut io, &mut buffer)) != RelayStep::Over {}
            black_box(relay.poll_deadline());
        }
    }
}

/// Longer than anything takes, even under callgrind.
const DEADLINE: Duration = Duration::from_secs(60);

/// So far away that no deadline comes.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Longer than a step of the timers' grid: after the first echo, its deadline is looked at for so
/// long.
const SETTLED: Duration = Duration::from_millis(200);

fn turn_echo_one(input: &Input) {
    drive(Some(LIMIT), |server| {
        let mut client = connect_and_settle(server, &input.one);
        (0..TIMES).for_each(|_| echoed(&mut client, &input.one, server, counted_turn_echo_one));
    });
}

fn turn_echo_sixteen(input: &Input) {
    drive(Some(LIMIT), |server| {
        let mut client = connect_and_settle(server, &input.sixteen);
        (0..TIMES).for_each(|_| {
            echoed(&mut client, &input.sixteen, server, counted_turn_echo_sixteen);
        });
    });
}

fn turn_connect_close(input: &Input) {
    // How many steps of the timers' grid a thousand clients take is not the same each time.
    drive(None, |server| {
        for _ in 0..TIMES {
            let mut client = connect(server, counted_turn_connect_close);
            echoed(&mut client, &input.one, server, counted_turn_connect_close);
            client.shutdown(Shutdown::Write).expect("it is connected");
            receive(&mut client, &mut [0], server, counted_turn_connect_close);
        }
    });
}

/// A round of the event loop: everything that it does once it has been woken.
type Round = fn(&mut ByHand<'_, Echo>);

#[inline(never)]
fn counted_turn_echo_one(server: &mut ByHand<'_, Echo>) {
    black_box(server.go_round().expect("it can wait"));
}

#[inline(never)]
fn counted_turn_echo_sixteen(server: &mut ByHand<'_, Echo>) {
    black_box(server.go_round().expect("it can wait"));
}

#[inline(never)]
fn counted_turn_connect_close(server: &mut ByHand<'_, Echo>) {
    black_box(server.go_round().expect("it can wait"));
}

fn drive(limit: Option<Duration>, script: impl FnOnce(&mut ByHand<'_, Echo>)) {
    let limits = Limits { timeout: limit, frame_timeout: limit, ..Limits::default() };
    let config = ServerConfig { limits, ..ServerConfig::new(0) };
    by_hand(config, Echo, Arc::new(()), script).expect("descriptors and a port");
}

/// A client; those accepted before have been served.
fn connect(server: &mut ByHand<'_, Echo>, round: Round) -> TcpStream {
    let client = TcpStream::connect(server.address()).expect("it listens");
    client.set_nodelay(true).expect("it can be set");
    client.set_nonblocking(true).expect("it can be set");
    assert!(server.wait_until_ready(DEADLINE).expect("it can wait"), "a client is there");
    round(server);
    client
}

/// A client that was echoed once, and nothing of it was counted.
fn connect_and_settle(server: &mut ByHand<'_, Echo>, bytes: &[u8]) -> TcpStream {
    let uncounted: Round = |server| {
        server.go_round().expect("it can wait");
    };
    let mut client = connect(server, uncounted);
    echoed(&mut client, bytes, server, uncounted);
    thread::sleep(SETTLED);
    client
}

/// Sends, and receives the same again.
fn echoed(client: &mut TcpStream, bytes: &[u8], server: &mut ByHand<'_, Echo>, round: Round) {
    client.write_all(bytes).expect("there is room for little");
    let mut echo = vec![0; bytes.len()];
    assert_eq!(receive(client, &mut echo, server, round), bytes.len());
    assert_eq!(echo, bytes);
}

/// Has the server go round until `buffer` is full or the stream has ended; returns how much came.
fn receive(
    client: &mut TcpStream,
    buffer: &mut [u8],
    server: &mut ByHand<'_, Echo>,
    round: Round,
) -> usize {
    let (mut received, began) = (0, Instant::now());
    while received < buffer.len() {
        assert!(began.elapsed() < DEADLINE, "{received} bytes of {}", buffer.len());
        // Only rounds with something to do are counted: how long it takes a byte to get here does
        // not matter.
        if server.wait_until_ready(Duration::from_millis(1)).expect("it can wait") {
            round(server);
        }
        match client.read(&mut buffer[received..]) {
            Ok(0) => break,
            Ok(count) => received += count,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
    }
    received
}

fn main() -> ExitCode {
    // What cargo passes to every bench.
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let outcome = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", name] => run(name),
        ["--update"] => count_all().and_then(|counts| update(&counts)),
        [] => count_all().and_then(|counts| compare(&counts)),
        _ => Err(io::Error::other("usage: instructions [--update]")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(name: &str) -> io::Result<bool> {
    let case = CASES.iter().find(|(its_name, ..)| *its_name == name);
    let (.., work) = case.ok_or_else(|| io::Error::other(format!("no case {name}")))?;
    work(&Input::new());
    Ok(true)
}

/// Instructions for one of each case.
fn count_all() -> io::Result<BTreeMap<&'static str, u64>> {
    CASES.iter().map(|(name, ..)| Ok((*name, count(name)?))).collect()
}

fn count(name: &str) -> io::Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(format!("--toggle-collect=*counted_{name}*"))
        .arg(std::env::current_exe()?)
        .args(["run", name])
        .output()
        .map_err(|error| io::Error::other(format!("cannot run valgrind: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(io::Error::other(format!("{name} under valgrind: {}\n{said}", output.status)));
    }
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    let collected = collected.and_then(|(_, number)| number.trim().parse::<u64>().ok());
    // A name that matches nothing counts nothing.
    match collected {
        Some(collected) if collected >= TIMES => Ok(collected / TIMES),
        _ => Err(io::Error::other(format!("valgrind counted nothing for {name}:\n{said}"))),
    }
}

fn baseline_path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt")
}

fn update(counts: &BTreeMap<&str, u64>) -> io::Result<bool> {
    let lines: String = counts.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
    print!("{lines}");
    fs::write(baseline_path(), lines)?;
    Ok(true)
}

fn baseline() -> io::Result<BTreeMap<String, u64>> {
    let text = fs::read_to_string(baseline_path())?;
    let parse = |line: &str| {
        let (name, count) = line.split_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    };
    let wrong = |line| io::Error::other(format!("not a name and a number: {line:?}"));
    text.lines().map(|line| parse(line).ok_or_else(|| wrong(line))).collect()
}

/// Returns whether nothing has become dearer than accepted.
fn compare(counts: &BTreeMap<&str, u64>) -> io::Result<bool> {
    let baseline = baseline()?;
    let mut is_well = true;
    println!("{:>10} {:>10} {:>8}", "committed", "now", "change");
    for (name, what, _) in CASES {
        let now = counts[name];
        let Some(before) = baseline.get(*name) else {
            println!(
                "{:>10} {now:>10}          {what}: not in the baseline; make instructions UPDATE=1",
                ""
            );
            is_well = false;
            continue;
        };
        let change = now as f64 / *before as f64 - 1.0;
        let verdict = match change {
            dearer if dearer > TOLERANCE => {
                is_well = false;
                " DEARER than accepted"
            }
            cheaper if cheaper < -TOLERANCE => {
                " cheaper: make instructions UPDATE=1, so that it stays so"
            }
            _ => "",
        };
        println!("{before:>10} {now:>10} {:>+7.1} % {what}{verdict}", change * 100.0);
    }
    for name in baseline.keys().filter(|name| !counts.contains_key(name.as_str())) {
        println!("{name} is in the baseline and is no longer a case");
        is_well = false;
    }
    Ok(is_well)
}
