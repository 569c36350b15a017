//! What the API answers to which request. No HTTP here but statuses, types and bodies.

use serde::Serialize;
use trust_wire::relay::draw;

use crate::data_plane::DataPlane;
use crate::error::ApiError;
use crate::json::to_text;
use crate::metrics::{MetricsChoice, MetricsFormat};
use crate::model::{Populated, ProxyRegistry, ToxicProxy};
use crate::toxic::Toxic;

/// The version of Toxiproxy that clients are told, because some of them choose by it what they
/// send.
pub const VERSION: &str = "2.12.0";

const JSON: &str = "application/json";
pub(crate) const PLAIN: &str = "text/plain; charset=utf-8";

/// What is in the name of each request.
const ID_LEN: u64 = 20;
const ID_DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// A request, as far as the API looks at it.
#[derive(Clone, Copy, Debug, Default)]
pub struct ApiRequest<'a> {
    /// In capitals.
    pub method: &'a str,
    /// With its percent-encoding, and without the query.
    pub path: &'a str,
    /// What follows the question mark.
    pub query: Option<&'a str>,
    /// The header `User-Agent`.
    pub user_agent: &'a [u8],
    /// The header `Host`, if there is one and it is text.
    pub host: Option<&'a str>,
    /// The header `Origin`, with which browsers say which page sends it.
    pub origin: Option<&'a [u8]>,
    /// The header `Accept`.
    pub accept: &'a [u8],
    /// All of it. Its type does not matter.
    pub body: &'a [u8],
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiAnswer {
    /// The status code.
    pub status: u16,
    /// All headers that are particular to the API.
    pub headers: Vec<(&'static str, String)>,
    /// Empty, or as long as it is.
    pub body: String,
    /// Lines for the log.
    pub notes: Vec<String>,
}

/// The API: its proxies, and the answers to requests.
#[derive(Debug)]
pub struct ToxiproxyApi<D> {
    registry: ProxyRegistry<D>,
    metrics: MetricsChoice,
    /// What the names of requests are drawn from, and how many were.
    seed: u64,
    named: u64,
}

impl ApiAnswer {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<String>) -> ApiAnswer {
        let headers = vec![("Content-Type", content_type.to_owned())];
        ApiAnswer { status, headers, body: body.into(), notes: vec![] }
    }

    pub(crate) fn empty(status: u16) -> ApiAnswer {
        ApiAnswer { status, headers: vec![], body: String::new(), notes: vec![] }
    }

    pub(crate) fn json(status: u16, value: &impl Serialize) -> ApiAnswer {
        ApiAnswer::new(status, JSON, to_text(value))
    }

    /// A failure as Go's `http.Error` sends it.
    fn plain(status: u16, line: &str) -> ApiAnswer {
        let mut answer = ApiAnswer::new(status, PLAIN, format!("{line}\n"));
        answer.headers.push(("X-Content-Type-Options", "nosniff".to_owned()));
        answer
    }

    fn error(error: &ApiError) -> ApiAnswer {
        ApiAnswer::plain(error.status, &to_text(error))
    }

    /// To a request with more than `limit` bytes in its body.
    pub(crate) fn too_large(limit: usize) -> ApiAnswer {
        let mut answer = ApiAnswer::error(&ApiError::too_large(limit));
        // The rest of the body stays unread.
        answer.headers.push(("Connection", "close".to_owned()));
        answer
    }

    fn populated(populated: &Populated) -> ApiAnswer {
        /// The keys in the order of Toxiproxy; a client expects no others.
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(flatten)]
            error: Option<&'a ApiError>,
            proxies: Option<&'a [ToxicProxy]>,
        }
        let Populated { proxies, error } = populated;
        let status = error.as_ref().map_or(201, |error| error.status);
        let body = Body { error: error.as_ref(), proxies: proxies.as_deref() };
        ApiAnswer::json(status, &body).noting(proxies.iter().flatten())
    }

    fn noting<'a>(mut self, proxies: impl IntoIterator<Item = &'a ToxicProxy>) -> ApiAnswer {
        self.notes.extend(proxies.into_iter().flat_map(|it| &it.toxics).filter_map(Toxic::note));
        self
    }

    /// The answer with a toxic, which is new or changed.
    fn toxic(toxic: &Toxic) -> ApiAnswer {
        let mut answer = ApiAnswer::json(200, toxic);
        answer.notes.extend(toxic.note());
        answer
    }
}

