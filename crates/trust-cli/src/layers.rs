//! The layers of settings: default, configuration file, environment, flag; the last one wins.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::{ArgMatches, parser::ValueSource};

use crate::config_file::ConfigFile;
use crate::exit_code::{ExitCode, Failure};
use crate::settings::{AnySetting, Given, Setting, SettingId, variable_prefix};
use crate::values::{invalid, quoted};

/// Where a value came from, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// No source: there is no value.
    Unset,
    /// Built in.
    Default,
    /// `config.toml`
    File,
    /// A variable.
    Environment,
    /// The command line.
    Flag,
}

impl Source {
    /// Its name in `config show`.
    pub const fn name(self) -> &'static str {
        match self {
            Source::Unset => "unset",
            Source::Default => "default",
            Source::File => "file",
            Source::Environment => "environment",
            Source::Flag => "flag",
        }
    }
}

/// The values from every layer for every setting, already parsed.
#[derive(Default)]
pub struct Layers {
    given: BTreeMap<(SettingId, Source), Given>,
}

impl Layers {
    /// The strongest layer's value; `None` only without a default and without a value.
    ///
    /// # Panics
    ///
    /// If the setting's own default is invalid, or another setting has its name.
    pub fn get<T: Any + Clone + PartialEq>(&self, setting: &Setting<T>) -> Option<T> {
        match self.strongest(setting) {
            Some((given, _)) => Some(given.value.downcast_ref::<T>().expect("its type").clone()),
            None => setting.default.map(|text| setting.read(text.as_ref()).expect("it is allowed")),
        }
    }

    /// The layer that the value comes from.
    pub fn source(&self, setting: &dyn AnySetting) -> Source {
        self.text(setting).1
    }

    /// Whether the value is the default, even if a layer gives it explicitly or in other words.
    pub fn is_default(&self, setting: &dyn AnySetting) -> bool {
        match self.strongest(setting) {
            Some((given, _)) => setting.is_default(given),
            None => setting.default.is_some(),
        }
    }

    /// Where the value was given, for messages: see [`Given::place`]. For a default this is the
    /// flag that changes it.
    pub fn place(&self, setting: &dyn AnySetting) -> String {
        self.strongest(setting).map_or_else(|| setting.flag(), |(given, _)| given.place.clone())
    }

    /// The strongest layer's text as given, not necessarily UTF-8, and its layer.
    pub fn text(&self, setting: &dyn AnySetting) -> (Option<&OsStr>, Source) {
        match (self.strongest(setting), setting.default) {
            (Some((given, source)), _) => (Some(&given.text), source),
            (None, Some(default)) => (Some(default.as_ref()), Source::Default),
            (None, None) => (None, Source::Unset),
        }
    }

    fn strongest(&self, setting: &dyn AnySetting) -> Option<(&Given, Source)> {
        let layers = (setting.id(), Source::Unset)..=(setting.id(), Source::Flag);
        self.given.range(layers).next_back().map(|((_, source), given)| (given, *source))
    }

    /// The exit code for settings that conflict: that of the configuration file if one of them came
    /// from there and none from a flag or a variable.
    pub fn blame(&self, settings: &[&dyn AnySetting]) -> ExitCode {
        match settings.iter().map(|setting| self.source(*setting)).max() {
            Some(Source::File) => ExitCode::Config,
            _ => ExitCode::Usage,
        }
    }

    /// Removes a setting from all layers, so that it has its default.
    pub(crate) fn forget(&mut self, setting: &dyn AnySetting) {
        self.given.retain(|(id, _), _| *id != setting.id());
    }

    /// Adds one flag's value.
    ///
    /// # Errors
    ///
    /// 64 if the value is bad, or the flag was given before.
    pub fn add_flag(&mut self, setting: &dyn AnySetting, text: &OsStr) -> Result<(), Failure> {
        if self.given.contains_key(&(setting.id(), Source::Flag)) {
            let message = format!("duplicate flag: {}", setting.flag());
            return Err(Failure::new(ExitCode::Usage, message));
        }
        self.add(setting, Source::Flag, text, setting.flag())
    }

    /// Adds the flags of one level of the command line.
    ///
    /// # Errors
    ///
    /// 64 for the first bad value; the good ones are added all the same.
    pub fn add_flags(
        &mut self,
        matches: &ArgMatches,
        settings: &[&dyn AnySetting],
    ) -> Result<(), Failure> {
        let mut result = Ok(());
        for setting in settings {
            // A command with a syntax of its own has no global flags.
            let is_known = matches.try_contains_id(setting.key).is_ok();
            if !is_known || matches.value_source(setting.key) != Some(ValueSource::CommandLine) {
                continue;
            }
            if let Some(text) = matches.get_one::<OsString>(setting.key) {
                result = result.and(self.add_flag(*setting, text));
            }
        }
        result
    }

    /// Adds the variables of these settings. An empty variable counts as unset.
    ///
    /// # Errors
    ///
    /// 64 for the first bad value; the good ones are added all the same.
    pub fn add_environment(
        &mut self,
        variables: &[(OsString, OsString)],
        settings: &[&dyn AnySetting],
    ) -> Result<(), Failure> {
        let mut result = Ok(());
        for setting in settings {
            let name = setting.variable();
            let found = variables.iter().find(|(variable, _)| variable.as_os_str() == &*name);
            if let Some((_, text)) = found.filter(|(_, text)| !text.is_empty()) {
                result = result.and(self.add(*setting, Source::Environment, text, name));
            }
        }
        result
    }

    /// Adds the values of the configuration file.
    pub fn add_file(&mut self, file: ConfigFile) {
        self.given.extend(file.values.into_iter().map(|(id, given)| ((id, Source::File), given)));
    }

