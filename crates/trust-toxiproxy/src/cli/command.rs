//! The command line of `toxiproxy-cli`. As in Toxiproxy, flags stand before the argument, and the
//! flag of the server before the command.

use std::ffi::OsString;

use serde_json::{Map, Value, json};

use crate::cli::listed::ListedProxy;
use crate::go_flags::{self, GivenFlags, GoFlag, SyntaxFault};

/// A command line that makes sense.
#[derive(Clone, Debug, PartialEq)]
pub struct CliLine {
    /// The server, if the line names it.
    pub host: Option<String>,
    /// What to do.
    pub command: CliCommand,
    /// Words at the end that no command has a use for. Toxiproxy ignores them.
    pub ignored: Vec<String>,
}

/// What `toxiproxy-cli` can do.
#[derive(Clone, Debug, PartialEq)]
pub enum CliCommand {
    /// Prints how it is used.
    Help,
    /// Prints its version.
    Version,
    /// Prints all proxies.
    List,
    /// Prints the toxics of a proxy.
    Inspect {
        /// The proxy's name.
        proxy: String,
    },
    /// Makes a proxy.
    Create {
        /// The proxy's name.
        proxy: String,
        /// Where it listens.
        listen: String,
        /// Where its clients are connected to.
        upstream: String,
    },
    /// Disables a proxy that is enabled, and the other way round.
    Toggle {
        /// The proxy's name.
        proxy: String,
    },
    /// Removes a proxy.
    Delete {
        /// The proxy's name.
        proxy: String,
    },
    /// Adds a toxic.
    AddToxic {
        /// The proxy's name.
        proxy: String,
        /// The toxic's name; empty: the server chooses it.
        toxic: String,
        /// What it is.
        type_name: String,
        /// The direction.
        stream: &'static str,
        /// How much of it.
        amount: ToxicAmount,
    },
    /// Changes how much of it a toxic does.
    UpdateToxic {
        /// The proxy's name.
        proxy: String,
        /// The toxic's name.
        toxic: String,
        /// How much of it.
        amount: ToxicAmount,
    },
    /// Removes a toxic.
    RemoveToxic {
        /// The proxy's name.
        proxy: String,
        /// The toxic's name.
        toxic: String,
    },
}

/// How much of it a toxic does.
#[derive(Clone, Debug, PartialEq)]
pub struct ToxicAmount {
    /// From 0 to 1; 1 if the line has none, also where the toxic had another one.
    pub toxicity: f64,
    /// Numbers where the text is one.
    pub attributes: Map<String, Value>,
}

/// A request to the API.
#[derive(Clone, Debug, PartialEq)]
pub struct CliRequest {
    /// In capitals.
    pub method: &'static str,
    /// With percent-encoding.
    pub path: String,
    /// What is sent.
    pub body: Option<Value>,
}

/// In every place.
const HELP: GoFlag = GoFlag::switch(&["help"]);

/// Before the command.
const GLOBAL: &[GoFlag] = &[GoFlag::text(&["host", "h"]), GoFlag::switch(&["version", "v"]), HELP];

const CREATE: &[GoFlag] = &[GoFlag::text(&["listen", "l"]), GoFlag::text(&["upstream", "u"]), HELP];

const TOXIC_NAME: GoFlag = GoFlag::text(&["toxicName", "n"]);
const TOXICITY: GoFlag = GoFlag::text(&["toxicity", "tox"]);
const ATTRIBUTE: GoFlag = GoFlag::text(&["attribute", "a"]);

const ADD_TOXIC: &[GoFlag] = &[
    TOXIC_NAME,
    GoFlag::text(&["type", "t"]),
    TOXICITY,
    ATTRIBUTE,
    GoFlag::switch(&["upstream", "u"]),
    GoFlag::switch(&["downstream", "d"]),
    HELP,
];
const UPDATE_TOXIC: &[GoFlag] = &[TOXIC_NAME, TOXICITY, ATTRIBUTE, HELP];
const REMOVE_TOXIC: &[GoFlag] = &[TOXIC_NAME, HELP];

const FLAGS_FIRST: &str = "flags come before the name of the proxy";

