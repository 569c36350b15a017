//! The Debian package, the archive, the list of the software inside, and the checksums.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::dist::{VERSION, file, repository, run, shell};

const PACKAGE: &str = "trustctl_VERSION-1_amd64.deb";
const ARCHIVE: &str = "trustctl-VERSION-x86_64-linux.tar.gz";

/// What the package has, apart from the directory of the documentation.
const FILES: &[&str] = &[
    "/etc/logrotate.d/trustctl",
    "/etc/trustctl/config.toml",
    "/lib/systemd/system/trustctl-accept.socket",
    "/lib/systemd/system/trustctl-accept@.service",
    "/lib/systemd/system/trustctl.service",
    "/lib/systemd/system/trustctl.socket",
    "/usr/bin/echo-client",
    "/usr/bin/echo-load-test",
    "/usr/bin/trustctl",
    "/usr/share/bash-completion/completions/echo-client",
    "/usr/share/bash-completion/completions/echo-load-test",
    "/usr/share/bash-completion/completions/trustctl",
    "/usr/share/elvish/lib/echo-client.elv",
    "/usr/share/elvish/lib/echo-load-test.elv",
    "/usr/share/elvish/lib/trustctl.elv",
    "/usr/share/fish/vendor_completions.d/echo-client.fish",
    "/usr/share/fish/vendor_completions.d/echo-load-test.fish",
    "/usr/share/fish/vendor_completions.d/trustctl.fish",
    "/usr/share/man/man1/echo-client.1.gz",
    "/usr/share/man/man1/echo-load-test.1.gz",
    "/usr/share/man/man1/trustctl-check.1.gz",
    "/usr/share/man/man1/trustctl-config-show.1.gz",
    "/usr/share/man/man1/trustctl-echo-client.1.gz",
    "/usr/share/man/man1/trustctl-echo-server.1.gz",
    "/usr/share/man/man1/trustctl-hold.1.gz",
    "/usr/share/man/man1/trustctl-load-merge.1.gz",
    "/usr/share/man/man1/trustctl-load.1.gz",
    "/usr/share/man/man1/trustctl-log-demo.1.gz",
    "/usr/share/man/man1/trustctl.1.gz",
    "/usr/share/zsh/vendor-completions/_echo-client",
    "/usr/share/zsh/vendor-completions/_echo-load-test",
    "/usr/share/zsh/vendor-completions/_trustctl",
];

const DOCUMENTATION: &str = "/usr/share/doc/trustctl/";

/// The oldest C library that the executable must run with.
const GLIBC: [u32; 2] = [2, 31];

#[test]
#[ignore = "make packages"]
fn the_package_has_its_files_which_belong_to_root_and_no_others() {
    let listed = shell("dpkg-deb --contents \"$1\"", [file(PACKAGE)]);
    let mut found = BTreeSet::new();
    for line in listed.lines().filter(|line| !line.starts_with('d')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1], "root/root", "{line}");
        assert!(["-rw-r--r--", "-rwxr-xr-x", "lrwxrwxrwx"].contains(&words[0]), "{line}");
        found.insert(words[5].trim_start_matches('.').to_owned());
    }
    let (documents, others): (BTreeSet<_>, BTreeSet<_>) =
        found.into_iter().partition(|path| path.starts_with(DOCUMENTATION));
    assert_eq!(others, FILES.iter().map(|path| (*path).to_owned()).collect());
    for name in ["README.md.gz", "changelog.gz", "changelog.Debian.gz", "copyright"] {
        assert!(documents.contains(&format!("{DOCUMENTATION}{name}")), "{name} in {documents:?}");
    }
    let pages = documents.iter().filter(|path| path.contains("/docs/")).count();
    assert!(pages >= 15, "{pages} pages of the documentation");
}

#[test]
#[ignore = "make packages"]
fn the_package_says_what_it_is_and_which_files_are_settings() {
    let field = |name: &str| shell("dpkg-deb --field \"$1\" \"$2\"", [file(PACKAGE), name.into()]);
    assert_eq!(field("Version").trim(), format!("{VERSION}-1"));
    assert_eq!(field("Architecture").trim(), "amd64");
    assert!(field("Depends").contains("libc6 (>= 2.31)"));
    let settings = shell("dpkg-deb --info \"$1\" conffiles", [file(PACKAGE)]);
    assert_eq!(settings, "/etc/logrotate.d/trustctl\n/etc/trustctl/config.toml\n");
}

