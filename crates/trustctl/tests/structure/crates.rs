//! Which crates of the workspace may depend on which others.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A crate, and the crates of the workspace that it may depend on. Tests may use others.
const ARROWS: &[(&str, &[&str])] = &[
    ("trust-wire", &[]),
    ("trust-net", &["trust-wire"]),
    ("trust-cli", &["trust-net", "trust-wire"]),
    ("trust-echo", &["trust-cli", "trust-net", "trust-wire"]),
    ("trust-load", &["trust-cli", "trust-net", "trust-wire"]),
    ("trust-check", &["trust-cli", "trust-net", "trust-wire"]),
    ("trust-toxiproxy", &["trust-net", "trust-wire"]),
    ("trust-proxy", &["trust-cli", "trust-net", "trust-toxiproxy", "trust-wire"]),
    (
        "trustctl",
        &["trust-cli", "trust-echo", "trust-load", "trust-check", "trust-proxy", "trust-toxiproxy"],
    ),
    // Not part of the product: the simulator, what fuzzers call, the benchmark, and what the suites
    // share.
    ("trust-sim", &["trust-wire"]),
    (
        "trust-fuzz",
        &[
            "trust-wire",
            "trust-sim",
            "trust-cli",
            "trust-echo",
            "trust-load",
            "trust-check",
            "trust-proxy",
            "trust-toxiproxy",
            "trustctl",
        ],
    ),
    ("trust-bench", &["trust-wire"]),
    ("trust-testkit", &["trust-net", "trust-wire"]),
];

/// A crate of the workspace.
pub(crate) struct Member {
    pub(crate) name: String,
    /// Its directory.
    pub(crate) directory: PathBuf,
    /// The crates of the workspace that it depends on, other than for tests.
    pub(crate) needs: Vec<String>,
}

/// All crates of the workspace.
pub(crate) fn members() -> Vec<Member> {
    let packages = packages(&["--no-deps"]);
    packages.iter().map(|package| member(package, &packages)).collect()
}

/// The packages that cargo lists with these flags.
fn packages(flags: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline"])
        .args(flags)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo can be run");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {told}");
    let mut metadata: Value = serde_json::from_slice(&output.stdout).expect("it is a document");
    let Value::Array(packages) = metadata["packages"].take() else { panic!("no list of packages") };
    packages
}

fn member(package: &Value, all: &[Value]) -> Member {
    let is_ours = |name: &Value| all.iter().any(|other| other["name"] == *name);
    let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
    let needed = dependencies.iter().filter(|it| it["kind"] != "dev" && is_ours(&it["name"]));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    Member {
        name: text(&package["name"]),
        directory: Path::new(&text(&package["manifest_path"]))
            .parent()
            .expect("it is in one")
            .to_owned(),
        needs: needed.map(|dependency| text(&dependency["name"])).collect(),
    }
}

/// What a crate depends on although it must not.
fn wrong<'a>(name: &str, needs: &'a [String]) -> Vec<&'a str> {
    let allowed = ARROWS.iter().find(|(member, _)| *member == name);
    let (_, allowed) =
        allowed.unwrap_or_else(|| panic!("what may {name} need? Say it in {}", file!()));
    let needs = needs.iter().map(String::as_str);
    needs.filter(|needed| !allowed.contains(needed)).collect()
}

#[test]
fn crates_need_each_other_in_one_direction() {
    for Member { name, needs, .. } in members() {
        let wrong = wrong(&name, &needs);
        assert!(wrong.is_empty(), "{name} may not need {wrong:?}");
    }
}

/// Lints know which version of the standard library our own code needs (`incompatible_msrv`).
#[test]
fn no_dependency_needs_a_newer_compiler_than_we_say() {
    let version = |text: &str| -> Vec<u32> {
        text.split('.').map(|part| part.parse().expect("a number")).chain([0, 0]).take(3).collect()
    };
    let ours = version(env!("CARGO_PKG_RUST_VERSION"));
    let all = packages(&["--filter-platform=x86_64-unknown-linux-gnu"]);
    let said = all.iter().filter_map(|it| Some((&it["name"], it["rust_version"].as_str()?)));
    let newer: Vec<_> = said.clone().filter(|(_, needed)| version(needed) > ours).collect();
    assert!(newer.is_empty(), "{newer:?}");
    assert!(said.count() > 50, "most dependencies say what they need");
}

#[test]
fn a_crate_that_needs_what_it_may_not_is_noticed() {
    let needs = ["trust-cli", "trust-load"].map(str::to_owned);
    assert_eq!(wrong("trust-check", &needs), ["trust-load"]);
    assert_eq!(wrong("trustctl", &needs), [""; 0]);
}
