//! `$TRUST_HOME/config.toml`: global settings at the top, then a table for each command.
//!
//! The whole file is checked whichever command runs, so that an error shows as soon as it is made.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::exit_code::{ExitCode, Failure};
use crate::settings::{AnySetting, Given, SettingId};
use crate::values::quoted;

/// The contents of a configuration file.
#[derive(Debug, Default)]
pub struct ConfigFile {
    /// The value of each setting in the file.
    pub values: HashMap<SettingId, Given>,
}

impl ConfigFile {
    /// Reads the file and checks all of it against the known settings.
    ///
    /// A file that does not exist counts as empty.
    ///
    /// # Errors
    ///
    /// 78, with the path and, for an error in the contents, the line of the first one.
    pub fn read(path: &Path, settings: &[&dyn AnySetting]) -> Result<ConfigFile, Failure> {
        match read_bounded(path) {
            Ok(Some(bytes)) => ConfigFile::parse(&bytes, path, settings),
            Ok(None) => Ok(ConfigFile::default()),
            Err(error) => {
                let message = format!("cannot read {}: {error}", printable(path));
                Err(Failure::new(ExitCode::Config, message))
            }
        }
    }

    /// Parses the bytes of a file; `path` is for messages.
    ///
    /// # Errors
    ///
    /// 78, with the path and the line of the first error.
    pub fn parse(
        bytes: &[u8],
        path: &Path,
        settings: &[&dyn AnySetting],
    ) -> Result<ConfigFile, Failure> {
        let place = |offset| {
            let lines = bytes[..offset].iter().filter(|byte| **byte == b'\n').count();
            format!("{}:{}", printable(path), 1 + lines)
        };
        let document = parse(bytes).map_err(|mistake| mistake.at(&place));
        let mut reader = Reader { settings, place: &place, values: HashMap::new(), first: None };
        reader.handle_document(document?.get_ref());
        match reader.first {
            Some(mistake) => Err(mistake.at(&place)),
            None => Ok(ConfigFile { values: reader.values }),
        }
    }
}

/// A path on one line, safe for a terminal.
pub fn printable(path: &Path) -> String {
    let quoted = quoted(path);
    quoted[1..quoted.len() - 1].to_owned()
}

/// Upper limit on the file's size in bytes; all settings together need a few thousand.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// An error, and its byte offset in the file.
#[derive(Debug)]
struct Mistake {
    offset: usize,
    message: String,
}

impl Mistake {
    fn at(self, place: &dyn Fn(usize) -> String) -> Failure {
        Failure::new(ExitCode::Config, format!("{}: {}", place(self.offset), self.message))
    }
}

fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let missing = |error: &io::Error| {
        matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
    };
    // Opening a FIFO would wait for a writer.
    match fs::metadata(path) {
        Err(error) if missing(&error) => return Ok(None),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(metadata) if !metadata.is_file() => return Err(io::Error::other("not a regular file")),
        Ok(_) => {}
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(io::Error::other("larger than 1 MiB")),
        false => Ok(Some(bytes)),
    }
}

fn parse(bytes: &[u8]) -> Result<Spanned<DeTable<'_>>, Mistake> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| Mistake { offset: error.valid_up_to(), message: "not UTF-8".into() })?;
    DeTable::parse(text).map_err(|error| Mistake {
        offset: error.span().map_or(0, |span| span.start).min(bytes.len()),
        message: error.message().replace('\n', ", "),
    })
}

/// Walks through a document. Tables do not keep the file's order, so it looks for the first error.
struct Reader<'a> {
    settings: &'a [&'a dyn AnySetting],
    /// Path and line for an offset.
    place: &'a dyn Fn(usize) -> String,
    values: HashMap<SettingId, Given>,
    first: Option<Mistake>,
}

