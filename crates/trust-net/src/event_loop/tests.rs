use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::SockRef;
use trust_wire::Limits;

use super::table::DEAD_TIMERS_KEPT;
use super::*;
use crate::by_hand::{ByHand, by_hand};
use crate::server::ServerConfig;
use crate::service::Echo;

/// Longer than anything here takes, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// Rounds in a row in which nothing is ready, after which nothing more is to be expected.
const QUIET_ROUNDS: usize = 50;

impl ByHand<'_, Echo> {
    /// Goes round until `is_so`, without sleeping.
    fn go_round_until(&mut self, mut is_so: impl FnMut(&mut Worker<'_, Echo>) -> bool) {
        let began = Instant::now();
        while !is_so(&mut self.worker) {
            assert!(began.elapsed() < DEADLINE, "it never came to that");
            self.go_round().expect("it can wait");
        }
    }

    /// How many rounds had something to do until there was nothing more; at most `enough`.
    fn rounds_until_quiet(&mut self, enough: usize) -> usize {
        let (mut busy, mut quiet) = (0, 0);
        while quiet < QUIET_ROUNDS && busy < enough {
            if self.go_round().expect("it can wait") {
                (busy, quiet) = (busy + 1, 0);
            } else {
                quiet += 1;
            }
        }
        busy
    }

    /// A client that was accepted and whose socket does not block.
    fn connect(&mut self) -> TcpStream {
        let before = self.worker.table.entries.len();
        let stream = TcpStream::connect(self.address()).expect("it listens");
        stream.set_nonblocking(true).expect("it can be");
        stream.set_nodelay(true).expect("it can be");
        self.go_round_until(|worker| worker.table.entries.len() == before + 1);
        stream
    }

    /// Goes round until the client has got these bytes.
    fn echoes(&mut self, stream: &mut TcpStream, expected: &[u8]) {
        let mut received = vec![];
        self.go_round_until(|_| {
            let mut buffer = [0; 4096];
            if let Ok(count) = stream.read(&mut buffer) {
                received.extend_from_slice(&buffer[..count]);
            }
            received.len() >= expected.len()
        });
        assert_eq!(received, expected);
    }
}

#[test]
fn after_urgent_data_a_silent_connection_costs_nothing() {
    by_hand(ServerConfig::new(0), Echo, Arc::new(()), |server| {
        let mut stream = server.connect();
        stream.write_all(b"before").expect("there is room");
        server.echoes(&mut stream, b"before");
        SockRef::from(&stream).send_out_of_band(b"!").expect("there is room");
        // The byte, and the answer to our question whether that was all.
        let rounds = server.rounds_until_quiet(100);
        assert!(rounds <= 4, "{rounds} rounds or more, and no one sent anything");
        stream.write_all(b"after").expect("there is room");
        let rounds = server.rounds_until_quiet(100);
        assert!(rounds <= 4, "{rounds} rounds or more for one answer");
    })
    .expect("a free port and descriptors");
}

#[test]
fn early_deadlines_that_pass_again_and_again_leave_no_timers_behind() {
    const CLIENTS: usize = 50;
    // Many times what is kept.
    const ROUNDS: usize = 3 * DEAD_TIMERS_KEPT / CLIENTS;
    let hour = Duration::from_secs(3600);
    let limits = Limits {
        timeout: Some(hour),
        frame_timeout: Some(Duration::from_millis(1)),
        ..Limits::default()
    };
    let config = ServerConfig { limits, ..ServerConfig::new(0) };
    by_hand(config, Echo, Arc::new(()), |server| {
        let mut streams: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
        for _ in 0..ROUNDS {
            for (key, stream) in streams.iter_mut().enumerate() {
                // A frame in two parts has an early deadline, and a late one when that has passed.
                stream.write_all(&[0, 0, 0]).expect("there is room");
                server.go_round_until(|worker| {
                    worker.table.entries[key].client.connection.wanted() == Some(1)
                });
                stream.write_all(&[0]).expect("there is room");
                server.echoes(stream, &[0; 4]);
            }
            server.go_round_until(|worker| {
                let late = worker.now + hour / 8;
                worker.table.entries.iter().all(|(_, entry)| entry.armed > late)
            });
            let timers = server.worker.table.timers.len();
            assert!(timers <= DEAD_TIMERS_KEPT + 2 * CLIENTS, "{timers} for {CLIENTS} clients");
        }
    })
    .expect("a free port and descriptors");
}
