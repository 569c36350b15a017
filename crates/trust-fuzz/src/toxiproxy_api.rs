//! The API of Toxiproxy: any requests get an answer of its form, and the data plane has what the
//! answers say.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use serde_json::{Value, json};
use trust_proxy::rules::Rule;
use trust_toxiproxy::control;
use trust_toxiproxy::data_plane::{DataPlane, EventListener, ToxicChange};
use trust_toxiproxy::events::EventHub;
use trust_toxiproxy::model::ProxyRegistry;
use trust_toxiproxy::routes::{ApiAnswer, ApiRequest, ToxiproxyApi};
use trust_toxiproxy::toxic::Toxic;
use trust_toxiproxy::traffic::{ConnectionEnd, ConnectionReport, RuleReport, TrafficReport};

/// A port that cannot be had.
const TAKEN_PORT: u16 = 7;

/// What is sent to ask for everything.
const LIST: ApiRequest<'_> = ApiRequest {
    method: "GET",
    path: "/proxies",
    query: None,
    user_agent: b"",
    host: None,
    origin: None,
    accept: b"",
    body: b"",
};

/// Started proxies: where, and with which toxics.
type Started = BTreeMap<String, (SocketAddr, Vec<String>)>;

/// The fault rules of proxies besides their toxics.
type Schedules = BTreeMap<String, String>;

/// Input: requests, each up to an empty line. The first line of one is its method and its path, and
/// the rest its body.
///
/// # Panics
///
/// If an answer has another form, or the data plane something else than the answers say.
pub fn run(data: &[u8]) {
    let plane = Plane::default();
    let Plane { started, schedules } = plane.clone();
    let (mut api, hub) = (ToxiproxyApi::new(ProxyRegistry::new(plane), 0), EventHub::new(&[]));
    let text = String::from_utf8_lossy(data);
    for request in text.split("\n\n") {
        let (head, body) = request.split_once('\n').unwrap_or((request, ""));
        let (method, path) = head.split_once(' ').unwrap_or((head, "/"));
        let request = ApiRequest { method, path, body: body.as_bytes(), ..LIST };
        if control::has_path(path) {
            let (path, query) =
                path.split_once('?').map_or((path, None), |(path, it)| (path, Some(it)));
            let request = ApiRequest { path, query, ..request };
            if let Some(answer) = control::answer_at_once(&mut api, &hub, &request) {
                check_control_answer(&answer);
            }
        } else {
            check_answer(&api.answer(&request));
        }
        let list = api.answer(&LIST);
        let list = serde_json::from_str(&list.body).expect("a list is JSON");
        check_started(&list, &started.borrow());
        let mut scheduled = schedules.borrow().keys().cloned().collect::<Vec<_>>().into_iter();
        assert!(scheduled.all(|proxy| list.get(proxy).is_some()), "rules without their proxy");
    }
}

fn check_answer(answer: &ApiAnswer) {
    let ApiAnswer { status, headers, body, .. } = answer;
    assert!(matches!(status, 200 | 201 | 204 | 301 | 400 | 403..=405 | 409 | 500), "{status}");
    let content_type = headers.iter().find(|(name, _)| *name == "Content-Type");
    assert_eq!(content_type.is_none(), body.is_empty(), "{status}");
    if body.starts_with('{') || content_type.is_some_and(|(_, name)| name.starts_with("app")) {
        let body: Value = serde_json::from_str(body).expect("it is JSON");
        assert!(*status < 300 || body["status"] == *status && body["error"].is_string(), "{body}");
    }
}

fn check_control_answer(answer: &ApiAnswer) {
    let ApiAnswer { status, headers, body, .. } = answer;
    assert!(matches!(status, 200 | 201 | 204 | 400 | 404 | 405 | 409 | 500), "{status}");
    let content_type = headers.iter().find(|(name, _)| *name == "Content-Type");
    let content_type = content_type.map_or("", |(_, name)| name);
    if content_type == "application/json" {
        let body: Value = serde_json::from_str(body).expect("it is JSON");
        assert!(*status < 300 || body["status"] == *status && body["error"].is_string(), "{body}");
    } else {
        assert!(*status < 300, "{status} {content_type}");
    }
}