impl<D: DataPlane> ToxiproxyApi<D> {
    /// The API of these proxies. Requests get names from the seed, which differ from others' if
    /// it does.
    pub const fn new(registry: ProxyRegistry<D>, seed: u64) -> ToxiproxyApi<D> {
        let metrics = MetricsChoice { traffic: false, process: false };
        ToxiproxyApi { registry, metrics, seed, named: 0 }
    }

    /// Offers `/metrics` with these, if there are some. Without it is not found, as in Toxiproxy.
    pub(crate) fn offer_metrics(&mut self, metrics: MetricsChoice) {
        self.metrics = metrics;
    }

    /// The proxies.
    pub(crate) fn registry(&mut self) -> &mut ProxyRegistry<D> {
        &mut self.registry
    }

    /// Makes the proxies of a list; lines for the log.
    pub(crate) fn populate(&mut self, list: &[u8]) -> Vec<String> {
        let populated = self.registry.populate(list);
        let toxics = populated.proxies.iter().flatten().flat_map(|it| &it.toxics);
        let mut notes: Vec<String> = toxics.filter_map(Toxic::note).collect();
        notes.extend(populated.error.map(|error| error.error));
        notes
    }

    /// What is answered to a request, once it has its effect.
    pub fn answer(&mut self, request: &ApiRequest<'_>) -> ApiAnswer {
        if request.origin.is_some() {
            return ApiAnswer::plain(403, "Origin not allowed");
        }
        if let Some(clean) = clean_path(request.path) {
            let query = request.query.map_or(String::new(), |query| format!("?{query}"));
            let mut answer = ApiAnswer::empty(301);
            answer.headers.push(("Location", clean + &query));
            return answer;
        }
        let Some(path) = decode(request.path) else {
            return ApiAnswer::plain(400, "400 Bad Request");
        };
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let has_metrics = segments == ["metrics"] && self.metrics.has_some();
        match methods(&segments) {
            _ if has_metrics => {}
            None => return ApiAnswer::plain(404, "404 page not found"),
            Some(methods) if !methods.contains(&request.method) => return ApiAnswer::empty(405),
            Some(_) => {}
        }
        let mut answer = if request.user_agent.starts_with(b"Mozilla/") {
            ApiAnswer::plain(403, "User agent not allowed")
        } else if has_metrics {
            self.metrics_answer(request)
        } else {
            self.act(request, &segments).unwrap_or_else(|error| ApiAnswer::error(&error))
        };
        answer.headers.push(("X-Toxiproxy-Request-Id", self.next_id()));
        answer
    }

    /// Does what a request asks for, whose path and method are known.
    pub(crate) fn act(
        &mut self,
        request: &ApiRequest<'_>,
        segments: &[&str],
    ) -> Result<ApiAnswer, ApiError> {
        let (registry, body) = (&mut self.registry, request.body);
        let answer = match (request.method, segments) {
            ("GET", ["version"]) => {
                let body = format!("{{\"version\": \"{VERSION}\"}}\n");
                ApiAnswer::new(200, "application/json;charset=utf-8", body)
            }
            ("POST", ["reset"]) => {
                registry.reset()?;
                ApiAnswer::empty(204)
            }
            ("POST", ["populate"]) => ApiAnswer::populated(&registry.populate(body)),
            ("GET", ["proxies"]) => ApiAnswer::json(200, registry.proxies()),
            ("POST", ["proxies"]) => {
                let proxy = registry.create(body)?;
                ApiAnswer::json(201, proxy).noting([proxy])
            }
            ("GET", ["proxies", proxy]) => ApiAnswer::json(200, registry.proxy(proxy)?),
            ("DELETE", ["proxies", proxy]) => {
                registry.delete(proxy)?;
                ApiAnswer::empty(204)
            }
            (_, ["proxies", proxy]) => ApiAnswer::json(200, registry.update(proxy, body)?),
            ("GET", ["proxies", proxy, _]) => ApiAnswer::json(200, &registry.proxy(proxy)?.toxics),
            (_, ["proxies", proxy, _]) => ApiAnswer::toxic(registry.add_toxic(proxy, body)?),
            ("GET", ["proxies", proxy, _, toxic]) => {
                ApiAnswer::json(200, registry.toxic(proxy, toxic)?)
            }
            ("DELETE", ["proxies", proxy, _, toxic]) => {
                registry.remove_toxic(proxy, toxic)?;
                ApiAnswer::empty(204)
            }
            (_, ["proxies", proxy, _, toxic]) => {
                ApiAnswer::toxic(registry.update_toxic(proxy, toxic, body)?)
            }
            _ => unreachable!("no method is known for this path"),
        };
        Ok(answer)
    }

