//! `trustctl toxiproxy-cli`: drives a server with Toxiproxy's API, ours or Toxiproxy. Commands,
//! flags and exit codes are those of Toxiproxy's own `toxiproxy-cli`; the wording is ours.

mod list_style;
mod server_url;

use std::env;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use trust_cli::approach::Approach;
use trust_cli::command::{Context, Entry, OwnSyntax, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::output::{print, tell};
use trust_cli::signals::{Signals, Stopped};
use trust_cli::target::Family;
use trust_cli::text::{reason, seconds};
use trust_cli::values::{bare, quoted};
use trust_toxiproxy::cli::client::{CliAnswer, CliServer, ExchangeError, exchange};
use trust_toxiproxy::cli::command::{CliCommand, CliLine, CliRequest};
use trust_toxiproxy::cli::listed::{ListedProxies, ListedProxy, ListedToxic};
use trust_toxiproxy::go_flags::SyntaxFault;
use trust_toxiproxy::routes::VERSION;

use crate::toxiproxy_cli::list_style::{ListStyle, clean};
use crate::toxiproxy_cli::server_url::ServerUrl;

/// The word that calls it, and the name of links to the executable that stand for it.
pub(crate) const NAME: &str = "toxiproxy-cli";

/// The command.
pub(crate) const ENTRY: Entry = Entry {
    example: "list",
    own_syntax: Some(&OwnSyntax { usage: USAGE, printed, log_level: || None }),
    ..Entry::new(
        NAME,
        "Control a server with Toxiproxy's API, as its own CLI does",
        Product::Output,
        run,
    )
};

/// Longest time to resolve the server's name and to connect to it.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Longest time from a request to the end of its answer. Toxiproxy gives up after 25 s.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The variable that names the server.
const VARIABLE: &str = "TOXIPROXY_URL";

const DEFAULT_URL: &str = "http://localhost:8474";

const USAGE: &str = "\
Usage: toxiproxy-cli [--host URL] COMMAND [FLAG]... [PROXY]

Commands, their aliases and their flags:
  list     (l, li, ls)     List all proxies
  inspect  (i, ins)        List the toxics of PROXY
  create   (c, new)        Create PROXY, enabled
      -l, --listen ADDR        Where it listens; required
      -u, --upstream ADDR      Where it connects its clients to; required
  toggle   (tog)           Disable PROXY if it is enabled, else enable it
  delete   (d)             Delete PROXY
  toxic add     (t a)      Add a toxic to PROXY
      -t, --type TYPE          latency, bandwidth, slow_close, timeout, reset_peer, slicer,
                               limit_data or noop; required
      -n, --toxicName NAME     Its name [default: TYPE_STREAM]
      -a, --attribute KEY=VALUE
                               How much of it; can be given more than once
      --tox, --toxicity NUMBER The share of connections that have it, 0 to 1 [default: 1]
      -d, --downstream         From the upstream to the client; the default
      -u, --upstream           From the client to the upstream
  toxic update  (t u)      Change a toxic of PROXY
      -n, --toxicName NAME     The toxic; required
      -a, --attribute KEY=VALUE
                               What changes; other attributes stay as they are
      --tox, --toxicity NUMBER The share of connections that have it. Without this flag it
                               becomes 1, as with Toxiproxy's own CLI
  toxic remove  (t r, delete, d)
                           Remove a toxic from PROXY
      -n, --toxicName NAME     The toxic; required

Attributes:
  latency     latency, jitter in ms             bandwidth   rate in KB/s
  slow_close  delay in ms                       timeout     timeout in ms
  reset_peer  timeout in ms                     limit_data  bytes
  slicer      average_size, size_variation in bytes, delay in µs

Flags before the command:
  -h, --host URL           The server [variable: TOXIPROXY_URL; default: http://localhost:8474].
                           http:// can be left out; without a port it is 80
  -v, --version            Print the version
      --help               Print this; also after a command

Flags come before PROXY. On a terminal there are headings and colours (NO_COLOR turns these
off); elsewhere each line is one proxy or toxic, with tabs between its columns. Errors end with
exit code 1.
";

/// What is printed in place of a run.
fn printed(words: &[OsString]) -> Option<String> {
    match CliLine::parse(words).ok()?.command {
        CliCommand::Help => Some(USAGE.to_owned()),
        CliCommand::Version => {
            let own = env!("CARGO_PKG_VERSION");
            Some(format!("{NAME} version {VERSION} (trustctl {own})\n"))
        }
        _ => None,
    }
}

/// Asks the server, and prints what came of it.
///
/// # Errors
///
/// 1 for all of them, as Toxiproxy has it.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let CliLine { host, command, ignored } = CliLine::parse(&context.words()).map_err(wrong)?;
    if !ignored.is_empty() {
        let words: Vec<String> = ignored.iter().map(bare).collect();
        tell(&format!("warning: ignored: {} (flags come before the argument)", words.join(" ")));
    }
    let variable = env::var(VARIABLE).ok().filter(|url| !url.is_empty());
    let url = match (&host, &variable) {
        (Some(url), _) => ServerUrl::parse(url, "--host")?,
        (None, Some(url)) => ServerUrl::parse(url, VARIABLE)?,
        (None, None) => ServerUrl::parse(DEFAULT_URL, "--host")?,
    };
    let session = CliSession { url, signals: context.signals, style: ListStyle::of_stdout() };
    match session.run(&command) {
        Ok(text) => {
            print(text.as_bytes()).map_err(negative)?;
            Ok(ExitCode::Success)
        }
        Err(stopped) => context.end(stopped).map_err(negative),
    }
}

/// What a command is done with.
struct CliSession<'a> {
    url: ServerUrl,
    signals: &'a Signals,
    style: ListStyle,
}

