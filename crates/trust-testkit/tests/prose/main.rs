//! The wording and the line lengths of everything that people read: code, documents and help.
//! `patterns.rs` has the wordings, `long_lines.rs` the limits.

mod files;
mod long_lines;
mod patterns;
mod text;
mod words;

#[test]
fn what_people_read_is_plain_english_and_fits() {
    let files = files::all();
    assert!(files.len() > 400, "only {} files were found", files.len());
    let findings = |path: &str, text: &str| {
        let all = [words::check(path, text), long_lines::check(path, text)].concat();
        let told = all.into_iter().map(|found| format!("{path}:{}: {}", found.line, found.message));
        told.collect::<Vec<_>>()
    };
    let found: Vec<String> = files.iter().flat_map(|(path, text)| findings(path, text)).collect();
    assert!(found.is_empty(), "{} places to improve:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_exception_is_needed() {
    let files = files::all();
    let unused = words::unused_exceptions(&files).chain(long_lines::unused_exceptions(&files));
    let unused: Vec<String> = unused.collect();
    assert!(unused.is_empty(), "exceptions that excuse nothing:\n{}", unused.join("\n"));
}
