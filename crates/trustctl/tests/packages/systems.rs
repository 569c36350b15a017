//! The package on whole Debian systems, lintian, and two builds. These need root and Debian's
//! archive, and take minutes.

use crate::dist::{VERSION, file, repository, run, shell};

const PACKAGE: &str = "trustctl_VERSION-1_amd64.deb";

/// The systems that the package is for.
const SUITES: [&str; 2] = ["bullseye", "bookworm"];

/// What the script prints on a system of that suite, whose base is kept beside the release.
#[track_caller]
fn on(suite: &str, script: &str) -> String {
    let package = file(PACKAGE);
    let release = package.parent().expect("it is in a directory");
    let base = release.with_file_name("packaging").join(format!("debian-{suite}"));
    let script = [INSTALL, script].concat();
    let words = [suite.as_ref(), base.as_os_str(), package.as_os_str(), script.as_ref()];
    shell("crates/trustctl/tests/packages/on-debian \"$@\"", words)
}

/// As in README.md. All that the package needs is there, so nothing is downloaded.
const INSTALL: &str = include_str!("install.sh");

#[test]
#[ignore = "make packages-full"]
fn a_newcomer_installs_it_reads_its_page_and_serves_and_checks_a_server() {
    for suite in SUITES {
        let said = on(suite, include_str!("newcomer.sh"));
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], format!("trustctl {VERSION}"), "{suite}: {said}");
        assert_eq!(lines[1], "trustctl:/nonexistent:/usr/sbin/nologin", "{suite}: {said}");
        assert!(lines[2].starts_with(" trustctl-echo-server - Serve clients"), "{suite}: {said}");
        assert_ne!(lines[3], "0", "{suite}: {said}");
        // The service starts with its first client.
        assert_eq!(lines[4..6], ["disabled", "inactive"], "{suite}: {said}");
        assert!(lines[6].starts_with("3 cases tried: 3 passed"), "{suite}: {said}");
        assert_eq!(lines[7], "active", "{suite}: {said}");
        assert!(lines[8].parse::<u32>().is_ok_and(|closed| closed >= 3), "{suite}: {said}");
        let rest = ["trustctl", "trustctl.log", "trustctl.log.1", "active", "active", "2"];
        assert_eq!(lines[9..], rest, "{suite}: {said}");
    }
}

#[test]
#[ignore = "make packages-full"]
fn an_upgrade_keeps_changed_settings_and_a_purge_leaves_nothing() {
    for suite in SUITES {
        let said = on(suite, include_str!("upgrade.sh"));
        let version = format!("{VERSION}-1");
        let wanted = [
            "before",
            "log-level = \"debug\"",
            "after",
            // The server that ran was restarted, and the socket kept its port.
            "Files /tmp/pid and - differ",
            &version,
            "1",
            "active",
            // After the purge.
            "inactive",
            "inactive",
            "end",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), wanted, "{suite}");
    }
}

#[test]
#[ignore = "make packages-full"]
fn shells_complete_its_commands_and_flags() {
    for suite in SUITES {
        let said = on(suite, include_str!("completions.sh"));
        for wanted in
            ["bash: echo-server", "bash: --send-proxy", "zsh: echo-server", "zsh: --send-proxy"]
        {
            assert!(said.lines().any(|line| line == wanted), "{suite}: no {wanted:?} in {said}");
        }
        assert!(said.lines().any(|line| line.starts_with("echo-server\t")), "{suite}: {said}");
        assert!(said.lines().any(|line| line.starts_with("--send-proxy\t")), "{suite}: {said}");
    }
}

#[test]
#[ignore = "make packages-full"]
fn other_tools_read_the_image() {
    let script = "image=$(mktemp); rm \"$image\"; trap 'rm -f \"$image\"' EXIT
        skopeo inspect --config --format '{{.Config.Entrypoint}} {{.Config.User}}' \
            \"oci-archive:$1\"
        skopeo copy --quiet \"oci-archive:$1\" \"docker-archive:$image:trustctl:test\"
        tar --list --file \"$image\" | grep --count manifest.json";
    let said = shell(script, [file("trustctl-VERSION-x86_64.oci.tar")]);
    assert_eq!(said, "[/usr/bin/trustctl] 65532:65532\n1\n");
}

#[test]
#[ignore = "make packages-full"]
fn lintian_finds_no_error() {
    let output = run("lintian --fail-on error --allow-root \"$1\"", [file(PACKAGE)]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
#[ignore = "make packages-full"]
fn two_builds_in_different_directories_are_the_same() {
    let script = r#"scratch=$(mktemp --directory); trap 'rm -rf "$scratch"' EXIT
        git clone --quiet . "$scratch/one"
        mkdir "$scratch/another directory"
        git clone --quiet "$scratch/one" "$scratch/another directory/below"
        for clone in "$scratch/one" "$scratch/another directory/below"; do
            (cd "$clone" && env --unset CARGO_TARGET_DIR packaging/dist >/dev/null)
            cat "$clone/target/dist/SHA256SUMS" >>"$scratch/sums"
            rm -rf "$clone/target"
        done
        sort "$scratch/sums" | uniq --count"#;
    let sums = shell(script, [repository()]);
    assert_eq!(sums.lines().count(), 4, "{sums}");
    assert!(sums.lines().all(|line| line.trim().starts_with("2 ")), "{sums}");
}
