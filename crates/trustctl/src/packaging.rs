//! Reads the command lines in `packaging/kubernetes` with the program's own parsers. The rest of
//! the manifests is checked by `ci/kubernetes`.

use std::ffi::OsString;
use std::path::Path;
use std::{env, fs};

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::layers::Layers;
use trust_cli::run::{Parsed, parse};
use trust_cli::startup::add_flags;
use trust_cli::target::Family;
use trust_load::plan::Plan;

use crate::commands::TRUSTCTL;

/// The path of the executable in the image, with which the command of a probe begins.
const EXECUTABLE: &str = "/usr/bin/trustctl";

#[test]
fn the_server_and_its_probe_are_started_with_flags_that_exist() {
    assert_eq!(commands_in("server.yaml"), ["echo-server", "echo-client"]);
}

#[test]
fn the_load_is_started_with_flags_that_exist_and_go_together() {
    assert_eq!(commands_in("load.yaml"), ["load"]);
    let words = &lists(&manifest("load.yaml"))[0];
    // JOB_COMPLETION_INDEX is set in the pod, but not in this process.
    let words: Vec<String> = words.iter().map(|word| word.replace("=/4", "=3/4")).collect();
    let (_, layers) = command_of(&words).expect("flags that exist");
    let plan = Plan::of(&layers, &[], Family::Any);
    let plan = plan.unwrap_or_else(|failure| panic!("{words:?}: {}", failure.message));
    assert_eq!(plan.shard.map(|shard| shard.to_string()).as_deref(), Some("3/4"));
}

#[test]
fn the_merge_is_started_with_flags_that_exist() {
    assert_eq!(commands_in("merge.yaml"), ["load merge"]);
}

#[test]
fn a_flag_or_a_value_that_does_not_exist_is_noticed() {
    let server = &lists(&manifest("server.yaml"))[0];
    let with = |from: &str, to: &str| {
        let words: Vec<String> = server.iter().map(|word| word.replace(from, to)).collect();
        assert_ne!(&words, server, "{from}");
        command_of(&words).err().expect(to).exit
    };
    assert_eq!(with("--port=", "--prot="), ExitCode::Usage);
    assert_eq!(with("--port=9900", "--port=99000"), ExitCode::Usage);
    assert_eq!(with("--log-level=warn", "--log-level=wran"), ExitCode::Usage);
    assert_eq!(with("echo-server", "echo-servant"), ExitCode::Usage);
}

#[test]
fn the_variables_in_the_manifests_are_ours() {
    let known: Vec<String> =
        TRUSTCTL.all_settings().iter().map(|setting| setting.variable()).collect();
    for name in ["server.yaml", "load.yaml", "merge.yaml"] {
        let text = manifest(name);
        let variables = text.lines().filter_map(|line| line.trim().strip_prefix("- name: TRUST_"));
        let variables: Vec<String> = variables.map(|rest| format!("TRUST_{rest}")).collect();
        assert!(!variables.is_empty(), "{name} sets the home");
        for variable in variables {
            assert!(known.contains(&variable), "{name}: {variable}");
        }
    }
}

/// The commands that a manifest starts, after checking all their flags and values.
#[track_caller]
fn commands_in(name: &str) -> Vec<&'static str> {
    let lists = lists(&manifest(name));
    let commands = lists.iter().map(|words| match command_of(words) {
        Ok((command, _)) => command,
        Err(failure) => panic!("{name}: {words:?}: {}", failure.message),
    });
    commands.collect()
}

/// The command that these words run, and its flags.
fn command_of(words: &[String]) -> Result<(&'static str, Layers), Failure> {
    let words = words.strip_prefix(&[EXECUTABLE.to_owned()]).unwrap_or(words);
    let tokens: Vec<OsString> = words.iter().map(OsString::from).collect();
    let Parsed::Line(line) = parse(&TRUSTCTL, &tokens) else {
        panic!("{words:?} asks for help");
    };
    line.mistake?;
    let entry = line.entry.expect("what was parsed has a command");
    let mut layers = Layers::default();
    add_flags(&mut layers, &line.matches, Some(entry))?;
    Ok((entry.name, layers))
}

fn manifest(name: &str) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/kubernetes");
    fs::read_to_string(directory.join(name)).expect(name)
}

/// Every list of words under `args:` and `command:`. The manifests write them in one way only: one
/// word per line.
#[track_caller]
fn lists(text: &str) -> Vec<Vec<String>> {
    let mut lists: Vec<Vec<String>> = Vec::new();
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        match line.strip_prefix("- ") {
            _ if line.starts_with('#') => {}
            _ if matches!(line, "args:" | "command:") => {
                is_inside = true;
                lists.push(Vec::new());
            }
            Some(word) if is_inside => {
                assert!(!word.contains(['"', '\'', '#', ' ']), "a plain word: {word}");
                lists.last_mut().expect("a list has begun").push(word.to_owned());
            }
            _ => {
                assert!(!line.starts_with("args:") && !line.starts_with("command:"), "{line}");
                is_inside = false;
            }
        }
    }
    lists
}
