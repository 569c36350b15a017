//! The tables in `docs/` that are made from the cases: what does not apply to which model, and
//! which limit of the server is held by which case.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use super::bounds;
use super::case::Case;
use trust_testkit::model::Model;

const START: &str = "<!-- made from the code: start -->\n";
const END: &str = "<!-- made from the code: end -->\n";

/// Checks that the documents have those tables; with `TRUSTCTL_UPDATE_DOCS` set, writes them anew.
///
/// # Panics
///
/// When one has another table, or cannot be read or written, or when a limit is held by a case that there is not.
pub(crate) fn check() {
    let cases = super::cases();
    let limits = bounds::table(&cases).and_then(|table| check_table("docs/LIMITS.md", &table));
    let checked = check_table("docs/TESTING.md", &exceptions(&cases)).and(limits);
    assert_eq!(checked, Ok(()));
}

fn check_table(name: &str, table: &str) -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    let failed = |error| format!("{name}: {error}");
    let text = fs::read_to_string(&path).map_err(failed)?;
    let marked = text.split_once(START).and_then(|(before, rest)| {
        rest.split_once(END).map(|(found, after)| (before, found, after))
    });
    let Some((before, found, after)) = marked else {
        return Err(format!("{name} lacks the marks of a table that is made from the cases"));
    };
    if env::var_os("TRUSTCTL_UPDATE_DOCS").is_some() {
        return fs::write(&path, [before, START, table, END, after].concat()).map_err(failed);
    }
    if found != table {
        let advice = "run `make docs UPDATE=1`";
        return Err(format!("{name} has another table than the cases: {advice}"));
    }
    Ok(())
}

fn exceptions(cases: &[Case]) -> String {
    let mut table = String::from("| case | not against | because |\n|---|---|---|\n");
    for case in cases {
        let against = |model: &Model| case.reason_against(*model);
        let mut left: Vec<Model> =
            Model::ALL.into_iter().filter(|it| against(it).is_some()).collect();
        while let Some(reason) = left.first().and_then(against) {
            let is_same = |model: &Model| against(model) == Some(reason);
            let models: Vec<&str> =
                left.extract_if(.., |model| is_same(model)).map(Model::name).collect();
            let _ = writeln!(table, "| {} | {} | {reason} |", case.title(), models.join(", "));
        }
    }
    table
}
