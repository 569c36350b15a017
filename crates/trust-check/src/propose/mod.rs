//! Learns a protocol from whole deliveries, and proposes an exchange file.
//!
//! Nothing is cut, repeated without waiting, or left half done. Every claim fits all samples, and
//! what is a guess is a comment that says why.

pub mod draft;
pub mod ends;
mod id;
pub mod sampling;
pub mod secret;
pub mod varies;

use std::sync::Arc;
use std::time::Duration;

use trust_cli::text::{grouped, seconds};
use trust_wire::MessageEnd;

use self::draft::{Draft, described, end_keys};
use self::ends::{EndGuess, WholePair};
use self::sampling::{Answered, SampledConnection, Sampler};
use self::varies::{Difference, Variation};
use crate::exchange::learned::{Learned, LearnedExchange};
use crate::exchange::pattern::Pattern;
use crate::exchange::protocol::{AnswerEnd, Exchange, IdPlaces, Protocol, Want};
use crate::exchange::template::Template;
use crate::learning;
use crate::setup::Setup;
use crate::transcript::Transcript;
use crate::verdict::{Finding, Judged, Verdict};
use crate::wire::{self, ConnectionEnd};

/// How often each exchange is asked for.
pub const SAMPLES: usize = 5;

/// Between two samples. All of them take more than two seconds, so that times differ.
const PAUSE: Duration = Duration::from_millis(450);

/// The most samples at the beginning that may be unlike the others.
const WARM_UP_MAX: usize = 2;

/// The most connections for an exchange: the samples, two copies on one, and those of the check at
/// the end.
const CONNECTIONS_OF_EXCHANGE: usize = SAMPLES + 1 + WARM_UP_MAX + learning::SAMPLES;

/// The name of what the server says first.
const GREETING: &str = "greeting";

/// What was found.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The protocol, with comments.
    pub draft: Draft,
    /// What was found, in lines for people.
    pub found: Vec<String>,
}

impl Proposal {
    /// Whether it has bytes that are not to be shown.
    pub fn has_secret(&self) -> bool {
        let Protocol { before, exchanges, .. } = &self.draft.protocol;
        before.iter().chain(exchanges).any(|exchange| exchange.secret)
    }
}

/// The most connections that this number of exchanges takes, all with whole requests.
pub fn connections_max(exchanges: usize) -> usize {
    1 + exchanges * CONNECTIONS_OF_EXCHANGE + id::CONNECTIONS_MAX
}

/// Asks for each exchange in one piece, several times, and returns what that shows of the protocol.
/// What is known of it stays.
///
/// # Errors
///
/// A failure if nothing is answered, and a skipped case when the run is to end.
pub fn propose(setup: &Setup, protocol: &Protocol) -> Judged<Proposal> {
    let mut proposal = Proposal { draft: Draft::new(protocol.clone()), found: vec![] };
    proposal.draft.about = introduction();
    mark_secrets(&mut proposal);
    find_greeting(setup, &mut proposal)?;
    let mut samples = sampled(setup, &proposal.draft.protocol)?;
    drop_unanswered(setup, &mut proposal, &mut samples)?;
    find_warm_up(&mut proposal, &mut samples);
    find_ends(&mut proposal, &samples);
    show_answers(&mut proposal, &samples);
    find_closes(&mut proposal, &samples);
    find_variation(&mut proposal, &samples);
    find_once(setup, &mut proposal, &samples)?;
    find_id(setup, &mut proposal, &samples)?;
    check_again(setup, &mut proposal)?;
    Ok(proposal)
}

/// The conversations about one exchange.
type Samples = Vec<SampledConnection>;

fn mark_secrets(proposal: &mut Proposal) {
    let Draft { protocol, before, exchanges, .. } = &mut proposal.draft;
    let of_before = protocol.before.iter_mut().zip(before);
    for (exchange, about) in of_before.chain(protocol.exchanges.iter_mut().zip(exchanges)) {
        if !exchange.secret && secret::is_secret(&exchange.send.bytes(0)) {
            exchange.secret = true;
            about.push("Its bytes look like a password, so no report shows them.".to_owned());
            proposal.found.push(format!("secret: {}", exchange.name));
        }
    }
}