    fn add(
        &mut self,
        setting: &dyn AnySetting,
        source: Source,
        text: &OsStr,
        place: String,
    ) -> Result<(), Failure> {
        let given = setting
            .given(text, place.clone())
            .map_err(|fault| Failure::new(ExitCode::Usage, invalid(quoted(text), &place, fault)))?;
        self.given.insert((setting.id(), source), given);
        Ok(())
    }
}

/// Refuses variables that look like settings of the command but are not: they are misspelled.
///
/// # Errors
///
/// 64 for the first such variable by name.
pub fn check_variable_names(
    variables: &[(OsString, OsString)],
    command: &str,
    settings: &[&dyn AnySetting],
) -> Result<(), Failure> {
    let prefix = variable_prefix(command);
    let allowed: Vec<String> = settings.iter().map(|setting| setting.variable()).collect();
    let unknown = variables
        .iter()
        .map(|(name, _)| name)
        .filter(|name| name.as_bytes().starts_with(prefix.as_bytes()))
        .filter(|name| allowed.iter().all(|known| known.as_str() != name.as_os_str()))
        .min();
    let Some(name) = unknown else { return Ok(()) };
    let allowed = match allowed.is_empty() {
        true => format!("{command} has no settings"),
        false => format!("expected {}", allowed.join(", ")),
    };
    let message = format!("unknown variable {}: {allowed}", quoted(name));
    Err(Failure::new(ExitCode::Usage, message))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::values;

    const COMMAND: Option<&str> = Some("echo-server");
    const WAIT: Setting<Duration> =
        Setting::new(COMMAND, b"frame-timeout", values::LIMIT, Some("30"), "");
    const PORT: Setting<u16> = Setting::new(COMMAND, b"port", values::PORT, None, "");
    const SETTINGS: &[&dyn AnySetting] = &[&WAIT, &PORT];

    fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn file(seconds: &str) -> ConfigFile {
        let given = WAIT.given(seconds.as_ref(), "F:2".to_owned()).unwrap();
        ConfigFile { values: std::collections::HashMap::from([(WAIT.id(), given)]) }
    }

    #[test]
    fn a_stronger_layer_wins_whatever_the_order_they_are_read_in() {
        let seconds =
            |layers: &Layers| (layers.get(&WAIT).unwrap().as_secs(), layers.source(&WAIT));
        let mut layers = Layers::default();
        assert_eq!(seconds(&layers), (30, Source::Default));
        layers.add_file(file("2"));
        assert_eq!(seconds(&layers), (2, Source::File));
        let variables = variables(&[("TRUST_ECHO_SERVER_FRAME_TIMEOUT", "3000ms")]);
        layers.add_environment(&variables, SETTINGS).unwrap();
        assert_eq!(seconds(&layers), (3, Source::Environment));
        layers.add_flag(&WAIT, OsStr::new("4")).unwrap();
        assert_eq!(seconds(&layers), (4, Source::Flag));

        let mut reversed = Layers::default();
        reversed.add_flag(&WAIT, OsStr::new("4")).unwrap();
        reversed.add_environment(&variables, SETTINGS).unwrap();
        reversed.add_file(file("2"));
        assert_eq!(seconds(&reversed), (4, Source::Flag));
    }

    #[test]
    fn a_bad_value_is_told_with_its_place_and_what_is_allowed() {
        let mut layers = Layers::default();
        let failure = layers.add_flag(&WAIT, OsStr::new("-1")).unwrap_err();
        let allowed = format!("expected {}", values::LIMIT.allowed);
        assert_eq!(failure.message, format!("invalid value '-1' for --frame-timeout: {allowed}"));
        let variables = variables(&[("TRUST_ECHO_SERVER_FRAME_TIMEOUT", "nan")]);
        let failure = layers.add_environment(&variables, SETTINGS).unwrap_err();
        assert_eq!(failure.exit, ExitCode::Usage);
        assert_eq!(
            failure.message,
            format!("invalid value 'nan' for TRUST_ECHO_SERVER_FRAME_TIMEOUT: {allowed}")
        );
        assert_eq!(layers.source(&WAIT), Source::Default);
    }

    #[test]
    fn a_flag_that_is_given_twice_is_refused() {
        let mut layers = Layers::default();
        layers.add_flag(&PORT, OsStr::new("1")).unwrap();
        let failure = layers.add_flag(&PORT, OsStr::new("1")).unwrap_err();
        assert_eq!(failure, Failure::new(ExitCode::Usage, "duplicate flag: --port"));
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let mut layers = Layers::default();
        layers.add_environment(&variables(&[("TRUST_ECHO_SERVER_PORT", "")]), SETTINGS).unwrap();
        assert_eq!(layers.get(&PORT), None);
    }

    #[test]
    fn a_misspelled_variable_of_the_command_is_refused_and_others_are_not() {
        let check =
            |name| check_variable_names(&variables(&[(name, "1")]), "echo-server", SETTINGS);
        assert_eq!(check("TRUST_ECHO_SERVER_PORT"), Ok(()));
        assert_eq!(check("TRUST_LOAD_PRT"), Ok(()));
        assert_eq!(check("TRUSTED"), Ok(()));
        let message = "unknown variable 'TRUST_ECHO_SERVER_PRT': expected \
                       TRUST_ECHO_SERVER_FRAME_TIMEOUT, TRUST_ECHO_SERVER_PORT";
        assert_eq!(check("TRUST_ECHO_SERVER_PRT"), Err(Failure::new(ExitCode::Usage, message)));
    }
}
