//! Replays every committed input of every target, on any toolchain and without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};

use trust_fuzz::TARGETS;

/// The smallest size of a corpus, so that losing one by mistake is noticed.
const INPUTS_MIN: usize = 12;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// The names of the entries in a directory of `fuzz/`, without extensions.
fn names(directory: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz().join(directory)).expect("the directory is there");
    entries
        .map(|entry| {
            let path = entry.expect("it can be listed").path();
            path.file_stem().expect("it has a name").to_string_lossy().into_owned()
        })
        .collect()
}

#[test]
fn every_target_has_a_shell_and_a_corpus_and_there_are_no_others() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "no name twice");
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    assert!(names("dictionaries").is_subset(&targets));
    for name in &targets {
        let shell = fs::read_to_string(fuzz().join("fuzz_targets").join(format!("{name}.rs")));
        let call = format!("trust_fuzz::{name}::run(data)");
        assert!(shell.expect("it can be read").contains(&call), "{name} calls {call}");
    }
}

#[test]
fn every_input_of_every_corpus_holds() {
    let mut failed = vec![];
    for (name, run) in TARGETS {
        let directory = fuzz().join("corpus").join(name);
        let mut inputs = 0;
        for entry in fs::read_dir(&directory).expect("every target has a corpus") {
            let path = entry.expect("it can be listed").path();
            let data = fs::read(&path).expect("an input can be read");
            inputs += 1;
            if panic::catch_unwind(AssertUnwindSafe(|| run(&data))).is_err() {
                failed.push(format!("{name}: {}", path.display()));
            }
        }
        assert!(inputs >= INPUTS_MIN, "{name} has {inputs} inputs, at least {INPUTS_MIN} are due");
    }
    assert!(failed.is_empty(), "these inputs fail:\n{}", failed.join("\n"));
}
