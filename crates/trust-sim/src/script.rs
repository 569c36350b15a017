//! What happens in a simulation: a seed becomes a list of events that can be shrunk.

pub mod header;

use std::time::Duration;

use trust_wire::{Limits, Mode};

use crate::rng::Rng;

use self::header::HeaderScript;

/// When a server is stopped whose script does not say so: long after everything else.
const STOP_AT_LAST: Duration = Duration::from_secs(4 * 3600);

/// The longest outage. TCP survives it: one of its retries comes before the kernel gives up.
const OUTAGE_MAX: Duration = Duration::from_secs(40);

/// The most bytes that one client sends.
const UPLOAD_MAX: usize = 300_000;

/// A whole simulation.
#[derive(Clone, Debug)]
pub struct Script {
    /// The server's limits.
    pub limits: Limits,
    /// Clients that are served at once.
    pub max_clients: usize,
    /// Bytes received per call, not counting the rest of an unfinished frame.
    pub receive_len: usize,
    /// Receives per connection and turn.
    pub receives_per_turn: u32,
    /// Longest time between readiness and the server noticing it.
    pub wake_delay: Duration,
    /// Time between serving ready sockets and judging a deadline.
    pub judge_delay: Duration,
    /// The grid that deadlines are rounded up to.
    pub timer_grid: Duration,
    /// When the server's process does not run: stopped, or its machine suspended.
    pub pauses: Vec<Pause>,
    /// When the server is told to stop.
    pub drain_at: Duration,
    /// How long after that it cuts off what is left.
    pub drain_timeout: Duration,
    /// Time from the first signal to the second, if there is one.
    pub second_signal_after: Option<Duration>,
    /// The clients.
    pub clients: Vec<ClientScript>,
}

/// A time during which something does not run.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    /// When it begins.
    pub at: Duration,
    /// How long it is.
    pub length: Duration,
}

/// One client.
#[derive(Clone, Debug)]
pub struct ClientScript {
    /// When its connection is established.
    pub connects_at: Duration,
    /// Decides its bytes, and the details of its path.
    pub seed: u64,
    /// The path to the server.
    pub path: PathScript,
    /// What it sends before everything else, if the server awaits a PROXY header.
    pub header: Option<HeaderScript>,
    /// What it has to send.
    pub messages: Vec<Message>,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// Bytes received per call.
    pub read_len: usize,
    /// Time between two receives.
    pub read_gap: Duration,
    /// How long after the end of the stream it closes; `None`: never.
    pub closes_after: Option<Duration>,
}

// Many fields: each can be varied on its own.
/// How a path behaves.
#[derive(Clone, Copy, Debug)]
pub struct PathScript {
    /// Time that every packet takes.
    pub latency: Duration,
    /// Longest additional time per packet.
    pub jitter: Duration,
    /// Longest delay of an acknowledgement.
    pub ack_delay: Duration,
    /// Bytes in a packet.
    pub segment: usize,
    /// Bytes that the server's kernel keeps until the client acknowledges them.
    pub server_send_buffer: usize,
    /// Bytes that the server's kernel keeps until the server reads them.
    pub server_receive_buffer: usize,
    /// Bytes that the client's kernel keeps until the client reads them.
    pub client_receive_buffer: usize,
    /// One in this many sends takes less than it could.
    pub short_send_one_in: u64,
    /// One in this many of the server's receives and sends returns EAGAIN although it need not,
    /// never twice in a row.
    pub would_block_one_in: u64,
    /// One in this many is interrupted by a signal.
    pub interrupt_one_in: u64,
    /// When the server's kernel has no memory for sending, yet reports the socket writable.
    pub shortage: Option<Pause>,
    /// One in this many of the client's sends ends with a byte of urgent data.
    pub urgent_one_in: u64,
    /// How long without any packet until the server's kernel gives up retransmitting.
    pub give_up_after: Duration,
    /// Whether the server's kernel sends keepalive probes.
    pub keepalive: bool,
}

/// Something that a client sends.
#[derive(Clone, Copy, Debug)]
pub enum Message {
    /// A frame with a payload of this many bytes.
    Frame(usize),
    /// A header with this length and nothing after it.
    Header(u32),
    /// This many bytes of text.
    Text(usize),
    /// This many bytes of text, the last of which is a newline.
    Line(usize),
    /// This many of two letters, so that the same sequences come often.
    Letters(usize),
    /// This many bytes of any value.
    Bytes(usize),
}

