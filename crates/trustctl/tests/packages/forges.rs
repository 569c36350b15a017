//! The action and the template in `packaging/ci`, run by a stand-in for the forges.

use std::fs;
use std::process::Output;

use trust_testkit::program::Home;

use crate::dist::{file, repository, run};

/// The forges, and their files.
const FORGES: [(&str, &str); 2] = [("github", "action.yml"), ("gitlab", "gitlab.yml")];

/// A server that echoes frames, and how it is checked.
const ARGUMENTS: &str = "--command 'trustctl echo-server --port {port}' \
     --case 'framing/1,framing/2'";

/// Has each forge run its file in an empty directory; how that ended, and the report if there is
/// one.
fn on_each(sha256: &str, arguments: &str) -> [(Output, Option<String>); 2] {
    FORGES.map(|(forge, name)| {
        let home = Home::new();
        let directory = home.elsewhere(forge);
        fs::create_dir_all(&directory).expect("make a directory");
        let archive = file("trustctl-VERSION-x86_64-linux.tar.gz");
        let script = r#"cd "$5"; mkdir bin; ln -s "$6" bin/trustctl
            export TRUST_HOME=$PWD PATH=$PATH:$PWD/bin
            here=$1/crates/trustctl/tests/packages
            /usr/bin/python3 "$here/forge.py" "$2" "$1/packaging/ci/$3" \
                url="file://$4" sha256="$7" arguments="$8""#;
        let words = [
            repository().as_os_str(),
            forge.as_ref(),
            name.as_ref(),
            archive.as_os_str(),
            directory.as_os_str(),
            env!("CARGO_BIN_EXE_trustctl").as_ref(),
            sha256.as_ref(),
            arguments.as_ref(),
        ];
        (run(script, words), fs::read_to_string(directory.join("trustctl.xml")).ok())
    })
}

/// The checksum of the archive, as a user copies it.
fn sha256() -> String {
    let sums = fs::read_to_string(file("SHA256SUMS")).expect("read it");
    let line = sums.lines().find(|line| line.ends_with(".tar.gz")).expect("it is listed");
    line.split(' ').next().expect("a checksum").to_owned()
}

#[test]
#[ignore = "make packages"]
fn a_right_server_passes_and_leaves_a_report() {
    for (output, report) in on_each(&sha256(), ARGUMENTS) {
        assert!(output.status.success(), "{output:?}");
        assert!(report.is_some_and(|report| report.contains("framing/2")), "{output:?}");
    }
}

#[test]
#[ignore = "make packages"]
fn a_wrong_server_fails_and_leaves_a_report() {
    let wrong = format!("{ARGUMENTS} --framing u16le --patience 1");
    for (output, report) in on_each(&sha256(), &wrong) {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(report.is_some_and(|report| report.contains("<failure")), "{output:?}");
    }
}

#[test]
#[ignore = "make packages"]
fn an_archive_with_another_checksum_is_not_run() {
    for (output, report) in on_each(&"0".repeat(64), ARGUMENTS) {
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains("did NOT match"), "{complaint}");
        assert_eq!(report, None, "it was run");
    }
}