impl CliLine {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn parse(words: &[OsString]) -> Result<CliLine, SyntaxFault> {
        let words = go_flags::texts(words)?;
        let global = go_flags::read(GLOBAL, &words).map_err(|fault| match words.last() {
            Some(last) if last == "-h" => fault.with_hint("-h is the server; for help: --help"),
            _ => fault,
        })?;
        let host = global.text("host").filter(|host| !host.is_empty()).map(str::to_owned);
        let (command, ignored) = if global.is_on("help") {
            (CliCommand::Help, &[][..])
        } else if global.is_on("version") {
            (CliCommand::Version, &[][..])
        } else {
            CliCommand::parse(global.rest)?
        };
        Ok(CliLine { host, command, ignored: ignored.to_vec() })
    }
}

impl CliCommand {
    /// Reads a command with its flags and its argument; the words that are left.
    fn parse(words: &[String]) -> Result<(CliCommand, &[String]), SyntaxFault> {
        let Some((word, rest)) = words.split_first() else {
            return Ok((CliCommand::Help, words));
        };
        match word.as_str() {
            "help" | "h" => Ok((CliCommand::Help, &[])),
            "list" | "l" | "li" | "ls" => {
                let given = go_flags::read(&[HELP], rest)?;
                let command = if given.is_on("help") { CliCommand::Help } else { CliCommand::List };
                Ok((command, given.rest))
            }
            "inspect" | "i" | "ins" => {
                with_proxy(&[HELP], rest, |_, proxy| Ok(CliCommand::Inspect { proxy }))
            }
            "create" | "c" | "new" => with_proxy(CREATE, rest, |given, proxy| {
                let listen = required(given, "listen")?;
                Ok(CliCommand::Create { proxy, listen, upstream: required(given, "upstream")? })
            }),
            "toggle" | "tog" => {
                with_proxy(&[HELP], rest, |_, proxy| Ok(CliCommand::Toggle { proxy }))
            }
            "delete" | "d" => {
                with_proxy(&[HELP], rest, |_, proxy| Ok(CliCommand::Delete { proxy }))
            }
            "toxic" | "t" => CliCommand::parse_toxic(rest),
            word => Err(unknown_command(word, "list, inspect, create, toggle, delete or toxic")),
        }
    }

    /// Reads what follows `toxic`.
    fn parse_toxic(words: &[String]) -> Result<(CliCommand, &[String]), SyntaxFault> {
        let given = go_flags::read(&[HELP], words)?;
        let Some((word, rest)) = given.rest.split_first().filter(|_| !given.is_on("help")) else {
            return Ok((CliCommand::Help, &[]));
        };
        match word.as_str() {
            "help" | "h" => Ok((CliCommand::Help, &[])),
            "add" | "a" => with_proxy(ADD_TOXIC, rest, |given, proxy| {
                let stream = match (given.is_on("upstream"), given.is_on("downstream")) {
                    (true, true) => {
                        let message = "--upstream cannot be used together with --downstream";
                        return Err(SyntaxFault::new(message));
                    }
                    (true, false) => "upstream",
                    (false, _) => "downstream",
                };
                let toxic = given.text("toxicName").unwrap_or_default().to_owned();
                let (type_name, amount) = (required(given, "type")?, ToxicAmount::of(given)?);
                Ok(CliCommand::AddToxic { proxy, toxic, type_name, stream, amount })
            }),
            "update" | "u" => with_proxy(UPDATE_TOXIC, rest, |given, proxy| {
                let (toxic, amount) = (required(given, "toxicName")?, ToxicAmount::of(given)?);
                Ok(CliCommand::UpdateToxic { proxy, toxic, amount })
            }),
            "remove" | "r" | "delete" | "d" => with_proxy(REMOVE_TOXIC, rest, |given, proxy| {
                Ok(CliCommand::RemoveToxic { proxy, toxic: required(given, "toxicName")? })
            }),
            word => Err(unknown_command(&format!("toxic {word}"), "add, update or remove")),
        }
    }

    /// What is asked first; `None`: nothing is.
    pub fn request(&self) -> Option<CliRequest> {
        let (method, path, body) = match self {
            CliCommand::Help | CliCommand::Version => return None,
            CliCommand::List => ("GET", "/proxies".to_owned(), None),
            CliCommand::Inspect { proxy } | CliCommand::Toggle { proxy } => {
                ("GET", proxy_path(proxy), None)
            }
            CliCommand::Create { proxy, listen, upstream } => {
                let body = json!({
                    "name": proxy, "listen": listen, "upstream": upstream, "enabled": true,
                });
                ("POST", "/proxies".to_owned(), Some(body))
            }
            CliCommand::Delete { proxy } => ("DELETE", proxy_path(proxy), None),
            CliCommand::AddToxic { proxy, toxic, type_name, stream, amount } => {
                let body = json!({
                    "name": toxic, "type": type_name, "stream": stream,
                    "toxicity": amount.toxicity, "attributes": amount.attributes,
                });
                ("POST", format!("{}/toxics", proxy_path(proxy)), Some(body))
            }
            CliCommand::UpdateToxic { proxy, toxic, amount } => {
                let ToxicAmount { toxicity, attributes } = amount;
                let body = json!({ "toxicity": toxicity, "attributes": attributes });
                ("PATCH", toxic_path(proxy, toxic), Some(body))
            }
            CliCommand::RemoveToxic { proxy, toxic } => ("DELETE", toxic_path(proxy, toxic), None),
        };
        Some(CliRequest { method, path, body })
    }
}

