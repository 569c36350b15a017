//! What the commands do.

use trust_testkit::terminal::Terminal;

use crate::Api;

#[test]
fn every_command_does_its_job_under_each_of_its_names() {
    let api = Api::start();
    for [create, list, toggle, delete] in
        [["create", "list", "toggle", "delete"], ["c", "l", "tog", "d"], ["new", "li", "tog", "d"]]
    {
        let created = api.does(&format!("{create} --listen=localhost:7001 --upstream u:1 redis"));
        created.prints("created proxy redis, which listens on 127.0.0.1:7001\n");
        api.does(list).prints("redis\t127.0.0.1:7001\tu:1\tenabled\t0\n");
        api.does(&format!("{toggle} redis")).prints("proxy redis is now disabled\n");
        api.does("ls").prints("redis\t127.0.0.1:7001\tu:1\tdisabled\t0\n");
        api.does(&format!("{toggle} redis")).prints("proxy redis is now enabled\n");
        api.does(&format!("{delete} redis")).prints("deleted proxy redis\n");
        api.does(list).prints("");
    }
}

#[test]
fn every_command_of_toxics_does_its_job_under_each_of_its_names() {
    let api = Api::start();
    api.does("create -l :7001 -u u:1 redis");
    let names = [
        ["toxic add", "toxic update", "toxic remove", "inspect"],
        ["t a", "t u", "t r", "i"],
        ["toxic a", "t update", "toxic delete", "ins"],
        ["t add", "toxic u", "t d", "inspect"],
    ];
    for [add, update, remove, inspect] in names {
        let inspect = || api.does(&format!("{inspect} redis"));
        let added = api.does(&format!("{add} -t latency -n slow -u --tox 0.5 -a jitter=1 redis"));
        added.prints("added upstream latency toxic slow to proxy redis\n");
        let columns = "slow\ttype=latency\tstream=upstream";
        inspect().prints(format!("{columns}\ttoxicity=0.5\tjitter=1\tlatency=0\n"));
        let updated = api.does(&format!("{update} -n slow --tox=0.1 -a latency=9 redis"));
        updated.prints("updated toxic slow of proxy redis\n");
        inspect().prints(format!("{columns}\ttoxicity=0.1\tjitter=1\tlatency=9\n"));
        let removed = api.does(&format!("{remove} -n slow redis"));
        removed.prints("removed toxic slow from proxy redis\n");
        inspect().prints("");
    }
}

#[test]
fn toggling_keeps_the_toxics() {
    let api = Api::with_proxy();
    let toxics = api.toxics();
    for _ in 0..2 {
        api.does("toggle redis");
        assert_eq!(api.toxics(), toxics);
    }
}

#[test]
fn an_update_without_a_toxicity_makes_it_1() {
    let api = Api::with_proxy();
    api.does("toxic update -n latency_downstream --tox 0.25 redis");
    assert!(api.toxics().contains("\ttoxicity=0.25\t"));
    api.does("toxic update -n latency_downstream -a jitter=5 redis");
    let columns = "latency_downstream\ttype=latency\tstream=downstream";
    assert_eq!(api.toxics(), format!("{columns}\ttoxicity=1\tjitter=5\tlatency=1000\n"));
}

#[test]
fn what_the_server_refuses_ends_with_1_and_its_reason() {
    let api = Api::with_proxy();
    let cases = [
        ("inspect x", "cannot inspect proxy 'x': proxy not found (status 404)"),
        ("toggle x", "cannot toggle proxy 'x': proxy not found (status 404)"),
        ("delete x", "cannot delete proxy 'x': proxy not found (status 404)"),
        (
            "toxic add -t latency x",
            "cannot add toxic 'latency' to proxy 'x': proxy not found (status 404)",
        ),
        (
            "toxic add -t noise redis",
            "cannot add toxic 'noise' to proxy 'redis': invalid toxic type (status 400)",
        ),
        (
            "toxic add -t latency redis",
            "cannot add toxic 'latency' to proxy 'redis': toxic already exists (status 409)",
        ),
        (
            "toxic update -n x redis",
            "cannot update toxic 'x' of proxy 'redis': toxic not found (status 404)",
        ),
        (
            "toxic remove -n x redis",
            "cannot remove toxic 'x' from proxy 'redis': toxic not found (status 404)",
        ),
        (
            "create -l :7002 -u u:1 redis",
            "cannot create proxy 'redis': proxy already exists (status 409)",
        ),
        (
            "create -l here -u u:1 x",
            "cannot create proxy 'x': listen tcp: address here: missing port in address \
             (status 500)",
        ),
    ];
    for (line, complaint) in cases {
        api.fails(line, &format!("error: {complaint}"));
    }
    let refused = api.launch("toxic add -t timeout -a timeout=5ms redis").run().exits_with(1);
    refused.complains_about(&["bad request body: json", "timeout"]).complains_in_one_line();
}

#[test]
fn a_wrong_command_line_ends_with_1_and_changes_nothing() {
    let api = Api::with_proxy();
    let before = (api.does("list").text().to_owned(), api.toxics());
    let cases = [
        ("lst", "unknown command: lst: expected list, inspect, create, toggle, delete or toxic"),
        ("toxic ad", "unknown command: toxic ad: expected add, update or remove"),
        ("delete", "missing argument: the name of the proxy"),
        ("delete -f redis", "unknown flag: -f"),
        ("create x -l :1 -u u:1", "missing required flag: --listen"),
        ("create -u u:1 x", "missing required flag: --listen"),
        ("toxic update --tox 2 -n latency_downstream redis", {
            "invalid value '2' for --toxicity: expected a number from 0 to 1"
        }),
        ("toxic remove redis", "missing required flag: --toxicName"),
        ("-h", "missing value for -h"),
    ];
    for (line, complaint) in cases {
        api.fails(line, &format!("error: {complaint}"));
    }
    assert_eq!((api.does("list").text().to_owned(), api.toxics()), before);
}

#[test]
fn words_without_a_use_are_named_and_change_nothing() {
    let api = Api::with_proxy();
    let done = api.launch("inspect redis -a rate=1").run().exits_with(0);
    assert_eq!(done.stderr, "warning: ignored: -a rate=1 (flags come before the argument)\n");
    assert_eq!(done.text(), api.toxics());
}

#[test]
fn a_terminal_gets_headings_and_colours_unless_they_are_not_wanted() {
    let api = Api::with_proxy();
    let shown = |line: &str, no_color: &str| {
        let terminal = Terminal::open();
        let launch = api.launch(line).env("TERM", "xterm").env("NO_COLOR", no_color);
        launch.stdout(terminal.end()).run().exits_with(0).complains_about_nothing();
        terminal.shown().replace("\r\n", "\n")
    };
    let list = "NAME   LISTEN          UPSTREAM  STATE    TOXICS\n\
                redis  127.0.0.1:7001  u:1       enabled  1\n";
    assert_eq!(shown("list", "1"), list);
    let coloured = shown("list", "");
    assert!(coloured.contains("\x1b[32menabled\x1b[0m"), "{coloured:?}");
    let toxics = "redis: 127.0.0.1:7001 to u:1, enabled\n\n\
                  TOXIC               TYPE     STREAM      TOXICITY  ATTRIBUTES\n\
                  latency_downstream  latency  downstream  1         jitter=0 latency=1000\n";
    assert_eq!(shown("inspect redis", "1"), toxics);
    assert_eq!(shown("toggle redis", "1"), "proxy redis is now disabled\n");
}
