//! The command that does something again, as a user would type it.

use crate::settings::{AnySetting, Layers, Source};
use crate::values::parse_bool;

/// Flags for every one of the settings that has a value other than its default, whichever layer it comes from.
pub fn said<'s>(
    layers: &Layers,
    settings: impl IntoIterator<Item = &'s dyn AnySetting>,
) -> Vec<String> {
    let mut words = vec![];
    for setting in settings {
        let (Some(text), source) = layers.text(setting) else { continue };
        let text = text.to_string_lossy();
        if source <= Source::Default || setting.default() == Some(&*text) {
            continue;
        }
        match (setting.is_switch(), parse_bool(&text)) {
            (true, Some(true)) => words.push(setting.flag()),
            (true, _) => {}
            (false, _) if text.starts_with('-') => {
                words.push(format!("{}={}", setting.flag(), shell_word(&text)));
            }
            (false, _) => words.extend([setting.flag(), shell_word(&text)]),
        }
    }
    words
}

/// The text as one word for a shell.
pub fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,+=@%".contains(&byte);
    match !text.is_empty() && text.bytes().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
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
    }
}
