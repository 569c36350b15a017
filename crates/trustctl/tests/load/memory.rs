//! Memory does not grow with the length of a run.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::command::load;
use super::document::Document;
use super::logs::Log;
use super::server::{Client, Server};
use trust_testkit::kernel;
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] =
    tests![memory_after_ten_million_messages_is_that_after_a_hundred_thousand,];

/// Bytes of a message: one of length, one of payload.
const MESSAGE: u64 = 2;

/// After how many messages to measure memory.
const LOOKS: [u64; 3] = [100_000, 1_000_000, 10_000_000];

/// How much memory may differ, in bytes. The kernel gives a histogram, 0.26 MB each, its pages when
/// new latencies occur. One bit per message would be 1.25 MB for ten million messages.
const DIFFERENCE_MAX: u64 = 1024 * 1024;

/// Longest time for all messages; the suite allows a test more. They take 3 s on a core of their
/// own, and took over 50 s on one shared by several suites.
const PATIENCE: Duration = Duration::from_secs(200);

fn memory_after_ten_million_messages_is_that_after_a_hundred_thousand() {
    let pid: Arc<OnceLock<u32>> = Arc::default();
    let (tell, told) = mpsc::channel();
    let pid_of_load = Arc::clone(&pid);
    // Received bytes are not kept, as this process must not grow either.
    let server = Server::start(move |client: &mut Client| {
        let mut buffer = vec![0; 256 * 1024];
        let (mut seen, mut looks) = (0, LOOKS.iter());
        let mut next = looks.next();
        loop {
            let count = client.stream.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            seen += count as u64;
            // Before the last messages are sent back, so that the process still exists.
            while let Some(look) = next.filter(|look| seen >= **look * MESSAGE) {
                let pid = *pid_of_load.wait();
                let bytes = ["VmRSS", "VmHWM"].map(|name| kernel::status_bytes(pid, name));
                tell.send((*look, bytes)).expect("the test listens");
                next = looks.next();
            }
            client.stream.write_all(&buffer[..count])?;
        }
    });
    let home = Home::new();
    let path = home.elsewhere("a.hlog");
    let messages = LOOKS[LOOKS.len() - 1];
    let flags = format!(
        "--messages {messages} --in-flight 2000 --framing u8 --size 1 --json --hdr-log {}",
        path.display()
    );
    let running = load(&home, &server, &flags).start();
    pid.set(running.pid()).expect("it is set once");
    let document = Document::read(&running.wait_for(PATIENCE).exits_with(0));
    document.is_all_right(messages);
    Log::read(&path).says_the_same_as(&document);
    let looks: Vec<(u64, [u64; 2])> = told.try_iter().collect();
    assert_eq!(looks.len(), LOOKS.len(), "{looks:?}");
    let (_, first) = looks[0];
    for (_, bytes) in &looks[1..] {
        for (before, after) in first.iter().zip(bytes) {
            assert!(*after <= before + DIFFERENCE_MAX, "resident now, and at most: {looks:?}");
        }
    }
}
