//! What the API has beyond Toxiproxy, under `/trustctl/`: live connections, schedules, events, and
//! waiting for a fault.

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::admission;
use crate::data_plane::DataPlane;
use crate::error::ApiError;
use crate::events::{EventForm, EventHub, KEPT_LINES, KeptEvents};
use crate::model::ToxicProxy;
use crate::page::LivePage;
use crate::proxy_page::proxy_page;
use crate::routes::{ApiAnswer, ApiRequest, PLAIN, ToxiproxyApi, VERSION, decode, methods};
use crate::traffic::{
    BothWays, ConnectionEnd, ConnectionReport, LatenessHistogram, ProxyTraffic, RuleReport,
    StreamTotals, milliseconds,
};

/// The events that are faults. They are kept, and looked at by those who wait for one.
pub const FAULT_EVENTS: &[&str] = &["fault", "fault_lifted"];

/// The longest time to wait for a fault.
const WAIT_MAX: Duration = Duration::from_secs(60 * 60);

/// How many connections are listed at most, and how many are part of the report.
const CONNECTIONS_MAX: usize = 10_000;
const CONNECTIONS_REPORTED: usize = 100;

/// How many rules are named to a client that asks for another one.
const RULES_NAMED: usize = 10;

/// What is answered to a request for one of these paths.
#[derive(Debug)]
pub(crate) enum ControlAnswer {
    /// This.
    Now(ApiAnswer),
    /// Events, for as long as the client reads.
    Events(EventForm),
    /// A report from time to time, for as long as the client reads.
    Reports,
    /// Something else once a fault has happened.
    Wait(FaultWait),
}

/// What a client waits for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FaultWait {
    what: WaitTarget,
    /// How often it must have fired since it was set.
    times: u64,
    /// How long to wait at most.
    pub(crate) timeout: Duration,
    /// That time as the client wrote it.
    timeout_text: String,
}

#[derive(Clone, Debug, PartialEq)]
enum WaitTarget {
    /// A rule by its text, of all proxies or one.
    Rule {
        rule: String,
        proxy: Option<String>,
    },
    Toxic {
        proxy: String,
        toxic: String,
    },
}

/// Whether a path is one of these. The others are Toxiproxy's.
pub fn has_path(path: &str) -> bool {
    path == "/" || path.starts_with("/trustctl/")
}

/// Whether a page other than our own may have sent a request to one of these paths.
///
/// # Errors
///
/// 403 if it may have.
pub(crate) fn admit(request: &ApiRequest<'_>, allowed: &[String]) -> Result<(), ApiError> {
    let refusal = admission::refusal(request.host, request.origin, allowed);
    refusal.map_or(Ok(()), |reason| Err(ApiError::forbidden(reason)))
}

/// The answer to a request for one of these paths, which is admitted, if it comes at once; `None`:
/// it goes on, or waits for what has not happened yet.
pub fn answer_at_once<D: DataPlane>(
    api: &mut ToxiproxyApi<D>,
    hub: &EventHub,
    request: &ApiRequest<'_>,
) -> Option<ApiAnswer> {
    let outcome = match answer(api, hub, request) {
        Ok(ControlAnswer::Now(answer)) => Ok(answer),
        Ok(ControlAnswer::Wait(wait)) => match wait.fired(api) {
            Ok(fired) if !fired.is_enough => return None,
            fired => fired.map(|fired| FaultWait::answer(fired.count)),
        },
        Ok(ControlAnswer::Events(_) | ControlAnswer::Reports) => return None,
        Err(error) => Err(error),
    };
    Some(outcome.unwrap_or_else(|error| error_answer(&error)))
}