/// A step of a client, and how long after the previous one.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Time since the previous step.
    pub after: Duration,
    /// What it does.
    pub action: Action,
}

/// What a client, its host or its path can do.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// Sends this many more bytes of its messages.
    Send(usize),
    /// Stops receiving until told to resume.
    StopReading,
    /// Receives again.
    StartReading,
    /// Shuts down its sending side.
    HalfClose,
    /// Closes, with FIN if it has read everything that came.
    Close,
    /// Closes with RST.
    Reset,
    /// Its host is gone.
    Vanish,
    /// Its host is back after it was gone.
    Reboot,
    /// Loses every packet for this time; if `true`, a router reports it.
    Outage(Duration, bool),
}

impl Script {
    /// The script of `seed`.
    pub fn of(seed: u64) -> Script {
        let mut rng = Rng::new(seed);
        let limits = limits(&mut rng);
        let clients = rng.pick(&[1, 1, 1, 2, 3, 5]);
        let clients: Vec<ClientScript> =
            (0..clients).map(|_| ClientScript::random(&mut rng, &limits)).collect();
        let busy: Duration = Duration::from_secs(20);
        let pauses = (0..rng.pick(&[0, 0, 0, 1, 2]))
            .map(|_| Pause {
                at: rng.time_up_to(busy),
                length: spread(&mut rng, &[1, 50, 2_000, 8_000, 400_000]),
            })
            .collect();
        let is_stopped_early = rng.one_in(2);
        let shortest = [limits.timeout, limits.frame_timeout, limits.max_lifetime]
            .into_iter()
            .flatten()
            .chain((!limits.linger_timeout.is_zero()).then_some(limits.linger_timeout))
            .min()
            .unwrap_or(Duration::MAX);
        let timer_grid =
            (shortest / 32).clamp(Duration::from_millis(1), Duration::from_millis(100));
        let mut script = Script {
            max_clients: if rng.one_in(8) { 1 } else { 1000 },
            receive_len: rng.pick(&[1, 7, 100, 1500, 65_536, 65_536]),
            receives_per_turn: rng.pick(&[1, 2, 16, 16]),
            wake_delay: spread(&mut rng, &[0, 1, 1, 20]),
            judge_delay: spread(&mut rng, &[0, 1, 20]),
            timer_grid,
            pauses,
            drain_at: if is_stopped_early { rng.time_up_to(busy) } else { STOP_AT_LAST },
            drain_timeout: spread(&mut rng, &[0, 100, 3_000, 10_000]),
            second_signal_after: rng.one_in(4).then(|| spread(&mut rng, &[0, 100, 3_000])),
            clients,
            limits,
        };
        script.put_behind_a_proxy(&mut Rng::new(seed.rotate_left(32)));
        script
    }

    /// Makes the clients of some seeds come through a proxy. `rng` is separate, so that everything
    /// else of a seed stays as it is.
    fn put_behind_a_proxy(&mut self, rng: &mut Rng) {
        if rng.one_in(4) {
            let limit = Duration::from_millis(rng.pick(&[100, 1_000, 5_000, 5_000]));
            self.limits.proxy_header = Some(limit);
            self.timer_grid = self.timer_grid.min(limit / 32);
            for client in &mut self.clients {
                let header = HeaderScript::random(rng, &self.limits, &client.upload());
                client.header = Some(header);
            }
        }
    }
}

fn limits(rng: &mut Rng) -> Limits {
    let some = |rng: &mut Rng, choices: &[u64]| match rng.pick(choices) {
        0 => None,
        limit_ms => Some(Duration::from_millis(limit_ms)),
    };
    Limits {
        mode: rng.pick(&[Mode::Auto, Mode::Auto, Mode::Framed, Mode::Raw]),
        max_payload: rng.pick(&[0, 1, 5, 100, 1000, 1000, 65_536, 65_536, 200_000]),
        timeout: some(rng, &[0, 40, 1_000, 5_000, 5_000, 5_000]),
        frame_timeout: some(rng, &[0, 1_000, 3_000, 30_000, 30_000]),
        linger_timeout: Duration::from_millis(rng.pick(&[0, 30, 500, 2_000, 2_000, 2_000])),
        max_lifetime: some(rng, &[0, 0, 0, 0, 700, 10_000]),
        proxy_header: None,
    }
}

