//! Bytes as people write them: text with escapes, and hexadecimal digits.

use std::fmt::Write as _;

use trust_cli::exchange_file::bad_text::BadText;
use trust_cli::exchange_file::hex::{Pair, byte, pairs, parse_hex};
use trust_cli::values::quoted;

use super::pattern::Pattern;
use super::template::Template;

/// The bytes that a hexadecimal text wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WantedBytes {
    /// Exactly these.
    Exact(Vec<u8>),
    /// What matches this: some are not known.
    Pattern(Pattern),
}

/// The bytes of a text in which `\r`, `\n`, `\t`, `\0`, `\\` and `\xNN` stand for the usual ones.
///
/// # Errors
///
/// The first backslash before anything else.
///
/// ```
/// use trust_check::exchange::escapes::unescape;
///
/// assert_eq!(unescape(r"PING\r\n\x00ü")?, b"PING\r\n\0\xc3\xbc");
/// let wrong = unescape(r"PING\q").unwrap_err();
/// assert_eq!(
///     wrong.with_place(r"PING\q"),
///     r"column 5: '\q': expected \r, \n, \t, \0, \\ or \xNN"
/// );
/// # Ok::<(), trust_cli::exchange_file::bad_text::BadText>(())
/// ```
pub fn unescape(text: &str) -> Result<Vec<u8>, BadText> {
    let mut bytes = vec![];
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let found = match escape.as_bytes() {
            [b'r', ..] => Some((b'\r', 1)),
            [b'n', ..] => Some((b'\n', 1)),
            [b't', ..] => Some((b'\t', 1)),
            [b'0', ..] => Some((0, 1)),
            [b'\\', ..] => Some((b'\\', 1)),
            [b'x', high, low, ..] => byte(*high, *low).map(|byte| (byte, 3)),
            _ => None,
        };
        let Some((byte, len)) = found else {
            let shown: String =
                escape.chars().take(if escape.starts_with('x') { 3 } else { 1 }).collect();
            let shown = quoted(format!("\\{shown}"));
            let message = format!(r"{shown}: expected \r, \n, \t, \0, \\ or \xNN");
            return Err(BadText { at: text.len() - escape.len() - 1, message });
        };
        bytes.push(byte);
        rest = &escape[len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

/// A request as a flag gives it: text with escapes (see [`unescape`]), and then places for a number
/// (see [`Template::parse`]).
///
/// # Errors
///
/// A wrong escape with its column, or that nothing is sent, in one line.
pub fn text_request(text: &str) -> Result<Template, String> {
    let bytes = unescape(text).map_err(|error| error.with_place(text))?;
    not_empty(Template::parse(&bytes))
}

/// A request as a flag gives it: hexadecimal digits (see [`parse_hex`]).
///
/// # Errors
///
/// A wrong digit with its column, or that nothing is sent, in one line.
pub fn hex_request(text: &str) -> Result<Template, String> {
    let bytes = parse_hex(text).map_err(|error| error.with_place(text))?;
    not_empty(Template::of_bytes(bytes))
}

fn not_empty(request: Template) -> Result<Template, String> {
    match request.is_empty() {
        true => Err("nothing to send: expected at least one byte".to_owned()),
        false => Ok(request),
    }
}

/// The bytes of hexadecimal digits as in [`parse_hex`], and `??` for a byte that may be any, and
/// `..` for any bytes, even none.
///
/// # Errors
///
/// As [`parse_hex`], or if the pattern is too large to compile.
pub fn parse_wanted_hex(text: &str) -> Result<WantedBytes, BadText> {
    let pairs = pairs(text).collect::<Result<Vec<_>, _>>()?;
    let exact = pairs.iter().map(|(_, pair)| match pair {
        Pair::Byte(byte) => Some(*byte),
        Pair::Any | Pair::Rest => None,
    });
    if let Some(bytes) = exact.collect() {
        return Ok(WantedBytes::Exact(bytes));
    }
    let mut source = String::from("(?s)");
    for (_, pair) in pairs {
        match pair {
            Pair::Byte(byte) => drop(write!(source, r"\x{byte:02x}")),
            Pair::Any => source.push('.'),
            Pair::Rest => source.push_str(".*"),
        }
    }
    let pattern = Pattern::parse(&source).map_err(|message| BadText { at: 0, message });
    pattern.map(WantedBytes::Pattern)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escape_error(text: &str) -> String {
        unescape(text).unwrap_err().with_place(text)
    }

    fn hex_error(text: &str) -> String {
        let error = parse_hex(text).unwrap_err();
        assert_eq!(parse_wanted_hex(text).err(), Some(error.clone()), "{text}");
        error.with_place(text)
    }

    #[test]
    fn escapes_stand_for_bytes() {
        let text = r"GET \\ \t\0\x00\x7f\xFf\r\n";
        assert_eq!(unescape(text), Ok(b"GET \\ \t\0\0\x7f\xff\r\n".to_vec()));
        assert_eq!(unescape(""), Ok(vec![]));
        assert_eq!(unescape(r"\\n"), Ok(b"\\n".to_vec()), "a backslash, and a letter");
        assert_eq!(unescape("\n{n}"), Ok(b"\n{n}".to_vec()), "what is not escaped stays");
    }

    #[test]
    fn a_wrong_escape_is_told_with_its_column() {
        let expected = r"expected \r, \n, \t, \0, \\ or \xNN";
        let cases = [
            (r"PING\q", 5, r"'\q'"),
            ("\\", 1, "'\\'"),
            (r"ab\\\", 5, "'\\'"),
            (r"\x", 1, r"'\x'"),
            (r"\x1", 1, r"'\x1'"),
            (r"\x1g", 1, r"'\x1g'"),
            (r"ü\x+1", 2, r"'\x+1'"),
            (r"\ü", 1, r"'\ü'"),
            ("\\\u{1b}", 1, r"'\\u{1b}'"),
            (r"\N", 1, r"'\N'"),
        ];
        for (text, column, shown) in cases {
            assert_eq!(escape_error(text), format!("column {column}: {shown}: {expected}"));
        }
    }

    #[test]
    fn hexadecimal_digits_are_bytes_with_white_space_between_them() {
        assert_eq!(parse_hex("001c 1234\n\t aBcD "), Ok(vec![0, 0x1c, 0x12, 0x34, 0xab, 0xcd]));
        assert_eq!(parse_hex(" "), Ok(vec![]));
    }

    #[test]
    fn a_wrong_hexadecimal_text_is_told_with_line_and_column() {
        let digits = "expected hexadecimal digits";
        let cases = [
            ("001", "column 3: a single digit '1': expected two for each byte"),
            ("00 1 22", "column 4: a single digit '1': expected two for each byte"),
            ("00 0x", &format!("column 5: 'x': {digits}")),
            ("zz", &format!("column 1: 'z': {digits}")),
            ("00\n 1ü", &format!("line 2, column 3: 'ü': {digits}")),
            ("üü", &format!("column 1: 'ü': {digits}")),
            ("0\u{1b}", &format!("column 2: '\\u{{1b}}': {digits}")),
            ("?", "column 1: a single '?': expected two"),
            ("00 .?", "column 4: a single '.': expected two"),
            ("0?", &format!("column 2: '?': {digits}")),
            ("#", &format!("column 1: '#': {digits}")),
        ];
        for (text, message) in cases {
            assert_eq!(hex_error(text), message);
        }
        let unknown = parse_hex("00 ?? 01").unwrap_err();
        assert_eq!(unknown.with_place("00 ?? 01"), format!("column 4: '??': {digits}"));
    }

    #[test]
    fn unknown_bytes_make_a_pattern() {
        let WantedBytes::Pattern(pattern) = parse_wanted_hex("?? ?? 00ff ..").unwrap() else {
            panic!("some bytes are not known");
        };
        assert!(pattern.is_whole(b"\n\xff\0\xff") && pattern.is_whole(b"ab\0\xff\r\n"));
        assert!(!pattern.is_whole(b"a\0\xff") && !pattern.is_whole(b"ab\0\xfe"));
        assert_eq!(parse_wanted_hex("00 0A"), Ok(WantedBytes::Exact(vec![0, 10])));
    }

    #[test]
    fn a_flag_gives_a_request() {
        assert_eq!(text_request(r"GET k{n}\r\n").unwrap().bytes(3), b"GET k3\r\n");
        assert_eq!(hex_request("7b 6e 7d").unwrap().bytes(3), b"{n}", "bytes have no places");
        for nothing in [text_request(""), hex_request(" ")] {
            assert_eq!(nothing.unwrap_err(), "nothing to send: expected at least one byte");
        }
        assert!(text_request(r"\z").unwrap_err().starts_with("column 1: "));
        assert!(hex_request("0g").unwrap_err().starts_with("column 2: "));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn what_is_written_with_escapes_is_read_back(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            choices in prop::collection::vec(any::<bool>(), 40),
        ) {
            let mut text = String::new();
            for (byte, is_named) in bytes.iter().zip(&choices) {
                match byte {
                    b'\r' if *is_named => text.push_str(r"\r"),
                    b'\n' if *is_named => text.push_str(r"\n"),
                    b'\t' if *is_named => text.push_str(r"\t"),
                    0 if *is_named => text.push_str(r"\0"),
                    b'\\' if *is_named => text.push_str(r"\\"),
                    b'\\' | 0x80.. => drop(write!(text, r"\x{byte:02x}")),
                    byte if *is_named => drop(write!(text, r"\x{byte:02X}")),
                    byte => text.push(char::from(*byte)),
                }
            }
            prop_assert_eq!(unescape(&text), Ok(bytes));
        }

        #[test]
        fn what_is_written_in_hexadecimal_digits_is_read_back(
            bytes in prop::collection::vec(any::<u8>(), 0..40),
            gap in "[ \t\r\n]{0,3}",
        ) {
            let text: String = bytes.iter().map(|byte| format!("{gap}{byte:02x}")).collect();
            prop_assert_eq!(parse_hex(&text), Ok(bytes.clone()));
            prop_assert_eq!(parse_wanted_hex(&text), Ok(WantedBytes::Exact(bytes)));
        }

        #[test]
        fn any_text_is_bytes_or_has_a_mistake_inside(text in any::<String>()) {
            let results = [unescape(&text).err(), parse_hex(&text).err()];
            for error in results.into_iter().flatten() {
                prop_assert!(error.at <= text.len());
                prop_assert!(!error.message.contains(char::is_control));
            }
        }
    }
}
