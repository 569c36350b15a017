//! The files that are checked.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories without anything that people read.
const SKIPPED_DIRECTORIES: &[(&str, &str)] = &[
    (".git", "not a part of the sources"),
    ("target", "built"),
    ("corpus", "inputs of fuzz targets"),
    ("artifacts", "inputs of fuzz targets"),
    ("scratch", "inputs of fuzz targets"),
    ("coverage", "made by cargo-fuzz"),
    ("proptest-regressions", "written by proptest"),
    ("planted", "patches, whose lines are those of the sources"),
    ("schema", "made from the code"),
    ("pictures", "made by make picture"),
    ("prose", "this check, which has all the wordings that it looks for"),
];

/// Endings of names of files that nobody wrote for this project.
const SKIPPED_FILES: &[(&str, &str)] = &[
    ("Cargo.lock", "written by cargo"),
    ("package-lock.json", "written by npm"),
    ("LICENSE-MIT", "a licence"),
    ("LICENSE", "a licence"),
    ("LICENSE-APACHE", "a licence"),
];

/// All of them with their paths from the root of the repository, in order.
pub(crate) fn all() -> Vec<(String, String)> {
    let root = root();
    let mut files = vec![];
    let mut next = vec![root.clone()];
    while let Some(directory) = next.pop() {
        for entry in fs::read_dir(&directory).expect("list a directory") {
            let entry = entry.expect("an entry");
            let (path, kind) = (entry.path(), entry.file_type().expect("its type"));
            let name = entry.file_name();
            let is_skipped =
                |list: &[(&str, &str)]| list.iter().any(|(skipped, _)| name == *skipped);
            if kind.is_dir() {
                if !is_skipped(SKIPPED_DIRECTORIES) {
                    next.push(path);
                }
            } else if kind.is_file() && !is_skipped(SKIPPED_FILES) {
                // What is not UTF-8 is no text.
                let Ok(text) = fs::read_to_string(&path) else { continue };
                files.push((from_root(&root, &path), text));
            }
        }
    }
    files.sort();
    files
}

fn from_root(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).expect("it is inside");
    path.to_str().expect("a path in UTF-8").to_owned()
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
