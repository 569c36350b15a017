//! `--propose`: what is found on servers that do not echo, and that a check can go on with it.

use std::os::unix::fs::PermissionsExt;

use trust_check::exchange::file;
use trust_check::exchange::protocol::Protocol;
use trust_testkit::files::Files;
use trust_testkit::program::{Finished, Home};
use trust_testkit::suite::Named;
use trust_testkit::tests;
use trust_wire::MessageEnd;

pub(crate) const TESTS: &[Named] = tests![
    a_proposal_for_a_right_server_is_enough_to_check_it,
    an_id_and_a_length_are_found,
    what_differs_is_ignored_and_said,
    a_greeting_is_what_each_connection_begins_with,
    a_server_that_closes_is_said_to,
    a_first_answer_that_differs_is_a_warm_up,
    a_request_that_can_come_once_is_said_to,
    a_password_is_secret_and_the_file_private,
    where_nothing_is_answered_nothing_is_written,
    a_server_that_is_not_there_has_its_own_exit_code,
    what_cannot_be_proposed_or_written_is_told_first,
    a_check_that_learns_nothing_hints_at_it,
];

const NO_WAIT: &str = "--patience=1";

fn propose(kind: &str, flags: &[&str]) -> Finished {
    let own = std::env::current_exe().expect("the path of this program");
    let own = own.to_str().expect("a path of ours is UTF-8");
    let command = format!("exec '{own}' serve {kind} {{port}}");
    Home::new().trustctl(["check", NO_WAIT, "--command", &command]).args(flags).run()
}

/// The file that is proposed for a server of this kind, and what is read from it. A check with it
/// passes.
#[track_caller]
fn proposed(kind: &str, flags: &[&str]) -> (String, Protocol) {
    let files = Files::new();
    let path = files.path("found.toml");
    let finished = propose(kind, &[flags, &["--propose", &path]].concat()).exits_with(0);
    let text = files.read("found.toml");
    let said = finished.text().to_owned();
    assert!(said.starts_with("wrote '"), "{said}");
    let next = format!(" --patience 1 --exchange {path}\n");
    assert!(said.contains("\ngo on with: trustctl check ") && said.ends_with(&next), "{said}");
    let no_file = |_: &str| Err("it names no file".to_owned());
    let protocol = file::parse(text.as_bytes(), &path, &no_file)
        .unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(protocol.name, "found");
    let checked = propose(kind, &["--exchange", &path, "--case", "framing/1"]).exits_with(0);
    assert!(checked.text().contains("1 passed"), "{}\n{text}", checked.text());
    (text, protocol)
}

fn line() -> Option<MessageEnd> {
    Some(MessageEnd::Bytes(b"\n".to_vec()))
}

fn sources(protocol: &Protocol) -> Vec<&str> {
    protocol.ignore.iter().map(|pattern| pattern.source()).collect()
}

fn a_proposal_for_a_right_server_is_enough_to_check_it() {
    let (text, protocol) = proposed("right", &["--send", "hello\\n"]);
    assert_eq!(protocol.request_end, line());
    assert_eq!(protocol.answer_end.map(|end| end.message), line());
    let exchange = &protocol.exchanges[0];
    assert!(!exchange.once && !exchange.closes && !exchange.secret, "{text}");
    assert!(protocol.before.is_empty() && protocol.ignore.is_empty(), "{text}");
    assert!(protocol.id.is_none() && protocol.warm_up == 0, "{text}");
    assert!(text.contains("# Answered: 'HELLO\\n'"), "{text}");
    assert!(text.contains(" is a guess: "), "{text}");
}

fn an_id_and_a_length_are_found() {
    let (text, protocol) = proposed("out-of-order", &["--send-hex", "0005 1234 6f6e65"]);
    let Some(MessageEnd::Length(format)) = protocol.request_end else { panic!("{text}") };
    assert_eq!(format.to_string(), "u16be");
    let id = protocol.id.expect("an id");
    assert_eq!((id.send, id.want), (2..4, 2..4), "{text}");
}

fn what_differs_is_ignored_and_said() {
    let (text, protocol) = proposed("counts", &["--send", "hello\\n"]);
    assert_eq!(sources(&protocol), ["(?m)^HELLO [0-9]+"]);
    assert!(text.contains("# Differs: '0' and '1'"), "{text}");
    assert!(!protocol.exchanges[0].once, "{text}");
}

