//! The tables in `docs/` that are made from the cases: which cases do not apply to which model, and
//! which limit of the server is tested by which case.

use std::fmt::Write as _;

use super::bounds;
use super::case::Case;
use trust_testkit::docs::has_table;
use trust_testkit::model::Model;

/// Checks that the documents have those tables.
pub(crate) fn check() {
    let cases = super::cases();
    has_table("docs/TESTING.md", "code", &exceptions(&cases));
    has_table("docs/LIMITS.md", "code", &bounds::table(&cases));
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
