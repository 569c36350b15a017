//! What a trace says, and that its run can be repeated.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use trust_testkit::files::Files;
use trust_testkit::program::Home;

use crate::proxy::{Proxy, accept, refused, upstream};

/// The lines of a trace.
fn read(path: impl AsRef<Path>) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a trace");
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Those of that kind.
fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["trace"] == kind).collect()
}

/// Has so many clients each send ten frames through a proxy; what the server received of each.
fn run(flags: &[&str], clients: usize) -> Vec<Vec<u8>> {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let proxy = Proxy::start(address, &[&["--framing", "u8"], flags].concat());
    let received = (0..clients).map(|_| {
        let mut client = proxy.client();
        let mut server = accept(&listener);
        for number in 0..10_u8 {
            client.send(&[3, number, number, number]);
        }
        client.half_close();
        let mut received = vec![];
        server.stream().read_to_end(&mut received).expect("the end");
        server.half_close();
        client.receives_end();
        received
    });
    let received = received.collect();
    proxy.stop();
    received
}

#[test]
fn a_random_run_is_repeated_without_randomness() {
    let files = Files::new();
    let (trace, again) = (files.path("trace"), files.path("again"));
    let rules = [
        "conn 50%: flip 2 bits @ random 30% per frame up",
        "fin early @ random 5% per frame up",
        "insert \"!\" @ frame 2 up",
    ];
    let mut flags: Vec<&str> = rules.iter().flat_map(|rule| ["--fault", rule]).collect();
    flags.extend(["--seed", "11", "--trace", &trace]);
    let first = run(&flags, 8);
    assert!(first.iter().any(|received| *received != first[0]), "{first:?}");
    assert_eq!(run(&["--replay", &trace, "--trace", &again], 8), first);

    let lines = read(&trace);
    assert_eq!((&lines[0]["seed"], &lines[0]["framing"]), (&11.into(), &"u8".into()));
    let replayed = read(&again);
    let texts = |lines: &[Value]| -> Vec<String> {
        let rules = lines[0]["rules"].as_array().expect("rules").iter();
        rules.map(|rule| rule["rule"].as_str().expect("a text").to_owned()).collect()
    };
    assert_eq!(texts(&lines), rules);
    let explicit = texts(&replayed);
    assert!(explicit.iter().all(|rule| !rule.contains('%') && !rule.contains("flip")));
    let places = |lines: &[Value]| -> Vec<(u64, u64)> {
        let faults = of_kind(lines, "fault").into_iter();
        let mut places: Vec<_> = faults
            .map(|fault| (fault["conn"].as_u64().expect("it"), fault["byte"].as_u64().expect("it")))
            .collect();
        places.sort_unstable();
        places
    };
    assert_eq!(places(&replayed), places(&lines));
}

#[test]
fn rules_that_end_or_happen_a_few_times_are_repeated_as_they_were() {
    let files = Files::new();
    let trace = files.path("trace");
    let rules = [
        "flip 2 bits @ every 3 bytes 4 times up",
        "conn 50%: drop 9 bytes @ random 40% per frame until frame 7 byte 2 up",
        "conn 50%: insert \"!\" @ match 0x03 5 times up",
        "conn 50%: black-hole @ frame 4 until match 0x0808 up",
    ];
    let mut flags: Vec<&str> = rules.iter().flat_map(|rule| ["--fault", rule]).collect();
    flags.extend(["--seed", "5", "--trace", &trace]);
    let first = run(&flags, 8);
    assert_eq!(run(&["--replay", &trace], 8), first);
    let lines = read(&trace);
    let lifted = of_kind(&lines, "lifted");
    assert!(lifted.iter().any(|line| line["rule"] == rules[3]), "{lifted:?}");
    for line in lifted {
        let place = (&line["direction"], line["byte"].as_u64());
        assert!(matches!(place.1, Some(26 | 35)) && *place.0 == "up", "{line}");
    }
}