/// Whether the server speaks first, where nothing is said of that.
fn find_greeting(setup: &Setup, proposal: &mut Proposal) -> Judged<()> {
    let Draft { protocol, before, .. } = &mut proposal.draft;
    let mut said = protocol.before.iter().chain(&protocol.exchanges);
    if said.any(|exchange| exchange.send.is_empty()) {
        return Ok(());
    }
    let learned = Learned::new(protocol.clone());
    let greeting = Sampler { setup, learned: &learned }.greeting()?;
    if greeting.is_empty() {
        return Ok(());
    }
    let shown = described(&greeting, false);
    let exchange = Exchange {
        name: GREETING.to_owned(),
        send: Template::default(),
        want: None,
        several: None,
        ignore: vec![],
        once: false,
        closes: false,
        secret: false,
    };
    protocol.before.insert(0, exchange);
    before.insert(0, vec![format!("The server speaks first: {shown}")]);
    proposal.found.push(format!("the server speaks first: {shown}"));
    Ok(())
}

/// Several conversations about each exchange, with pauses.
fn sampled(setup: &Setup, protocol: &Protocol) -> Judged<Vec<Samples>> {
    let learned = Learned::new(protocol.clone());
    let sampler = Sampler { setup, learned: &learned };
    let mut samples = vec![vec![]; learned.exchanges.len()];
    for round in 0..SAMPLES {
        for (exchange, samples) in learned.exchanges.iter().zip(&mut samples) {
            let is_hopeless = round > 0 && samples.iter().all(|it| !has_answer(it));
            if !is_hopeless {
                samples.push(sampler.ask_once(exchange)?);
            }
        }
        if round + 1 < SAMPLES && samples.iter().flatten().any(has_answer) {
            wire::pause(setup, PAUSE)?;
        }
    }
    Ok(samples)
}

/// Whether the exchange itself was answered.
fn has_answer(conversation: &SampledConnection) -> bool {
    conversation.answers.first().is_some_and(|answered| answered.is_whole)
}

/// Leaves out exchanges that are not always answered.
///
/// # Errors
///
/// A failure if no exchange is.
fn drop_unanswered(
    setup: &Setup,
    proposal: &mut Proposal,
    samples: &mut Vec<Samples>,
) -> Judged<()> {
    let Draft { protocol, about, exchanges, .. } = &mut proposal.draft;
    let mut why = None;
    for place in (0..samples.len()).rev() {
        let Some(without) = samples[place].iter().find(|it| !has_answer(it)) else { continue };
        let name = protocol.exchanges[place].name.clone();
        let last = without.before.iter().chain(&without.answers).next_back();
        let (asked, is_secret) = match without.answers.is_empty() {
            true => match without.before.len().checked_sub(1) {
                Some(last) => (&protocol.before[last].name, protocol.before[last].secret),
                None => (&name, false),
            },
            false => (&name, protocol.exchanges[place].secret),
        };
        let got = last.map_or_else(|| "nothing came".to_owned(), |it| came(setup, it, is_secret));
        let message = format!("no whole answer to {asked}: {got}");
        about.push(format!("Left out, {name}: {message}."));
        proposal.found.push(format!("left out, {name}: {message}"));
        why = Some(message);
        protocol.exchanges.remove(place);
        exchanges.remove(place);
        samples.remove(place);
    }
    match (samples.is_empty(), why) {
        (true, Some(got)) => Err(Verdict::fail("an answer to a whole request", got)),
        _ => Ok(()),
    }
}

/// What came where an answer was awaited.
fn came(setup: &Setup, answered: &Answered, is_secret: bool) -> String {
    let bytes = match answered.answer.len() {
        0 if answered.end.is_none() => format!("nothing came for {}", seconds(setup.patience)),
        0 => "nothing came".to_owned(),
        len => format!(
            "{} bytes came, {}",
            grouped(len as u64),
            described(&answered.answer, is_secret)
        ),
    };
    match answered.end {
        Some(ConnectionEnd::Fin) => format!("{bytes}; then the server closed the connection"),
        Some(ConnectionEnd::Reset) => format!("{bytes}; then the server reset the connection"),
        Some(ConnectionEnd::Open) | None => bytes,
    }
}

