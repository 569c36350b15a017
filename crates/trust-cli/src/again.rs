//! The command line that repeats a run, as a user would type it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::layers::{Layers, Source};
use crate::settings::AnySetting;
use crate::values::parse_bool;

/// Flags for all settings whose value differs from the default, whichever layer it comes from.
pub fn said<'s>(
    layers: &Layers,
    settings: impl IntoIterator<Item = &'s dyn AnySetting>,
) -> Vec<String> {
    let mut words = vec![];
    for setting in settings {
        let (Some(text), source) = layers.text(setting) else { continue };
        if source <= Source::Default || layers.is_default(setting) {
            continue;
        }
        match (setting.is_switch(), parse_bool(&text.to_string_lossy())) {
            (true, Some(true)) => words.push(setting.flag()),
            // The file still turns on what this layer turned off.
            (true, _) if source > Source::File => words.push(format!("{}=false", setting.flag())),
            (true, _) => {}
            (false, _) if setting.alone.is_some() || text.as_bytes().starts_with(b"-") => {
                words.push(format!("{}={}", setting.flag(), shell_word(text)));
            }
            (false, _) => words.extend([setting.flag(), shell_word(text)]),
        }
    }
    words
}

/// The text as one shell word. Bytes that are not UTF-8 are written as `$'\xff'`, which bash and
/// zsh understand.
pub fn shell_word(text: impl AsRef<OsStr>) -> String {
    let bytes = text.as_ref().as_bytes();
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:,+=@%".contains(byte);
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.is_empty() && bytes.iter().all(is_plain) => text.to_owned(),
        Ok(text) => format!("'{}'", text.replace('\'', "'\\''")),
        Err(_) => {
            let escaped = |byte: &u8| match is_plain(byte) {
                true => char::from(*byte).to_string(),
                false => format!("\\x{byte:02x}"),
            };
            format!("$'{}'", bytes.iter().map(escaped).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        for plain in ["a", "127.0.0.1:9", "u8+incl", "a,b/c", "-1"] {
            assert_eq!(shell_word(plain), plain);
        }
        for (text, word) in
            [("", "''"), ("a b", "'a b'"), ("[::1]:9", "'[::1]:9'"), ("$(x)", "'$(x)'")]
        {
            assert_eq!(shell_word(text), word);
        }
        assert_eq!(shell_word(OsStr::from_bytes(b"a\xff b'")), "$'a\\xff\\x20b\\x27'");
    }
}
