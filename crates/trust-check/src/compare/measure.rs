//! What is measured of a box, and not judged.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use trust_cli::text::{count, grouped, seconds};

use super::idle::{self, IdleEnd, Meanwhile};
use crate::exchange::learned::Learned;
use crate::request::Request;
use crate::setup::Setup;
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Finding, Judged, Verdict};
use crate::wire::{ConnectionEnd, STALL, StopReason, Wire};

/// Clients at the same time at most, and how long one of them may wait to be served.
const CLIENTS_MAX: usize = 256;
const CLIENT_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a message that is sent again and again without reading.
const UNREAD_MESSAGE_BYTES: u64 = 16 * 1024;

/// Small answers that are asked for one by one, and the times between two of them: the first after
/// which the server itself merges none, as a busy machine makes it do.
const SMALL_ANSWERS: usize = 20;
const APART: [Duration; 3] =
    [Duration::from_millis(10), Duration::from_millis(40), Duration::from_millis(160)];

/// Bytes of a long answer, as far as the protocol has such.
const LONG_ANSWER_BYTES: u64 = 64 * 1024;

/// How long a header may take that a box sends to the server before anything else.
const HEADER_WAIT: Duration = Duration::from_millis(500);

/// What PROXY headers begin with (the PROXY protocol, 2.1 and 2.2).
const HEADERS: [(&[u8], &str); 2] = [
    (b"PROXY ", "adds a PROXY header of version 1, which came back"),
    (b"\r\n\r\n\0\r\nQUIT\n", "adds a PROXY header of version 2, which came back"),
];

/// What a side is said to be that could not be measured, such as one without long answers.
const NOT_MEASURED: &str = "not measured";

/// A measurement on both sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// Of what.
    pub of: MeasurementName,
    /// Without the box.
    pub direct: MeasuredValue,
    /// Through it.
    pub through: MeasuredValue,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MeasurementName {
    /// Seconds until a silent client is ended, or forgotten.
    IdleTimeout,
    /// The same of a client whose kernel sends keepalive probes.
    IdleTimeoutWithKeepalive,
    /// The same of a client that sends a message byte by byte.
    IdleTimeoutWhileSending,
    /// The same of a client that receives answers little by little, and sends nothing.
    IdleTimeoutWhileReceiving,
    /// Clients that are served at the same time.
    Clients,
    /// Bytes that are taken from a client that does not read.
    UnreadBytes,
    /// Receives in which small answers come that were asked for one by one: fewer where a box
    /// merges.
    SmallAnswers,
    /// Receives in which a long answer comes: more where a box cuts.
    LongAnswer,
    /// What an urgent byte inside a message does.
    UrgentData,
    /// A PROXY header that came back from the server.
    ProxyHeader,
}

/// What could be measured on neither side, in words.
pub(super) fn unmeasured(measurements: &[Measurement]) -> Vec<&'static str> {
    measurements.iter().filter(|it| !it.is_measured()).map(|it| it.of.text()).collect()
}

impl Measurement {
    /// Whether one of the sides at least could be measured.
    pub fn is_measured(&self) -> bool {
        [&self.direct, &self.through].iter().any(|side| side.text != NOT_MEASURED)
    }
}

impl MeasurementName {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            MeasurementName::IdleTimeout => "an idle client",
            MeasurementName::IdleTimeoutWithKeepalive => "an idle client with TCP keepalive",
            MeasurementName::IdleTimeoutWhileSending => "a client that sends a message slowly",
            MeasurementName::IdleTimeoutWhileReceiving => "a client that receives answers slowly",
            MeasurementName::Clients => "clients at the same time",
            MeasurementName::UnreadBytes => "a client that does not read",
            MeasurementName::SmallAnswers => "small answers, a moment apart",
            MeasurementName::LongAnswer => "a long answer",
            MeasurementName::UrgentData => "an urgent byte inside a message",
            MeasurementName::ProxyHeader => "a PROXY header",
        }
    }
}

/// One side of a measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct MeasuredValue {
    /// In words.
    pub text: String,
    /// The number alone, in the unit of what was measured; `null` if there is none.
    pub number: Option<f64>,
}

impl MeasuredValue {
    fn new(text: impl Into<String>, number: Option<f64>) -> MeasuredValue {
        MeasuredValue { text: text.into(), number }
    }

    /// That of a side that could not be measured.
    fn none() -> MeasuredValue {
        MeasuredValue::new(NOT_MEASURED, None)
    }

    fn of_idle(end: Option<IdleEnd>) -> MeasuredValue {
        end.map_or_else(MeasuredValue::none, |end| {
            MeasuredValue::new(end.text(), end.after().map(|after| after.as_secs_f64()))
        })
    }
}

