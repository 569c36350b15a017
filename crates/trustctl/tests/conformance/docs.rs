//! The tables in `docs/CHECK.md` of the servers that prove each case, and of the right ones, which are made from what
//! they list.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use trust_check::cases;

use super::{healthy, mutants};

/// What is wrong with the document, if anything; with `TRUSTCTL_UPDATE_DOCS` set, its tables are written anew.
pub(crate) fn problem() -> Option<String> {
    const NAME: &str = "docs/CHECK.md";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return Some(format!("{NAME}: {error}")),
    };
    let mut new = text.clone();
    for (of, table) in [("wrong servers", wrong_servers()), ("right servers", right_servers())] {
        let (start, end) = (
            format!("<!-- made from the {of}: start -->\n"),
            format!("<!-- made from the {of}: end -->\n"),
        );
        let marked = new.split_once(&start).and_then(|(before, rest)| {
            rest.split_once(&end).map(|(_, after)| [before, &start, &table, &end, after].concat())
        });
        let Some(marked) = marked else {
            return Some(format!("{NAME} lacks the marks of the table of {of}"));
        };
        new = marked;
    }
    if env::var_os("TRUSTCTL_UPDATE_DOCS").is_some() {
        return fs::write(&path, new).err().map(|error| format!("{NAME}: {error}"));
    }
    let advice = "run `make docs UPDATE=1`";
    (new != text).then(|| format!("{NAME} has other tables of servers: {advice}"))
}

fn wrong_servers() -> String {
    let mut table = String::from("| case | must find these servers wrong |\n|---|---|\n");
    for case in cases::all() {
        let finds = |mutant: &&mutants::Mutant| mutant.must_be_found_by(case.id);
        let names: Vec<&str> = mutants::all().filter(finds).map(|mutant| mutant.name).collect();
        let _ = writeln!(table, "| `{}` | {} |", case.id, names.join(", "));
    }
    table
}

fn right_servers() -> String {
    let mut table = String::from(
        "| right server | framing | what is found in it, rightly | not tried |\n|---|---|---|---|\n",
    );
    let listed = |case: &str, reason: &str| format!("`{}`: {}", case.trim(), reason.trim());
    for healthy in healthy::ALL {
        let lines = healthy.findings.lines().filter_map(|line| line.split_once('#'));
        let findings = lines
            .filter(|(case, _)| !case.trim().is_empty())
            .map(|(case, reason)| listed(case, reason));
        let left_out = healthy.left_out.iter().map(|(case, reason)| listed(case, reason));
        let _ = writeln!(
            table,
            "| {} | `{}` | {} | {} |",
            healthy.about,
            healthy.framing_flags(),
            findings.collect::<Vec<_>>().join("; "),
            left_out.collect::<Vec<_>>().join("; ")
        );
    }
    table
}