/// Answers a request for one of these paths, which is admitted.
///
/// # Errors
///
/// What is wrong with it.
pub(crate) fn answer<D: DataPlane>(
    api: &mut ToxiproxyApi<D>,
    hub: &EventHub,
    request: &ApiRequest<'_>,
) -> Result<ControlAnswer, ApiError> {
    let path = decode(request.path);
    let path = path.ok_or_else(|| ApiError::value("path", request.path, "percent-encoded text"))?;
    let segments: Vec<&str> = path.split('/').skip(2).collect();
    let allowed = allowed_methods(&segments).ok_or_else(ApiError::no_route)?;
    if !allowed.contains(&request.method) {
        return Err(ApiError::method(&allowed.join(" or ")));
    }
    let query = Query(request.query);
    let data_plane = api.registry().data_plane();
    let now = match (request.method, &segments[..]) {
        (_, []) => page_answer(proxy_page()),
        ("GET", ["version"]) => {
            let (version, toxiproxy) = (env!("CARGO_PKG_VERSION"), VERSION);
            ApiAnswer::json(200, &serde_json::json!({"version": version, "toxiproxy": toxiproxy}))
        }
        ("GET", ["report"]) if is_for_page(request) => return Ok(ControlAnswer::Reports),
        ("GET", ["report"]) => ApiAnswer::json(200, &report(api)),
        ("GET", ["connections"]) => {
            let proxy = query.get("proxy")?;
            if let Some(proxy) = &proxy {
                api.registry().proxy(proxy)?;
            }
            let data_plane = api.registry().data_plane();
            ApiAnswer::json(200, &data_plane.connections(proxy.as_deref(), CONNECTIONS_MAX))
        }
        ("GET", ["connections", conn]) => {
            let conn = connection_number(conn)?;
            let all = data_plane.connections(None, usize::MAX);
            let found = all.iter().find(|connection| connection.conn == conn);
            ApiAnswer::json(200, found.ok_or_else(ApiError::no_connection)?)
        }
        ("DELETE", ["connections", conn]) => {
            let (conn, by) = (connection_number(conn)?, connection_end(query.get("by")?)?);
            if !data_plane.end_connection(conn, by) {
                return Err(ApiError::no_connection());
            }
            ApiAnswer::empty(204)
        }
        ("GET", ["events"]) => {
            let form =
                if is_for_page(request) { EventForm::ServerSent } else { EventForm::JsonLines };
            return Ok(ControlAnswer::Events(form));
        }
        ("GET", ["trace"]) => trace(&hub.kept()),
        ("POST", ["seed"]) => {
            let body: SeedBody = strict(request.body)?;
            data_plane.set_seed(body.seed);
            ApiAnswer::json(200, &body)
        }
        ("POST", ["wait"]) => {
            let wait = FaultWait::read(strict(request.body)?)?;
            return Ok(ControlAnswer::Wait(wait));
        }
        ("GET", ["proxies", proxy, "schedule"]) => schedule(api, proxy)?,
        ("PUT", ["proxies", proxy, "schedule"]) => {
            let text = str::from_utf8(request.body);
            let text = text.map_err(|_| ApiError::body("expected UTF-8"))?;
            api.registry().set_schedule(proxy, text)?;
            schedule(api, proxy)?
        }
        (_, ["proxies", proxy, "schedule"]) => {
            api.registry().set_schedule(proxy, "")?;
            ApiAnswer::empty(204)
        }
        _ => api.act(request, &segments)?,
    };
    Ok(ControlAnswer::Now(now))
}

/// The methods of a path after its prefix; `None`: there is no such path.
fn allowed_methods(segments: &[&str]) -> Option<&'static [&'static str]> {
    match segments {
        // The page, at `/` alone.
        [] => Some(&["GET", "HEAD"]),
        ["version" | "report" | "connections" | "events" | "trace"] => Some(&["GET"]),
        ["connections", _] => Some(&["GET", "DELETE"]),
        ["seed" | "wait"] => Some(&["POST"]),
        ["proxies", proxy, "schedule"] if !proxy.is_empty() => Some(&["GET", "PUT", "DELETE"]),
        segments => methods(segments),
    }
}

fn page_answer(LivePage { html, headers }: LivePage) -> ApiAnswer {
    let mut answer = ApiAnswer::new(200, "text/html; charset=utf-8", html);
    answer.headers.extend(headers);
    answer
}

/// Whether an event stream is asked for.
fn is_for_page(request: &ApiRequest<'_>) -> bool {
    let accept = String::from_utf8_lossy(request.accept);
    accept.to_ascii_lowercase().contains("text/event-stream")
}

/// A report as one line.
pub(crate) fn report_line<D: DataPlane>(api: &mut ToxiproxyApi<D>) -> String {
    crate::json::to_text(&report(api))
}

/// What is going on.
#[derive(Serialize)]
struct ReportBody {
    version: &'static str,
    #[serde(rename = "uptime_ms", serialize_with = "milliseconds")]
    uptime: Duration,
    seed: u64,
    proxies: Vec<ProxyBody>,
    rules: Vec<RuleReport>,
    lateness: LatenessHistogram,
    /// The newest ones.
    connections: Vec<ConnectionReport>,
}

/// A proxy of the report.
#[derive(Serialize)]
struct ProxyBody {
    #[serde(flatten)]
    proxy: ToxicProxy,
    schedule: String,
    connections: u64,
    open: u64,
    rejected: u64,
    #[serde(flatten)]
    streams: BothWays<StreamTotals>,
}