fn a_greeting_is_what_each_connection_begins_with() {
    let (text, protocol) = proposed("greets", &["--send", "name x\\n"]);
    assert_eq!(protocol.before.len(), 1, "{text}");
    assert!(protocol.before[0].send.is_empty(), "{text}");
    assert!(text.contains("# The server speaks first: '* welcome\\n'"), "{text}");
}

fn a_server_that_closes_is_said_to() {
    let (text, protocol) = proposed("closes", &["--send", "hello\\n"]);
    assert!(protocol.exchanges[0].closes && !protocol.exchanges[0].once, "{text}");
}

fn a_first_answer_that_differs_is_a_warm_up() {
    let (text, protocol) = proposed("warms-up", &["--send", "hello\\n"]);
    assert_eq!(protocol.warm_up, 1, "{text}");
    assert!(protocol.ignore.is_empty(), "{text}");
}

fn a_request_that_can_come_once_is_said_to() {
    let (text, protocol) = proposed("once", &["--send", "hello\\n"]);
    assert!(protocol.exchanges[0].once, "{text}");
    assert!(text.contains("'! said before\\n'"), "{text}");
}

fn a_password_is_secret_and_the_file_private() {
    let files = Files::new();
    let path = files.write("found.toml", "old\n");
    let flags = ["--send", "AUTH sesame\\n", "--propose", &path];
    let finished = propose("right", &flags).exits_with(0);
    assert!(!finished.text().to_lowercase().contains("sesame"), "{}", finished.text());
    let text = files.read("found.toml");
    assert!(text.contains("\nsecret = true\n") && !text.contains("SESAME"), "{text}");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

fn where_nothing_is_answered_nothing_is_written() {
    let files = Files::new();
    let path = files.write("found.toml", "old\n");
    let flags = ["--send", "hello\\n", "--propose", &path];
    let words = ["nothing to propose", "exchange 1", "nothing came for 1 s"];
    propose("silent", &flags).exits_with(1).prints("").complains_about(&words);
    assert_eq!(files.read("found.toml"), "old\n");
    // What came is told.
    let lengths = "[message.answer]\nlength = \"u32be\"\n[[exchange]]\nsend = \"hello\\n\"\n";
    let wrong = files.write("wrong.toml", lengths);
    let flags = ["--exchange", &wrong, "--propose", &path];
    propose("right", &flags).exits_with(1).complains_about(&["6 bytes came, 'HELLO\\n'"]);
}

fn a_server_that_is_not_there_has_its_own_exit_code() {
    let files = Files::new();
    let path = files.path("found.toml");
    let flags = ["check", "unix:/nonexistent/socket", "--send", "x", "--propose", &path];
    Home::new().trustctl(flags).run().exits_with(69).prints("");
    assert!(std::fs::metadata(&path).is_err());
}

fn what_cannot_be_proposed_or_written_is_told_first() {
    let files = Files::new();
    let path = files.write("exchange.toml", "[[exchange]]\nsend = \"x\"\n");
    let nowhere = files.path("no/file.toml");
    let wrong: [(&[&str], i32, &[&str]); 5] = [
        (&["--propose", &path], 64, &["--propose", "--send", "--dialect"]),
        (&["--propose", &path, "--send", "x", "--json"], 64, &["--propose", "--json"]),
        (&["--propose", &path, "--dialect", "dns", "--print"], 64, &["--propose", "--print"]),
        (&["--propose", &path, "--exchange", &path], 64, &["--propose", "--exchange"]),
        (&["--propose", &nowhere, "--send", "x"], 73, &["--propose", "no/file.toml"]),
    ];
    for (flags, exit, parts) in wrong {
        let finished = Home::new().trustctl(["check", ":9"]).args(flags).run();
        finished.exits_with(exit).complains_about(parts);
    }
    let flags = ["--send", "hello\\n", "--propose", "/dev/full"];
    propose("right", &flags).exits_with(74).complains_about(&["/dev/full"]);
}

fn a_check_that_learns_nothing_hints_at_it() {
    let flags = ["--send", "hello\\n", "--case", "framing/1"];
    let finished = propose("silent", &flags).exits_with(1);
    assert!(finished.text().contains("    hint      --propose FILE "), "{}", finished.text());
}