#[test]
#[ignore = "make packages"]
fn the_executable_needs_no_newer_c_library_than_it_says() {
    let script = "dpkg-deb --fsys-tarfile \"$1\" | tar --extract --to-stdout ./usr/bin/trustctl \
        >\"$2\"; readelf --version-info --wide \"$2\"; readelf --dynamic --wide \"$2\"; rm \"$2\"";
    let scratch = std::env::temp_dir().join(format!("trustctl-{}", std::process::id()));
    let said = shell(script, [file(PACKAGE), scratch]);
    let versions: BTreeSet<[u32; 2]> = said
        .split("Name: GLIBC_")
        .skip(1)
        .map(|rest| {
            let text = rest.split_whitespace().next().expect("a version");
            let mut parts = text.split('.').map(|part| part.parse().expect("a number"));
            [parts.next().expect("major"), parts.next().expect("minor")]
        })
        .collect();
    let newest = versions.last().expect("it needs some version");
    assert!(*newest <= GLIBC && versions.len() > 3, "{versions:?}");
    let libraries: BTreeSet<&str> =
        said.split("Shared library: [").skip(1).filter_map(|it| it.split(']').next()).collect();
    let known = [
        "ld-linux-x86-64.so.2",
        "libc.so.6",
        "libdl.so.2",
        "libgcc_s.so.1",
        "libm.so.6",
        "libpthread.so.0",
    ];
    assert!(libraries.iter().all(|library| known.contains(library)), "{libraries:?}");
}

#[test]
#[ignore = "make packages"]
fn the_executable_is_smaller_than_six_and_a_half_megabytes() {
    let script = "dpkg-deb --fsys-tarfile \"$1\" | \
        tar --extract --to-stdout ./usr/bin/trustctl | wc --bytes";
    let size: u64 = shell(script, [file(PACKAGE)]).trim().parse().expect("a size");
    assert!((1_000_000..6_500_000).contains(&size), "{size} bytes");
}

#[test]
#[ignore = "make packages"]
fn units_name_the_user_and_the_place_of_the_package() {
    let script = "dpkg-deb --fsys-tarfile \"$1\" | \
        tar --extract --to-stdout --wildcards './lib/systemd/system/*.service'";
    let units = shell(script, [file(PACKAGE)]);
    let starts: Vec<&str> = units.lines().filter(|line| line.starts_with("ExecStart=")).collect();
    assert_eq!(starts.len(), 2);
    assert!(starts.iter().all(|line| line.contains("/usr/bin/trustctl echo-server")), "{starts:?}");
    assert_eq!(units.matches("\nUser=trustctl\n").count(), 2);
    assert!(!units.contains("DynamicUser") && !units.contains("/usr/local"), "{units}");
}

#[test]
#[ignore = "make packages"]
fn the_archive_runs_where_it_is_unpacked_under_every_name() {
    let script = "scratch=$(mktemp --directory); trap 'rm -r \"$scratch\"' EXIT
        tar --extract --file \"$1\" --directory \"$scratch\" --strip-components 1; cd \"$scratch\"
        ls; bin/trustctl --version; bin/echo-client --version; bin/echo-load-test --version";
    let said = shell(script, [file(ARCHIVE)]);
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "LICENSE",
            "LICENSE-APACHE",
            "LICENSE-MIT",
            "bin",
            "share",
            &format!("trustctl {VERSION}"),
            &format!("echo-client {VERSION}"),
            &format!("echo-load-test {VERSION}"),
        ]
    );
}

#[test]
#[ignore = "make packages"]
fn every_file_has_its_checksum() {
    let sums = file("SHA256SUMS");
    let directory = sums.parent().expect("it is in a directory");
    let script = "cd \"$1\" && sha256sum --check --strict --quiet SHA256SUMS && ls";
    let names = shell(script, [directory]);
    let listed = std::fs::read_to_string(&sums).expect("read it");
    for name in names.lines().filter(|name| *name != "SHA256SUMS") {
        assert!(listed.contains(&format!("  {name}\n")), "{name} has none");
    }
    assert_eq!(listed.lines().count() + 1, names.lines().count());
}

#[test]
#[ignore = "make packages"]
fn the_bill_of_materials_has_what_is_linked_and_nothing_that_only_tests_use() {
    let text = std::fs::read(file("trustctl-VERSION.cdx.json")).expect("read it");
    let document: Value = serde_json::from_slice(&text).expect("JSON");
    assert_eq!(document["bomFormat"], "CycloneDX");
    let components = document["components"].as_array().expect("a list");
    let names: BTreeSet<&str> = components.iter().filter_map(|it| it["name"].as_str()).collect();
    for name in ["clap", "rustix", "serde_json", "trust-wire", "trust-check"] {
        assert!(names.contains(name), "{name} in {names:?}");
    }
    for name in ["proptest", "loom", "libtest-mimic", "trust-testkit", "serde_derive"] {
        assert!(!names.contains(name), "{name} in {names:?}");
    }
    for component in components {
        let is_ours = component["name"].as_str().is_some_and(|name| name.starts_with("trust-"));
        let has_hash = component["hashes"][0]["content"].is_string();
        assert!(is_ours != has_hash, "{component}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
    let needed = document["dependencies"].as_array().expect("a list");
    assert_eq!(needed.len(), components.len() + 1, "each has its dependencies");
}

#[test]
#[ignore = "make packages"]
fn a_missing_tool_is_named_with_the_package_that_has_it() {
    let path = "scratch=$(mktemp --directory); trap 'rm -r \"$scratch\"' EXIT
        for tool in bash dirname cc; do ln -s \"$(command -v $tool)\" \"$scratch/$tool\"; done
        PATH=$scratch packaging/dist";
    let output = run(path, [repository()]);
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(complaint, "dist: dh is missing: apt-get install debhelper\n");
}
