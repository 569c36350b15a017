//! `trustctl toxiproxy-server`: the command line of Toxiproxy's own server, as Go's package `flag`
//! reads it, with its exit code for wrong flags.

use std::env;
use std::ffi::OsString;

use trust_cli::command::{Context, Entry, OwnSyntax, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::level::Level;
use trust_toxiproxy::routes::VERSION;
use trust_toxiproxy::server_flags::{ServerCall, ServerFlags};

/// The word that calls it, and the name of links to the executable that stand for it.
pub const NAME: &str = "toxiproxy-server";

/// The variable that Toxiproxy has for the lowest level of its log.
const LOG_LEVEL: &str = "LOG_LEVEL";

const USAGE: &str = "\
Usage: toxiproxy-server [FLAG]...

  -host HOST        Where the API listens [default: localhost, on 127.0.0.1 and ::1]
  -port PORT        The port of the API; 0: a free one [default: 8474]
  -config FILE      Make the proxies of a JSON file, as the body of /populate has them
  -seed NUMBER      What the chances of toxics are drawn from [default: another in every run]
  -proxy-metrics    Count the bytes of each proxy, for /metrics
  -runtime-metrics  Measure the process, for /metrics
  -close-on-eof     Close both directions of a connection when one of them ends, as Toxiproxy
                    does, instead of passing the end on
  -version          Print the version
  -h, -help         Print this

A flag can have one dash or two, and its value after a blank or an equals sign. A flag without a
value can be turned off: -proxy-metrics=false.

LOG_LEVEL=panic|fatal|error|warn|info|debug|trace is the lowest level of events that are written,
unless --log-level, before the command, or TRUST_LOG_LEVEL says it. Wrong flags end with exit
code 2.
";

/// The command, without what it does: `run` begins with [`flags`].
pub const fn entry(run: fn(&mut Context<'_>) -> Result<ExitCode, Failure>) -> Entry {
    Entry {
        example: "-host 0.0.0.0",
        own_syntax: Some(&OwnSyntax { usage: USAGE, printed, log_level }),
        ..Entry::new(NAME, "Serve Toxiproxy's API, with its flags", Product::Service, run)
    }
}

/// What the command line says.
///
/// # Errors
///
/// 2 for a wrong flag.
pub fn flags(context: &Context<'_>) -> Result<ServerFlags, Failure> {
    flags_of(&context.words())
}

fn flags_of(words: &[OsString]) -> Result<ServerFlags, Failure> {
    match ServerCall::parse(words) {
        Ok(ServerCall::Serve(flags)) => Ok(flags),
        Ok(ServerCall::Help | ServerCall::Version) => unreachable!("printed in place of a run"),
        Err(fault) => {
            let hint = fault.hint.unwrap_or("see 'toxiproxy-server -help'");
            Err(Failure::new(ExitCode::WrongFlags, fault.message).with_hint(hint))
        }
    }
}

/// What is printed in place of a run.
fn printed(words: &[OsString]) -> Option<String> {
    match ServerCall::parse(words).ok()? {
        ServerCall::Help => Some(USAGE.to_owned()),
        ServerCall::Version => {
            let own = env!("CARGO_PKG_VERSION");
            Some(format!("{NAME} version {VERSION} (trustctl {own})\n"))
        }
        ServerCall::Serve(_) => None,
    }
}

fn log_level() -> Option<Level> {
    level_of(&env::var(LOG_LEVEL).ok()?)
}

/// Our level for one of Toxiproxy's, in any letter case. It ignores other words, and so do we.
fn level_of(name: &str) -> Option<Level> {
    match name.to_ascii_lowercase().as_str() {
        "panic" | "fatal" | "error" => Some(Level::Error),
        "warn" => Some(Level::Warn),
        "info" => Some(Level::Info),
        "debug" | "trace" => Some(Level::Debug),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use trust_cli::command::Program;
    use trust_cli::run::{Parsed, parse};

    use super::*;

    const ENTRY: Entry = entry(|context| flags(context).map(|_| ExitCode::Success));
    const PROGRAM: Program = Program {
        name: "it",
        about: "",
        commands: &[ENTRY],
        groups: &[],
        short_names: &[(NAME, NAME)],
        only: None,
    };

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    /// The flags that the command gets.
    fn flags_in(program: &Program, line: &str) -> ServerFlags {
        let tokens = words(line);
        let Parsed::Line(line) = parse(program, &tokens) else { panic!("{line} asks for help") };
        assert_eq!(line.mistake, Ok(()));
        assert_eq!(line.entry.map(|entry| entry.name), Some(NAME));
        let matches = line.matches.subcommand().map_or(&line.matches, |(_, matches)| matches);
        let words = matches.get_many::<OsString>("words").unwrap_or_default().cloned();
        flags_of(&words.collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn its_flags_reach_it_as_they_are_also_through_a_link() {
        let line = "-host=0.0.0.0 -port 1 --seed -5 -proxy-metrics=false";
        let ServerFlags { host, port, seed, .. } =
            flags_in(&PROGRAM, &format!("toxiproxy-server {line}"));
        assert_eq!((host.as_str(), port, seed), ("0.0.0.0", 1, Some(-5_i64 as u64)));
        let link = PROGRAM.called(NAME);
        assert_eq!(flags_in(&link, line).port, 1);
        assert_eq!(flags_in(&link, ""), ServerFlags::default());
        let line = "--log-level debug toxiproxy-server -port=2";
        assert_eq!(flags_in(&PROGRAM, line).port, 2);
    }

    #[test]
    fn a_wrong_flag_ends_with_the_exit_code_of_go() {
        let failure = flags_of(&words("-prot 1")).unwrap_err();
        assert_eq!((failure.exit.code(), &*failure.message), (2, "unknown flag: -prot"));
        assert_eq!(failure.hint.as_deref(), Some("see 'toxiproxy-server -help'"));
        assert_eq!(printed(&words("-prot 1 -h")), None);
    }

    #[test]
    fn help_and_version_are_printed_in_place_of_a_run() {
        assert_eq!(printed(&words("-h")).as_deref(), Some(USAGE));
        let version = printed(&words("--version")).unwrap();
        assert!(version.starts_with("toxiproxy-server version 2.12.0 (trustctl "), "{version}");
        assert_eq!(printed(&words("-port 1")), None);
    }

    #[test]
    fn the_levels_of_toxiproxy_are_ours() {
        let levels = "panic fatal error warn info debug trace INFO verbose"
            .split(' ')
            .map(|name| level_of(name).map_or("none", Level::name));
        let expected = "error error error warn info debug debug info none";
        assert_eq!(levels.collect::<Vec<_>>().join(" "), expected);
    }

    #[test]
    fn the_usage_fits_the_usual_terminal_and_names_every_flag() {
        for flag in ["host", "port", "config", "seed", "proxy-metrics", "runtime-metrics"] {
            assert!(USAGE.contains(&format!("\n  -{flag}")), "{flag}");
        }
        assert!(USAGE.lines().all(|line| line.chars().count() <= 100));
    }
}
