//! What it is called, and what it prints without a server.

use trust_testkit::program::{Home, Launch};

use crate::{Api, toxiproxy_cli};

/// The executable through a link of that name.
fn through_link(home: &Home, name: &str, line: &str) -> Launch {
    let link = home.elsewhere(name).display().to_string();
    let script = format!("ln -s \"$0\" '{link}' && exec '{link}' \"$@\"");
    home.trustctl_in_shell(&script, line.split_whitespace())
}

#[test]
fn a_link_of_its_name_stands_for_it() {
    let api = Api::with_proxy();
    let line = format!("-h=http://127.0.0.1:{}/ list", api.port());
    let listed = through_link(&api.home, "toxiproxy-cli", &line).run().exits_with(0);
    listed.complains_about_nothing().prints("redis\t127.0.0.1:7001\tu:1\tenabled\t1\n");
    // The flags of trustctl are none of its own.
    let other = Home::new();
    let refused = through_link(&other, "toxiproxy-cli", "--log-level debug list").run();
    refused.exits_with(1).complains_about(&["error: unknown flag: --log-level"]);
}

#[test]
fn global_flags_of_trustctl_stand_before_its_name() {
    let api = Api::with_proxy();
    let port = api.port();
    let line = format!("--log-level debug toxiproxy-cli -h localhost:{port} inspect redis");
    let done = api.home.trustctl(line.split(' ')).run().exits_with(0).complains_about_nothing();
    assert_eq!(done.text(), api.toxics());
    assert!(api.home.log_file().is_file());
}

#[test]
fn help_and_version_need_no_server_and_make_nothing() {
    let home = Home::new();
    let version = toxiproxy_cli(&home, "--version").run().exits_with(0).complains_about_nothing();
    let own = env!("CARGO_PKG_VERSION");
    let expected = format!("toxiproxy-cli version 2.12.0 (trustctl {own})\n");
    assert_eq!(version.text(), expected);
    let help = toxiproxy_cli(&home, "--help").run().exits_with(0).complains_about_nothing();
    for line in ["", "help", "create --help", "toxic", "t a --help"] {
        let shown = toxiproxy_cli(&home, line).run().exits_with(0).complains_about_nothing();
        assert_eq!(shown.text(), help.text(), "{line}");
    }
    let words =
        ["list     (l, li, ls)", "--listen", "TOXIPROXY_URL", "becomes 1, as with Toxiproxy"];
    for word in words {
        assert!(help.text().contains(word), "{word:?} is not in {}", help.text());
    }
    assert!(help.text().lines().all(|line| line.chars().count() <= 100), "{}", help.text());
    for line in
        ["help", "help toxiproxy-cli", "help --man toxiproxy-cli", "completions bash toxiproxy-cli"]
    {
        let shown = home.trustctl(line.split(' ')).run().exits_with(0).complains_about_nothing();
        assert!(shown.text().contains("toxiproxy-cli"), "{line}: {}", shown.text());
    }
    assert!(home.is_untouched(), "help made something");
}
