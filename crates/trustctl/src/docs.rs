//! The tables and schemas in `docs/` that are made from the code, and the tests that keep them so.
//!
//! `TRUSTCTL_UPDATE_DOCS=1 cargo test -p trustctl docs` writes them anew.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::Value;
use trust_check::cases;
use trust_check::report::json::{CaseList, CheckReport};
use trust_cli::exclusions::{Exclusion, When};
use trust_cli::exit_code::ExitCode;
use trust_cli::{error_map, output};
use trust_echo::server::command::one_connection::{Decided, decided_by};
use trust_echo::server::events::reason_name;
use trust_load::merge::json::MergeOutput;
use trust_load::report::json::LoadDocument;
use trust_load::summary::Cause;
use trust_net::wire::Reason;
use trust_testkit::docs;

use crate::commands::TRUSTCTL;
use crate::config_show::SettingsDocument;

#[test]
fn the_table_of_settings_is_the_code_s() {
    let mut table = String::from(
        "| setting | flag | variable | default | allowed | what it is |\n|---|---|---|---|---|---|\n",
    );
    for setting in TRUSTCTL.all_settings() {
        let key = match (setting.command(), setting.key()) {
            (Some(command), key) => format!("`[{command}]` `{key}`"),
            (None, "trust-home") => "not in the file".to_owned(),
            (None, key) => format!("`{key}`"),
        };
        let default = setting.default().map_or(String::new(), |default| format!("`{default}`"));
        let flag = match setting.is_switch() {
            true => setting.flag(),
            false => format!("{} {}", setting.flag(), setting.value_name()),
        };
        let allowed = setting.allowed().replace('|', "\\|");
        let help = setting.help().replace('|', "\\|");
        let variable = setting.variable();
        let _ =
            writeln!(table, "| {key} | `{flag}` | `{variable}` | {default} | {allowed} | {help} |");
    }
    table.push_str("\n| settings that cannot be used together | | why |\n|---|---|---|\n");
    for Exclusion(one, other, why) in TRUSTCTL.commands.iter().flat_map(|entry| entry.exclusions) {
        let cell = |when: &When| {
            let (setting, value) = (when.setting(), when.value());
            let command = setting.command().unwrap_or_default();
            format!("`[{command}]` `{}`{value}", setting.key())
        };
        let _ = writeln!(table, "| {} | {} | {why} |", cell(one), cell(other));
    }
    check("CONFIGURATION.md", &table);
}

#[test]
fn the_table_of_exit_codes_is_the_code_s() {
    let mut table = String::from("| code | when |\n|---|---|\n");
    for exit in ExitCode::ALL {
        let _ = writeln!(table, "| {} | {} |", exit.code(), exit.meaning());
    }
    check("EXIT_CODES.md", &table);
}

#[test]
fn the_table_of_errnos_is_the_code_s() {
    let mut table = String::from(
        "| errno | during | event | level | action | exit code |\n|---|---|---|---|---|---|\n",
    );
    for row in error_map::TABLE {
        let errnos: Vec<String> = row.errnos().map(|errno| format!("{errno:?}")).collect();
        let errnos = if errnos.is_empty() { "any other".to_owned() } else { errnos.join(", ") };
        let during = row.during.iter().map(|during| format!("{during:?}").to_lowercase());
        let during = during.collect::<Vec<_>>().join(", ");
        let exit = row.exit.map_or(String::new(), |exit| exit.code().to_string());
        let (event, level, action) = (row.event, row.level.name(), row.action.name());
        let _ =
            writeln!(table, "| {errnos} | {during} | `{event}` | {level} | {action} | {exit} |");
    }
    check("ERRORS.md", &table);
}

#[test]
fn the_table_of_exit_codes_with_inetd_is_the_code_s() {
    let mut table = String::from("| reason in `client_close` | exit code |\n|---|---|\n");
    // Whoever is turned away is no connection in the log, and there are no children.
    let never = [Reason::AtCapacity, Reason::ChildDied];
    for reason in Reason::KINDS.iter().filter(|reason| !never.contains(reason)) {
        let exit = match decided_by(reason) {
            Decided::Reason(exit) => exit.code().to_string(),
            Decided::Errno => "by its errno, see `ERRORS.md`".to_owned(),
            Decided::Signal => {
                "by the signal, see `EXIT_CODES.md`: SIGTERM 0, or 1 if it was cut; SIGINT 130"
                    .to_owned()
            }
        };
        let _ = writeln!(table, "| `{}` | {exit} |", reason_name(reason));
    }
    check("SUPERSERVERS.md", &table);
}

#[test]
fn the_table_of_cases_is_the_code_s() {
    let mut table = String::from(
        "| case | requirement | where it comes from | the bug that it finds |\n|---|---|---|---|\n",
    );
    let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
    for case in cases::all() {
        let [requirement, source, bug] = [case.requirement, case.source, case.bug].map(cell);
        let _ = writeln!(table, "| `{}` | {requirement} | {source} | {bug} |", case.id);
    }
    check("CHECK.md", &table);
}

#[test]
fn the_table_of_causes_is_the_code_s() {
    let mut table = String::from("| cause | what happened |\n|---|---|\n");
    for cause in Cause::ALL {
        let _ = writeln!(table, "| `{}` | {} |", cause.name(), cause.text());
    }
    check("LOAD.md", &table);
}

#[test]
fn the_schemas_are_the_types() {
    is_published::<LoadDocument>("load");
    is_published::<MergeOutput>("load-merge");
    is_published::<CheckReport>("check");
    is_published::<CaseList>("check-list");
    is_published::<SettingsDocument>("config-show");
}

/// Checks that `docs/schema` has the schema of the document.
#[track_caller]
fn is_published<T: JsonSchema>(name: &str) {
    let mut published = RecursiveTransform(|schema: &mut Schema| {
        // Fields may be added without a new version.
        if schema.get("additionalProperties").is_some_and(|others| others == false) {
            schema.remove("additionalProperties");
        }
        // Lines of comments are no lines of a description.
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace('\n', " ");
        }
    });
    // Every field is there in what is written, which is not asked of what is read.
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>();
    published.transform(&mut schema);
    docs::has_text(&format!("docs/schema/{name}.json"), &output::document(&schema));
}

fn check(name: &str, table: &str) {
    docs::has_table(&format!("docs/{name}"), "code", table);
}