fn report<D: DataPlane>(api: &mut ToxiproxyApi<D>) -> ReportBody {
    let registry = api.registry();
    let mut proxies: Vec<ToxicProxy> = registry.proxies().values().cloned().collect();
    let data_plane = registry.data_plane();
    let traffic = data_plane.report();
    let of = |proxy: ToxicProxy| {
        let found = traffic.proxies.iter().find(|traffic| traffic.proxy == proxy.name);
        let ProxyTraffic { connections, open, rejected, streams, .. } =
            found.cloned().unwrap_or_default();
        let schedule = data_plane.schedule(&proxy.name);
        ProxyBody { proxy, schedule, connections, open, rejected, streams }
    };
    let proxies = proxies.drain(..).map(of).collect();
    ReportBody {
        version: env!("CARGO_PKG_VERSION"),
        uptime: traffic.uptime,
        seed: traffic.seed,
        proxies,
        rules: traffic.rules,
        lateness: traffic.lateness,
        connections: data_plane.connections(None, CONNECTIONS_REPORTED),
    }
}

fn schedule<D: DataPlane>(api: &mut ToxiproxyApi<D>, proxy: &str) -> Result<ApiAnswer, ApiError> {
    Ok(ApiAnswer::new(200, PLAIN, api.registry().schedule(proxy)?))
}

/// The faults that are kept.
fn trace(KeptEvents { lines, dropped }: &KeptEvents) -> ApiAnswer {
    let note = format!("the last {KEPT_LINES} faults; --trace FILE writes all of them to a file");
    let lines: Vec<&str> = lines.iter().map(Arc::as_ref).collect();
    let lines = lines.join(",");
    let body = format!(r#"{{"note":"{note}","dropped":{dropped},"faults":[{lines}]}}"#);
    ApiAnswer::new(200, "application/json", body)
}

fn connection_number(text: &str) -> Result<u64, ApiError> {
    text.parse().map_err(|_| ApiError::value("connection", text, "its number"))
}

fn connection_end(by: Option<String>) -> Result<ConnectionEnd, ApiError> {
    match by.as_deref() {
        None | Some("fin") => Ok(ConnectionEnd::Fin),
        Some("rst") => Ok(ConnectionEnd::Rst),
        Some(other) => Err(ApiError::value("by", other, "fin or rst")),
    }
}

/// What follows the question mark of a request.
struct Query<'a>(Option<&'a str>);

impl Query<'_> {
    /// The value of a key.
    fn get(&self, key: &str) -> Result<Option<String>, ApiError> {
        let pairs = self.0.unwrap_or_default().split('&');
        let mut values = pairs.filter_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let Some(value) = values.next() else { return Ok(None) };
        let decoded = decode(&value.replace('+', " "));
        decoded.map(Some).ok_or_else(|| ApiError::value(key, value, "percent-encoded text"))
    }
}

/// What a seed is set to.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SeedBody {
    seed: u64,
}

/// What to wait for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitBody {
    rule: Option<String>,
    toxic: Option<String>,
    proxy: Option<String>,
    #[serde(default = "once")]
    times: u64,
    #[serde(default = "five_seconds")]
    timeout: String,
}

fn once() -> u64 {
    1
}

fn five_seconds() -> String {
    "5s".to_owned()
}

/// A body without anything else in it.
fn strict<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::body(error.to_string()))
}

impl FaultWait {
    fn read(body: WaitBody) -> Result<FaultWait, ApiError> {
        let WaitBody { rule, toxic, proxy, times, timeout: timeout_text } = body;
        let what = match (rule, toxic, proxy) {
            (Some(rule), None, proxy) => {
                let words: Vec<&str> = rule.split_whitespace().collect();
                WaitTarget::Rule { rule: words.join(" "), proxy }
            }
            (None, Some(toxic), Some(proxy)) => WaitTarget::Toxic { proxy, toxic },
            (None, Some(_), None) => return Err(ApiError::missing("proxy")),
            (None, None, _) => return Err(ApiError::missing("rule or toxic")),
            (Some(_), Some(_), _) => {
                return Err(ApiError::body("rule cannot be used with toxic"));
            }
        };
        let expected = "a time such as 500ms or 5s, up to 1h";
        let timeout = parse_time(&timeout_text).filter(|timeout| *timeout <= WAIT_MAX);
        let timeout = timeout.ok_or_else(|| ApiError::value("timeout", &timeout_text, expected))?;
        Ok(FaultWait { what, times, timeout, timeout_text })
    }

