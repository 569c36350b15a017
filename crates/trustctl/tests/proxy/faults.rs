//! Faults at exact places, and what is said of them.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use trust_testkit::event;
use trust_testkit::files::Files;
use trust_testkit::kernel;
use trust_testkit::peer::{Peer, frame, pattern};
use trust_testkit::program::Home;

use crate::proxy::{Proxy, Through, accept, upstream};

/// A connection through a proxy with these rules.
fn through(rules: &[&str]) -> Through {
    Through::start(&rules.iter().flat_map(|rule| ["--fault", rule]).collect::<Vec<_>>())
}

/// Checks that a rule is reported for a client, with its place.
#[track_caller]
fn is_reported(proxy: &Proxy, client: &Peer, rule: &str, direction: &str, byte: u64) {
    let peer = client.address().to_string();
    let fault =
        proxy.event("fault", |event| event.text("peer") == peer && event.text("rule") == rule);
    assert_eq!((fault.text("direction"), fault.count("byte")), (direction, byte), "{fault:?}");
}

#[test]
fn a_reset_comes_after_exactly_the_bytes_before_its_place() {
    let rule = "rst @ byte 70001 down";
    let Through { proxy, mut client, mut server } = through(&[rule]);
    let answer = pattern(100_000);
    server.send(&answer);
    client.receives(&answer[..70_001]);
    client.receives_reset();
    server.receives_reset();
    is_reported(&proxy, &client, rule, "down", 70_001);
    proxy.ends(client.address(), "fault", ["open", "rst", "open", "rst"]);
    proxy.stop();
}

#[test]
fn a_reset_does_not_wait_for_the_next_byte() {
    let Through { proxy, mut client, mut server } = through(&["rst @ byte 8 up"]);
    client.send(b"question");
    server.receives(b"question");
    server.receives_reset();
    client.receives_reset();
    proxy.stop();
}

#[test]
fn an_early_fin_leaves_the_other_direction_alone() {
    let Through { proxy, mut client, mut server } = through(&["fin early @ byte 3 down"]);
    server.send(b"answer");
    client.receives_to_end(b"ans");
    client.send(b"still there");
    server.receives(b"still there");
    server.send(b" and so on");
    client.half_close();
    server.receives_end();
    server.half_close();
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!((close.count("bytes_down"), close.count("undelivered_down")), (16, 0));
    client.has_no_error();
    proxy.stop();
}

#[test]
fn a_close_ends_both_directions_in_order() {
    let Through { proxy, mut client, mut server } = through(&["close @ byte 3 down"]);
    server.send(b"answer");
    client.receives_to_end(b"ans");
    server.receives_end();
    client.half_close();
    server.half_close();
    proxy.ends(client.address(), "fault", ["fin", "fin", "fin", "fin"]);
    client.has_no_error();
    proxy.stop();
}

#[test]
fn a_stall_is_never_shorter_and_loses_nothing() {
    let Through { proxy, mut client, mut server } = through(&["stall 300ms @ byte 1000 down"]);
    let answer = pattern(200_000);
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            server.send(&answer);
            server.half_close();
        });
        client.receives(&answer[..1000]);
        client.receives_to_end(&answer[1000..]);
    });
    assert!(began.elapsed() >= Duration::from_millis(300));
    client.half_close();
    server.receives_end();
    proxy.stop();
}

#[test]
fn bytes_are_changed_dropped_and_added_at_their_places() {
    let rules = ["set \"XY\" @ byte 1 up", "drop 2 bytes @ byte 4 up", "insert \"!\" @ byte 7 up"];
    let more = ["xor 0x20 @ match \"hi\" up", "insert \"END\" @ eof up"];
    let Through { proxy, mut client, mut server } = through(&[&rules[..], &more[..]].concat());
    for byte in b"abcdefghijk" {
        client.send(&[*byte]);
    }
    client.half_close();
    server.receives_to_end(b"aXYdg!hiJkEND");
    server.half_close();
    client.receives_end();
    is_reported(&proxy, &client, "xor 0x20 @ match \"hi\" up", "up", 9);
    is_reported(&proxy, &client, "insert \"END\" @ eof up", "up", 11);
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!((close.count("bytes_up"), close.count("undelivered_up")), (11, 0));
    proxy.stop();
}

/// A connection through a proxy that knows frames with a length of four bytes, with these rules.
fn framed(rules: &[&str]) -> Through {
    let rules = rules.iter().flat_map(|rule| ["--fault", rule]);
    Through::start(&["--framing", "u32be"].into_iter().chain(rules).collect::<Vec<_>>())
}

