//! The tables in `docs/CHECK.md` of the servers that prove each case, and of the right ones. They
//! are made from the lists in the code.

use std::fmt::Write as _;

use trust_check::cases;

use super::{healthy, mutants};
use trust_testkit::docs::has_table;

/// Checks that the document has those tables.
pub(crate) fn check() {
    has_table("docs/CHECK.md", "wrong servers", &wrong_servers());
    has_table("docs/CHECK.md", "right servers", &right_servers());
}

fn wrong_servers() -> String {
    let mut table = String::from("| case | must find these servers wrong |\n|---|---|\n");
    for case in cases::all().filter(|case| !case.needs.is_told()) {
        let finds = |mutant: &&mutants::Mutant| mutant.must_be_found_by(case.id);
        let names: Vec<&str> = mutants::all().filter(finds).map(|mutant| mutant.name).collect();
        let _ = writeln!(table, "| `{}` | {} |", case.id, names.join(", "));
    }
    table
}

fn right_servers() -> String {
    let mut table = String::from(
        "| right server | framing | what is found in it, rightly | not tried |\n\
         |---|---|---|---|\n",
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