/// What is listed is what was started.
fn check_started(list: &Value, started: &Started) {
    let proxies = list.as_object().expect("names and proxies");
    let enabled = proxies.iter().filter(|(_, proxy)| proxy["enabled"] == true);
    let listed: BTreeMap<&String, Value> = enabled
        .map(|(name, proxy)| {
            let toxics = proxy["toxics"].as_array().expect("a list of toxics");
            let toxics: Vec<&Value> = toxics.iter().map(|toxic| &toxic["name"]).collect();
            (name, json!([proxy["listen"], toxics]))
        })
        .collect();
    let started = started.iter();
    let shown = |(address, toxics): &(SocketAddr, _)| json!([address.to_string(), toxics]);
    assert_eq!(listed, started.map(|(name, proxy)| (name, shown(proxy))).collect());
}

#[derive(Clone, Default)]
struct Plane {
    started: Rc<RefCell<Started>>,
    schedules: Rc<RefCell<Schedules>>,
}

/// The names of toxics, all of which can be had.
fn names(toxics: &[Toxic]) -> Vec<String> {
    for rule in toxics.iter().flat_map(Toxic::rules) {
        assert!(Rule::parse(&rule).is_ok(), "{rule}");
    }
    assert!(toxics.is_sorted_by_key(Toxic::direction), "upstream first");
    let names: Vec<String> = toxics.iter().map(|toxic| toxic.name.clone()).collect();
    let is_once = |name: &String| names.iter().filter(|other| *other == name).count() == 1;
    assert!(names.iter().all(is_once), "{names:?}");
    names
}

impl DataPlane for Plane {
    fn look_up(&mut self, host: &str) -> Option<IpAddr> {
        (host.len() < 4).then_some(Ipv4Addr::LOCALHOST.into())
    }

    fn start(
        &mut self,
        proxy: &str,
        mut listen: SocketAddr,
        _upstream: &str,
        toxics: &[Toxic],
    ) -> io::Result<SocketAddr> {
        let mut started = self.started.borrow_mut();
        if listen.port() == TAKEN_PORT {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        if listen.port() == 0 {
            listen.set_port(50_000);
        }
        let before = started.insert(proxy.to_owned(), (listen, names(toxics)));
        assert_eq!(before, None, "{proxy} was stopped");
        Ok(listen)
    }

    fn stop(&mut self, proxy: &str) {
        self.started.borrow_mut().remove(proxy).expect("it was started");
    }

    fn set_toxics(&mut self, proxy: &str, toxics: &[Toxic], change: ToxicChange<'_>) {
        let mut started = self.started.borrow_mut();
        let (_, before) = started.get_mut(proxy).expect("it was started");
        let after = names(toxics);
        let of = |names: &[String], toxic: &Toxic| names.contains(&toxic.name);
        match change {
            ToxicChange::Added(toxic) => assert!(!of(before, toxic) && of(&after, toxic)),
            ToxicChange::Updated(toxic) => assert!(*before == after && of(&after, toxic)),
            ToxicChange::Removed(removed) => {
                assert!(removed.iter().all(|toxic| of(before, toxic) && !of(&after, toxic)));
            }
        }
        *before = after;
    }
    fn forget(&mut self, proxy: &str) {
        assert!(!self.started.borrow().contains_key(proxy), "{proxy} was stopped");
        self.schedules.borrow_mut().remove(proxy);
    }

    fn schedule(&mut self, proxy: &str) -> String {
        self.schedules.borrow().get(proxy).cloned().unwrap_or_default()
    }

    fn set_schedule(&mut self, proxy: &str, text: &str) -> Result<(), String> {
        let parse = |line| Rule::parse(line).map_err(|_| format!("no rule: {line}"));
        let rules = text.lines().map(|line| Ok(format!("{}\n", parse(line)?)));
        let rules = rules.collect::<Result<String, String>>()?;
        self.schedules.borrow_mut().insert(proxy.to_owned(), rules);
        Ok(())
    }

    fn report(&mut self) -> TrafficReport {
        let schedules = self.schedules.borrow();
        let of = |(proxy, rules): (&String, &String)| {
            let proxy = Some(proxy.clone());
            let report = |rule: &str| RuleReport {
                rule: rule.to_owned(),
                proxy: proxy.clone(),
                toxic: None,
                fired: 1,
            };
            rules.lines().map(report).collect::<Vec<_>>()
        };
        TrafficReport { rules: schedules.iter().flat_map(of).collect(), ..Default::default() }
    }

    fn connections(&mut self, _proxy: Option<&str>, _count_max: usize) -> Vec<ConnectionReport> {
        vec![]
    }

    fn end_connection(&mut self, _conn: u64, _by: ConnectionEnd) -> bool {
        false
    }

    fn set_seed(&mut self, _seed: u64) {}

    fn follow(&mut self, _listener: EventListener) {}
}
