//! Finds out what the server answers when it is asked in one piece.

use std::sync::Arc;
use std::time::Duration;

use trust_cli::foreign;
use trust_cli::text::{grouped, seconds};
use trust_wire::foreign::Protocol;

use crate::exchange::difference::shown;
use crate::exchange::learned::{Checked, Learned, LearnedExchange};
use crate::hint;
use crate::setup::Setup;
use crate::transcript::Transcript;
use crate::verdict::{Evidence, Judged, Verdict};
use crate::wire::{ConnectionEnd, Wire};

/// How often each exchange is asked for: what differs between two right answers shows.
pub(crate) const SAMPLES: usize = 3;

/// How long nothing has come when an answer whose end is not known counts as whole.
const QUIET: Duration = Duration::from_millis(300);

/// Exchanges that fail before any is answered: the others would too, each after its wait.
const FAILURES_MAX: usize = 2;

/// The most bytes of an answer.
const ANSWER_MAX: usize = 16 * 1024 * 1024;

/// Asks for each exchange in one piece on connections of their own, and returns what is answered,
/// and what is wrong with those exchanges that are left out.
///
/// # Errors
///
/// What is wrong with the first of them, if all are. That is a failure if something is not
/// answered, and inconclusive if it is answered differently each time, or the server wants a login
/// or TLS.
pub fn learn(
    setup: &Setup,
    protocol: &Learned,
    transcript: &Transcript,
) -> Judged<(Learned, Option<Verdict>)> {
    for _ in 0..protocol.protocol.warm_up {
        for exchange in &protocol.exchanges {
            // What is wrong with it is found with the samples.
            let _ = ask(setup, protocol, exchange, transcript);
        }
    }
    let (mut before, mut exchanges) = (vec![], vec![]);
    let (mut first_failure, mut left_out) = (None::<Verdict>, vec![]);
    for exchange in &protocol.exchanges {
        match learn_one(setup, protocol, exchange, transcript) {
            Ok((steps, learned)) => {
                if exchanges.is_empty() {
                    before = steps;
                }
                exchanges.push(learned);
            }
            Err(why @ Verdict::Skipped(_)) => return Err(why),
            Err(why) => {
                left_out.push(match &first_failure {
                    None => exchange.name().to_owned(),
                    Some(_) => format!("{} ({})", exchange.name(), said(&why)),
                });
                first_failure.get_or_insert(why);
                if exchanges.is_empty() && left_out.len() == FAILURES_MAX {
                    break;
                }
            }
        }
    }
    match first_failure {
        Some(why) if exchanges.is_empty() => Err(why),
        failure => {
            let failure = failure.map(|why| why.followed_by(&without(&left_out)));
            Ok((protocol.with_answers(before, exchanges), failure))
        }
    }
}

fn without(left_out: &[String]) -> String {
    format!("; the other cases are tried without {}", left_out.join(", "))
}

/// What is wrong, in short.
fn said(why: &Verdict) -> &str {
    match why {
        Verdict::Fail(finding) | Verdict::Warn(finding) => &finding.got,
        Verdict::Inconclusive(said) | Verdict::Skipped(said) => said,
        Verdict::Info(said) | Verdict::Allowed(said) => said,
        Verdict::Pass => "",
    }
}

/// What the connection begins with and one exchange, in which all samples agree.
fn learn_one(
    setup: &Setup,
    protocol: &Learned,
    exchange: &Arc<LearnedExchange>,
    transcript: &Transcript,
) -> Judged<(Vec<Arc<LearnedExchange>>, Arc<LearnedExchange>)> {
    let mut all = vec![];
    for _ in 0..SAMPLES {
        all.push(ask(setup, protocol, exchange, transcript)?);
    }
    let mut before = vec![];
    for (place, step) in protocol.before.iter().enumerate() {
        let same = all.iter().map(|asked| &asked.before[place]).collect::<Vec<_>>();
        before.push(agreed(step, &same)?);
    }
    let same = all.iter().map(|asked| &asked.sample).collect::<Vec<_>>();
    let learned = agreed(exchange, &same)?;
    let closes = all.iter().all(|asked| asked.is_over);
    Ok((before, if closes { Arc::new(learned.closing()) } else { learned }))
}

/// Asks in one piece, on a connection that was begun, and returns what is answered.
///
/// # Errors
///
/// As [`learn`], but that one answer differs from no other.
pub fn answer_to(
    setup: &Setup,
    wire: &mut Wire<'_>,
    exchange: &Arc<LearnedExchange>,
    protocol: &Learned,
) -> Judged<Vec<u8>> {
    sample(setup, wire, exchange, protocol).map(|sample| sample.answer)
}

/// What was sent of an exchange, and what was answered.
struct Sample {
    request: Vec<u8>,
    number: u64,
    answer: Vec<u8>,
}

/// What came of one connection.
struct Asked {
    before: Vec<Sample>,
    sample: Sample,
    /// The server has ended the connection after that.
    is_over: bool,
}

