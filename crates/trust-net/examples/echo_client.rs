//! Sends each argument as a frame and prints the echo:
//! `cargo run --example echo_client -- localhost:9900 hello`

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use trust_net::BlockingConnection;
use trust_net::wire::DEFAULT_MAX_PAYLOAD;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("usage: echo_client HOST:PORT MESSAGE...")?;

    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut connection = BlockingConnection::new(stream, DEFAULT_MAX_PAYLOAD)?;

    for message in arguments {
        connection.send_frame(message.as_bytes())?;
        let echo = connection.recv_frame()?;
        if echo != message.as_bytes() {
            return Err(format!("{message:?} came back as {echo:?}").into());
        }
        writeln!(std::io::stdout(), "{message}")?;
    }
    // Waits until the server has closed too, so that nothing is lost on the way.
    connection.close(Duration::from_secs(5))?;
    Ok(())
}
