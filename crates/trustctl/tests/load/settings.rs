//! Settings of the load come from the file, from variables and from flags, like all settings.

use super::command::load;
use super::document::Document;
use super::server::{Client, Server};
use trust_testkit::program::Home;
use trust_testkit::suite::Named;
use trust_testkit::tests;

pub(crate) const TESTS: &[Named] = tests![
    a_flag_is_stronger_than_a_variable_and_that_than_the_file,
    a_bad_value_is_told_with_where_it_is_from,
    any_new_setting_takes_the_load_that_checks_all,
    what_is_said_to_run_it_again_does,
    units_are_said_again_as_they_were_given,
];

fn a_flag_is_stronger_than_a_variable_and_that_than_the_file() {
    let (home, server) = (Home::new(), Server::echo());
    home.configure("[load]\nmessages = 3\nconcurrency = 2\nsize = \"10\"\njson = true\n");
    let variables = load(&home, &server, "--size 30");
    let variables = variables.env("TRUST_LOAD_CONCURRENCY", "4").env("TRUST_LOAD_SIZE", "20");
    let seen = Document::read(&variables.run().exits_with(0));
    seen.is_all_right(12);
    assert_eq!(seen.connections.made, 4);
    let connections = server.seen_at_last();
    assert!(connections.iter().all(|seen| seen.received.len() == 3 * (4 + 30)));
    assert_eq!(connections.len(), 4);
}

fn a_bad_value_is_told_with_where_it_is_from() {
    let (home, server) = (Home::new(), Server::echo());
    let finished = load(&home, &server, "").env("TRUST_LOAD_RATE", "0").run().exits_with(64);
    finished.prints("").complains_about(&["TRUST_LOAD_RATE", "'0'"]).complains_in_one_line();
    home.configure("[load]\nrate = \"0\"\n");
    let finished = load(&home, &server, "").run().exits_with(78).prints("");
    finished.complains_about(&["config.toml", "rate", "'0'"]).complains_in_one_line();
    assert!(server.seen().is_empty(), "a client connected");
}

fn any_new_setting_takes_the_load_that_checks_all() {
    let (home, server) = (Home::new(), Server::echo());
    let finished = load(&home, &server, "--messages 2").run().exits_with(0);
    assert!(!finished.text().contains("How it was measured"), "{}", finished.text());
    let finished = load(&home, &server, "--messages 2 --seed 1").run().exits_with(0);
    assert!(finished.text().contains("How it was measured"), "{}", finished.text());
}

fn what_is_said_to_run_it_again_does() {
    let (home, server) =
        (Home::new(), Server::start(|client: &mut Client| client.relay(|_, _| ())));
    let flags = "--concurrency 2 --messages 7 --size 1-50 --framing u16le+incl --json";
    let first = Document::read(&load(&home, &server, flags).run().exits_with(0));
    let again = first.again.strip_prefix("trustctl ").expect("it is our command");
    // As a shell would parse it.
    let script = format!("exec \"$0\" {again} --json");
    let second = home.trustctl_in_shell(&script, [""; 0]).run().exits_with(0);
    let second = Document::read(&second);
    assert_eq!((&second.again, second.bytes.sent), (&first.again, first.bytes.sent));
    assert_eq!(second.facts, first.facts);
}

fn units_are_said_again_as_they_were_given() {
    let (home, server) = (Home::new(), Server::echo());
    home.configure("[load]\ntimeout = \"5000ms\"\nthink = 0\n");
    let flags =
        "--duration 100ms --rate 0.1k --size 1Ki --max-frame 2KiB --fail-if p99>1h,rate<0.00001k";
    let launch = load(&home, &server, flags).env("TRUST_LOAD_WARM_UP", "0.0005m").args(["--json"]);
    let seen = Document::read(&launch.run().exits_with(0));
    // A value equal to the default is left out, even if written differently.
    let said = "--warm-up 0.0005m --rate 0.1k --size 1Ki --fail-if 'p99>1h,rate<0.00001k' \
                --max-frame 2KiB";
    let said = format!("--duration 100ms {said} --seed ");
    assert!(seen.again.contains(&said), "{}", seen.again);
    assert!(!seen.again.contains("--timeout"), "{}", seen.again);
    let received: Vec<usize> =
        server.seen_at_last().iter().map(|seen| seen.received.len()).collect();
    assert!(received.iter().all(|bytes| bytes % (4 + 1024) == 0), "{received:?}");
    assert_eq!(seen.facts["rate"], "100 messages/s");
}
