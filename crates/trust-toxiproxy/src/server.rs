//! The API over HTTP/1.1, on a thread of its own. Hyper and tokio are used here and nowhere else:
//! the data plane has its own loop, and never waits for a client of the API.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::future::{self, Future};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ORIGIN, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};
use trust_net::listening::{BindError, ListeningSocket, listen};
use trust_net::socket::AcceptedOptions;

use crate::data_plane::DataPlane;
use crate::routes::{ApiAnswer, ApiRequest, ToxiproxyApi};

/// The port that Toxiproxy's clients expect.
pub const DEFAULT_PORT: u16 = 8474;

/// Most connections at once; further clients wait in the backlog.
const CLIENTS_MAX: usize = 1000;

/// The longest body of a request, in bytes: some thousand proxies with toxics.
const BODY_MAX: usize = 1 << 20;

/// The pause after a failed accept, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
pub struct ApiTimeouts {
    /// To send the head of the first request, and the body of each.
    pub read: Duration,
    /// From one request to the head of the next one: to read the answer, idle, and to send it.
    /// Toxiproxy gives half of it to the first of these.
    pub idle: Duration,
}

impl Default for ApiTimeouts {
    /// Those of Toxiproxy.
    fn default() -> ApiTimeouts {
        ApiTimeouts { read: Duration::from_secs(15), idle: Duration::from_secs(60) }
    }
}

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    addresses: Vec<SocketAddr>,
    /// Taken by the drop. Without the sender the thread ends.
    running: Option<(oneshot::Sender<Infallible>, JoinHandle<()>)>,
}

type AnyError = Box<dyn Error + Send + Sync>;

/// What all clients share.
struct ApiState<D> {
    api: RefCell<ToxiproxyApi<D>>,
    timeouts: ApiTimeouts,
    note: RefCell<Box<dyn FnMut(String)>>,
}

/// Where a server listens by default: for this host alone, on both protocols, as clients resolve
/// `localhost` to either.
pub fn loopback(port: u16) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

impl ApiServer {
    /// Listens on all of these addresses, and answers requests from then on. Where the port is 0,
    /// they get the same free one. `note` is given lines for the log.
    ///
    /// # Errors
    ///
    /// The first address that cannot be had. IPv6 is left out on a host without it.
    ///
    /// # Panics
    ///
    /// If there is no address.
    pub fn start<D: DataPlane + Send + 'static>(
        addresses: &[SocketAddr],
        timeouts: ApiTimeouts,
        api: ToxiproxyApi<D>,
        note: impl FnMut(String) + Send + 'static,
    ) -> Result<ApiServer, BindError> {
        let addresses: Vec<_> = addresses.iter().copied().map(Into::into).collect();
        let sockets = listen(&addresses, AcceptedOptions::default(), None, |_| Ok(()))?;
        let addresses = sockets.iter().filter_map(|socket| socket.address().ip()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listeners: Vec<TcpListener> = {
            let _context = runtime.enter();
            sockets.iter().map(to_tokio).collect::<io::Result<_>>()?
        };
        let (running, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("toxiproxy-api".to_owned()).spawn(move || {
            let (api, note) = (RefCell::new(api), RefCell::new(Box::new(note) as Box<_>));
            let state = Rc::new(ApiState { api, timeouts, note });
            LocalSet::new().block_on(&runtime, serve(listeners, state, ended));
        })?;
        Ok(ApiServer { addresses, running: Some((running, thread)) })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }
}

impl Drop for ApiServer {
    /// Ends it: connections are closed, and answers that were given are with the kernel. The data
    /// plane is dropped before this returns.
    fn drop(&mut self) {
        if let Some((running, thread)) = self.running.take() {
            drop(running);
            // A panic of the thread was reported by the thread.
            let _ = thread.join();
        }
    }
}

fn to_tokio(socket: &ListeningSocket) -> io::Result<TcpListener> {
    socket.set_nonblocking()?;
    TcpListener::from_std(socket.as_fd().try_clone_to_owned()?.into())
}

/// Serves until the other end of the channel is gone.
async fn serve<D: DataPlane + 'static>(
    listeners: Vec<TcpListener>,
    state: Rc<ApiState<D>>,
    ended: oneshot::Receiver<Infallible>,
) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    for listener in listeners {
        spawn_local(accept(listener, state.clone(), places.clone()));
    }
    let _ = ended.await;
}

async fn accept<D: DataPlane + 'static>(
    listener: TcpListener,
    state: Rc<ApiState<D>>,
    places: Arc<Semaphore>,
) {
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = state.clone();
                spawn_local(async move {
                    serve_client(stream, state).await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers the requests of a client until it leaves, or takes too long.
async fn serve_client<D: DataPlane + 'static>(stream: TcpStream, state: Rc<ApiState<D>>) {
    let deadline = Rc::new(Cell::new(Instant::now() + state.timeouts.read));
    let service = service_fn(|request| answer(request, &state, &deadline));
    let connection = hyper::server::conn::http1::Builder::new()
        // A client that has sent all that it will still reads the answer.
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    until(&deadline, connection).await;
}

/// Goes on until the work is done, or the deadline has come, which the work may move.
async fn until(deadline: &Cell<Instant>, work: impl Future) {
    let (mut work, mut timer) = (pin!(work), pin!(sleep_until(deadline.get())));
    future::poll_fn(|context| {
        if work.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        if timer.deadline() != deadline.get() {
            timer.as_mut().reset(deadline.get());
        }
        timer.as_mut().poll(context)
    })
    .await;
}

async fn answer<D: DataPlane>(
    request: Request<Incoming>,
    state: &ApiState<D>,
    deadline: &Cell<Instant>,
) -> Result<Response<Full<Bytes>>, AnyError> {
    deadline.set(Instant::now() + state.timeouts.read);
    let (head, body) = request.into_parts();
    let answer = match read(body).await? {
        None => ApiAnswer::too_large(BODY_MAX),
        Some(body) => state.api.borrow_mut().answer(&ApiRequest {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            user_agent: head.headers.get(USER_AGENT).map_or(&[], |value| value.as_bytes()),
            has_origin: head.headers.contains_key(ORIGIN),
            body: &body,
        }),
    };
    deadline.set(Instant::now() + state.timeouts.idle);
    for note in answer.notes {
        (state.note.borrow_mut())(note);
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::from(answer.body))?)
}

/// All of a body; `None`: it is too long.
///
/// # Errors
///
/// The client is gone.
async fn read(body: Incoming) -> Result<Option<Bytes>, AnyError> {
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Ok(None);
    }
    match Limited::new(body, BODY_MAX).collect().await {
        Ok(body) => Ok(Some(body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Ok(None),
        Err(error) => Err(error),
    }
}
