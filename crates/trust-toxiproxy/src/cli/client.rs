//! A request to the API and its answer, over a connection that the caller has made. As in the
//! server, hyper and tokio stay inside of this: the caller waits, and nothing runs afterwards.

use std::env::consts;
use std::error::Error;
use std::fmt;
use std::future::{self, Future};
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, USER_AGENT};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::cli::command::CliRequest;
use crate::routes::VERSION;

/// The longest answer that is read, in bytes: a hundred thousand proxies.
const ANSWER_MAX: usize = 16 << 20;

/// The most characters of an answer that a message repeats.
const SHOWN_MAX: usize = 200;

/// A server: where requests go that are sent over a connection to it.
#[derive(Clone, Copy, Debug)]
pub struct CliServer<'a> {
    /// The header `Host`.
    pub host: &'a str,
    /// What all paths begin with: empty, or from a slash to before one.
    pub prefix: &'a str,
}

/// An answer that was sent to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CliAnswer {
    /// The status code.
    pub status: u16,
    /// All of it.
    pub body: Bytes,
}

/// Why there is no answer, or not the one that was wanted.
#[derive(Debug)]
pub enum ExchangeError {
    /// One of the pipes that end the wait has become readable.
    Stopped,
    /// The answer did not come in time.
    TimedOut,
    /// The server has refused the request, for this reason.
    Refused {
        /// The status code, 300 or above.
        status: u16,
        /// In one line, safe for a terminal.
        reason: String,
    },
    /// The server is no HTTP server, not one with this API, or has left.
    Invalid(String),
    /// The system has refused something.
    System(io::Error),
}

impl fmt::Display for ExchangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExchangeError::Stopped => f.write_str("stopped"),
            ExchangeError::TimedOut => f.write_str("no answer in time"),
            ExchangeError::Refused { status, reason } => write!(f, "{reason} (status {status})"),
            ExchangeError::Invalid(fault) => f.write_str(fault),
            ExchangeError::System(error) => error.fmt(f),
        }
    }
}

impl Error for ExchangeError {}

impl From<io::Error> for ExchangeError {
    fn from(error: io::Error) -> ExchangeError {
        ExchangeError::System(error)
    }
}

impl From<hyper::Error> for ExchangeError {
    fn from(error: hyper::Error) -> ExchangeError {
        ExchangeError::Invalid(innermost(&error))
    }
}

impl CliAnswer {
    /// What the answer says.
    ///
    /// # Errors
    ///
    /// If it is not what this API answers.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, ExchangeError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| ExchangeError::Invalid(format!("invalid answer: {error}")))
    }

    /// The answer of a server that did what it was asked.
    fn checked(self) -> Result<CliAnswer, ExchangeError> {
        /// What an answer says is wrong.
        #[derive(Deserialize)]
        struct ErrorBody {
            error: String,
        }
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let said = serde_json::from_slice(&self.body).map(|body: ErrorBody| body.error);
        let said = said.unwrap_or_else(|_| String::from_utf8_lossy(&self.body).into_owned());
        let reason = match said.trim() {
            "" => "no reason given".to_owned(),
            said => one_line(said),
        };
        Err(ExchangeError::Refused { status: self.status, reason })
    }
}

/// Sends a request, and waits for the answer of a server that did what it was asked. The wait ends
/// when the limit is over, or when one of the pipes, of which these are the ends for reading, has
/// become readable; nothing is read from it.
///
/// # Errors
///
/// Why there is no such answer.
pub fn exchange(
    connection: TcpStream,
    server: CliServer<'_>,
    request: &CliRequest,
    limit: Duration,
    stops: impl IntoIterator<Item = OwnedFd>,
) -> Result<CliAnswer, ExchangeError> {
    let request = http_request(server, request)?;
    connection.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stops = stops.into_iter().map(pipe::Receiver::from_owned_fd);
        let stops: Vec<_> = stops.collect::<io::Result<_>>()?;
        let mut answer = pin!(timeout(limit, send(connection, request)));
        future::poll_fn(|context| {
            if let Poll::Ready(answer) = answer.as_mut().poll(context) {
                return Poll::Ready(answer.unwrap_or(Err(ExchangeError::TimedOut)));
            }
            if stops.iter().any(|stop| stop.poll_read_ready(context).is_ready()) {
                return Poll::Ready(Err(ExchangeError::Stopped));
            }
            Poll::Pending
        })
        .await
    })
}

fn http_request(
    server: CliServer<'_>,
    request: &CliRequest,
) -> Result<Request<Full<Bytes>>, ExchangeError> {
    let CliServer { host, prefix } = server;
    let CliRequest { method, path, body } = request;
    let head = Request::builder().method(*method).uri(format!("{prefix}{path}"));
    let head = head.header(HOST, host).header(USER_AGENT, user_agent());
    let request = match body {
        None => head.body(Full::default()),
        Some(body) => {
            head.header(CONTENT_TYPE, "application/json").body(Full::from(body.to_string()))
        }
    };
    request.map_err(|error| ExchangeError::Invalid(format!("invalid request: {error}")))
}

/// As that of Toxiproxy's: with the version that it stands for, and Go's names of systems.
fn user_agent() -> String {
    let architecture = match consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    };
    format!("toxiproxy-cli/{VERSION} ({}/{architecture})", consts::OS)
}

async fn send(
    connection: TcpStream,
    request: Request<Full<Bytes>>,
) -> Result<CliAnswer, ExchangeError> {
    let stream = TokioIo::new(tokio::net::TcpStream::from_std(connection)?);
    let (mut sender, connection) = http1::handshake(stream).await?;
    // It carries both, and ends with the runtime. Its errors are those of the sender.
    let _carrying = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
    let body = body.map_err(|error| {
        let is_too_long = error.is::<LengthLimitError>();
        let too_long = || format!("the answer is longer than {ANSWER_MAX} bytes");
        ExchangeError::Invalid(if is_too_long { too_long() } else { innermost(&*error) })
    })?;
    CliAnswer { status, body: body.to_bytes() }.checked()
}

/// The cause of an error that has no other one.
fn innermost(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    one_line(&error.to_string())
}

/// A text without control characters, and cut if it is long.
fn one_line(text: &str) -> String {
    let shown = text.chars().take(SHOWN_MAX);
    let rest = if text.chars().nth(SHOWN_MAX).is_some() { "…" } else { "" };
    shown.map(|it| if it.is_control() { ' ' } else { it }).collect::<String>() + rest
}
