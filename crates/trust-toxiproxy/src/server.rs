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

use http_body_util::channel::{Channel, Sender};
use http_body_util::{BodyExt, Either, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ACCEPT, HOST, HeaderMap, HeaderName, ORIGIN, USER_AGENT};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use trust_net::listening::{BindError, ListeningSocket, listen};
use trust_net::socket::AcceptedOptions;

use crate::control::{self, ControlAnswer, FAULT_EVENTS, FaultWait};
use crate::data_plane::DataPlane;
use crate::events::{EventForm, EventHub};
use crate::metrics::MetricsChoice;
use crate::routes::{ApiAnswer, ApiRequest, ToxiproxyApi};

/// The port that Toxiproxy's clients expect.
pub const DEFAULT_PORT: u16 = 8474;

/// Most connections at once; further clients wait in the backlog.
const CLIENTS_MAX: usize = 1000;

/// The longest body of a request, in bytes: some thousand proxies with toxics.
const BODY_MAX: usize = 1 << 20;

/// The pause after a failed accept, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Pieces of a body that goes on, between who makes them and the connection. The kernel and hyper
/// have buffers too.
const PIECES_MAX: usize = 1;

/// The pause between two reports for those who follow them.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// How often it is asked at most how often a rule has fired.
const WAIT_PAUSE: Duration = Duration::from_millis(5);

/// How the API is served.
#[derive(Clone, Debug, Default)]
pub struct ApiSettings {
    /// How long clients may take.
    pub timeouts: ApiTimeouts,
    /// The names besides `localhost` and IP addresses by which browsers may reach `/` and
    /// `/trustctl/`.
    pub allowed_hosts: Vec<String>,
    /// What `/metrics` has.
    pub metrics: MetricsChoice,
    /// The proxies that there are before the first request is answered: a list as the body of
    /// `/populate`. What is wrong with it is noted.
    pub list: Option<Vec<u8>>,
}

/// How long clients may take.
#[derive(Clone, Copy, Debug)]
pub struct ApiTimeouts {
    /// To send the head of the first request, and the body of each.
    pub read: Duration,
    /// From one request to the head of the next one: to read the answer, idle, and to send it.
    /// Toxiproxy gives half of it to the first of these. Of an answer that goes on, it is the time
    /// for each piece.
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

/// All of a body, or one that goes on.
type ApiBody = Either<Full<Bytes>, Channel<Bytes>>;

/// By when a client must have done its next step.
type Deadline = Rc<Cell<Instant>>;

/// What all clients share.
///
/// Invariant: `api` is borrowed between two awaits at most. What goes on borrows it again and
/// again.
struct ApiState<D> {
    api: RefCell<ToxiproxyApi<D>>,
    settings: ApiSettings,
    events: Arc<EventHub>,
    note: RefCell<Box<dyn FnMut(String)>>,
}

impl From<ApiTimeouts> for ApiSettings {
    fn from(timeouts: ApiTimeouts) -> ApiSettings {
        ApiSettings { timeouts, ..ApiSettings::default() }
    }
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
        settings: impl Into<ApiSettings>,
        mut api: ToxiproxyApi<D>,
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
        let (settings, events) = (settings.into(), Arc::new(EventHub::new(FAULT_EVENTS)));
        let hub = events.clone();
        api.offer_metrics(settings.metrics);
        api.registry().data_plane().follow(Box::new(move |line| hub.note(line)));
        let (running, ended) = oneshot::channel();
        let thread = thread::Builder::new().name("toxiproxy-api".to_owned()).spawn(move || {
            let (mut api, mut note) = (api, note);
            if let Some(list) = &settings.list {
                api.populate(list).into_iter().for_each(&mut note);
            }
            let (api, note) = (RefCell::new(api), RefCell::new(Box::new(note) as Box<_>));
            let state = Rc::new(ApiState { api, settings, events, note });
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
    let deadline = Rc::new(Cell::new(Instant::now() + state.settings.timeouts.read));
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

async fn answer<D: DataPlane + 'static>(
    request: Request<Incoming>,
    state: &Rc<ApiState<D>>,
    deadline: &Deadline,
) -> Result<Response<ApiBody>, AnyError> {
    let ApiTimeouts { read: read_timeout, idle } = state.settings.timeouts;
    deadline.set(Instant::now() + read_timeout);
    let (head, body) = request.into_parts();
    let header = |name: HeaderName| head.headers.get(name).map(|value| value.as_bytes());
    let answer = match read(body).await? {
        None => ControlAnswer::Now(ApiAnswer::too_large(BODY_MAX)),
        Some(body) => state.answer(&ApiRequest {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query(),
            user_agent: header(USER_AGENT).unwrap_or_default(),
            host: host(&head.headers),
            origin: header(ORIGIN),
            accept: header(ACCEPT).unwrap_or_default(),
            body: &body,
        }),
    };
    deadline.set(Instant::now() + idle);
    let answer = match answer {
        ControlAnswer::Now(answer) => answer,
        ControlAnswer::Wait(wait) => {
            deadline.set(Instant::now() + wait.timeout + idle);
            let answer = state.wait(&wait).await;
            deadline.set(Instant::now() + idle);
            answer
        }
        ControlAnswer::Events(form) => {
            let (sender, body) = Channel::new(PIECES_MAX);
            spawn_local(send_events(sender, form, state.clone(), deadline.clone()));
            return going_on(form, body);
        }
        ControlAnswer::Reports => {
            let (sender, body) = Channel::new(PIECES_MAX);
            spawn_local(send_reports(sender, state.clone(), deadline.clone()));
            return going_on(EventForm::ServerSent, body);
        }
    };
    for note in answer.notes {
        (state.note.borrow_mut())(note);
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Either::Left(Full::from(answer.body)))?)
}

/// The host of a request, if it has exactly one.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}

impl<D: DataPlane> ApiState<D> {
    fn answer(&self, request: &ApiRequest<'_>) -> ControlAnswer {
        let mut api = self.api.borrow_mut();
        if !control::has_path(request.path) {
            return ControlAnswer::Now(api.answer(request));
        }
        let answer = control::admit(request, &self.settings.allowed_hosts)
            .and_then(|()| control::answer(&mut api, &self.events, request));
        answer.unwrap_or_else(|error| ControlAnswer::Now(control::error_answer(&error)))
    }