/// Finds first answers that are unlike all later ones, and leaves them out.
fn find_warm_up(proposal: &mut Proposal, samples: &mut [Samples]) {
    let mut most = 0;
    for samples in samples.iter_mut() {
        let answers: Vec<&[u8]> = samples.iter().map(answer).collect();
        let is_same_from = |from: &usize| answers[*from..].iter().all(|it| *it == answers[*from]);
        let count = (0..=WARM_UP_MAX.min(answers.len() - 1)).find(is_same_from).unwrap_or(0);
        // A time that changed once would be the same before, too.
        let count = if count == WARM_UP_MAX && answers[0] == answers[1] { 0 } else { count };
        samples.drain(..count);
        most = most.max(count);
    }
    let protocol = &mut proposal.draft.protocol;
    if most as u32 > protocol.warm_up {
        protocol.warm_up = most as u32;
        let what = if most == 1 { "The first answer was" } else { "The first two answers were" };
        let about = format!("{what} unlike the later ones, which were all the same: see warm_up.");
        proposal.draft.about.push(about);
        proposal.found.push(format!("warm-up: {most}"));
    }
}

/// The answer to the exchange itself.
fn answer(conversation: &SampledConnection) -> &[u8] {
    conversation.answers.first().map_or(&[], |answered| &answered.answer)
}

fn each_answer(samples: &Samples) -> Vec<Vec<u8>> {
    samples.iter().map(|it| answer(it).to_vec()).collect()
}

fn find_ends(proposal: &mut Proposal, samples: &[Samples]) {
    let Draft { protocol, message, .. } = &mut proposal.draft;
    if protocol.answer_end.is_some() {
        return;
    }
    let conversations = || samples.iter().flatten();
    let answered = conversations().flat_map(|it| it.before.iter().chain(&it.answers));
    let mut pairs: Vec<WholePair<'_>> = vec![];
    for Answered { request, answer, end, .. } in answered {
        // Many are the same.
        let is_over = *end == Some(ConnectionEnd::Fin);
        let is_new = |it: &WholePair<'_>| {
            (it.request, it.answer, it.is_over) != (&request[..], &answer[..], is_over)
        };
        if !answer.is_empty() && pairs.iter().all(is_new) {
            pairs.push(WholePair { request, answer, is_over });
        }
    }
    let guesses = ends::guess(&pairs);
    let is_common = guesses.request == guesses.answer;
    let mut say = |guess: &EndGuess, whose: &str| {
        let end = end_said(&guess.end);
        let others: Vec<String> = guess.others.iter().map(end_said).collect();
        let of = counted(pairs.len());
        message.push(format!("Where {whose} end is a guess: it fits all samples, {of}."));
        if others.is_empty() {
            proposal.found.push(format!("end of {whose}: {end}"));
        } else {
            message.push(format!("These would fit too: {}.", others.join("; ")));
            let others = others.join("; ");
            proposal.found.push(format!("end of {whose}: {end} (or {others})"));
        }
    };
    match (&guesses.request, &guesses.answer) {
        (Some(both), _) if is_common => say(both, "requests and answers"),
        (request, answer) => {
            request.iter().for_each(|guess| say(guess, "requests"));
            answer.iter().for_each(|guess| say(guess, "answers"));
        }
    }
    if guesses.answer.is_none() {
        message.push(
            "No end that is known fits all answers, so one ends after as many bytes as are learned."
                .to_owned(),
        );
        proposal.found.push("no end of an answer was recognised".to_owned());
    }
    if protocol.request_end.is_none() {
        protocol.request_end = guesses.request.map(|guess| guess.end.message);
    }
    protocol.answer_end = guesses.answer.map(|guess| guess.end);
}

fn counted(different: usize) -> String {
    match different {
        1 => "which were the same".to_owned(),
        count => format!("{} of them different", grouped(count as u64)),
    }
}

/// An end as the file has it, in one line.
fn end_said(end: &AnswerEnd) -> String {
    let keys = end_keys(&end.message);
    let mut said: Vec<String> = keys.lines().map(str::to_owned).collect();
    said.extend(end.several.iter().map(|several| {
        let (key, pattern) = several.key();
        format!("{key} = '{}'", pattern.source())
    }));
    said.join(", ")
}

/// Says how each exchange was answered.
fn show_answers(proposal: &mut Proposal, samples: &[Samples]) {
    let Draft { protocol, exchanges, .. } = &mut proposal.draft;
    for ((exchange, about), samples) in protocol.exchanges.iter().zip(exchanges).zip(samples) {
        let Some(first) = samples.first() else { continue };
        about.push(format!("Answered: {}", described(answer(first), exchange.secret)));
    }
    let mut all = samples.iter().flatten().flat_map(|it| &it.answers);
    if all.all(|answered| answered.answer == answered.request) {
        let about = "The server sends requests back. A check without this file tries more cases.";
        proposal.draft.about.push(about.to_owned());
        let found = "the server sends requests back: a check without the file tries more cases";
        proposal.found.push(found.to_owned());
    }
}

