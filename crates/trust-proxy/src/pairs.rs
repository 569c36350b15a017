//! Which place to listen belongs to which upstream.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::listen_place::ListenPlace;
use trust_cli::target::Target;
use trust_cli::text::reason;
use trust_cli::values::quoted;

use crate::options::{LISTEN, PAIRS, ProxyOptions, UPSTREAM};

/// Most pairs of one proxy: each has a listening socket or two, and no one writes more by hand.
const PAIRS_MAX: usize = 1000;

/// Largest file of pairs that is read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

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
            0 => Err(usage(format!(
                "missing LISTEN and UPSTREAM: expected both, or {}",
                PAIRS.flag()
            ))),
            1..=PAIRS_MAX => Ok(pairs),
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
    let unreadable =
        |why: String| Failure::new(ExitCode::Io, format!("cannot read {}: {why}", quoted(path)));
    let size = fs::metadata(path).map_err(|error| unreadable(reason(&error)))?.len();
    if size > FILE_MAX {
        return Err(unreadable(format!("it has {size} bytes: expected up to {FILE_MAX}")));
    }
    let text = fs::read_to_string(path).map_err(|error| unreadable(reason(&error)))?;
    let pairs = parse_lines(&text).map_err(|(line, fault)| {
        let message = format!("{}, line {line}: {fault}", quoted(path));
        Failure::new(ExitCode::DataError, message)
    })?;
    match pairs.is_empty() {
        true => Err(Failure::new(ExitCode::DataError, format!("{}: no pair in it", quoted(path)))),
        false => Ok(pairs),
    }
}

/// The pairs of a file, or the number of the first wrong line and what is wrong with it.
fn parse_lines(text: &str) -> Result<Vec<ProxyPair>, (usize, String)> {
    let mut pairs = vec![];
    for (index, line) in text.lines().enumerate() {
        let line = line.split_once('#').map_or(line, |(before, _)| before);
        let words: Vec<&str> = line.split_whitespace().collect();
        let pair = match words.as_slice() {
            [] => continue,
            [listen, upstream] => parse_pair(listen, upstream),
            words => Err(format!("expected LISTEN UPSTREAM, found {} words", words.len())),
        };
        pairs.push(pair.map_err(|fault| (index + 1, fault))?);
    }
    Ok(pairs)
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
        assert_eq!(refused(&[]), "missing LISTEN and UPSTREAM: expected both, or --pairs");
        assert!(refused(&["7000"]).starts_with("missing UPSTREAM: expected HOST:PORT"));
        assert!(refused(&["70000", "7"]).starts_with("invalid LISTEN '70000': invalid port"));
        assert!(refused(&["7000", "localhost"]).starts_with("invalid UPSTREAM 'localhost': "));
    }

    #[test]
    fn a_file_has_a_pair_a_line_and_a_wrong_line_is_named() {
        let text = "# two of them\n7000 localhost:7\n\n unix:/run/a.sock\t[::1]:7 # the other\n";
        let expected = vec![pair(":7000", "localhost:7"), pair("unix:/run/a.sock", "[::1]:7")];
        assert_eq!(parse_lines(text), Ok(expected));
        let wrong = parse_lines("7000 7\n\n7001\n");
        assert_eq!(wrong, Err((3, "expected LISTEN UPSTREAM, found 1 words".to_owned())));
        let (line, fault) = parse_lines("7000 localhost:x").unwrap_err();
        assert_eq!(line, 1);
        assert!(fault.starts_with("invalid UPSTREAM 'localhost:x': "), "{fault}");
    }
}