impl CliRequest {
    /// Makes a proxy what this says of it.
    ///
    /// # Panics
    ///
    /// If it cannot be written as JSON, which is so of none.
    pub fn save(proxy: &ListedProxy) -> CliRequest {
        let body = serde_json::to_value(proxy).expect("its keys are texts");
        CliRequest { method: "POST", path: proxy_path(&proxy.name), body: Some(body) }
    }
}

impl ToxicAmount {
    fn of(given: &GivenFlags<'_>) -> Result<ToxicAmount, SyntaxFault> {
        let toxicity = match given.text("toxicity").filter(|text| !text.is_empty()) {
            None => 1.0,
            Some(text) => {
                let toxicity = text.parse().ok().filter(|it| (0.0..=1.0).contains(it));
                let bad = || SyntaxFault::value("--toxicity", text, "a number from 0 to 1");
                toxicity.ok_or_else(bad)?
            }
        };
        let mut attributes = Map::new();
        // One flag can have several, with commas between them.
        let all = given.all("attribute").flat_map(|value| value.split(','));
        for attribute in all.filter(|attribute| !attribute.is_empty()) {
            let Some((key, value)) = attribute.split_once('=') else {
                return Err(SyntaxFault::value("--attribute", attribute, "KEY=VALUE"));
            };
            attributes.insert(key.to_owned(), attribute_value(value));
        }
        Ok(ToxicAmount { toxicity, attributes })
    }
}

/// A number if the text is one. Integers stay integers, because the API takes no others.
fn attribute_value(text: &str) -> Value {
    const EXACT_MAX: f64 = 9e15;
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(integer), _) => integer.into(),
        (_, Ok(float)) if float.fract() == 0.0 && float.abs() < EXACT_MAX => (float as i64).into(),
        (_, Ok(float)) if float.is_finite() => float.into(),
        _ => text.into(),
    }
}

/// Reads flags and the name of a proxy; the words that are left.
fn with_proxy<'w>(
    flags: &[GoFlag],
    words: &'w [String],
    command: impl FnOnce(&GivenFlags<'w>, String) -> Result<CliCommand, SyntaxFault>,
) -> Result<(CliCommand, &'w [String]), SyntaxFault> {
    let given = go_flags::read(flags, words)?;
    if given.is_on("help") {
        return Ok((CliCommand::Help, &[]));
    }
    let Some((proxy, ignored)) = given.rest.split_first().filter(|(proxy, _)| !proxy.is_empty())
    else {
        return Err(SyntaxFault::new("missing argument: the name of the proxy"));
    };
    let command = command(&given, proxy.clone()).map_err(|fault| match ignored {
        [word, ..] if word.starts_with('-') => fault.with_hint(FLAGS_FIRST),
        _ => fault,
    })?;
    Ok((command, ignored))
}

/// The value of a flag that must be there.
fn required(given: &GivenFlags<'_>, flag: &str) -> Result<String, SyntaxFault> {
    let value = given.text(flag).filter(|value| !value.is_empty()).map(str::to_owned);
    value.ok_or_else(|| SyntaxFault::new(format!("missing required flag: --{flag}")))
}

fn unknown_command(word: &str, expected: &str) -> SyntaxFault {
    let word = word.escape_debug();
    SyntaxFault::new(format!("unknown command: {word}: expected {expected}"))
}

fn proxy_path(proxy: &str) -> String {
    format!("/proxies/{}", segment(proxy))
}

fn toxic_path(proxy: &str, toxic: &str) -> String {
    format!("{}/toxics/{}", proxy_path(proxy), segment(toxic))
}