    /// How often it has fired, once that is often enough.
    ///
    /// # Errors
    ///
    /// 404 if there is no such thing.
    pub(crate) fn fired<D: DataPlane>(&self, api: &mut ToxiproxyApi<D>) -> Result<Fired, ApiError> {
        let registry = api.registry();
        let proxy = match &self.what {
            WaitTarget::Rule { proxy, .. } => proxy.as_deref(),
            WaitTarget::Toxic { proxy, toxic } => {
                registry.toxic(proxy, toxic)?;
                Some(&**proxy)
            }
        };
        if let Some(proxy) = proxy {
            registry.proxy(proxy)?;
        }
        let rules = registry.data_plane().report().rules;
        let rules = rules.iter().filter(|it| proxy.is_none() || it.proxy.as_deref() == proxy);
        let count = match &self.what {
            WaitTarget::Rule { rule, .. } => {
                let mut found = rules.clone().filter(|it| it.rule == *rule).peekable();
                if found.peek().is_none() {
                    let present: Vec<&str> = rules.map(|it| &*it.rule).take(RULES_NAMED).collect();
                    return Err(ApiError::no_rule(rule, &present));
                }
                found.map(|it| it.fired).sum()
            }
            // Some are several rules, of which more than one can fire for a connection.
            WaitTarget::Toxic { toxic, .. } => {
                let own = rules.filter(|it| it.toxic.as_ref() == Some(toxic));
                own.map(|it| it.fired).max().unwrap_or_default()
            }
        };
        Ok(Fired { count, is_enough: count >= self.times })
    }

    /// The answer when it has fired often enough.
    pub(crate) fn answer(count: u64) -> ApiAnswer {
        ApiAnswer::json(200, &serde_json::json!({"fired": count}))
    }

    /// The answer when the time is over.
    pub(crate) fn timed_out(&self, count: u64) -> ApiAnswer {
        let what = match &self.what {
            WaitTarget::Rule { rule, .. } => format!("rule {rule}"),
            WaitTarget::Toxic { proxy, toxic } => format!("toxic {toxic} of {proxy}"),
        };
        let (time, times) = (&self.timeout_text, self.times);
        let text = format!("timed out after {time}: {what}: fired {count} of {times} times");
        error_answer(&ApiError::timed_out(text))
    }
}

/// How often something has fired, and whether that is often enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fired {
    pub(crate) count: u64,
    pub(crate) is_enough: bool,
}

/// A failure, as JSON by its type too.
pub(crate) fn error_answer(error: &ApiError) -> ApiAnswer {
    let mut answer = ApiAnswer::json(error.status, error);
    answer.headers.push(("X-Content-Type-Options", "nosniff".to_owned()));
    answer
}

/// A number with its unit; a number alone is seconds.
fn parse_time(text: &str) -> Option<Duration> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[number.len()..] {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_or_are_seconds() {
        let cases =
            [("500ms", 500), ("5s", 5_000), ("1.5", 1_500), ("2m", 120_000), ("1h", 3_600_000)];
        for (text, ms) in cases {
            assert_eq!(parse_time(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "5 s", "5x", "1e400", "inf", "nan", "NaNs"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }

    #[test]
    fn what_to_wait_for_is_one_thing() {
        let read = |body: &str| {
            let wait = strict(body.as_bytes()).and_then(FaultWait::read);
            wait.map_err(|error| error.error)
        };
        let wait = read(r#"{"rule":" rst  @ byte 5\tup"}"#).unwrap();
        let rule = "rst @ byte 5 up".to_owned();
        assert_eq!(wait.what, WaitTarget::Rule { rule, proxy: None });
        assert_eq!((wait.times, wait.timeout), (1, Duration::from_secs(5)));
        let refused = [
            ("{}", "missing required field: rule or toxic"),
            (r#"{"toxic":"t"}"#, "missing required field: proxy"),
            (r#"{"toxic":"t","rule":"r"}"#, "bad request body: rule cannot be used with toxic"),
            (
                r#"{"rule":"r","timeout":"2h"}"#,
                "invalid timeout '2h': expected a time such as 500ms or 5s, up to 1h",
            ),
        ];
        for (body, expected) in refused {
            assert_eq!(read(body), Err(expected.to_owned()));
        }
        for body in ["", "[]", r#"{"rule":"r","tiems":2}"#, r#"{"rule":"r","times":-1}"#] {
            let error = read(body).unwrap_err();
            assert!(error.starts_with("bad request body: "), "{body}: {error}");
        }
    }

    #[test]
    fn a_query_has_values_by_key() {
        let query = Query(Some("a=1&proxy=x%20y+z&proxy=2&by"));
        assert_eq!(query.get("proxy"), Ok(Some("x y z".to_owned())));
        assert_eq!(query.get("by"), Ok(None));
        assert!(Query(Some("by=%zz")).get("by").is_err());
        assert_eq!(Query(None).get("by"), Ok(None));
    }
}