fn find_closes(proposal: &mut Proposal, samples: &[Samples]) {
    let Draft { protocol, exchanges, .. } = &mut proposal.draft;
    for ((exchange, about), samples) in protocol.exchanges.iter_mut().zip(exchanges).zip(samples) {
        let has_closed = |it: &&SampledConnection| {
            it.answers.first().is_some_and(|it| it.end == Some(ConnectionEnd::Fin))
        };
        let count = samples.iter().filter(has_closed).count();
        if exchange.closes || count == 0 {
            continue;
        }
        let name = &exchange.name;
        if count == samples.len() {
            exchange.closes = true;
            about.push("The server closes the connection after the answer.".to_owned());
            proposal.found.push(format!("closes: {name}"));
        } else {
            let of = samples.len();
            about.push(format!("The server closed the connection after {count} of {of} answers."));
            proposal.found.push(format!("the server closed after {count} of {of}: {name}"));
        }
    }
}

fn find_variation(proposal: &mut Proposal, samples: &[Samples]) {
    let learned = Learned::new(proposal.draft.protocol.clone());
    for (place, step) in learned.before.iter().enumerate() {
        let of = |it: &SampledConnection| it.before.get(place).map(|it| it.answer.clone());
        let answers: Vec<Vec<u8>> = samples.iter().flatten().filter_map(of).collect();
        ignore_variation(proposal, step, &answers, |draft| &mut draft.before[place]);
    }
    for (place, exchange) in learned.exchanges.iter().enumerate() {
        let answers = each_answer(&samples[place]);
        ignore_variation(proposal, exchange, &answers, |draft| &mut draft.exchanges[place]);
    }
}

/// Proposes to ignore what differs between the answers beside what is ignored already.
fn ignore_variation(
    proposal: &mut Proposal,
    exchange: &LearnedExchange,
    answers: &[Vec<u8>],
    about: impl Fn(&mut Draft) -> &mut Vec<String>,
) {
    let variation = variation(exchange, answers);
    for note in variation.notes {
        let line = format!("Answers differ, and nothing is proposed to ignore: {note}.");
        about(&mut proposal.draft).push(line);
        proposal.found.push(format!("answers to {} differ: {note}", exchange.name()));
    }
    ignore_differences(proposal, variation.differences);
}

/// What differs beside what is ignored already.
fn variation(exchange: &LearnedExchange, answers: &[Vec<u8>]) -> Variation {
    if exchange.has_want() {
        return Variation::default();
    }
    let kept: Vec<Vec<u8>> = answers.iter().map(|answer| exchange.kept(answer)).collect();
    let kept: Vec<&[u8]> = kept.iter().map(Vec::as_slice).collect();
    let variation = varies::between(&kept);
    // A pattern would show a part of the answer.
    if exchange.is_secret() && variation != Variation::default() {
        let notes = vec!["it is secret how".to_owned()];
        return Variation { differences: vec![], notes };
    }
    variation
}

fn ignore_differences(proposal: &mut Proposal, differences: Vec<Difference>) {
    let Draft { protocol, ignore, .. } = &mut proposal.draft;
    for Difference { pattern: source, why, .. } in differences {
        let Ok(pattern) = Pattern::parse(&source) else { continue };
        if !protocol.ignore.contains(&pattern) {
            proposal.found.push(format!("ignored: {source}"));
            ignore.push((protocol.ignore.len(), format!("Differs: {why}")));
            protocol.ignore.push(pattern);
        }
    }
}