    /// The answer once a fault has happened as often as a client waits for, or the time is over.
    async fn wait(&self, wait: &FaultWait) -> ApiAnswer {
        let end = Instant::now() + wait.timeout;
        // What happens from here on is seen, and what has happened is counted.
        let mut faults = self.events.watch_kept();
        loop {
            // The borrow ends with the statement.
            let fired = wait.fired(&mut self.api.borrow_mut());
            let fired = match fired {
                Ok(fired) if fired.is_enough => return FaultWait::answer(fired.count),
                Ok(fired) => fired,
                Err(error) => return control::error_answer(&error),
            };
            if Instant::now() >= end {
                return wait.timed_out(fired.count);
            }
            sleep_until(end.min(Instant::now() + WAIT_PAUSE)).await;
            // At the end it is looked at once more.
            let _ = timeout_at(end, faults.seen()).await;
        }
    }
}

/// The head of an answer that goes on.
fn going_on(form: EventForm, body: Channel<Bytes>) -> Result<Response<ApiBody>, AnyError> {
    let response = Response::builder()
        .header("Content-Type", form.content_type())
        .header("Cache-Control", "no-store")
        .header("X-Content-Type-Options", "nosniff");
    Ok(response.body(Either::Right(body))?)
}

/// Sends events until the client is gone. Each piece gives it time for the next one: if it does not
/// read, there is no place for that.
async fn send_events<D>(
    mut sender: Sender<Bytes>,
    form: EventForm,
    state: Rc<ApiState<D>>,
    deadline: Deadline,
) {
    let idle = state.settings.timeouts.idle;
    let mut events = state.events.follow(form);
    loop {
        // Half of the time, so that a client that reads is never too late.
        let piece = match timeout(idle / 2, events.next()).await {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(_) => events.idle(),
        };
        if sender.send_data(piece.into()).await.is_err() {
            break;
        }
        deadline.set(Instant::now() + idle);
    }
}

/// Sends a report from time to time, as messages of the type `report`, and faults in between, until
/// the client is gone; less often if it reads slowly.
async fn send_reports<D: DataPlane>(
    mut sender: Sender<Bytes>,
    state: Rc<ApiState<D>>,
    deadline: Deadline,
) {
    let idle = state.settings.timeouts.idle;
    let mut faults = state.events.follow_kept(EventForm::ServerSent);
    loop {
        let mut piece = "event: report\n".to_owned();
        let report = control::report_line(&mut state.api.borrow_mut());
        EventForm::ServerSent.add(&report, &mut piece);
        let next = Instant::now() + REPORT_INTERVAL.min(idle / 2);
        loop {
            if sender.send_data(piece.into()).await.is_err() {
                return;
            }
            let now = Instant::now();
            deadline.set(now + idle);
            // Also if there is always a fault.
            if now >= next {
                break;
            }
            match timeout_at(next, faults.next()).await {
                Ok(Some(faults)) => piece = faults,
                Ok(None) => return,
                Err(_) => break,
            }
        }
    }
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
