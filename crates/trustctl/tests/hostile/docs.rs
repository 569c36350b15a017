//! The table in `docs/TESTING.md` of what does not apply to which model, which is made from the cases.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use super::case::{Case, Subject};
use super::support::model::Model;

const START: &str = "<!-- made from the code: start -->\n";
const END: &str = "<!-- made from the code: end -->\n";

/// Checks that the document has that table; with `TRUSTCTL_UPDATE_DOCS` set, writes it anew.
///
/// # Errors
///
/// A sentence, when it has another one, or cannot be read or written.
pub(crate) fn check(cases: &[Case]) -> Result<(), String> {
    const NAME: &str = "docs/TESTING.md";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(NAME);
    let failed = |error| format!("{NAME}: {error}");
    let text = fs::read_to_string(&path).map_err(failed)?;
    let marked = text.split_once(START).and_then(|(before, rest)| {
        rest.split_once(END).map(|(found, after)| (before, found, after))
    });
    let Some((before, found, after)) = marked else {
        return Err(format!("{NAME} lacks the marks of the table of exceptions"));
    };
    let table = table(cases);
    if env::var_os("TRUSTCTL_UPDATE_DOCS").is_some() {
        return fs::write(&path, [before, START, &table, END, after].concat()).map_err(failed);
    }
    if found != table {
        let advice = "run `TRUSTCTL_UPDATE_DOCS=1 make test-hostile`";
        return Err(format!("{NAME} has other exceptions than the cases: {advice}"));
    }
    Ok(())
}

fn table(cases: &[Case]) -> String {
    let mut table = String::from("| case | not against | because |\n|---|---|---|\n");
    for case in cases {
        let against = |model: &Model| case.reason_against(Subject::Server(*model));
        let mut left: Vec<Model> =
            Model::ALL.into_iter().filter(|it| against(it).is_some()).collect();
        while let Some(reason) = left.first().and_then(against) {
            let is_same = |model: &Model| against(model) == Some(reason);
            let models: Vec<&str> =
                left.extract_if(.., |model| is_same(model)).map(Model::name).collect();
            let (number, name, models) = (case.number, case.name, models.join(", "));
            let _ = writeln!(table, "| {number} {name} | {models} | {reason} |");
        }
    }
    table
}