#[test]
fn a_trace_says_what_both_sides_had_and_is_its_owner_s() {
    let files = Files::new();
    let path = files.path("trace");
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let rules = ["stall 1s @ byte 5 up", "stall 10ms @ byte 2 down", "hold @ byte 1000 down"];
    let mut flags = vec!["--trace", &path];
    flags.extend(rules.iter().flat_map(|rule| ["--fault", rule]));
    let proxy = Proxy::start(address, &flags);
    let mut client = proxy.client();
    let mut server = accept(&listener);
    client.send(b"question");
    server.receives(b"quest");
    server.send(b"answer");
    client.receives(b"answer");
    server.receives(b"ion");
    client.half_close();
    server.receives_end();
    server.half_close();
    client.receives_end();
    proxy.stop();

    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let lines = read(&path);
    let kinds: Vec<&str> = lines.iter().map(|line| line["trace"].as_str().expect("it")).collect();
    assert_eq!((kinds[0], kinds[1]), ("start", "connect"));
    assert_eq!(kinds[kinds.len() - 2..], ["close", "end"]);
    assert_eq!(lines[lines.len() - 1]["unfired"], Value::from(vec![rules[2]]));
    let faults = of_kind(&lines, "fault");
    let stall = faults.iter().find(|fault| fault["rule"] == rules[1]).expect("the stall");
    let sum = |side: &str, what: &str| stall[side][what].as_u64().expect("a number");
    assert_eq!((sum("upstream", "received"), sum("upstream", "forwarded")), (6, 5));
    assert_eq!((sum("client", "received"), sum("client", "forwarded")), (8, 2));
    assert_eq!((sum("client", "acknowledged"), sum("client", "held")), (2, 4));
    let late = of_kind(&lines, "late");
    assert_eq!(late.len(), 2, "{late:?}");
    let down = late.iter().find(|late| late["direction"] == "down").expect("the shorter stall");
    assert_eq!((&down["sent"], &down["conn"]), (&6.into(), &1.into()));
}

#[test]
fn what_is_no_trace_is_told_with_its_line() {
    let files = Files::new();
    let wrong = |text: &str, exit: i32, what: &[&str]| {
        let path = files.write("trace", &format!("{text}\n"));
        refused(&["0", "localhost:7", "--replay", &path], exit).complains_about(what);
    };
    let start = r#"{"trace":"start","version":1,"seed":7,"rules":[{"number":0,"rule":"hold"}]}"#;
    wrong("nonsense", 65, &["trace', line 1: not a line of a trace"]);
    wrong(&format!("{start}\n{{}}"), 65, &["trace', line 2: not a line of a trace"]);
    wrong("{\"trace\":\"end\",\"unfired\":[]}", 65, &["line 1: the first line is not that"]);
    wrong(&start.replace(":1,", ":2,"), 65, &["version 2 of a trace, not 1"]);
    let path = files.write("rule", &format!("{}\n", start.replace("hold", "hole")));
    let refusal = Home::new().trustctl(["proxy", "0", "localhost:7", "--replay", &path]).run();
    refusal.exits_with(65).complains_about(&["line 1: invalid fault rule"]);
    let framed = start.replace("\"seed\"", "\"framing\":\"line\",\"seed\"");
    wrong(&framed, 64, &["was made with line: expected the same, not no frames"]);
    let path = files.write("trace", &format!("{start}\n"));
    let both = ["0", "localhost:7", "--replay", &path, "--fault", "hold"];
    refused(&both, 64).complains_about(&["--replay and --fault"]);
    let seed = ["0", "localhost:7", "--replay", &path, "--seed", "3"];
    refused(&seed, 64).complains_about(&["the trace has the seed"]);
    refused(&["0", "localhost:7", "--replay", "/nowhere/at-all"], 74)
        .complains_about(&["cannot read '/nowhere/at-all'"]);
    refused(&["0", "localhost:7", "--trace", "/nowhere/at-all"], 73)
        .complains_about(&["cannot create '/nowhere/at-all'"]);
}
