//! What `check --propose` makes of answers: ends that fit all samples, patterns that compile, and a
//! file that is read back.

use trust_check::exchange::file;
use trust_check::exchange::learned::answer_end;
use trust_check::exchange::pattern::Pattern;
use trust_check::exchange::protocol::{AnswerEnd, Protocol};
use trust_check::exchange::template::Template;
use trust_check::propose::draft::Draft;
use trust_check::propose::ends::{self, EndGuess, EndGuesses, WholePair};
use trust_check::propose::secret::is_secret;
use trust_check::propose::varies;
use trust_wire::Found;

use crate::choices::Choices;
use crate::oneline::check_line;

/// Requests and answers at most: a proposal has a handful.
const PAIRS_MAX: usize = 5;

/// Input: for each exchange whether the server ended the connection, the request and the answer.
///
/// # Panics
///
/// If a guess does not fit, or what is written is not read back.
pub fn run(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut pairs = vec![];
    while !choices.is_empty() && pairs.len() < PAIRS_MAX {
        let is_over = choices.byte() & 1 == 1;
        let (request, answer) = (choices.short_bytes(), choices.short_bytes());
        if !answer.is_empty() {
            pairs.push(WholePair { request, answer, is_over });
        }
    }
    let EndGuesses { request, answer } = ends::guess(&pairs);
    for end in request.iter().flat_map(ends_of) {
        let requests = pairs.iter().map(|pair| pair.request).filter(|it| !it.is_empty());
        for it in requests {
            assert_eq!(end.message.find(it, None), Found::End(it.len()), "{end:?}");
        }
    }
    for end in answer.iter().flat_map(ends_of) {
        for WholePair { request, answer, is_over } in &pairs {
            let found = answer_end(end, request, answer, *is_over);
            assert_eq!(found, Found::End(answer.len()), "{end:?}");
        }
    }
    let answers: Vec<&[u8]> = pairs.iter().map(|pair| pair.answer).collect();
    let variation = varies::between(&answers);
    let patterns = variation.differences.iter().map(|difference| {
        check_line(&difference.why);
        Pattern::parse(&difference.pattern).expect("a pattern that is proposed compiles")
    });
    let ignore: Vec<Pattern> = patterns.collect();
    variation.notes.iter().for_each(|note| check_line(note));
    let requests = pairs.iter().map(|pair| pair.request).filter(|request| !request.is_empty());
    check_file(requests, request, answer, ignore);
}

fn ends_of(guess: &EndGuess) -> impl Iterator<Item = &AnswerEnd> {
    std::iter::once(&guess.end).chain(&guess.others)
}

fn check_file<'a>(
    requests: impl Iterator<Item = &'a [u8]>,
    request: Option<EndGuess>,
    answer: Option<EndGuess>,
    ignore: Vec<Pattern>,
) {
    let templates: Vec<Template> = requests.map(|it| Template::of_bytes(it.to_vec())).collect();
    if templates.is_empty() {
        return;
    }
    let mut protocol = Protocol::of_requests("proposal", templates);
    for exchange in &mut protocol.exchanges {
        exchange.secret = is_secret(&exchange.send.bytes(0));
    }
    protocol.request_end = request.map(|guess| guess.end.message);
    protocol.answer_end = answer.map(|guess| guess.end);
    protocol.ignore = ignore;
    let text = Draft::new(protocol.clone()).text();
    let no_file = |_: &str| Err("no file".to_owned());
    let read = file::parse(text.as_bytes(), "FILE", &no_file);
    let read = read.unwrap_or_else(|mistake| panic!("{mistake} in\n{text}"));
    assert_eq!(read.request_end, protocol.request_end, "{text}");
    assert_eq!(read.answer_end, protocol.answer_end, "{text}");
    assert_eq!(read.ignore, protocol.ignore, "{text}");
    for (read, written) in read.exchanges.iter().zip(&protocol.exchanges) {
        assert_eq!(read.send.bytes(0), written.send.bytes(0), "{text}");
        assert_eq!(read.secret, written.secret);
    }
}