/// A random time, up to a limit picked from `choices_ms`.
pub fn spread(rng: &mut Rng, choices_ms: &[u64]) -> Duration {
    let longest = Duration::from_millis(rng.pick(choices_ms));
    rng.time_up_to(longest)
}

impl ClientScript {
    /// The bytes of its messages.
    pub fn upload(&self) -> Vec<u8> {
        let (mut rng, mut upload) = (Rng::new(self.seed), vec![]);
        self.messages.iter().for_each(|message| message.write(&mut rng, &mut upload));
        upload
    }

    fn random(rng: &mut Rng, limits: &Limits) -> ClientScript {
        let messages = messages(rng, limits);
        ClientScript::with_messages(rng, messages, limits.timeout.is_none())
    }

    /// One that has this to send, and does everything else at random.
    pub fn with_messages(rng: &mut Rng, messages: Vec<Message>, keepalive: bool) -> ClientScript {
        let upload: usize = messages.iter().map(Message::wire_len).sum();
        let mut client = ClientScript {
            connects_at: spread(rng, &[0, 10, 1_000, 15_000]),
            seed: rng.bits(),
            path: PathScript::random(rng, keepalive, upload),
            steps: steps(rng, upload),
            header: None,
            messages,
            read_len: rng.pick(&[1, 100, 4096, 1 << 20, 1 << 20]).max(upload / 200),
            read_gap: spread(rng, &[0, 0, 1, 100]),
            closes_after: (!rng.one_in(6)).then(|| spread(rng, &[0, 0, 100, 3_000])),
        };
        client.path.disturb(&mut Rng::new(!client.seed));
        // A slow reader of many bytes needs some hundred receives, not a million.
        if client.read_gap > Duration::from_millis(1) {
            client.read_len = client.read_len.max(upload / 100);
        }
        client
    }
}

impl PathScript {
    fn random(rng: &mut Rng, keepalive: bool, upload: usize) -> PathScript {
        let least = (upload / 200).max(1);
        let small = |rng: &mut Rng| rng.pick(&[1, 10, 700, 4096, 65_536, 1 << 20]).max(least);
        PathScript {
            latency: spread(rng, &[0, 1, 30, 300]),
            jitter: spread(rng, &[0, 1, 30, 1_000]),
            ack_delay: spread(rng, &[0, 1, 40, 500]),
            segment: rng.pick(&[1, 3, 536, 1460, 1460, 65_536]).max(least),
            server_send_buffer: small(rng),
            server_receive_buffer: small(rng),
            client_receive_buffer: small(rng),
            short_send_one_in: rng.pick(&[2, 10, u64::MAX, u64::MAX]),
            would_block_one_in: u64::MAX,
            interrupt_one_in: u64::MAX,
            shortage: None,
            urgent_one_in: u64::MAX,
            give_up_after: rng.pick(&[100, 900]) * Duration::from_secs(1),
            keepalive,
        }
    }

    /// Adds the faults of the server's calls. `rng` must be a separate generator, so that the rest
    /// of a seed's script does not change.
    fn disturb(&mut self, rng: &mut Rng) {
        self.would_block_one_in = rng.pick(&[2, 10, u64::MAX, u64::MAX]);
        self.interrupt_one_in = rng.pick(&[2, 10, u64::MAX, u64::MAX]);
        self.urgent_one_in = rng.pick(&[1, 5, u64::MAX, u64::MAX, u64::MAX, u64::MAX]);
        let has_shortage = rng.one_in(6);
        let shortage =
            Pause { at: spread(rng, &[1, 50, 5_000]), length: spread(rng, &[10, 500, 8_000]) };
        self.shortage = has_shortage.then_some(shortage);
    }
}

