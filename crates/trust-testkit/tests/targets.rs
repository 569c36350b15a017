//! A suite that is never run proves nothing.

use std::fs;
use std::path::Path;

#[test]
fn every_test_target_of_trustctl_is_run_by_the_makefile() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let makefile = fs::read_to_string(root.join("Makefile")).expect("read the Makefile");
    let for_all = makefile.lines().find_map(|line| line.strip_prefix("SUITES_FOR_ALL = "));
    let for_all: Vec<&str> = for_all.expect("the suites of make test").split(' ').collect();
    let entries = fs::read_dir(root.join("crates/trustctl/tests")).expect("list the suites");
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name in UTF-8");
        let is_run = for_all.contains(&name) || makefile.contains(&format!("--test {name} "));
        assert!(is_run, "no line of the Makefile has `--test {name}`");
    }
}
