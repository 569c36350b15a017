//! Exchanges with the API, as `tests/vectors` has them.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use trust_testkit::http::Client;
use trust_toxiproxy::routes::{ApiAnswer, ApiRequest};
use trust_toxiproxy::server::{ApiServer, ApiTimeouts, loopback};

use crate::fake::{Calls, api, take};

/// A file of them.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    case: Vec<Case>,
}

/// Exchanges with a new API, one after the other.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    exchange: Vec<Exchange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    /// The method and the path.
    request: String,
    #[serde(default)]
    body: String,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    has_origin: bool,
    status: u16,
    /// Whether the answer has the name of the request.
    #[serde(default = "yes")]
    is_routed: bool,
    /// The type of the body, if it is not what follows from the status.
    r#type: Option<String>,
    location: Option<String>,
    /// The body.
    #[serde(default)]
    answer: String,
    /// How the body starts, in place of all of it.
    answer_start: Option<String>,
    /// The text in a body that says what is wrong, in place of the body.
    error: Option<String>,
    /// How that starts, if the rest is ours.
    error_start: Option<String>,
    /// What the data plane is told.
    #[serde(default)]
    calls: Vec<String>,
    /// What is noted for the log.
    #[serde(default)]
    notes: Vec<String>,
}

fn yes() -> bool {
    true
}

/// What came back.
struct Seen<'a> {
    status: u16,
    header: &'a dyn Fn(&str) -> Option<String>,
    body: &'a str,
}

/// All files with their names.
fn groups() -> Vec<(String, Group)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let files = fs::read_dir(directory).expect("the vectors are there");
    let mut groups: Vec<_> = files
        .map(|file| {
            let path = file.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("it can be read");
            let group = toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, group)
        })
        .collect();
    groups.sort_by(|(one, _), (other, _)| one.cmp(other));
    groups
}

impl Exchange {
    /// What the body must be, and whether that is all of it.
    fn expected_body(&self) -> (String, bool) {
        let start = |text: &str| format!("{{\"error\":{}", serde_json::Value::from(text));
        match (&self.error, &self.error_start, &self.answer_start) {
            (Some(error), ..) => (format!("{},\"status\":{}}}\n", start(error), self.status), true),
            (None, Some(text), _) => (start(text).trim_end_matches('"').to_owned(), false),
            (None, None, Some(text)) => (text.clone(), false),
            (None, None, None) => (self.answer.clone(), true),
        }
    }

    fn expected_type(&self) -> Option<&str> {
        match (&self.r#type, self.status) {
            (Some(name), _) => Some(name),
            (None, 204 | 301 | 405) => None,
            (None, 200 | 201) => Some("application/json"),
            (None, _) => Some("text/plain; charset=utf-8"),
        }
    }

    fn check(&self, place: &str, seen: &Seen<'_>, calls: &Calls, notes: &[String]) {
        let place = format!("{place}: {} {}", self.request, self.body);
        let (body, is_whole) = self.expected_body();
        if is_whole {
            assert_eq!(seen.body, body, "{place}");
        } else {
            assert!(seen.body.starts_with(&body), "{place}: {}", seen.body);
        }
        assert_eq!(seen.status, self.status, "{place}");
        let content_type = (seen.header)("content-type");
        assert_eq!(content_type.as_deref(), self.expected_type(), "{place}");
        let is_sniffed = (seen.header)("x-content-type-options").as_deref() != Some("nosniff");
        let is_plain = content_type.is_some_and(|name| name.starts_with("text/plain"));
        assert_eq!(is_sniffed, !is_plain, "{place}");
        assert_eq!((seen.header)("location"), self.location, "{place}");
        let id = (seen.header)("x-toxiproxy-request-id");
        assert_eq!(id.is_some(), self.is_routed, "{place}");
        let is_digit = |digit: u8| digit.is_ascii_digit() || (b'a'..=b'v').contains(&digit);
        assert!(id.is_none_or(|id| id.len() == 20 && id.bytes().all(is_digit)), "{place}");
        assert_eq!(take(calls), self.calls, "{place}");
        assert_eq!(notes, self.notes, "{place}");
    }
}

#[test]
fn requests_get_the_answers_of_toxiproxy() {
    let mut count = 0;
    for (group, Group { case: cases }) in groups() {
        for Case { name, exchange: exchanges } in cases {
            let (mut api, calls) = api();
            for exchange in exchanges {
                count += 1;
                let (method, target) = exchange.request.split_once(' ').expect("a method");
                let (path, query) =
                    target.split_once('?').map_or((target, None), |(path, it)| (path, Some(it)));
                let ApiAnswer { status, headers, body, notes } = api.answer(&ApiRequest {
                    method,
                    path,
                    query,
                    user_agent: exchange.user_agent.as_bytes(),
                    origin: exchange.has_origin.then_some(b"http://example.org"),
                    body: exchange.body.as_bytes(),
                    ..ApiRequest::default()
                });
                let header = |name: &str| {
                    let mut headers = headers.iter();
                    let found = headers.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
                    Some(found.1.clone())
                };
                let seen = Seen { status, header: &header, body: &body };
                exchange.check(&format!("{group}: {name}"), &seen, &calls, &notes);
            }
        }
    }
    assert!(count > 100, "only {count} exchanges were found");
}

#[test]
fn the_answers_are_the_same_over_http() {
    for (group, Group { case: cases }) in groups() {
        for Case { name, exchange: exchanges } in cases {
            let (api, calls) = api();
            let notes = Calls::default();
            let noted = notes.clone();
            let note = move |note| noted.lock().unwrap().push(note);
            let server = ApiServer::start(&loopback(0), ApiTimeouts::default(), api, note).unwrap();
            // One connection for all: each answer leaves it at the start of the next one.
            let mut client = Client::connect(server.addresses()[0]);
            for exchange in exchanges {
                let mut headers = vec!["Content-Type: application/x-www-form-urlencoded".into()];
                if !exchange.user_agent.is_empty() {
                    headers.push(format!("User-Agent: {}", exchange.user_agent));
                }
                if exchange.has_origin {
                    headers.push("Origin: http://example.org".to_owned());
                }
                client.send(&exchange.request, &headers, &exchange.body);
                let answer = client.receive(exchange.request.starts_with("HEAD "));
                let header = |name: &str| answer.headers.get(name).cloned();
                let seen = Seen { status: answer.status, header: &header, body: &answer.body };
                exchange.check(&format!("{group}: {name}"), &seen, &calls, &take(&notes));
            }
        }
    }
}