impl Reader<'_> {
    fn handle_document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            let command = self
                .settings
                .iter()
                .find_map(|setting| setting.command.filter(|command| *command == name.get_ref()));
            match (command, value.get_ref()) {
                (Some(_), DeValue::Table(table)) => {
                    for (key, value) in table {
                        self.handle_value(command, key, value);
                    }
                }
                (Some(command), other) => {
                    let message = format!("{command} is {}: it must be a table", kind(other));
                    self.mistake(value.span(), message);
                }
                (None, DeValue::Table(_)) if !self.is_known(None, name.get_ref()) => {
                    let message = format!(
                        "unknown table [{}]: expected {}",
                        unquoted(name.get_ref()),
                        self.tables()
                    );
                    self.mistake(name.span(), message);
                }
                (None, _) => self.handle_value(None, name, value),
            }
        }
    }

    fn handle_value(
        &mut self,
        command: Option<&'static str>,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
    ) {
        let table = command.map_or_else(String::new, |command| format!(" in [{command}]"));
        let of_command = self.settings.iter().filter(|setting| setting.command == command);
        let Some(setting) = of_command.clone().find(|setting| setting.key == key.get_ref()) else {
            let allowed: Vec<&str> = of_command.map(|setting| setting.key).collect();
            let allowed = allowed.join(", ");
            let message =
                format!("unknown key {}{table}: expected {allowed}", quoted(&**key.get_ref()));
            return self.mistake(key.span(), message);
        };
        let place = format!("{}: {}{table}", (self.place)(key.span().start), setting.key);
        let key = setting.key;
        let Some(text) = scalar(value.get_ref()) else {
            let (kind, allowed) = (kind(value.get_ref()), setting.allowed);
            let message = format!("{key}{table} is {kind}: expected {allowed}");
            return self.mistake(value.span(), message);
        };
        match setting.given(text.as_ref(), place) {
            Ok(given) => drop(self.values.insert(setting.id(), given)),
            Err(fault) => {
                let message = format!("{key} = {}{table}: {fault}", quoted(text));
                self.mistake(value.span(), message);
            }
        }
    }

    fn is_known(&self, command: Option<&str>, key: &str) -> bool {
        self.settings.iter().any(|setting| setting.command == command && setting.key == key)
    }

    fn tables(&self) -> String {
        let mut tables: Vec<_> =
            self.settings.iter().filter_map(|setting| setting.command).collect();
        tables.dedup();
        tables.iter().map(|table| format!("[{table}]")).collect::<Vec<_>>().join(", ")
    }

    fn mistake(&mut self, span: Range<usize>, message: String) {
        if self.first.as_ref().is_none_or(|first| span.start < first.offset) {
            self.first = Some(Mistake { offset: span.start, message });
        }
    }
}

/// The text of a value, for the parsers shared by all layers.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Boolean(boolean) => Some(boolean.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        // An integer of more than 128 bits stays as written, and is refused later.
        DeValue::Integer(number) => {
            let parsed = i128::from_str_radix(number.as_str(), number.radix());
            Some(parsed.map_or_else(|_| number.to_string(), |number| number.to_string()))
        }
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::Table(_) => "a table",
        DeValue::Array(_) => "an array",
        DeValue::Datetime(_) => "a date",
        _ => "a single value",
    }
}

