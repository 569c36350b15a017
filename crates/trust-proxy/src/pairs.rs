//! Which place to listen belongs to which upstream.

use std::ffi::OsString;
use std::path::Path;

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::listen_place::ListenPlace;
use trust_cli::target::Target;
use trust_cli::text::count;
use trust_cli::text_file::read_list;
use trust_cli::values::quoted;

use crate::options::{API, LISTEN, PAIRS, ProxyOptions, UPSTREAM};

/// Most pairs of one proxy: each has a listening socket or two, and no one writes more by hand.
const PAIRS_MAX: usize = 1000;

/// A place to listen, and the server for clients that come there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyPair {
    pub(crate) listen: ListenPlace,
    pub(crate) upstream: Target,
}

impl ProxyPair {
    /// All pairs that the arguments, the flags and the file name.
    ///
    /// # Errors
    ///
    /// 64 for a word that is wrong or missing, or if there is no pair; 65 for a line of the file;
    /// 74 if that cannot be read.
    pub(crate) fn all(
        arguments: &[OsString],
        options: &ProxyOptions,
    ) -> Result<Vec<ProxyPair>, Failure> {
        let mut pairs = vec![];
        pairs.extend(ProxyPair::of_command_line(arguments, options)?);
        if let Some(path) = &options.pairs {
            pairs.extend(read_file(path)?);
        }
        match pairs.len() {
            0 if options.api.is_none() => Err(usage(format!(
                "missing LISTEN and UPSTREAM: expected both, {} or {}",
                PAIRS.flag(),
                API.flag()
            ))),
            0..=PAIRS_MAX => Ok(pairs),
            count => Err(usage(format!("{count} pairs: expected up to {PAIRS_MAX}"))),
        }
    }

    fn of_command_line(
        arguments: &[OsString],
        options: &ProxyOptions,
    ) -> Result<Option<ProxyPair>, Failure> {
        let mut words = arguments.iter();
        let listen = match (&options.listen, words.len()) {
            (None, 0) => None,
            (None, _) | (Some(_), 2) => words
                .next()
                .map(|word| parse(word, LISTEN.value_name, ListenPlace::parse))
                .transpose()?,
            (Some(place), _) => Some(place.clone()),
        };
        let upstream = match words.next() {
            Some(word) => Some(parse(word, UPSTREAM.value_name, Target::of_word)?),
            None => options.upstream.clone(),
        };
        match (listen, upstream) {
            (Some(listen), Some(upstream)) => Ok(Some(ProxyPair { listen, upstream })),
            (None, None) => Ok(None),
            (Some(_), None) => {
                Err(usage(format!("missing UPSTREAM: expected {}", UPSTREAM.allowed)))
            }
            (None, Some(_)) => Err(usage(format!("missing LISTEN: expected {}", LISTEN.allowed))),
        }
    }
}

fn parse<T>(
    word: &OsString,
    what: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    let refused = |fault: String| usage(format!("invalid {what} {}: {fault}", quoted(word)));
    let text = word.to_str().ok_or_else(|| refused("not UTF-8".to_owned()))?;
    parse(text).map_err(refused)
}

fn read_file(path: &Path) -> Result<Vec<ProxyPair>, Failure> {
    let pairs = read_list(path, |place, line| {
        let refused = |fault| Failure::new(ExitCode::DataError, format!("{place}: {fault}"));
        parse_line(line).map_err(refused)
    })?;
    match pairs.is_empty() {
        true => Err(Failure::new(ExitCode::DataError, format!("{}: no pair in it", quoted(path)))),
        false => Ok(pairs),
    }
}

/// The pair of a line, after which a comment may stand.
fn parse_line(line: &str) -> Result<ProxyPair, String> {
    let line = line.split_once('#').map_or(line, |(before, _)| before);
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [listen, upstream] => parse_pair(listen, upstream),
        words => {
            Err(format!("expected LISTEN UPSTREAM, found {}", count(words.len() as u64, "word")))
        }
    }
}

fn parse_pair(listen: &str, upstream: &str) -> Result<ProxyPair, String> {
    let refused =
        |what: &str, word: &str, fault| format!("invalid {what} {}: {fault}", quoted(word));
    Ok(ProxyPair {
        listen: ListenPlace::parse(listen).map_err(|fault| refused("LISTEN", listen, fault))?,
        upstream: Target::of_word(upstream)
            .map_err(|fault| refused("UPSTREAM", upstream, fault))?,
    })
}

fn usage(message: String) -> Failure {
    Failure::new(ExitCode::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(listen: &str, upstream: &str) -> ProxyPair {
        parse_pair(listen, upstream).expect("a pair")
    }

    fn all(arguments: &[&str], options: &ProxyOptions) -> Result<Vec<ProxyPair>, String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        ProxyPair::all(&arguments, options).map_err(|failure| failure.message)
    }

    fn options() -> ProxyOptions {
        ProxyOptions::of(&trust_cli::layers::Layers::default())
    }

    #[test]
    fn arguments_and_flags_name_the_same_pair() {
        let expected = Ok(vec![pair(":7000", "localhost:7")]);
        assert_eq!(all(&["7000", "localhost:7"], &options()), expected);
        let listen = Some(ListenPlace::Loopback(7000));
        let upstream = Target::of_word("localhost:7").ok();
        let listening = ProxyOptions { listen: listen.clone(), ..options() };
        assert_eq!(all(&["localhost:7"], &listening), expected);
        assert_eq!(all(&[], &ProxyOptions { listen, upstream, ..options() }), expected);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let refused = |arguments: &[&str]| all(arguments, &options()).unwrap_err();
        assert_eq!(refused(&[]), "missing LISTEN and UPSTREAM: expected both, --pairs or --api");
        assert!(refused(&["7000"]).starts_with("missing UPSTREAM: expected HOST:PORT"));
        assert!(refused(&["70000", "7"]).starts_with("invalid LISTEN '70000': invalid port"));
        assert!(refused(&["7000", "localhost"]).starts_with("invalid UPSTREAM 'localhost': "));
    }

    #[test]
    fn a_line_has_two_words_and_maybe_a_comment() {
        assert_eq!(parse_line("7000 localhost:7"), Ok(pair(":7000", "localhost:7")));
        let commented = parse_line("unix:/run/a.sock\t[::1]:7 # the other");
        assert_eq!(commented, Ok(pair("unix:/run/a.sock", "[::1]:7")));
        let wrong = parse_line("7001").unwrap_err();
        assert_eq!(wrong, "expected LISTEN UPSTREAM, found 1 word");
        let fault = parse_line("7000 localhost:x").unwrap_err();
        assert!(fault.starts_with("invalid UPSTREAM 'localhost:x': "), "{fault}");
    }
}
