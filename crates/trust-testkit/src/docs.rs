//! The parts of documents that are made from the code, or from a suite's list of tests.

use std::path::Path;
use std::{env, fs};

/// Checks that a document has this table between the marks that say what it is made from; with
/// `TRUSTCTL_UPDATE_DOCS` set, rewrites it instead.
///
/// # Panics
///
/// If the table differs, the marks are missing, or the document cannot be read or written.
#[track_caller]
pub fn has_table(document: &str, made_from: &str, table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
    let text = fs::read_to_string(&path).expect("read a document");
    let mark = |end| format!("<!-- made from the {made_from}: {end} -->\n");
    let found = text.split_once(&mark("start")).and_then(|(_, rest)| rest.split_once(&mark("end")));
    let (found, _) = found.expect("the marks of the table");
    if env::var_os("TRUSTCTL_UPDATE_DOCS").is_some() {
        let [old, new] = [found, table].map(|table| mark("start") + table);
        return fs::write(&path, text.replace(&old, &new)).expect("write a document");
    }
    let is_same = found == table;
    assert!(is_same, "{document} has another table of the {made_from}: run this with UPDATE=1");
}

/// Checks that a file has this text; with `TRUSTCTL_UPDATE_DOCS` set, rewrites it instead.
///
/// # Panics
///
/// If the text differs, or the file cannot be read or written.
#[track_caller]
pub fn has_text(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(file);
    if env::var_os("TRUSTCTL_UPDATE_DOCS").is_some() {
        return fs::write(&path, text).expect("write a file");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == text, "{file} is not what the code says: run `make docs UPDATE=1`");
}
