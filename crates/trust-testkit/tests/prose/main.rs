//! The wording and the line lengths of everything that people read: code, documents and help.
//! `patterns.rs` has the wordings, `long_lines.rs` the limits, and `debt.txt` the files that are
//! not clean yet.

mod debt;
mod files;
mod long_lines;
mod patterns;
mod text;
mod words;

use std::collections::BTreeMap;

use debt::Debt;
use text::Finding;

#[test]
fn what_people_read_is_plain_english_and_fits() {
    let mut found: BTreeMap<String, Vec<Finding>> = BTreeMap::new();
    for (path, text) in files::all() {
        let findings = [words::check(&path, &text), long_lines::check(&path, &text)].concat();
        found.insert(path, findings);
    }
    assert!(found.len() > 400, "only {} files were found", found.len());

    let mut debt = Debt::read();
    let paid = debt.take_paid(|path, kind| {
        found.get(path).is_some_and(|all| all.iter().any(|finding| finding.kind == kind))
    });
    if files::is_update() {
        debt.write();
    } else {
        assert!(
            paid.is_empty(),
            "clean now, or gone: take them out of debt.txt with `make prose UPDATE=1`:\n{}",
            paid.join("\n")
        );
    }

    let new = found.iter().flat_map(|(path, findings)| {
        let new = findings.iter().filter(|finding| !debt.has(path, finding.kind));
        new.map(move |finding| format!("{path}:{}: {}", finding.line, finding.message))
    });
    let new: Vec<String> = new.collect();
    assert!(new.is_empty(), "{} places to improve:\n{}", new.len(), new.join("\n"));
}

#[test]
fn every_exception_is_needed() {
    let files = files::all();
    let unused = words::unused_exceptions(&files).chain(long_lines::unused_exceptions(&files));
    let unused: Vec<String> = unused.collect();
    assert!(unused.is_empty(), "exceptions that excuse nothing:\n{}", unused.join("\n"));
}