fn unquoted(name: &str) -> String {
    printable(Path::new(name))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::layers::Layers;
    use crate::settings::Setting;
    use crate::values;

    const SERVE: Option<&str> = Some("serve");
    const LOG: Setting<PathBuf> = Setting::new(None, b"log-file", values::FILE, None, "");
    const PORT: Setting<u16> = Setting::new(SERVE, b"port", values::PORT, None, "");
    const WAIT: Setting<Duration> = Setting::new(SERVE, b"wait", values::TIME, None, "");
    const RAW: Setting<bool> = Setting::new(Some("call"), b"raw", values::SWITCH, None, "");
    const SETTINGS: &[&dyn AnySetting] = &[&LOG, &PORT, &WAIT, &RAW];

    fn read(text: &[u8]) -> Result<Layers, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.toml");
        fs::write(&path, text).unwrap();
        let read = ConfigFile::read(&path, SETTINGS);
        let file = read.map_err(|failure| {
            assert_eq!(failure.exit, ExitCode::Config);
            failure.message.replace(&*path.to_string_lossy(), "FILE")
        })?;
        let mut layers = Layers::default();
        layers.add_file(file);
        Ok(layers)
    }

    #[test]
    fn numbers_strings_and_booleans_go_through_the_settings_parsers() {
        let text = b"log-file = '/x'\n[serve]\nport = 0x2_0\nwait = 2.5\n[call]\nraw = true\n";
        let layers = read(text).unwrap();
        assert_eq!(layers.get(&LOG), Some("/x".into()));
        assert_eq!(layers.get(&PORT), Some(32));
        assert_eq!(layers.get(&WAIT), Some(Duration::from_millis(2500)));
        assert_eq!(layers.get(&RAW), Some(true));
        assert_eq!(read(b"[serve]\nport = '99'").unwrap().get(&PORT), Some(99));
        let with_unit = read(b"[serve]\nwait = '500ms'").unwrap();
        assert_eq!(with_unit.get(&WAIT), Some(Duration::from_millis(500)));
    }

    #[test]
    fn every_mistake_names_its_line_key_value_and_what_is_allowed() {
        let time = format!("expected {}", values::TIME.allowed);
        let cases: [(&[u8], &str); 15] = [
            (b"\nprot = 1", "FILE:2: unknown key 'prot': expected log-file"),
            (b"[serve]\n\nprot = 1", "FILE:3: unknown key 'prot' in [serve]: expected port, wait"),
            (b"[sreve]\nport = 1", "FILE:1: unknown table [sreve]: expected [serve], [call]"),
            (
                b"[serve.port]\nx = 1",
                "FILE:1: port in [serve] is a table: expected a port from 0 to 65535",
            ),
            (b"serve = 5", "FILE:1: serve is a single value: it must be a table"),
            (b"[[serve]]", "FILE:1: serve is an array: it must be a table"),
            (b"[log-file]", "FILE:1: log-file is a table: expected a file name"),
            (
                b"[serve]\nport = 65536",
                "FILE:2: port = '65536' in [serve]: expected a port from 0 to 65535",
            ),
            (b"[serve]\nwait = nan", &format!("FILE:2: wait = 'nan' in [serve]: {time}")),
            (b"[serve]\nwait = -1", &format!("FILE:2: wait = '-1' in [serve]: {time}")),
            (b"[call]\nraw = 'yes'", "FILE:2: raw = 'yes' in [call]: expected true or false"),
            (b"log-file = [1]", "FILE:1: log-file is an array: expected a file name"),
            (
                b"[serve]\nport = 1\nwait = \"a\\nb\"",
                &format!("FILE:3: wait = 'a\\nb' in [serve]: {time}"),
            ),
            (b"[serve]\nwait = '1ns'", &format!("FILE:2: wait = '1ns' in [serve]: {time}")),
            (b"# \xff", "FILE:1: not UTF-8"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(text).err().as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_first_mistake_in_the_file_is_the_one_that_is_told() {
        let mistake = read(b"[serve]\nwait = -1\n[call]\nfoo = 1\n").err().unwrap();
        assert!(mistake.starts_with("FILE:2:"), "{mistake}");
    }

    #[test]
    fn syntax_errors_are_one_line_with_the_line_number() {
        let texts: [&[u8]; 4] =
            [b"\n[serve", b"\nport = ", b"a = 1\na = 2", b"[serve]\nport = 1 2"];
        for text in texts {
            let mistake = read(text).err().unwrap();
            assert!(mistake.starts_with("FILE:2: "), "{mistake}");
            assert!(!mistake.contains('\n'), "{mistake}");
        }
    }

    #[test]
    fn a_missing_file_says_nothing_and_an_unreadable_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let missing = ConfigFile::read(&directory.path().join("config.toml"), SETTINGS).unwrap();
        assert!(missing.values.is_empty());
        let refused = ConfigFile::read(directory.path(), SETTINGS).unwrap_err();
        assert_eq!(refused.exit, ExitCode::Config);
        assert!(refused.message.contains("directory"), "{}", refused.message);
    }
}
