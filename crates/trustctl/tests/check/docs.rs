//! The table in `docs/CHECK.md` of the servers that prove each case, which is made from what they list.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use trustctl::check::cases;

use super::mutants;

const START: &str = "<!-- made from the wrong servers: start -->\n";
const END: &str = "<!-- made from the wrong servers: end -->\n";

/// What is wrong with the document, if anything; with `TRUSTCTL_UPDATE_DOCS` set, its table is written anew.
pub(crate) fn problem() -> Option<String> {
    const NAME: &str = "docs/CHECK.md";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Some(format!("{NAME}: {error}")),
    };
    let marked = text.split_once(START).and_then(|(before, rest)| {
        rest.split_once(END).map(|(found, after)| (before, found, after))
    });
    let Some((before, found, after)) = marked else {
        return Some(format!("{NAME} lacks the marks of the table of wrong servers"));
    };
    let table = table();
    if env::var_os("TRUSTCTL_UPDATE_DOCS").is_some() {
        let text = [before, START, &table, END, after].concat();
        return fs::write(&path, text).err().map(|error| format!("{NAME}: {error}"));
    }
    let advice = "run `TRUSTCTL_UPDATE_DOCS=1 make conformance`";
    (found != table).then(|| format!("{NAME} has another table of wrong servers: {advice}"))
}

fn table() -> String {
    let mut table = String::from("| case | must find these servers wrong |\n|---|---|\n");
    for case in cases::all() {
        let finds =
            |mutant: &&mutants::Mutant| mutant.found_by().any(|name| cases::matches(name, case.id));
        let names: Vec<&str> = mutants::all().filter(finds).map(|mutant| mutant.name).collect();
        let _ = writeln!(table, "| `{}` | {} |", case.id, names.join(", "));
    }
    table
}