    /// The metrics of now.
    fn metrics_answer(&mut self, request: &ApiRequest<'_>) -> ApiAnswer {
        let format = MetricsFormat::preferred(&String::from_utf8_lossy(request.accept));
        let text = self.metrics.text(|| self.registry.data_plane().report(), format);
        ApiAnswer::new(200, format.content_type(), text)
    }

    /// A name for a request.
    fn next_id(&mut self) -> String {
        let seed = draw(self.seed, self.named);
        self.named += 1;
        let digit = |place| char::from(ID_DIGITS[(draw(seed, place) % 32) as usize]);
        (0..ID_LEN).map(digit).collect()
    }
}

/// The methods of a path; `None`: there is no such path.
pub(crate) fn methods(segments: &[&str]) -> Option<&'static [&'static str]> {
    if segments.contains(&"") {
        return None;
    }
    match segments {
        ["version"] => Some(&["GET"]),
        ["reset" | "populate"] => Some(&["POST"]),
        ["proxies"] | ["proxies", _, "toxics"] => Some(&["GET", "POST"]),
        ["proxies", _] | ["proxies", _, "toxics", _] => Some(&["GET", "PATCH", "POST", "DELETE"]),
        _ => None,
    }
}

/// Where a path leads to, if it has segments that are empty, `.` or `..`.
fn clean_path(path: &str) -> Option<String> {
    let is_clean = !path.contains("//") && path.split('/').all(|it| it != "." && it != "..");
    if is_clean {
        return None;
    }
    let mut clean: Vec<&str> = vec![];
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                clean.pop();
            }
            segment => clean.push(segment),
        }
    }
    let end = if path.ends_with('/') && !clean.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", clean.join("/")))
}

/// A path without percent-encoding; `None`: it is wrong. A slash that is encoded becomes one.
pub(crate) fn decode(path: &str) -> Option<String> {
    let mut parts = path.split('%');
    let mut decoded = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let code = part.get(..2).filter(|code| code.bytes().all(|it| it.is_ascii_hexdigit()))?;
        decoded.push(u8::from_str_radix(code, 16).ok()?);
        decoded.extend(&part.as_bytes()[2..]);
    }
    // What is not UTF-8 is no name.
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_and_cleaned() {
        assert_eq!(decode("/a%20b%2Fc%c3%a4").as_deref(), Some("/a b/cä"));
        for wrong in ["/%", "/%2", "/%zz", "/%+1", "/%ä"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
        let cases = [
            ("//proxies", "/proxies"),
            ("/proxies//a/", "/proxies/a/"),
            ("/proxies/../reset", "/reset"),
            ("/./../..", "/"),
        ];
        for (path, clean) in cases {
            assert_eq!(clean_path(path).as_deref(), Some(clean));
        }
        for path in ["/", "/proxies", "/proxies/", "/proxies/a..b"] {
            assert_eq!(clean_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_is_known_only_as_it_is_written() {
        for path in ["", "/", "/proxies/", "/proxies/a/x", "/proxies/a/toxics/", "/metrics"] {
            let segments: Vec<&str> = path.split('/').skip(1).collect();
            assert_eq!(methods(&segments), None, "{path}");
        }
    }
}
