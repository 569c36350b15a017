//! `trustctl config show [--json]`: every setting, its value and where it came from.

use std::fmt;
use std::path::Path;

use clap::{Arg, ArgAction};
use indexmap::IndexMap;
use serde::Serialize;
use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::globals::CONFIG_FILE_NAME;
use trust_cli::layers::Source;
use trust_cli::output::{document, print};
use trust_cli::values::quoted;

/// The command.
pub(crate) const ENTRY: Entry = Entry {
    arguments,
    ..Entry::new(
        "config show",
        "Show every setting, its value and where it came from",
        Product::LogAround,
        run,
    )
};

fn arguments() -> Vec<Arg> {
    let json = Arg::new(JSON).long(JSON).action(ArgAction::SetTrue);
    vec![json.help("Print one JSON document and nothing else")]
}

/// Prints the settings.
///
/// # Errors
///
/// 74 when stdout cannot be written.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let settings = shown_settings(context);
    let text = match context.matches.get_flag(JSON) {
        true => document(&settings),
        false => settings.iter().map(|(name, shown)| format!("{name}: {shown}\n")).collect(),
    };
    // What goes to stdout directly comes after the events that came before it.
    context.log.settle();
    print(text.as_bytes())?;
    Ok(ExitCode::Success)
}

const JSON: &str = "json";

/// What `trustctl config show --json` prints: every setting by its name, in order.
pub(crate) type SettingsDocument = IndexMap<String, ShownSetting>;

/// A setting: what it is, and where that came from.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct ShownSetting {
    /// As text; `null`: it is not set.
    value: Option<String>,
    /// `default`, `file`, `environment` or `flag`; `unset`; `generated`: a new one for each run. Of
    /// the file itself `read` or `not there`.
    source: &'static str,
}

impl fmt::Display for ShownSetting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShownSetting { value, source } = self;
        match value {
            Some(value) => write!(formatter, "{} ({source})", one_line(value)),
            None => write!(formatter, "({source})"),
        }
    }
}

fn shown_settings(context: &Context<'_>) -> SettingsDocument {
    let lossy = |path: &Path| path.to_string_lossy().into_owned();
    let default = |value: Option<String>| {
        let source = if value.is_some() { Source::Default } else { Source::Unset };
        (value, source.name())
    };
    let mut settings = SettingsDocument::new();
    for setting in context.program.all_settings() {
        let name = setting.display_name();
        let (text, source) = context.layers.text(setting);
        // Three have no fixed default, but a value that is worked out.
        let (value, source) = match (source, &*name) {
            (Source::Unset, "trust_home") => default(context.home.map(lossy)),
            (Source::Unset, "log_file") => default(context.log_file.map(lossy)),
            (Source::Unset, "request_id") => {
                (Some(context.log.request_id().to_owned()), "generated")
            }
            _ => (text.map(|text| text.to_string_lossy().into_owned()), source.name()),
        };
        settings.insert(name, ShownSetting { value, source });
    }
    let path = context.home.map(|home| home.join(CONFIG_FILE_NAME));
    let is_read = path.as_deref().is_some_and(Path::exists);
    let source = if is_read { "read" } else { "not there" };
    let file = ShownSetting { value: path.as_deref().map(lossy), source };
    settings.shift_insert(1, "config_file".into(), file);
    settings
}

fn one_line(value: &str) -> String {
    match value.chars().any(char::is_control) {
        true => quoted(value),
        false => value.to_owned(),
    }
}