#[test]
fn a_fault_inside_a_frame_is_where_the_frame_is_however_it_comes() {
    let rule = "rst @ frame 3 byte 6 down";
    let Through { proxy, mut client, mut server } = framed(&[rule]);
    let frames = [frame(b"first"), frame(b""), frame(b"third"), frame(b"fourth")].concat();
    let before = 9 + 4 + 6;
    for byte in &frames[..before] {
        server.send(&[*byte]);
    }
    client.receives(&frames[..before]);
    client.receives_reset();
    is_reported(&proxy, &client, rule, "down", 19);
    let fault = proxy.event("fault", |_| true);
    assert_eq!((fault.count("frame"), fault.count("frame_byte")), (3, 6));
    let close = proxy.ends(client.address(), "fault", ["open", "rst", "open", "rst"]);
    assert_eq!((close.count("frames_up"), close.count("frames_down")), (0, 2));
    proxy.stop();
}

#[test]
fn the_parts_of_a_frame_are_places() {
    let rules = [
        "insert \"<\" @ frame 2 up",
        "insert \"(\" @ frame 2 payload up",
        "insert \"-\" @ frame 2 -1 up",
        "insert \")\" @ frame 2 end up",
        "length = 258 @ frame 3 up",
        // It is too short for that.
        "insert \"?\" @ frame 1 byte 6 up",
    ];
    let Through { proxy, mut client, mut server } = framed(&rules);
    client.send(&[frame(b"a"), frame(b"bcd"), frame(b"e")].concat());
    client.half_close();
    server.receives_to_end(b"\0\0\0\x01a<\0\0\0\x03(bc-d)\0\0\x01\x02e");
    server.half_close();
    client.receives_end();
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!((close.count("frames_up"), close.count("undelivered_up")), (3, 0));
    let events = proxy.stop();
    let unfired = event::only(&events, "fault_unfired");
    assert_eq!(unfired.text("rule"), "insert \"?\" @ frame 1 byte 6 up");
}

#[test]
fn a_frame_that_is_cut_says_still_how_long_it_was() {
    let rules = ["truncate 6 @ every 2 frames up", "truncate 9 @ frame 1 up"];
    let Through { proxy, mut client, mut server } = framed(&rules);
    let frames = [frame(b"first"), frame(b""), frame(b"third"), frame(b"fourth"), frame(b"fifth")];
    client.send(&frames.concat());
    client.half_close();
    let [first, second, third, fourth, fifth] = frames;
    server.receives_to_end(&[first, second, third, fourth[..6].to_vec(), fifth].concat());
    server.half_close();
    client.receives_end();
    is_reported(&proxy, &client, rules[0], "up", 28);
    let fault = proxy.event("fault", |_| true);
    assert_eq!((fault.count("frame"), fault.count("frame_byte")), (4, 6));
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!((close.count("frames_up"), close.count("undelivered_up")), (5, 0));
    let events = proxy.stop();
    event::only(&events, "fault");
    // That frame has no more bytes.
    assert_eq!(event::only(&events, "fault_unfired").text("rule"), rules[1]);
}

#[test]
fn frames_that_make_no_sense_are_reported_once_and_bytes_go_on() {
    let flags = ["--framing", "u32be+incl", "--fault", "insert \"!\" @ byte 12 up"];
    let Through { proxy, mut client, mut server } = Through::start(&flags);
    client.send(b"\0\0\0\x04\0\0\0\x01 and so on");
    client.half_close();
    server.receives_to_end(b"\0\0\0\x04\0\0\0\x01 and! so on");
    server.half_close();
    client.receives_end();
    let lost = proxy.event_about(client.address(), "framing_lost");
    assert_eq!((lost.count("frame"), lost.count("byte")), (2, 8), "{lost:?}");
    let events = proxy.stop();
    event::only(&events, "framing_lost");
}

#[test]
fn a_place_that_can_never_come_is_refused() {
    let refused = |arguments: &[&str]| {
        let arguments = [&["proxy", "0", "localhost:7", "--fault"], arguments].concat();
        Home::new().trustctl(arguments).run().exits_with(64).complains_in_one_line().stderr
    };
    let told = refused(&["rst @ frame 7"]);
    let expected = "expected --framing, as --framing u32be, or a fitting --dialect\n";
    assert_eq!(told, format!("error: the rule 'rst @ frame 7' needs frames: {expected}"));
    let told = refused(&["rst @ frame 7 payload", "--framing", "line"]);
    assert!(told.contains("needs a length field"), "{told}");
    let told = refused(&["truncate 5 @ every 2 frames"]);
    assert!(told.contains("the rule 'truncate 5 @ every 2 frames' needs frames"), "{told}");
    let told = refused(&["delay 1s until frame 7"]);
    assert!(told.contains("the rule 'delay 1s until frame 7' needs frames"), "{told}");
}

