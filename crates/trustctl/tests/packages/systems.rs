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
    let words = [suite.as_ref(), base.as_os_str(), package.as_os_str(), script.as_ref()];
    shell("crates/trustctl/tests/packages/on-debian \"$@\"", words)
}

/// As in README.md. All that the package needs is there, so nothing is downloaded.
const INSTALL: &str = "install() { apt-get install --yes --quiet \"$1\" >/tmp/apt 2>&1 \
    || { cat /tmp/apt; exit 1; }; }\n";

#[test]
#[ignore = "make packages-full"]
fn a_newcomer_installs_it_reads_its_page_and_serves_and_checks_a_server() {
    for suite in SUITES {
        let said = on(
            suite,
            &format!(
                r#"{INSTALL}
                install /packages/trustctl.deb
                trustctl --version
                getent passwd trustctl | cut --delimiter : --fields 1,6,7
                man trustctl-echo-server | grep --after-context 1 ^NAME | tail -1 |
                    tr --squeeze-repeats ' '
                man echo-client | grep --count send-proxy
                systemctl is-enabled trustctl.socket || true
                systemctl enable --quiet --now trustctl.socket
                systemctl is-active trustctl.service || true
                trustctl check :9900 --case framing/2,closing/1,half-close/1 | tail -1
                systemctl is-active trustctl.service
                grep --count client_close /var/log/trustctl/trustctl.log
                systemctl show --property MainPID --value trustctl.service >/tmp/pid
                ps --no-headers -o user:20 --pid "$(cat /tmp/pid)"
                logrotate --force /etc/logrotate.conf
                for try in {{1..100}}; do
                    echo hello | echo-client :9900 >/dev/null
                    [ ! -e /var/log/trustctl/trustctl.log ] || break
                    sleep 0.1
                done
                ls /var/log/trustctl
                systemctl restart trustctl.service
                systemctl is-active trustctl.socket trustctl.service
                journalctl --quiet --unit trustctl.service --output cat |
                    grep --count server_start"#
            ),
        );
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
    let everything = "everything() { find / -xdev \\( -path /proc -o -path /dev -o -path /tmp -o \
        -path /packages -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/cache -o \
        -path /var/log -o -path /run \\) -prune -o -print | sort; find /var/log/trustctl* ; \
        cat /etc/passwd /etc/group; }\n";
    for suite in SUITES {
        let said = on(
            suite,
            &format!(
                r#"{INSTALL}{everything}
                everything >/tmp/before 2>/dev/null || true
                install /packages/earlier.deb
                echo 'log-level = "debug"' >/etc/trustctl/config.toml
                install /packages/trustctl.deb
                cat /etc/trustctl/config.toml
                dpkg-query --show --showformat '${{Version}}\n' trustctl
                TRUST_HOME=/etc/trustctl trustctl config show | grep --count '^log_level: debug'
                /usr/bin/install --directory --owner trustctl /var/log/trustctl
                touch /var/log/trustctl/trustctl.log
                apt-get purge --yes --quiet trustctl >/tmp/apt 2>&1 || {{ cat /tmp/apt; exit 1; }}
                everything >/tmp/after 2>/dev/null || true
                diff /tmp/before /tmp/after |
                    grep --invert-match -e '/etc/\(passwd\|group\|shadow\|gshadow\)-' \
                    -e '/etc/sub[ug]id-' \
                    -e '^[0-9,]*[acd][0-9,]*$' || true
                echo end"#
            ),
        );
        let wanted = format!("log-level = \"debug\"\n{VERSION}-1\n1\nend\n");
        assert_eq!(said, wanted, "{suite}");
    }
}

#[test]
#[ignore = "make packages-full"]
fn shells_complete_its_commands_and_flags() {
    for suite in SUITES {
        let said = on(
            suite,
            &format!(
                r#"{INSTALL}
                install /packages/trustctl.deb
                # Bash loads a file of completions when its command is completed first.
                bash --norc -c '. /usr/share/bash-completion/bash_completion
                    complete_line() {{ COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*"
                        COMP_POINT=${{#COMP_LINE}} COMPREPLY=()
                        _completion_loader "$1" || true
                        eval "$(complete -p "$1" | sed "s/.*-F \([^ ]*\).*/\1/")" \
                            '"'"'"$1" "${{COMP_WORDS[COMP_CWORD]}}"'"'"'
                        echo "bash: ${{COMPREPLY[*]}}"; }}
                    complete_line trustctl echo-s; complete_line echo-client --send'
                fish --command 'complete --do-complete "trustctl echo-s"'
                fish --command 'complete --do-complete "echo-client --send"'
                zsh -f -c 'fpath=(/usr/share/zsh/vendor-completions $fpath)
                    autoload -Uz compinit; compinit -u -d /tmp/zcompdump
                    echo "zsh: $_comps[trustctl] $_comps[echo-client]"
                    autoload +X _trustctl _echo-client && echo loaded'"#
            ),
        );
        for wanted in ["bash: echo-server\n", "bash: --send-proxy\n", "\nloaded\n"] {
            assert!(said.contains(wanted), "{suite}: no {wanted:?} in {said}");
        }
        assert!(said.contains("zsh: _trustctl _echo-client\n"), "{suite}: {said}");
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
        for place in one another/and/longer; do
            git clone --quiet . "$scratch/$place"
            (cd "$scratch/$place" && env --unset CARGO_TARGET_DIR packaging/dist)
            cp "$scratch/$place/target/dist/SHA256SUMS" "$scratch/${place//\//-}"
            rm -rf "$scratch/$place/target"
        done
        diff "$scratch/one" "$scratch/another-and-longer" && wc --lines <"$scratch/one""#;
    assert!(shell(script, [repository()]).ends_with("\n4\n"));
}
