//! The configuration file: any bytes are either settings with valid values or an error in one line.

use std::path::Path;

use toml::{Table, Value};
use trust_cli::config_file::ConfigFile;
use trust_cli::exit_code::ExitCode;
use trust_cli::layers::{Layers, Source};
use trust_cli::settings::{AnySetting, Given};
use trustctl::commands::TRUSTCTL;

use crate::oneline::{check_failure, check_line};

/// Input: the file.
///
/// # Panics
///
/// If an error does not name its line, or an accepted value differs from the file's.
pub fn run(data: &[u8]) {
    // The home contains the file, so the file cannot set it.
    let settings: Vec<_> =
        TRUSTCTL.all_settings().into_iter().filter(|setting| setting.key != "trust-home").collect();
    let file = match ConfigFile::parse(data, Path::new("FILE"), &settings) {
        Ok(file) => file,
        Err(failure) => {
            check_failure(&failure, ExitCode::Config);
            let said = failure.message.strip_prefix("FILE:").expect("the file is named");
            let (line, what) = said.split_once(": ").expect("the line is named");
            let lines = 1 + data.iter().filter(|byte| **byte == b'\n').count();
            let is_there = line.parse().is_ok_and(|line| (1..=lines).contains(&line));
            assert!(is_there && !what.is_empty(), "of {lines} lines: {said}");
            if what.starts_with("unknown") {
                assert!(what.contains(": expected "), "{what}");
            }
            return;
        }
    };
    let text = std::str::from_utf8(data).expect("what is taken is UTF-8");
    // Numbers that do not fit the plain reader's types are left to the settings' parsers, as text.
    let Ok(table) = toml::from_str::<Table>(text) else { return };
    let mut found = 0;
    for (name, value) in &table {
        match value {
            Value::Table(table) => {
                for (key, value) in table {
                    check_value(&file, &settings, Some(name), key, value);
                    found += 1;
                }
            }
            value => {
                check_value(&file, &settings, None, name, value);
                found += 1;
            }
        }
    }
    assert_eq!(file.values.len(), found, "every value is taken, and no other");
    for ((_, key), Given { place, .. }) in &file.values {
        check_line(place);
        assert!(place.starts_with("FILE:") && place.contains(key), "{place}");
    }
    let mut layers = Layers::default();
    layers.add_file(file);
    let from_file = |setting: &&&dyn AnySetting| layers.source(**setting) == Source::File;
    assert_eq!(settings.iter().filter(from_file).count(), found, "every value counts");
}

/// Checks that a value found by a plain reading of the file was accepted.
fn check_value(
    file: &ConfigFile,
    settings: &[&'static dyn AnySetting],
    command: Option<&str>,
    key: &str,
    value: &Value,
) {
    let of_name = |setting: &&&dyn AnySetting| setting.command == command && setting.key == key;
    let setting = settings.iter().find(of_name).expect("a name that is taken is a setting's");
    let given = file.values.get(&setting.id()).expect("a value is taken");
    let text = given.text.to_str().expect("a value is text");
    assert!(setting.given(&given.text, String::new()).is_ok(), "{key} = {text:?}");
    let is_same = match value {
        Value::String(string) => text == string,
        Value::Integer(number) => text.parse() == Ok(*number),
        Value::Float(number) => text.parse() == Ok(*number),
        Value::Boolean(is) => text == is.to_string(),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => false,
    };
    assert!(is_same, "{key} = {value:?} was taken for {text:?}");
}