/// A name as a segment of a path (RFC 3986, section 2). Of the characters that need no encoding,
/// the dot has one too, because `..` would be another path.
fn segment(name: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'-' | b'_' | b'~' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    name.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn parse(line: &str) -> CliCommand {
        CliLine::parse(&words(line)).unwrap_or_else(|fault| panic!("{line}: {fault}")).command
    }

    fn fault(line: &str) -> (String, bool) {
        let fault = CliLine::parse(&words(line)).expect_err(line);
        (fault.message, fault.hint.is_some())
    }

    /// `METHOD PATH BODY`
    fn request(line: &str) -> String {
        let CliRequest { method, path, body } = parse(line).request().expect("it asks the server");
        format!("{method} {path} {}", body.unwrap_or_default())
    }

    #[test]
    fn every_alias_is_its_command() {
        let cases: [(&[&str], &str); 5] = [
            (&["list", "l", "li", "ls"], ""),
            (&["inspect", "i", "ins"], "p"),
            (&["create", "c", "new"], "-l a -u b p"),
            (&["toggle", "tog"], "p"),
            (&["delete", "d"], "p"),
        ];
        let toxic: [(&[&str], &str); 3] = [
            (&["add", "a"], "-t latency p"),
            (&["update", "u"], "-n x p"),
            (&["remove", "r", "delete", "d"], "-n x p"),
        ];
        let of = |prefix: &str, (words, rest): &(&[&str], &str)| {
            let lines = words.iter().map(|word| format!("{prefix}{word} {rest}"));
            lines.map(|line| parse(&line)).collect::<Vec<_>>()
        };
        let all = cases.iter().map(|case| of("", case));
        let all = all.chain(toxic.iter().map(|case| of("toxic ", case)));
        for commands in all.chain(toxic.iter().map(|case| of("t ", case))) {
            assert!(commands.iter().all(|command| *command == commands[0]), "{commands:?}");
            assert!(commands[0].request().is_some());
        }
    }

    #[test]
    fn every_command_asks_what_toxiproxy_s_asks() {
        let cases = [
            ("list", "GET /proxies null"),
            ("inspect a:1", "GET /proxies/a%3A1 null"),
            ("toggle a/b", "GET /proxies/a%2Fb null"),
            ("delete ..", "DELETE /proxies/%2E%2E null"),
            ("toxic remove -n ü p", "DELETE /proxies/p/toxics/%C3%BC null"),
            (
                "create -l localhost:1 --upstream=b:2 p",
                "POST /proxies {\"enabled\":true,\"listen\":\"localhost:1\",\"name\":\"p\",\
                 \"upstream\":\"b:2\"}",
            ),
            (
                "toxic add -t latency -a latency=1000 -a jitter=50 p",
                "POST /proxies/p/toxics {\"attributes\":{\"jitter\":50,\"latency\":1000},\
                 \"name\":\"\",\"stream\":\"downstream\",\"toxicity\":1.0,\"type\":\"latency\"}",
            ),
            (
                "toxic add --type=timeout --toxicName n --toxicity 0.5 -u p",
                "POST /proxies/p/toxics {\"attributes\":{},\"name\":\"n\",\
                 \"stream\":\"upstream\",\"toxicity\":0.5,\"type\":\"timeout\"}",
            ),
            (
                "toxic update -n x --tox 0 --attribute rate=1 p",
                r#"PATCH /proxies/p/toxics/x {"attributes":{"rate":1},"toxicity":0.0}"#,
            ),
            (
                "toxic update -n x p",
                r#"PATCH /proxies/p/toxics/x {"attributes":{},"toxicity":1.0}"#,
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(request(line), expected, "{line}");
        }
    }

    #[test]
    fn attributes_are_numbers_if_they_look_like_them() {
        let attributes = |flags: &str| match parse(&format!("toxic update -n x {flags} p")) {
            CliCommand::UpdateToxic { amount, .. } => Value::Object(amount.attributes),
            other => panic!("{other:?}"),
        };
        let numbers = "-a a=1 -a b=-2 -a c=1e3 -a d=0.5 -a e=9223372036854775807 -a f=5.0";
        let expected = json!({"a": 1, "b": -2, "c": 1000, "d": 0.5, "e": i64::MAX, "f": 5});
        assert_eq!(attributes(numbers), expected);
        let texts = json!({"a": "5ms", "b": "inf", "c": "", "d": "x=y"});
        assert_eq!(attributes("-a a=5ms -a b=inf -a c= -a d=x=y"), texts);
        assert_eq!(attributes("-a a=1,b=2,"), json!({"a": 1, "b": 2}));
        assert_eq!(attributes("-a a=1 -a a=2"), json!({"a": 2}));
    }

    #[test]
    fn the_server_stands_before_the_command() {
        let host = |line: &str| CliLine::parse(&words(line)).unwrap().host;
        for line in ["-h a:1 list", "-h=a:1 list", "--host a:1 list", "--host=a:1 ls"] {
            assert_eq!(host(line).as_deref(), Some("a:1"), "{line}");
        }
        assert_eq!(host("list"), None);
        assert_eq!(host("--host= list"), None);
        assert_eq!(fault("list -h a:1"), ("unknown flag: -h".to_owned(), false));
    }

    #[test]
    fn help_is_there_in_every_place() {
        for line in [
            "",
            "help",
            "h list",
            "--help",
            "--help list",
            "list --help",
            "create --help",
            "toxic",
            "toxic help",
            "toxic --help",
            "toxic add --help",
            "-h a",
            "t u --help p",
        ] {
            assert_eq!(parse(line), CliCommand::Help, "{line}");
            assert_eq!(parse(line).request(), None);
        }
        for line in ["--version", "-v", "-v list"] {
            assert_eq!(parse(line), CliCommand::Version, "{line}");
        }
    }

    #[test]
    fn words_that_no_command_has_a_use_for_are_kept_apart() {
        let ignored = |line: &str| CliLine::parse(&words(line)).unwrap().ignored.join(" ");
        assert_eq!(ignored("delete a b c"), "b c");
        assert_eq!(ignored("toxic add -t latency p -a latency=5"), "-a latency=5");
        assert_eq!(ignored("list all"), "all");
        assert_eq!(ignored("inspect a"), "");
    }

    #[test]
    fn what_is_wrong_is_said_in_one_line() {
        let name = "missing argument: the name of the proxy";
        let toxicity = "for --toxicity: expected a number from 0 to 1";
        let cases = [
            (
                "lst",
                "unknown command: lst: expected list, inspect, create, toggle, delete or toxic",
            ),
            ("toxic ad", "unknown command: toxic ad: expected add, update or remove"),
            ("--hst a list", "unknown flag: --hst"),
            ("inspect", name),
            ("toggle", name),
            ("delete", name),
            ("create -l a -u b", name),
            ("toxic add -t latency", name),
            ("toxic update -n x", name),
            ("toxic remove -n x", name),
            ("create -u b p", "missing required flag: --listen"),
            ("create -l a p", "missing required flag: --upstream"),
            ("create -l= -u b p", "missing required flag: --listen"),
            ("create -l", "missing value for -l"),
            ("create -l a -u b -x p", "unknown flag: -x"),
            ("toxic add p", "missing required flag: --type"),
            ("toxic update p", "missing required flag: --toxicName"),
            ("toxic remove p", "missing required flag: --toxicName"),
            ("toxic add -t x -u -d p", "--upstream cannot be used together with --downstream"),
            (
                "toxic add -t x -a latency p",
                "invalid value 'latency' for --attribute: expected KEY=VALUE",
            ),
        ];
        for (line, expected) in cases {
            assert_eq!(fault(line), (expected.to_owned(), false), "{line}");
        }
        for wrong in ["x", "2", "-0.1", "nan", "inf"] {
            let expected = format!("invalid value '{wrong}' {toxicity}");
            assert_eq!(fault(&format!("toxic add -t x --tox {wrong} p")).0, expected);
        }
        let flags_last = ("missing required flag: --listen".to_owned(), true);
        assert_eq!(fault("create p -l a -u b"), flags_last);
        assert_eq!(fault("-h"), ("missing value for -h".to_owned(), true));
    }

    #[test]
    fn of_any_line_what_is_wrong_is_said_in_one_line() {
        let all = "list create toxic add update remove delete inspect p -l -u -d -n -t -a --tox -h \
                   --host=x -l=1 -a=k=v,w -- - --help --version=x -x -= \u{1b}[1m -\n=\t";
        let all: Vec<OsString> = all.split(' ').map(OsString::from).collect();
        let mut drawn = 0;
        let mut below = |most: usize| {
            drawn += 1;
            (trust_wire::relay::draw(1, drawn) % most as u64) as usize
        };
        let mut wrong = 0;
        for _ in 0..5000 {
            let len = 1 + below(7);
            let line: Vec<OsString> = (0..len).map(|_| all[below(all.len())].clone()).collect();
            let Err(fault) = CliLine::parse(&line) else { continue };
            wrong += 1;
            assert!(!fault.message.contains(char::is_control), "{line:?}: {fault}");
        }
        assert!((1000..5000).contains(&wrong), "{wrong}");
    }
}
