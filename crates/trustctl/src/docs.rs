//! The tables and schemas in `docs/` that are generated from the code, and the tests that keep them
//! up to date.
//!
//! `TRUSTCTL_UPDATE_DOCS=1 cargo test -p trustctl docs` regenerates them.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::Value;
use trust_check::cases;
use trust_check::compare::json::CompareReport;
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
        "| setting | flag | variable | default | allowed | what it is |\n\
         |---|---|---|---|---|---|\n",
    );
    for setting in TRUSTCTL.all_settings() {
        let key = match (setting.command, setting.key) {
            (Some(command), key) => format!("`[{command}]` `{key}`"),
            (None, "trust-home") => "not in the file".to_owned(),
            (None, key) => format!("`{key}`"),
        };
        let default = setting.default.map_or(String::new(), |default| format!("`{default}`"));
        let flag = match setting.alone {
            _ if setting.is_switch() => setting.flag(),
            Some(_) => format!("{}[={}]", setting.flag(), setting.value_name),
            None => format!("{} {}", setting.flag(), setting.value_name),
        };
        let allowed = setting.allowed.replace('|', "\\|");
        let help = setting.description().replace('|', "\\|");
        let variable = setting.variable();
        let _ =
            writeln!(table, "| {key} | `{flag}` | `{variable}` | {default} | {allowed} | {help} |");
    }
    table.push_str("\n| settings that cannot be used together | | why |\n|---|---|---|\n");
    for Exclusion(one, other, why) in TRUSTCTL.commands.iter().flat_map(|entry| entry.exclusions) {
        let cell = |when: &When| {
            let (setting, value) = (when.setting(), when.value());
            let command = setting.command.unwrap_or_default();
            format!("`[{command}]` `{}`{value}", setting.key)
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
    // A client that is turned away is not logged as a connection, and --inetd has no children.
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
    let published = [
        ("load", "load", schema::<LoadDocument>()),
        ("load-merge", "load merge", schema::<MergeOutput>()),
        ("check", "check", schema::<CheckReport>()),
        ("check-list", "check --list", schema::<CaseList>()),
        ("check-compare", "check compare", schema::<CompareReport>()),
        ("config-show", "config show", schema::<SettingsDocument>()),
    ];
    for (name, command, mut schema) in published {
        schema.insert("title".to_owned(), format!("trustctl {command} --json").into());
        docs::has_text(&format!("docs/schema/{name}.json"), &output::document(&schema));
    }
}

#[test]
fn the_tables_of_fields_are_the_types() {
    let (load, causes) = (schema::<LoadDocument>().to_value(), schema::<Cause>().to_value());
    let mut table = fields(&load, &load);
    table.push_str("\nCauses, the fields of `errors.by_cause`:\n\n| field | |\n|---|---|\n");
    for (word, meaning) in words(&causes) {
        let _ = writeln!(table, "| `{word}` | {meaning} |");
    }
    check("LOAD-REPORT.md", &table);
    let merge = schema::<MergeOutput>().to_value();
    check("HDR-LOG.md", &fields(&merge, &merge["$defs"]["MergeDocument"]));
    let report = schema::<CheckReport>().to_value();
    let compared = schema::<CompareReport>().to_value();
    let mut table = fields(&report, &report);
    let _ = write!(table, "\nOf `check compare`:\n\n{}", fields(&compared, &compared));
    check("CHECK-REPORT.md", &table);
}

/// A table of the fields of a type, each with its path. A nested type that is used in more than one
/// place gets its own table.
fn fields(schema: &Value, of: &Value) -> String {
    let (mut table, mut shared) = (String::from("| field | |\n|---|---|\n"), vec![]);
    add_rows(schema, of, "", &mut table, &mut shared);
    let mut told = 0;
    while let Some(of) = shared.get(told).copied() {
        let _ = write!(table, "\n{}:\n\n| field | |\n|---|---|\n", title(of));
        add_rows(schema, of, "", &mut table, &mut shared);
        told += 1;
    }
    table
}

fn add_rows<'s>(
    schema: &'s Value,
    of: &'s Value,
    path: &str,
    table: &mut String,
    shared: &mut Vec<&'s Value>,
) {
    for name in of["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let field = &of["properties"][name];
        let links = [&field["$ref"], &field["items"]["$ref"], &field["anyOf"][0]["$ref"]];
        let link = links.into_iter().find_map(Value::as_str).unwrap_or_default();
        let kind = schema.pointer(link.trim_start_matches('#')).filter(|_| !link.is_empty());
        let kind = kind.unwrap_or(&Value::Null);
        let _ = write!(table, "| `{path}{name}` | {}", text(field));
        for (word, meaning) in words(kind) {
            let _ = write!(table, " `{word}`: {meaning}");
        }
        let has_fields = kind.get("properties").is_some();
        let is_shared = schema.to_string().matches(&format!("{link}\"")).count() > 1;
        if has_fields && is_shared {
            let _ = write!(table, " See {} below.", title(kind));
            shared.extend(Some(kind).filter(|kind| !shared.contains(kind)));
        }
        table.push_str(" |\n");
        if has_fields && !is_shared {
            let end = if field.get("items").is_some() { "[]." } else { "." };
            add_rows(schema, kind, &format!("{path}{name}{end}"), table, shared);
        }
    }
}

/// The words that a field may hold, and what they mean.
fn words(kind: &Value) -> impl Iterator<Item = (&str, &str)> {
    let words = kind["oneOf"].as_array().into_iter().flatten();
    words.map(|word| (word["const"].as_str().unwrap(), text(word)))
}

fn title(kind: &Value) -> String {
    format!("*{}*", text(kind).trim_end_matches('.'))
}

fn text(of: &Value) -> &str {
    of["description"].as_str().unwrap()
}

/// The schema of the document, as it is in `docs/schema`.
fn schema<T: JsonSchema>() -> Schema {
    let mut published = RecursiveTransform(|schema: &mut Schema| {
        // Fields may be added without a new version.
        if schema.get("additionalProperties").is_some_and(|others| others == false) {
            schema.remove("additionalProperties");
        }
        // Line breaks in comments are not line breaks in a description.
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace('\n', " ");
        }
    });
    // Written documents have every field; documents that are read need not.
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut schema = generator.into_root_schema_for::<T>();
    published.transform(&mut schema);
    schema
}

fn check(name: &str, table: &str) {
    docs::has_table(&format!("docs/{name}"), "code", table);
}