impl CliSession<'_> {
    /// Does what the command says; what is printed then.
    fn run(&self, command: &CliCommand) -> Result<String, Stopped> {
        let Some(request) = command.request() else { return Ok(String::new()) };
        let what = self.attempted(command);
        let answer = self.ask(&request, &what)?;
        Ok(match command {
            CliCommand::Help | CliCommand::Version => String::new(),
            CliCommand::List => {
                let proxies: ListedProxies = self.read(&answer, &what)?;
                self.style.proxies(&proxies)
            }
            CliCommand::Inspect { .. } => {
                let proxy: ListedProxy = self.read(&answer, &what)?;
                self.style.proxy(&proxy)
            }
            CliCommand::Create { .. } => {
                let ListedProxy { name, listen, .. } = self.read(&answer, &what)?;
                format!("created proxy {}, which listens on {}\n", clean(&name), clean(&listen))
            }
            CliCommand::Toggle { .. } => {
                let mut proxy: ListedProxy = self.read(&answer, &what)?;
                proxy.enabled = !proxy.enabled;
                self.ask(&CliRequest::save(&proxy), &what)?;
                format!("proxy {} is now {}\n", clean(&proxy.name), self.style.state(&proxy))
            }
            CliCommand::Delete { proxy } => format!("deleted proxy {}\n", clean(proxy)),
            CliCommand::AddToxic { proxy, .. } => {
                let ListedToxic { name, type_name, stream, .. } = self.read(&answer, &what)?;
                let [name, kind, stream] = [name, type_name, stream].map(|text| clean(&text));
                format!("added {stream} {kind} toxic {name} to proxy {}\n", clean(proxy))
            }
            CliCommand::UpdateToxic { proxy, toxic, .. } => {
                format!("updated toxic {} of proxy {}\n", clean(toxic), clean(proxy))
            }
            CliCommand::RemoveToxic { proxy, toxic } => {
                format!("removed toxic {} from proxy {}\n", clean(toxic), clean(proxy))
            }
        })
    }

    /// Words for what a command cannot do when it fails.
    fn attempted(&self, command: &CliCommand) -> String {
        match command {
            CliCommand::Help | CliCommand::Version => String::new(),
            CliCommand::List => "list proxies".to_owned(),
            CliCommand::Inspect { proxy } => format!("inspect proxy {}", quoted(proxy)),
            CliCommand::Create { proxy, .. } => format!("create proxy {}", quoted(proxy)),
            CliCommand::Toggle { proxy } => format!("toggle proxy {}", quoted(proxy)),
            CliCommand::Delete { proxy } => format!("delete proxy {}", quoted(proxy)),
            CliCommand::AddToxic { proxy, type_name, .. } => {
                format!("add toxic {} to proxy {}", quoted(type_name), quoted(proxy))
            }
            CliCommand::UpdateToxic { proxy, toxic, .. } => {
                format!("update toxic {} of proxy {}", quoted(toxic), quoted(proxy))
            }
            CliCommand::RemoveToxic { proxy, toxic } => {
                format!("remove toxic {} from proxy {}", quoted(toxic), quoted(proxy))
            }
        }
    }

    /// Sends a request over a connection of its own.
    fn ask(&self, request: &CliRequest, what: &str) -> Result<CliAnswer, Stopped> {
        let approach = Approach {
            target: &self.url.target,
            family: Family::Any,
            timeout: CONNECT_LIMIT,
            wait: Duration::ZERO,
            preface: None,
            signals: self.signals,
        };
        let connected = approach.reach().map_err(|stopped| match stopped {
            Stopped::Failed(failure) => failure.with_hint(self.url.hint()).into(),
            signal @ Stopped::Signal(_) => signal,
        })?;
        let owned = |descriptor: BorrowedFd<'_>| {
            let owned = descriptor.try_clone_to_owned();
            owned.map_err(|error| self.refused(what, &error.into()))
        };
        let connection = owned(connected.stream.as_fd())?;
        let stops = self.signals.descriptors().into_iter().map(owned);
        let stops = stops.collect::<Result<Vec<_>, _>>()?;
        let server = CliServer { host: &self.url.host, prefix: &self.url.prefix };
        let outcome = exchange(connection.into(), server, request, ANSWER_LIMIT, stops);
        outcome.map_err(|error| match (&error, self.signals.take()) {
            (ExchangeError::Stopped, Some(signal)) => Stopped::Signal(signal),
            _ => self.refused(what, &error),
        })
    }

    fn read<T: serde::de::DeserializeOwned>(
        &self,
        answer: &CliAnswer,
        what: &str,
    ) -> Result<T, Stopped> {
        answer.read().map_err(|error| self.refused(what, &error))
    }

    /// The failure of a request.
    fn refused(&self, what: &str, error: &ExchangeError) -> Stopped {
        let target = &self.url.target;
        let message = match error {
            ExchangeError::TimedOut => {
                format!("cannot {what}: no answer from {target} within {}", seconds(ANSWER_LIMIT))
            }
            ExchangeError::Invalid(fault) => {
                format!("cannot {what}: no valid answer from {target}: {fault}")
            }
            ExchangeError::System(error) => format!("cannot {what}: {}", reason(error)),
            ExchangeError::Refused { .. } | ExchangeError::Stopped => {
                format!("cannot {what}: {error}")
            }
        };
        Failure::new(ExitCode::Negative, message).into()
    }
}

/// The failure for a wrong command line.
fn wrong(fault: SyntaxFault) -> Failure {
    let hint = fault.hint.unwrap_or("see 'toxiproxy-cli --help'");
    Failure::new(ExitCode::Negative, fault.message).with_hint(hint)
}

/// The same failure with the exit code that Toxiproxy has for all of them.
fn negative(failure: Failure) -> Failure {
    Failure { exit: ExitCode::Negative, ..failure }
}