/// The exchange with the answer in which all samples agree.
fn agreed(exchange: &Arc<LearnedExchange>, samples: &[&Sample]) -> Judged<Arc<LearnedExchange>> {
    let learned = exchange.with_answer(samples[0].answer.clone());
    for sample in &samples[1..] {
        let Sample { request, number, answer } = sample;
        let why = match learned.check(request, *number, answer, true) {
            Checked::Right(len) if len == answer.len() => continue,
            Checked::Right(len) => {
                format!("{} bytes came, and {} before", grouped(answer.len() as u64), len)
            }
            Checked::Wrong(why) => why,
            Checked::More | Checked::Another => format!("it is {}", shown(answer)),
        };
        let remedy = match learned.has_number() {
            true => "{n} in want is the number of the request, and ignore says what may differ",
            false => "ignore says what may differ",
        };
        return Err(Verdict::inconclusive(format!(
            "{} is answered differently each time: {why} ({remedy})",
            learned.name()
        )));
    }
    Ok(Arc::new(learned))
}

/// One connection, what comes before, and the exchange.
fn ask(
    setup: &Setup,
    protocol: &Learned,
    exchange: &Arc<LearnedExchange>,
    transcript: &Transcript,
) -> Judged<Asked> {
    let mut wire = Wire::connect(setup, 1, transcript)?;
    let mut before = vec![];
    for step in &protocol.before {
        before.push(sample(setup, &mut wire, step, protocol)?);
    }
    let sample = sample(setup, &mut wire, exchange, protocol)?;
    let mut more = vec![];
    wire.receive_into(&mut more, ANSWER_MAX, setup.settle)?;
    if !more.is_empty() && exchange.has_end() && !protocol.is_goodbye(&more) {
        return Err(Verdict::fail_by(
            Evidence::Bytes,
            format!("nothing comes but the answer to {}, sent in one piece", exchange.name()),
            format!(
                "after {} comes {} ([[before]] says what comes first, and unasked in [message] \
                 what the server says by itself)",
                shown(&sample.answer),
                shown(&more)
            ),
        ));
    }
    let is_over = more.is_empty() && wire.end() == Some(ConnectionEnd::Fin);
    Ok(Asked { before, sample, is_over })
}

/// What else the answer looks like, as the end of a sentence.
fn looks_like(answer: &[u8]) -> String {
    match Protocol::recognise(answer, None) {
        None | Some(Protocol::Text | Protocol::Frames(_)) => String::new(),
        Some(Protocol::TlsRecord) => {
            "; it looks like a TLS record, and the check speaks no TLS".to_owned()
        }
        Some(protocol) => format!("; it looks like {}", foreign::named(protocol)),
    }
}

fn sample(
    setup: &Setup,
    wire: &mut Wire<'_>,
    exchange: &Arc<LearnedExchange>,
    protocol: &Learned,
) -> Judged<Sample> {
    let number = protocol.next_copy();
    let request = exchange.request(number);
    wire.sending_secret(exchange.is_secret(), |wire| wire.send(&request))?;
    let mut answer = vec![];
    let expected = match request.is_empty() {
        true => format!("{}, before anything is sent", exchange.name()),
        false => format!("an answer to {}, sent in one piece", exchange.name()),
    };
    let failed = |answer: &[u8], got: String| {
        let got = got + &looks_like(answer);
        Err(match Protocol::recognise(answer, None) {
            Some(Protocol::TlsRecord) => Verdict::inconclusive(got),
            _ => Verdict::fail(expected.clone(), got),
        })
    };
    loop {
        if let Some(why) = protocol.asks_for_login(&answer) {
            let name = exchange.name();
            let said = shown(&answer);
            return Err(Verdict::inconclusive(format!("the answer to {name} is {said}: {why}")));
        }
        let is_over = wire.end().is_some();
        match exchange.answer_so_far(&request, number, &answer, is_over) {
            Checked::Right(len) => {
                wire.keep(answer.split_off(len));
                return Ok(Sample { request, number, answer });
            }
            Checked::Wrong(why) => {
                return failed(&answer, format!("another answer came: {why}"));
            }
            Checked::More | Checked::Another => {}
        }
        let is_open_ended = !exchange.has_end();
        let patience = match is_open_ended && !answer.is_empty() {
            true => QUIET.min(setup.patience),
            false => setup.patience,
        };
        if answer.len() < ANSWER_MAX && wire.receive_into(&mut answer, ANSWER_MAX, patience)? {
            continue;
        }
        if wire.end().is_some() && !is_over {
            continue;
        }
        return match answer.is_empty() {
            false if is_open_ended => Ok(Sample { request, number, answer }),
            false => {
                let count = grouped(answer.len() as u64);
                let what = format!("{count} bytes came, which are no whole answer");
                failed(&answer, format!("{what}: {}", shown(&answer)))
            }
            true => {
                let got = match wire.end() {
                    Some(_) => "the server ended the connection".to_owned(),
                    None => format!("nothing came for {}", seconds(setup.patience)),
                };
                match hint::expects_tls(setup) {
                    Some(tls) => Err(Verdict::inconclusive(format!("{got}; {tls}"))),
                    None => failed(&answer, got),
                }
            }
        };
    }
}
