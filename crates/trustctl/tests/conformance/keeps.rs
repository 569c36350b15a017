//! What a server keeps of a client that has left.

use std::fs::File;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes kept per client: as much as buffers for both directions of a generous server.
const BYTES: usize = 1 << 20;

/// For how many clients memory or a child is kept, so that a flood does not bring down the machine.
const CLIENTS_MAX: u32 = 500;

/// The same for threads and descriptors, which are cheap.
const CHEAP_MAX: u32 = 5000;

/// Half of a core is enough to be noticed, and leaves the rest to others.
const BUSY: Duration = Duration::from_millis(2);

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// A descriptor that is not the connection.
    Descriptor,
    /// Memory that has been written to.
    Memory,
    /// The connection itself.
    Connection,
    /// A broken connection is polled again and again.
    Asking,
    /// A child process that has ended.
    Child,
    /// A thread.
    Thread,
    /// Nothing: a broken connection ends the process.
    Nothing,
}

static CLIENTS: AtomicU32 = AtomicU32::new(0);

impl Keeps {
    /// Keeps something of this client, which has left or whose connection broke.
    pub(crate) fn keep(self, stream: &TcpStream, is_broken: bool) {
        let client = CLIENTS.fetch_add(1, Ordering::Relaxed);
        let is_cheap = matches!(self, Keeps::Thread | Keeps::Descriptor | Keeps::Connection);
        if client >= if is_cheap { CHEAP_MAX } else { CLIENTS_MAX } {
            return;
        }
        match self {
            Keeps::Descriptor => std::mem::forget(File::open("/dev/null")),
            Keeps::Memory => std::mem::forget(vec![1_u8; BYTES]),
            Keeps::Connection => std::mem::forget(stream.try_clone()),
            Keeps::Asking if is_broken => be_busy(),
            Keeps::Nothing if is_broken => std::process::exit(1),
            Keeps::Asking | Keeps::Nothing => {}
            Keeps::Child => {
                let quiet = Command::new("true").stdin(Stdio::null()).stdout(Stdio::null()).spawn();
                // Never reaped.
                std::mem::forget(quiet);
            }
            Keeps::Thread => {
                let small = thread::Builder::new().stack_size(64 * 1024);
                drop(small.spawn(|| {
                    loop {
                        thread::park()
                    }
                }));
            }
        }
    }
}

/// Keeps a core half busy from now on, however often it is called.
fn be_busy() {
    static IS_BUSY: std::sync::Once = std::sync::Once::new();
    IS_BUSY.call_once(|| {
        thread::spawn(|| {
            loop {
                let began = Instant::now();
                while began.elapsed() < BUSY {
                    std::hint::spin_loop();
                }
                thread::sleep(BUSY);
            }
        });
    });
}
