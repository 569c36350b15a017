//! `trustctl config show [--json]`: every setting, its value and where it came from.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction};
use serde::ser::{Serialize, SerializeMap, Serializer};
use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::globals::CONFIG_FILE_NAME;
use trust_cli::layers::Source;
use trust_cli::output::print;
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
    let lines = shown_settings(context);
    let text = match context.matches.get_flag(JSON) {
        true => {
            let document = serde_json::to_string_pretty(&SettingsDocument(&lines));
            document.map_err(|error| Failure::new(ExitCode::Internal, error.to_string()))? + "\n"
        }
        false => lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{line}");
            text
        }),
    };
    // What goes to stdout directly comes after the events that came before it.
    context.log.settle();
    print(text.as_bytes())?;
    Ok(ExitCode::Success)
}

const JSON: &str = "json";

/// One line of the output.
struct Shown {
    name: String,
    value: Option<String>,
    source: &'static str,
}

impl std::fmt::Display for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shown { name, value, source } = self;
        match value {
            Some(value) => write!(formatter, "{name}: {} ({source})", one_line(value)),
            None => write!(formatter, "{name}: ({source})"),
        }
    }
}

/// The settings as one JSON object, in their order.
struct SettingsDocument<'a>(&'a [Shown]);

impl Serialize for SettingsDocument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Value<'a> {
            value: Option<&'a str>,
            source: &'a str,
        }
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for Shown { name, value, source } in self.0 {
            map.serialize_entry(name, &Value { value: value.as_deref(), source })?;
        }
        map.end()
    }
}

fn shown_settings(context: &Context<'_>) -> Vec<Shown> {
    let lossy = |path: &Path| path.to_string_lossy().into_owned();
    let mut lines: Vec<Shown> = context
        .program
        .all_settings()
        .into_iter()
        .map(|setting| {
            let (text, source) = context.layers.text(setting);
            let value = text.map(|text| text.to_string_lossy().into_owned());
            Shown { name: setting.display_name(), value, source: source.name() }
        })
        .collect();
    // Three have no fixed default, but a value that is worked out.
    for line in &mut lines {
        if line.source != Source::Unset.name() {
            continue;
        }
        (line.value, line.source) = match &*line.name {
            "trust_home" => (Some(lossy(context.home)), Source::Default.name()),
            "log_file" => (context.log_file.map(lossy), Source::Default.name()),
            "request_id" => (Some(context.log.request_id().to_owned()), "generated"),
            _ => continue,
        };
    }
    let path = context.home.join(CONFIG_FILE_NAME);
    let source = if path.exists() { "read" } else { "not there" };
    lines.insert(1, Shown { name: "config_file".into(), value: Some(lossy(&path)), source });
    lines
}

fn one_line(value: &str) -> String {
    match value.chars().any(char::is_control) {
        true => quoted(value),
        false => value.to_owned(),
    }
}