/// Whether a second copy on the same connection is answered as the first one is.
fn find_once(setup: &Setup, proposal: &mut Proposal, samples: &[Samples]) -> Judged<()> {
    let learned = Learned::new(proposal.draft.protocol.clone());
    let sampler = Sampler { setup, learned: &learned };
    for (place, exchange) in learned.exchanges.iter().enumerate() {
        let Some(first) = samples[place].first().filter(|_| exchange.is_repeatable()) else {
            continue;
        };
        let request = exchange.request(0);
        let twice = [request.clone(), request];
        let conversation = sampler.converse(exchange, &twice, setup.patience)?;
        let got = match conversation.answers.get(1) {
            Some(second) if second.is_whole => {
                let answers = [answer(first).to_vec(), second.answer.clone()];
                let Variation { differences, notes } = variation(exchange, &answers);
                // Where answers differ anyway, it means nothing that this one does.
                let is_noted = !variation(exchange, &each_answer(&samples[place])).notes.is_empty();
                if is_noted {
                    continue;
                }
                if notes.is_empty() && differences.iter().all(|it| it.is_value) {
                    ignore_differences(proposal, differences);
                    continue;
                }
                came(setup, second, exchange.is_secret())
            }
            Some(second) => came(setup, second, exchange.is_secret()),
            None => "the connection had ended".to_owned(),
        };
        let Draft { protocol, exchanges, .. } = &mut proposal.draft;
        protocol.exchanges[place].once = true;
        let about = format!("A second copy on the same connection was answered otherwise: {got}.");
        exchanges[place].push(about);
        proposal.found.push(format!("once per connection: {}", exchange.name()));
    }
    Ok(())
}

fn find_id(setup: &Setup, proposal: &mut Proposal, all_samples: &[Samples]) -> Judged<()> {
    let protocol = &mut proposal.draft.protocol;
    let (Some(MessageEnd::Length(format)), Some(_), None) =
        (&protocol.request_end, &protocol.answer_end, &protocol.id)
    else {
        return Ok(());
    };
    let learned = Learned::new(protocol.clone());
    let sampler = Sampler { setup, learned: &learned };
    let is_fit = |(exchange, _): &(&Arc<LearnedExchange>, &Samples)| {
        exchange.is_repeatable() && !exchange.is_secret()
    };
    let Some((exchange, samples)) = learned.exchanges.iter().zip(all_samples).find(is_fit) else {
        return Ok(());
    };
    let Some(first) = samples.first() else { return Ok(()) };
    let found = id::find(&sampler, exchange, answer(first), &format.length_at())?;
    let Some(id) = found.filter(|id| is_in_all(id, protocol, all_samples)) else { return Ok(()) };
    let (send, want) = (&id.send, &id.want);
    proposal.draft.message.push(format!(
        "id: bytes {}..{} of the request were changed, and came back in {}..{}.",
        send.start, send.end, want.start, want.end
    ));
    proposal.found.push(format!(
        "id: bytes {}..{} of a request come back in {}..{} of its answer",
        send.start, send.end, want.start, want.end
    ));
    protocol.id = Some(id);
    Ok(())
}

/// Whether all that is exchanged has the id at these places.
fn is_in_all(id: &IdPlaces, protocol: &Protocol, samples: &[Samples]) -> bool {
    let is_wanted = |exchange: &Exchange| match &exchange.want {
        Some(Want::Bytes(want)) => want.bytes(0).len() >= id.want.end,
        _ => true,
    };
    let mut answered = samples.iter().flatten().flat_map(|it| it.before.iter().chain(&it.answers));
    protocol.exchanges.iter().all(is_wanted)
        && answered.all(|Answered { request, answer, .. }| {
            let place = request.get(id.send.clone());
            place.is_some() && place == answer.get(id.want.clone())
        })
}

/// Learns with the proposal what a check would, and says so if that fails.
fn check_again(setup: &Setup, proposal: &mut Proposal) -> Judged<()> {
    let learned = Learned::new(proposal.draft.protocol.clone());
    let (what, why) = match learning::learn(setup, &learned, &Transcript::default()) {
        Err(stopped @ Verdict::Skipped(_)) => return Err(stopped),
        Err(Verdict::Fail(Finding { got, .. })) => ("fails", got),
        Err(Verdict::Inconclusive(why)) => ("is inconclusive", why),
        _ => return Ok(()),
    };
    let why = if proposal.has_secret() { String::new() } else { format!(": {why}") };
    proposal.draft.about.push(format!("A check with this file {what}{why}."));
    proposal.found.push(format!("a check with this file {what}{why}"));
    Ok(())
}

/// What is said at the beginning of a file.
fn introduction() -> Vec<String> {
    vec![
        format!(
            "Written by trustctl check --propose, from {SAMPLES} whole deliveries of each exchange."
        ),
        "It is a place to start from: what is a guess says so. The keys: docs/EXCHANGE-FILES.md"
            .into(),
    ]
}
