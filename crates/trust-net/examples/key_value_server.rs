//! A service that is not echo: `cargo run --example key_value_server -- 9900`
//!
//! A frame `key` asks for a value, a frame `key=value` sets it; each is answered by a frame.
//! Try `cargo run --example echo_client` on it: it complains that the answer is no echo.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use trust_net::wire::{Frames, Limits, limits::Mode};
use trust_net::{Peer, Reply, Server, ServerConfig, Service, Session};

type Table = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

/// All clients share one table.
#[derive(Default)]
struct KeyValue(Table);

/// What belongs to one client; dropped when its connection ends, however that comes about.
struct Visitor(Table);

impl Service for KeyValue {
    type Session = Visitor;

    fn accept(&self, _peer: Peer) -> Visitor {
        Visitor(Arc::clone(&self.0))
    }
}

impl Session for Visitor {
    fn receive<'a>(&mut self, frames: Frames<'a>, reply: &mut Reply<'a>) {
        let mut table = self.0.lock().expect("no visitor panics while it holds the table");
        for request in frames {
            match request.iter().position(|byte| *byte == b'=') {
                Some(at) => {
                    table.insert(request[..at].to_vec(), request[at + 1..].to_vec());
                    reply.write_frame(b"ok");
                }
                None => reply.write_frame(table.get(request).map_or(b"", Vec::as_slice)),
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: key_value_server PORT")?.parse()?;
    let limits = Limits { mode: Mode::Framed, ..Limits::default() };
    let config = ServerConfig { limits, workers: 2, ..ServerConfig::new(port) };
    Server::bind(config, KeyValue::default(), Arc::new(()))?.run()?;
    Ok(())
}
