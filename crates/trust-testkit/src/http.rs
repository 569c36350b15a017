//! A small HTTP client that shows what is on the wire.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::STEP_DEADLINE;

/// An answer, with the names of headers in lower case.
#[derive(Debug)]
pub struct WireAnswer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(STEP_DEADLINE)).expect("it is not zero");
        stream.set_write_timeout(Some(STEP_DEADLINE)).expect("it is not zero");
        let reader = BufReader::new(stream.try_clone().expect("a descriptor is left"));
        Client { stream, reader }
    }

    /// Sends a request with these lines as headers.
    pub fn send(&mut self, request: &str, headers: &[String], body: &str) {
        let length = format!("Content-Length: {}", body.len());
        self.send_head(request, &[headers, &[length]].concat());
        self.stream.write_all(body.as_bytes()).expect("it is read");
    }

    /// Sends a request, and receives its answer.
    pub fn ask(&mut self, request: &str, body: &str) -> WireAnswer {
        self.send(request, &[], body);
        self.receive(false)
    }

    /// Sends the head of a request, of whose body these lines say how long it is.
    pub fn send_head(&mut self, request: &str, headers: &[String]) {
        let lines = headers.iter().map(|header| format!("{header}\r\n"));
        let lines: String = lines.collect();
        let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
        self.stream.write_all(head.as_bytes()).expect("it is read");
    }

    /// The next answer; one to `HEAD` has no body.
    pub fn receive(&mut self, is_head: bool) -> WireAnswer {
        let mut answer = self.receive_head();
        let length = answer.headers.get("content-length");
        let length = length.map_or(0, |length| length.parse().expect("a number"));
        let mut body = vec![0; if is_head { 0 } else { length }];
        self.reader.read_exact(&mut body).expect("a whole body");
        answer.body = String::from_utf8(body).expect("text");
        answer
    }

    /// The next piece of a body that goes on.
    pub fn receive_piece(&mut self) -> String {
        let length = usize::from_str_radix(&self.line(), 16).expect("a length");
        let mut piece = vec![0; length];
        self.reader.read_exact(&mut piece).expect("a whole piece");
        assert_eq!(self.line(), "", "the end of the piece");
        String::from_utf8(piece).expect("text")
    }

    /// The head of the next answer.
    pub fn receive_head(&mut self) -> WireAnswer {
        let status = self.line();
        let status = status.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut headers = BTreeMap::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        WireAnswer { status: status.expect("a status"), headers, body: String::new() }
    }

    /// Waits for the end of the connection.
    pub fn expect_end(&mut self) {
        let mut rest = vec![];
        // A reset is an end too.
        let outcome = self.reader.read_to_end(&mut rest);
        let kind = outcome.err().map(|error| error.kind());
        assert_ne!(kind, Some(std::io::ErrorKind::WouldBlock), "no end in time");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line in time");
        line.trim_end().to_owned()
    }
}