#[test]
fn a_rule_ends_at_exactly_its_byte_and_that_is_reported() {
    let rule = "black-hole @ byte 3 until byte 6 up";
    let Through { proxy, mut client, mut server } = through(&[rule]);
    client.send(b"abcdefghi");
    server.receives(b"abcghi");
    client.half_close();
    server.receives_end();
    server.half_close();
    client.receives_end();
    is_reported(&proxy, &client, rule, "up", 3);
    let lifted = proxy.event_about(client.address(), "fault_lifted");
    assert_eq!((lifted.text("rule"), lifted.text("direction")), (rule, "up"));
    assert_eq!(lifted.count("byte"), 6);
    proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    proxy.stop();
}

#[test]
fn a_rule_happens_no_more_often_than_it_says() {
    let rules = [
        "xor 0x20 @ every 2 bytes 2 times up",
        "insert \"!\" @ match \"xx\" 2 times up",
        "insert \"-\" @ every 3 bytes until byte 9 up",
    ];
    let Through { proxy, mut client, mut server } = through(&rules);
    for byte in b"abcdefxxxxxx" {
        client.send(&[*byte]);
    }
    client.half_close();
    server.receives_to_end(b"abC-dEf-xx!xx!xx");
    server.half_close();
    client.receives_end();
    let events = proxy.stop();
    let bytes_of = |rule: &str| -> Vec<u64> {
        let faults = event::named(&events, "fault").into_iter();
        let of_it = faults.filter(|fault| fault.text("rule") == rule);
        of_it.map(|fault| fault.count("byte")).collect()
    };
    assert_eq!(rules.map(bytes_of), [[2, 4], [8, 10], [3, 6]]);
}

#[test]
fn a_window_ends_too() {
    let rule = "window 4096 until byte 20000 up";
    let Through { proxy, mut client, mut server } = through(&[rule]);
    let question = pattern(1_000_000);
    thread::scope(|scope| {
        scope.spawn(|| {
            client.send(&question);
            client.half_close();
        });
        server.receives_to_end(&question);
    });
    let lifted = proxy.event_about(client.address(), "fault_lifted");
    assert_eq!((lifted.text("rule"), lifted.count("byte")), (rule, 20_000));
    server.half_close();
    client.receives_end();
    proxy.stop();
}

#[test]
fn a_flipped_bit_is_the_same_for_the_same_seed() {
    let flipped = |seed: &str| {
        let rule = ["--fault", "flip 1 bit @ byte 2 up", "--seed", seed];
        let Through { proxy: _proxy, mut client, server } = Through::start(&rule);
        client.send(b"aaaa");
        let mut got = [0; 4];
        std::io::Read::read_exact(&mut server.stream(), &mut got).expect("four bytes");
        got
    };
    let first = flipped("7");
    assert_eq!((first[0], first[1], first[3]), (b'a', b'a', b'a'));
    assert_eq!((first[2] ^ b'a').count_ones(), 1);
    assert_eq!(flipped("7"), first);
    assert!((8..40).any(|seed| flipped(&seed.to_string()) != first));
}

#[test]
fn a_black_hole_takes_everything_and_says_nothing() {
    let Through { proxy, mut client, mut server } = through(&["black-hole @ byte 4 up"]);
    client.send(b"gone is all this");
    client.half_close();
    server.receives(b"gone");
    server.send(b"answer");
    server.half_close();
    client.receives_to_end(b"answer");
    // Only the close shows it to the server.
    server.receives_end();
    proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    proxy.stop();
}

#[test]
fn what_is_held_stays_and_the_sender_is_slowed_down() {
    let Through { proxy, client, mut server } = through(&["hold @ byte 4 up"]);
    let bytes = pattern(65_536);
    let mut idle_looks = 0;
    kernel::wait_until("nothing being taken", || {
        idle_looks = if client.sends_what_fits(&bytes) == 0 { idle_looks + 1 } else { 0 };
        idle_looks > 20
    });
    server.receives(&bytes[..4]);
    let peer = client.address();
    client.reset();
    server.receives_reset();
    proxy.ends(peer, "client_failed", ["rst", "none", "open", "rst"]);
    proxy.stop();
}

#[test]
fn a_swallowed_fin_never_comes() {
    let Through { proxy, mut client, mut server } = through(&["swallow fin up"]);
    client.send(b"question");
    client.half_close();
    server.receives(b"question");
    server.stream().set_read_timeout(Some(Duration::from_millis(200))).expect("a limit");
    let outcome = std::io::Read::read(&mut server.stream(), &mut [0]);
    assert_eq!(outcome.map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));
    server.half_close();
    client.receives_end();
    proxy.event_about(client.address(), "proxy_close");
    proxy.stop();
}

