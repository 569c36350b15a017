//! What the API answers to a request that it cannot fulfil.

use std::io;

use serde::Serialize;

/// A failure, with the text and the status that clients of Toxiproxy know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiError {
    /// What is wrong.
    pub error: String,
    /// The status of the answer.
    pub status: u16,
}

impl ApiError {
    fn new(status: u16, error: impl Into<String>) -> ApiError {
        ApiError { error: error.into(), status }
    }

    pub(crate) fn body(fault: impl AsRef<str>) -> ApiError {
        ApiError::new(400, format!("bad request body: {}", fault.as_ref()))
    }

    pub(crate) fn missing(field: &str) -> ApiError {
        ApiError::new(400, format!("missing required field: {field}"))
    }

    pub(crate) fn stream() -> ApiError {
        ApiError::new(400, "stream was invalid, can be either upstream or downstream")
    }

    pub(crate) fn toxic_type() -> ApiError {
        ApiError::new(400, "invalid toxic type")
    }

    /// A value that makes no sense, and that Toxiproxy would not survive.
    pub(crate) fn attribute(what: &str, value: i64, expected: &str) -> ApiError {
        ApiError::new(400, format!("invalid attribute: {what} {value}: expected {expected}"))
    }

    /// One of the proxies in a list, by its number from 1.
    pub(crate) fn at_proxy(self, number: usize) -> ApiError {
        ApiError { error: format!("{} at proxy {number}", self.error), ..self }
    }

    pub(crate) fn no_proxy() -> ApiError {
        ApiError::new(404, "proxy not found")
    }

    pub(crate) fn no_toxic() -> ApiError {
        ApiError::new(404, "toxic not found")
    }

    pub(crate) fn no_connection() -> ApiError {
        ApiError::new(404, "connection not found")
    }

    /// A rule that no proxy has, with some of those that there are.
    pub(crate) fn no_rule(rule: &str, present: &[&str]) -> ApiError {
        let present = match present {
            [] => "there are no rules".to_owned(),
            present => format!("expected {}", present.join(" or ")),
        };
        ApiError::new(404, format!("rule not found: {rule}: {present}"))
    }

    pub(crate) fn no_route() -> ApiError {
        ApiError::new(404, "page not found")
    }

    pub(crate) fn method(expected: &str) -> ApiError {
        ApiError::new(405, format!("method not allowed: expected {expected}"))
    }

    pub(crate) fn forbidden(reason: &str) -> ApiError {
        ApiError::new(403, reason)
    }

    /// Something in the query or the body that is none of its values.
    pub(crate) fn value(what: &str, value: &str, expected: &str) -> ApiError {
        ApiError::new(400, format!("invalid {what} '{value}': expected {expected}"))
    }

    /// Fault rules that make no sense.
    pub(crate) fn schedule(fault: String) -> ApiError {
        ApiError::new(400, fault)
    }

    /// A time to wait is over.
    pub(crate) fn timed_out(text: String) -> ApiError {
        ApiError::new(408, text)
    }

    pub(crate) fn proxy_exists() -> ApiError {
        ApiError::new(409, "proxy already exists")
    }

    pub(crate) fn toxic_exists() -> ApiError {
        ApiError::new(409, "toxic already exists")
    }

    pub(crate) fn too_large(limit: usize) -> ApiError {
        ApiError::new(413, format!("request body too large: expected at most {limit} bytes"))
    }

    pub(crate) fn network(text: impl Into<String>) -> ApiError {
        ApiError::new(500, text)
    }

    /// It cannot be listened on an address.
    pub(crate) fn listen(address: &str, error: &io::Error) -> ApiError {
        ApiError::network(format!("listen tcp {address}: bind: {}", reason(error)))
    }
}

/// What the system says, as Go writes it: `address already in use`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(characters).collect()
}
