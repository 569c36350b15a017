//! The echo service on a port: `cargo run --example echo_server -- 9900`
//!
//! Text comes back as it went out (`nc localhost 9900`), frames come back as frames.

use std::net::SocketAddr;
use std::sync::Arc;

use trust_net::service::Echo;
use trust_net::{Address, Event, Observer, Server, ServerConfig};

/// Reports on standard error which clients came and why they left.
struct EventPrinter;

impl Observer for EventPrinter {
    #[expect(clippy::print_stderr, reason = "an example talks to the terminal")]
    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Connected(client) => eprintln!("{} came from {}", client.id, client.peer),
            Event::Closed { client, cause, totals, .. } => {
                eprintln!("{} left after {} bytes: {:?}", client.id, totals.bytes_in, cause.reason);
            }
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args().nth(1).ok_or("usage: echo_server PORT")?.parse()?;
    let config = ServerConfig {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], port)).into()],
        ..ServerConfig::new(port)
    };
    let server = Server::bind(config, Echo, Arc::new(EventPrinter))?;
    EventPrinter.announce(server.local_addr());
    server.run()?;
    Ok(())
}

impl EventPrinter {
    #[expect(clippy::print_stderr, reason = "an example talks to the terminal")]
    fn announce(&self, address: &Address) {
        eprintln!("listening on {address}");
    }
}