#[test]
fn rules_are_for_the_connections_that_they_name() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let rules =
        ["--fault", "conn 1: accept-rst @ connect", "--fault", "conn every 3: rst @ byte 1 up"];
    let proxy = Proxy::start(address, &rules);
    let peer = proxy.resets_a_client();
    proxy.ends(peer, "fault", ["open", "rst", "open", "none"]);
    for number in 2..=4 {
        let mut client = proxy.client();
        let mut server = accept(&listener);
        client.send(b"question");
        if number == 3 {
            client.receives_reset();
        } else {
            server.receives(b"question");
            client.half_close();
            server.receives_end();
        }
    }
    drop(listener);
    proxy.signal(Signal::TERM);
    let events = proxy.has_stopped(0);
    let faults = event::named(&events, "fault");
    let numbers: Vec<u64> = faults.iter().map(|fault| fault.count("conn")).collect();
    assert_eq!(numbers, [1, 3]);
}

#[test]
fn a_silent_proxy_accepts_and_does_nothing() {
    let listener = upstream();
    let address = listener.local_addr().expect("an address");
    let proxy = Proxy::start(address, &["--fault", "accept-silent @ connect"]);
    let mut client = proxy.client();
    client.send(b"question");
    client.is_received();
    listener.set_nonblocking(true).expect("set O_NONBLOCK");
    proxy.event_about(client.address(), "fault");
    assert!(listener.accept().is_err(), "the upstream is not connected to");
    let peer = client.address();
    client.reset();
    proxy.event_about(peer, "proxy_close");
    proxy.stop();
}

#[test]
fn rules_that_never_happened_are_named_and_can_fail_the_run() {
    let rules = ["--fault", "rst @ byte 1000 up", "--fault", "set \"x\" @ byte 0 up"];
    for (flags, code) in [(&[][..], 0), (&["--fail-if-unfired"][..], 1)] {
        let Through { proxy, mut client, mut server } =
            Through::start(&[&rules[..], flags].concat());
        client.send(b"abc");
        server.receives(b"xbc");
        drop((client, server));
        proxy.event("proxy_close", |_| true);
        proxy.signal(Signal::TERM);
        let events = proxy.has_stopped(code);
        let unfired = event::only(&events, "fault_unfired");
        assert_eq!(unfired.text("rule"), "rst @ byte 1000 up");
    }
}

#[test]
fn rules_come_from_a_file_too() {
    let files = Files::new();
    let path = files.write("rules", "# one\n\nset \"x\" @ byte 0 up\n  insert \"#\" @ eof up\n");
    let Through { proxy: _proxy, mut client, mut server } = Through::start(&["--faults", &path]);
    client.send(b"abc");
    client.half_close();
    server.receives_to_end(b"xbc#");
}

#[test]
fn a_wrong_rule_is_shown_with_a_caret() {
    let refused = |arguments: &[&str], code| {
        let arguments = [&["proxy", "0", "localhost:7"][..], arguments].concat();
        Home::new().trustctl(arguments).run().exits_with(code).stderr
    };
    let told = refused(&["--fault", "rst @ bite 7 down"], 64);
    let expected = "error: --fault: invalid fault rule: expected a place: byte N, frame N, match \
                    BYTES, eof, every N bytes|frames, random P% per frame|KiB, time TIME, idle \
                    TIME or connect\nhint: rst @ bite 7 down\n            ^\n";
    assert_eq!(told, expected);
    let files = Files::new();
    let path = files.write("rules", "hold\nrst @ byte x\n");
    let told = refused(&["--faults", &path], 65);
    assert!(told.contains("rules', line 2: invalid fault rule: expected how many bytes"), "{told}");
    let told = refused(&["--faults", "/nowhere/at-all"], 74);
    assert!(told.contains("cannot read '/nowhere/at-all'"), "{told}");
    fs::metadata("/nowhere").expect_err("it is nowhere");
}

#[test]
fn a_rule_that_needs_a_reset_is_refused_with_a_unix_socket() {
    for words in [["unix:/tmp/nowhere.sock", "localhost:7"], ["0", "unix:/tmp/nowhere.sock"]] {
        let arguments = [&["proxy"], &words[..], &["--fault", "rst @ byte 1"]].concat();
        let refused = Home::new().trustctl(arguments).run().exits_with(64);
        refused.complains_about(&["the rule 'rst @ byte 1' cannot be used", "has no RST"]);
    }
}
