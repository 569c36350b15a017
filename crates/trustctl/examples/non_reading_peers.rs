//! What peers that send and never read cost a server, and what they cost other clients.
//!
//! ```text
//! cargo run --release -p trustctl --example non_reading_peers [PEERS]
//! ```
//!
//! Starts `trustctl echo-server` and lets a healthy peer stream alone. Then it connects the others,
//! with tiny buffers, and lets them send until they are stuck, and lets the healthy peer stream
//! again. It prints the server's memory: the kernel's (`ss -tm`) and its own (VmRSS).

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// How many bytes the healthy peer streams at a time, how often, and in which frames.
const BULK_BYTES: usize = 128 * 1024 * 1024;
const BULK_ROUNDS: usize = 9;
const FRAME_PAYLOAD: usize = 60_000;

/// Buffers of the peers that never read: as small as the kernel allows.
const TINY_BUFFER: usize = 1;

/// Peers count as stuck when none of them could send for this long.
const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Stops the server when the measurement ends, however it ends.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let peers: usize = std::env::args().nth(1).map_or(Ok(100), |peers| peers.parse())?;
    let (server, address) = start_server()?;
    let mut out = io::stdout().lock();

    let alone = median_of_bulks(address)?;
    let before = resident_bytes(server.0.id())?;
    let stuck = connect_and_fill(address, peers)?;
    let after = resident_bytes(server.0.id())?;
    let (receive_queue, send_queue) = kernel_bytes(address.port())?;
    let beside = median_of_bulks(address)?;

    let per_peer = |bytes: u64| bytes as f64 / 1024.0 / peers as f64;
    let user = after.saturating_sub(before);
    writeln!(
        out,
        "{peers} peers that send and never read; each could send {:.0} KiB",
        per_peer(stuck.1)
    )?;
    writeln!(out, "kernel, receive queues   {:>7.1} KiB per peer", per_peer(receive_queue))?;
    writeln!(out, "kernel, send queues      {:>7.1} KiB per peer", per_peer(send_queue))?;
    writeln!(out, "server, resident memory  {:>7.1} KiB per peer", per_peer(user))?;
    let total = per_peer(receive_queue + send_queue + user);
    writeln!(out, "together                 {total:>7.1} KiB per peer")?;
    writeln!(out, "healthy peer alone       {alone:>7.0} MB/s")?;
    writeln!(out, "healthy peer beside them {beside:>7.0} MB/s")?;
    drop(stuck);
    Ok(())
}

fn start_server() -> Result<(Server, SocketAddr), Box<dyn Error>> {
    let this = std::env::current_exe()?;
    let executables = this.parent().and_then(Path::parent).ok_or("no directory of executables")?;
    let mut child = Command::new(executables.join("trustctl"))
        .args(["--log-file", "none", "echo-server", "--port", "0", "--host", "127.0.0.1"])
        .args(["--timeout", "60", "--mode", "framed"])
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let server = Server(child);
    let mut lines = BufReader::new(stdout).lines();
    let start = loop {
        let line = lines.next().ok_or("the server ended before it listened")??;
        let event: serde_json::Value = serde_json::from_str(&line)?;
        if event["event"] == "server_start" {
            break event;
        }
    };
    // Keep reading, so that the server's stdout never fills up.
    std::thread::spawn(move || lines.for_each(drop));
    let port = u16::try_from(start["port"].as_u64().ok_or("no port")?)?;
    Ok((server, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
}

/// The median of several streams: on a machine with few cores, single ones differ by a factor of
/// three.
fn median_of_bulks(address: SocketAddr) -> Result<f64, Box<dyn Error>> {
    let rounds = (0..BULK_ROUNDS).map(|_| stream_bulk(address));
    let mut rates = rounds.collect::<Result<Vec<f64>, _>>()?;
    rates.sort_by(f64::total_cmp);
    Ok(rates[BULK_ROUNDS / 2])
}

/// Streams through a peer that reads as it sends; returns megabytes per second.
fn stream_bulk(address: SocketAddr) -> Result<f64, Box<dyn Error>> {
    let mut sending = TcpStream::connect(address)?;
    let mut receiving = sending.try_clone()?;
    let frame = [&(FRAME_PAYLOAD as u32).to_be_bytes()[..], &[7; FRAME_PAYLOAD]].concat();
    let count = BULK_BYTES / frame.len();
    let expected = count * frame.len();
    let started = Instant::now();
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 256 * 1024];
        let mut received = 0;
        while received < expected {
            match receiving.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => received += count,
            }
        }
        Ok::<(), io::Error>(())
    });
    for _ in 0..count {
        sending.write_all(&frame)?;
    }
    reader.join().map_err(|_| "the reader panicked")??;
    Ok(expected as f64 / 1e6 / started.elapsed().as_secs_f64())
}

/// Connects peers that send until none of them can; returns the peers, and how many bytes they
/// sent.
fn connect_and_fill(address: SocketAddr, peers: usize) -> io::Result<(Vec<Socket>, u64)> {
    let frame = [&(FRAME_PAYLOAD as u32).to_be_bytes()[..], &[7; FRAME_PAYLOAD]].concat();
    let sockets: Vec<Socket> = (0..peers)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.set_recv_buffer_size(TINY_BUFFER)?;
            socket.set_send_buffer_size(TINY_BUFFER)?;
            socket.connect(&address.into())?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .collect::<io::Result<_>>()?;
    let mut sent = vec![0; peers];
    let mut last_progress = Instant::now();
    while last_progress.elapsed() < STUCK_AFTER {
        for (socket, sent) in sockets.iter().zip(&mut sent) {
            // From where the last send stopped, so that the frames stay intact.
            if let Ok(count) = socket.send(&frame[*sent % frame.len()..]) {
                *sent += count;
                last_progress = Instant::now();
            }
        }
    }
    Ok((sockets, sent.iter().sum::<usize>() as u64))
}

/// Bytes in the receive and send queues of the server's ends, including the kernel's overhead.
fn kernel_bytes(port: u16) -> Result<(u64, u64), Box<dyn Error>> {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss").args(["-tmnH", "state", "established", &filter]).output()?;
    let text = String::from_utf8(output.stdout)?;
    let sum = |field: &str| -> u64 {
        let memory = text.split("skmem:(").skip(1).filter_map(|rest| rest.split(')').next());
        let fields = memory.flat_map(|memory| memory.split(','));
        fields.filter_map(|part| part.strip_prefix(field)?.parse::<u64>().ok()).sum()
    };
    // r: receive queue; w: send queue (ss(8)).
    Ok((sum("r"), sum("w")))
}

fn resident_bytes(pid: u32) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