/// How one side is measured; `None` if it cannot be.
type Way = fn(&mut CaseTrial<'_>) -> Judged<Option<MeasuredValue>>;

/// Measures both sides. Idle clients are waited for as long as `idle_max`.
///
/// # Errors
///
/// Only when the run is to end.
pub fn measure(sides: [&Setup; 2], idle_max: Duration) -> Judged<Vec<Measurement>> {
    let mut trials = sides.map(|setup| {
        let mut exchanges = setup.exchanges.as_ref().map_or_else(Vec::new, Learned::usual);
        // Some ways want an answer that is long.
        exchanges.sort_by_key(|exchange| Reverse(exchange.answer_len()));
        CaseTrial::new(setup, "timing/1", None).drawing_from(exchanges)
    });
    let mut measurements = vec![];
    let is_shared = sides.iter().all(|setup| !setup.one_at_a_time);
    if !idle_max.is_zero() {
        let found = match is_shared {
            true => idle::measure(&mut trials, idle_max)?,
            false => Meanwhile::ALL.map(|meanwhile| (meanwhile, [None, None])).to_vec(),
        };
        for (meanwhile, ends) in found {
            let of = match meanwhile {
                Meanwhile::Silent => MeasurementName::IdleTimeout,
                Meanwhile::Keepalive => MeasurementName::IdleTimeoutWithKeepalive,
                Meanwhile::Sends => MeasurementName::IdleTimeoutWhileSending,
                Meanwhile::Receives => MeasurementName::IdleTimeoutWhileReceiving,
            };
            let [direct, through] = ends.map(MeasuredValue::of_idle);
            measurements.push(Measurement { of, direct, through });
        }
    }
    let ways: [(MeasurementName, Way); 5] = [
        (MeasurementName::Clients, clients),
        (MeasurementName::UnreadBytes, unread_bytes),
        (MeasurementName::LongAnswer, long_answer),
        (MeasurementName::UrgentData, urgent_data),
        (MeasurementName::ProxyHeader, proxy_header),
    ];
    let unless_stopped = |found: Judged<Option<MeasuredValue>>| match found {
        Err(stopped @ Verdict::Skipped(_)) => Err(stopped),
        Err(_) => Ok(MeasuredValue::none()),
        Ok(found) => Ok(found.unwrap_or_else(MeasuredValue::none)),
    };
    for (of, way) in ways {
        let [direct, through] = trials.each_mut().map(|trial| unless_stopped(way(trial)));
        measurements.push(Measurement { of, direct: direct?, through: through? });
    }
    for apart in APART {
        let [direct, through] =
            trials.each_mut().map(|trial| unless_stopped(small_answers(trial, apart)));
        let (of, direct, through) = (MeasurementName::SmallAnswers, direct?, through?);
        let is_whole = direct.number.is_none_or(|pieces| pieces >= SMALL_ANSWERS as f64);
        if is_whole || apart == APART[APART.len() - 1] {
            measurements.push(Measurement { of, direct, through });
            break;
        }
    }
    Ok(measurements)
}

fn clients(trial: &mut CaseTrial<'_>) -> Judged<Option<MeasuredValue>> {
    let most = trial.setup.together(CLIENTS_MAX);
    let (mut held, mut end) = (vec![], None);
    while held.len() < most && end.is_none() {
        match trial.served_within(CLIENT_WAIT) {
            Ok(wire) => held.push(wire),
            Err(Verdict::Fail(Finding { evidence: Evidence::Time, .. })) => {
                end = Some("then others wait");
            }
            Err(Verdict::Fail(Finding { evidence: Evidence::Refusal { .. }, .. })) => {
                end = Some("then others are turned away");
            }
            Err(other) => return Err(other),
        }
    }
    let served = held.len() as u64;
    let clients = count(served, "client");
    drop(held);
    trial.pause(trial.setup.settle)?;
    let text = match end {
        None => format!("{clients} are served at the same time, and perhaps more"),
        Some(end) => format!("{clients} are served at the same time, {end}"),
    };
    Ok(Some(MeasuredValue::new(text, Some(served as f64))))
}

fn unread_bytes(trial: &mut CaseTrial<'_>) -> Judged<Option<MeasuredValue>> {
    // Where no answer is long, kernels hold more than a server answers.
    let Ok(message) = trial.long_answer(UNREAD_MESSAGE_BYTES) else { return Ok(None) };
    let mut wire = trial.connect_narrow()?;
    let unread = wire.send_unread(&message, STALL)?;
    wire.reset();
    let taken = grouped(unread.taken);
    let text = match unread.stop {
        StopReason::Waiting => format!("{taken} bytes are taken from it"),
        StopReason::Ended => format!("{taken} bytes are taken from it, and then it is ended"),
        StopReason::All | StopReason::Asked => {
            format!("{taken} bytes are taken from it, and perhaps more")
        }
        StopReason::OutOfTime => return Ok(None),
    };
    Ok(Some(MeasuredValue::new(text, Some(unread.taken as f64))))
}

/// A box that waits for more before it passes something on merges what was apart.
fn small_answers(trial: &mut CaseTrial<'_>, apart: Duration) -> Judged<Option<MeasuredValue>> {
    let mut wire = trial.connect()?;
    let messages: Vec<Request> = (0..SMALL_ANSWERS).map(|_| trial.setup.hello()).collect();
    let (mut got, mut pieces) = (vec![], 0);
    for message in &messages {
        wire.send_request(message)?;
        let until = Instant::now() + apart;
        let left = || until.saturating_duration_since(Instant::now());
        while wire.receive_into(&mut got, usize::MAX, left())? {
            pieces += 1;
        }
    }
    pieces += receive_pieces(trial, &mut wire, got, &messages)?.len() as u64;
    let sent = messages.len();
    let pieces_of = count(pieces, "piece");
    let text = format!("{sent} answers, asked for {} apart, come in {pieces_of}", seconds(apart));
    Ok(Some(MeasuredValue::new(text, Some(pieces as f64))))
}

/// A box with a small buffer, or with small packets, cuts what was whole.
fn long_answer(trial: &mut CaseTrial<'_>) -> Judged<Option<MeasuredValue>> {
    let Ok(message) = trial.long_answer(LONG_ANSWER_BYTES) else { return Ok(None) };
    let mut wire = trial.connect()?;
    wire.send_request(&message)?;
    let bytes = grouped(message.answer_len() as u64);
    let pieces = receive_pieces(trial, &mut wire, vec![], &[message])?;
    let (number, largest) = (pieces.len() as u64, pieces.iter().max().copied().unwrap_or_default());
    let (number_of, largest) = (count(number, "piece"), grouped(largest as u64));
    let text = format!("{bytes} bytes come in {number_of}, of {largest} bytes at most");
    Ok(Some(MeasuredValue::new(text, Some(number as f64))))
}

/// The lengths of the pieces in which the rest of these answers comes.
fn receive_pieces(
    trial: &CaseTrial<'_>,
    wire: &mut Wire<'_>,
    mut got: Vec<u8>,
    messages: &[Request],
) -> Judged<Vec<usize>> {
    let owed: usize = messages.iter().map(Request::answer_len).sum();
    let mut pieces = vec![];
    loop {
        let before = got.len();
        if before >= owed || !wire.receive_into(&mut got, owed, trial.setup.patience)? {
            break;
        }
        pieces.push(got.len() - before);
    }
    wire.expect_rest(got, &messages.iter().collect::<Vec<_>>())?;
    Ok(pieces)
}

fn urgent_data(trial: &mut CaseTrial<'_>) -> Judged<Option<MeasuredValue>> {
    if !trial.setup.is_tcp() {
        return Ok(None);
    }
    // The same on both sides.
    let message = match trial.setup.exchanges {
        None => trial.message(64),
        Some(_) => trial.setup.hello(),
    };
    let (before, after) = message.bytes.split_at(message.bytes.len() / 2);
    let mut wire = trial.connect()?;
    wire.send(before)?;
    if !wire.send_urgent(b'!') {
        return Ok(None);
    }
    wire.try_send(after, trial.setup.patience)?;
    wire.be_patient_for(CLIENT_WAIT.min(trial.setup.patience));
    let text = match wire.expect_answers(&[&message]) {
        Ok(()) => "it is no part of the stream",
        Err(stopped @ Verdict::Skipped(_)) => return Err(stopped),
        Err(_) if wire.end().is_some() => "the connection is ended",
        Err(_) => "the answer is another one: it is a part of the stream, or the message is lost",
    };
    Ok(Some(MeasuredValue::new(text, None)))
}

/// What a box does with a client while the server is down.
pub fn without_server(setup: &Setup) -> String {
    let mut trial = CaseTrial::new(setup, "timing/1", None);
    let Ok(mut wire) = trial.connect_alone() else {
        return "refuses clients too".to_owned();
    };
    let since = Instant::now();
    // The run is not stopped meanwhile.
    let _ = wire.receive_into(&mut vec![], 1, setup.patience);
    let took = seconds(since.elapsed());
    match wire.end() {
        Some(ConnectionEnd::Reset) => format!("accepts a client, and resets it after {took}"),
        Some(_) => format!("accepts a client, and ends it by a FIN after {took}"),
        None => format!("accepts a client, and neither ends it nor answers within {took}"),
    }
}

/// The server shows it by echoing what it did not expect.
fn proxy_header(trial: &mut CaseTrial<'_>) -> Judged<Option<MeasuredValue>> {
    let mut wire = trial.connect_alone()?;
    let mut got = vec![];
    wire.receive_into(&mut got, HEADERS[1].0.len(), HEADER_WAIT)?;
    let added = HEADERS.iter().find(|(beginning, _)| got.starts_with(beginning));
    let text = added.map_or("none came back", |(_, text)| text);
    Ok(Some(MeasuredValue::new(text, None)))
}
