//! Settings that cannot be used together: the stronger layer wins, and two from the same layer are
//! an error.

use crate::exit_code::Failure;
use crate::layers::{Layers, Source};
use crate::settings::AnySetting;
use crate::values::{parse_bool, quoted};

/// Two settings that cannot be used together, and why.
pub struct Exclusion(pub When, pub When, pub &'static str);

/// When a setting counts as used.
pub enum When {
    /// If it has been given a value.
    Given(&'static dyn AnySetting),
    /// If it is a switch that is on.
    On(&'static dyn AnySetting),
    /// If its value meets a condition, which is also given in words.
    Is(&'static dyn AnySetting, fn(&str) -> bool, &'static str),
}

impl When {
    /// The setting in question.
    pub fn setting(&self) -> &'static dyn AnySetting {
        match *self {
            When::Given(setting) | When::On(setting) | When::Is(setting, ..) => setting,
        }
    }

    /// The condition on its value, for the documentation; empty if any value counts.
    pub fn value(&self) -> String {
        match self {
            When::Given(_) => String::new(),
            When::On(_) => " = true".to_owned(),
            When::Is(_, _, words) => format!(" {words}"),
        }
    }

    /// Whether the setting counts as used.
    pub fn counts(&self, layers: &Layers) -> bool {
        let (text, source) = layers.text(self.setting());
        let is = |holds: fn(&str) -> bool| text.is_some_and(|text| holds(&text.to_string_lossy()));
        match *self {
            When::Given(_) => source > Source::Default,
            When::On(_) => is(|text| parse_bool(text) == Some(true)),
            When::Is(_, holds, _) => is(holds),
        }
    }

    fn source(&self, layers: &Layers) -> Source {
        layers.source(self.setting())
    }

    /// Its name in messages.
    fn name(&self, layers: &Layers) -> String {
        let place = layers.place(self.setting());
        match (self, layers.text(self.setting()).0) {
            (When::Is(..), Some(text)) => format!("{place} {}", quoted(text)),
            _ => place,
        }
    }
}

/// Removes from the layers settings that lose to a stronger layer.
///
/// # Errors
///
/// If two settings from the same layer cannot be used together: 64, or 78 if both are in the
/// configuration file.
pub fn settle(layers: &mut Layers, exclusions: &[Exclusion]) -> Result<(), Failure> {
    // From the strongest winner down, so that no setting loses to one that itself loses.
    for winner in [Source::Flag, Source::Environment] {
        for pair in exclusions {
            let Exclusion(one, other, _) = pair;
            if !pair.counts(layers) {
                continue;
            }
            let sources = [one.source(layers), other.source(layers)];
            let loser = match sources {
                [a, b] if a == winner && b < winner => other,
                [a, b] if b == winner && a < winner => one,
                _ => continue,
            };
            layers.forget(loser.setting());
        }
    }
    let Some(pair) = exclusions.iter().find(|pair| pair.counts(layers)) else { return Ok(()) };
    let Exclusion(one, other, why) = pair;
    let message = format!("{} cannot be used with {}: {why}", one.name(layers), other.name(layers));
    Err(Failure::new(layers.blame(&[one.setting(), other.setting()]), message))
}

impl Exclusion {
    fn counts(&self, layers: &Layers) -> bool {
        self.0.counts(layers) && self.1.counts(layers)
    }
}

/// Used if its number is not 0, with or without a unit.
pub const fn not_zero(setting: &'static dyn AnySetting) -> When {
    let has_digit = |text: &str| text.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    When::Is(setting, has_digit, "not 0")
}

/// Used if its number is not 1.
pub const fn not_one(setting: &'static dyn AnySetting) -> When {
    When::Is(setting, |text| text.parse() != Ok(1i128), "not 1")
}

#[cfg(test)]
mod tests {
    use std::ffi::{OsStr, OsString};
    use std::path::Path;

    use super::*;
    use crate::config_file::ConfigFile;
    use crate::exit_code::ExitCode;
    use crate::settings::Setting;
    use crate::values;

    const A: Setting<u64> = count(b"a");
    const B: Setting<u64> = count(b"b");
    const C: Setting<u64> = count(b"c");
    const ON: Setting<bool> = Setting::new(Some("x"), b"on", values::SWITCH, None, "");
    const SETTINGS: &[&dyn AnySetting] = &[&A, &B, &C, &ON];

    const EXCLUSIONS: &[Exclusion] = &[
        Exclusion(When::Given(&A), When::Given(&B), "no"),
        Exclusion(When::Given(&B), When::Given(&C), "never"),
        Exclusion(When::On(&ON), When::Is(&C, |text| text != "1", "not 1"), "not so many"),
    ];

    const fn count(key: &'static [u8]) -> Setting<u64> {
        Setting::new(Some("x"), key, values::COUNT, None, "")
    }

    /// The `KEY=VALUE`s that remain in each layer, or the failure.
    fn settled(flags: &[&str], variables: &[&str], file: &str) -> Result<String, Failure> {
        let mut layers = Layers::default();
        for (key, value) in flags.iter().filter_map(|flag| flag.split_once('=')) {
            let setting = SETTINGS.iter().find(|setting| setting.key == key).unwrap();
            layers.add_flag(*setting, OsStr::new(value)).unwrap();
        }
        let variables: Vec<(OsString, OsString)> = variables
            .iter()
            .filter_map(|variable| variable.split_once('='))
            .map(|(key, value)| (format!("TRUST_X_{}", key.to_uppercase()).into(), value.into()))
            .collect();
        layers.add_environment(&variables, SETTINGS).unwrap();
        let file = format!("[x]\n{}", file.replace(' ', "\n"));
        layers.add_file(ConfigFile::parse(file.as_bytes(), Path::new("F"), SETTINGS).unwrap());
        settle(&mut layers, EXCLUSIONS)?;
        let shown = SETTINGS.iter().filter_map(|setting| {
            let text = layers.text(*setting).0?;
            Some(format!("{}={}", setting.key, text.to_string_lossy()))
        });
        Ok(shown.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_stronger_layer_wins() {
        let left = |flags, variables, file| settled(flags, variables, file).unwrap();
        assert_eq!(left(&["a=1"], &["b=2"], "c=3"), "a=1 c=3");
        assert_eq!(left(&["b=1"], &["a=2"], "c=3"), "b=1");
        assert_eq!(left(&[], &["a=1"], "b=2 c=3"), "a=1 c=3", "b has lost already");
        assert_eq!(left(&["c=2"], &["on=true"], ""), "c=2");
        assert_eq!(left(&["on=true"], &["c=2"], "c=1"), "on=true", "not a weaker layer's");
        assert_eq!(left(&["on=false"], &[], "c=2 on=true"), "c=2 on=false");
        assert_eq!(left(&["c=1"], &[], "on=true"), "c=1 on=true");
    }

    #[test]
    fn two_of_the_same_layer_are_refused_with_the_exit_code_of_that_layer() {
        let usage = |message: &str| Err(Failure::new(ExitCode::Usage, message));
        assert_eq!(settled(&["a=1", "b=1"], &[], ""), usage("--a cannot be used with --b: no"));
        let variables = settled(&[], &["on=1", "c=7"], "");
        assert_eq!(variables, usage("TRUST_X_ON cannot be used with TRUST_X_C '7': not so many"));
        let message = "F:3: b in [x] cannot be used with F:2: c in [x]: never";
        assert_eq!(settled(&[], &[], "c=1 b=1"), Err(Failure::new(ExitCode::Config, message)));
    }
}