fn messages(rng: &mut Rng, limits: &Limits) -> Vec<Message> {
    let max_payload = limits.max_payload as usize;
    let mut messages = vec![];
    let mut left = UPLOAD_MAX;
    for _ in 0..rng.pick(&[0, 1, 1, 2, 5, 5, 20]) {
        let message = match rng.within(0..=11) {
            0 => Message::Frame(max_payload),
            1 => Message::Frame(0),
            2..=9 => {
                let longest = rng.pick(&[1, 20, 20, 600, 3_000, max_payload]).min(max_payload);
                Message::Frame(rng.size(0..=longest))
            }
            10 => Message::Text(rng.pick(&[1, 2, 20, 200, 2_000])),
            _ => Message::Header(match rng.within(0..=2) {
                0 => limits.max_payload + 1,
                1 => rng.bits() as u32,
                _ => rng.size(0..=max_payload) as u32,
            }),
        };
        // Text first is what raw connections and strangers send.
        let message = if messages.is_empty() && rng.one_in(4) {
            Message::Text(rng.pick(&[1, 20, 3_000, 20_000]))
        } else {
            message
        };
        if message.wire_len() > left {
            break;
        }
        left -= message.wire_len();
        messages.push(message);
    }
    messages
}

fn steps(rng: &mut Rng, upload: usize) -> Vec<Step> {
    let mut steps = vec![];
    let mut left = match rng.one_in(5) {
        true => rng.size(0..=upload),
        false => upload,
    };
    let chunk = rng.pick(&[1, 5, 100, 5_000, 1 << 20, 1 << 20]).max(upload / 60).max(1);
    let pace = rng.pick(&[0, 0, 1, 100, 1_000, 6_000]);
    while left > 0 {
        let count = rng.size(1..=chunk).min(left);
        left -= count;
        steps.push(Step { after: spread(rng, &[0, pace, pace]), action: Action::Send(count) });
    }
    let disturbances = rng.pick(&[0, 0, 0, 1, 1, 2, 3]);
    for _ in 0..disturbances {
        let place = rng.size(0..=steps.len());
        let step = |action| Step { after: Duration::ZERO, action };
        let wait = spread(rng, &[10, 1_000, 8_000, 60_000]);
        let pair = match rng.within(0..=10) {
            0..=2 => {
                vec![step(Action::StopReading), Step { after: wait, action: Action::StartReading }]
            }
            3 => vec![step(Action::StopReading)],
            4 => vec![step(Action::Reset)],
            5 => vec![step(Action::Vanish)],
            6 => vec![step(Action::Vanish), Step { after: wait, action: Action::Reboot }],
            7 => vec![step(Action::Close)],
            8 => vec![step(Action::HalfClose)],
            9 => vec![
                // The router's report is outdated once the peer is gone for another reason.
                step(Action::Outage(wait.min(Duration::from_secs(3)), true)),
                Step { after: wait, action: rng.pick(&[Action::Vanish, Action::StopReading]) },
            ],
            _ => vec![step(Action::Outage(wait.min(OUTAGE_MAX), rng.one_in(2)))],
        };
        steps.splice(place..place, pair);
    }
    // The usual end; without it the peer just falls silent.
    if !rng.one_in(4) {
        let action =
            rng.pick(&[Action::HalfClose, Action::HalfClose, Action::Close, Action::Reset]);
        steps.push(Step { after: spread(rng, &[0, 0, 50, 1_000, 10_000]), action });
    }
    steps
}

impl Message {
    /// Bytes on the wire.
    pub fn wire_len(&self) -> usize {
        match self {
            Message::Frame(payload_len) => 4 + payload_len,
            Message::Header(_) => 4,
            Message::Text(len)
            | Message::Line(len)
            | Message::Letters(len)
            | Message::Bytes(len) => *len,
        }
    }

    /// Appends the bytes on the wire.
    pub fn write(&self, rng: &mut Rng, out: &mut Vec<u8>) {
        let declared = match self {
            Message::Frame(payload_len) => Some(*payload_len as u32),
            Message::Header(declared) => Some(*declared),
            _ => None,
        };
        out.extend(declared.map(u32::to_be_bytes).into_iter().flatten());
        match self {
            Message::Frame(len) | Message::Bytes(len) => {
                out.extend((0..*len).map(|_| rng.bits() as u8));
            }
            Message::Text(len) => text(rng, *len, out),
            Message::Line(len) => {
                text(rng, len.saturating_sub(1), out);
                out.extend((*len > 0).then_some(b'\n'));
            }
            Message::Letters(len) => out.extend((0..*len).map(|_| b'a' + (rng.bits() % 2) as u8)),
            Message::Header(_) => {}
        }
    }
}

fn text(rng: &mut Rng, len: usize, out: &mut Vec<u8>) {
    out.extend((0..len).map(|_| b' ' + (rng.bits() % 95) as u8));
}
