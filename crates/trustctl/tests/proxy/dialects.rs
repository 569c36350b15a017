//! Faults in the messages of a protocol that has a name.

use trust_testkit::event;
use trust_testkit::program::Home;

use crate::proxy::Through;

/// A connection through a proxy that knows this protocol, with these rules.
fn through(dialect: &str, rules: &[&str]) -> Through {
    let rules = rules.iter().flat_map(|rule| ["--fault", rule]);
    Through::start(&["--dialect", dialect].into_iter().chain(rules).collect::<Vec<_>>())
}

/// The first message of a PostgreSQL client, and a simple query.
const STARTUP: &[u8] = b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0";
const QUERY: &[u8] = b"Q\0\0\0\x0dSELECT 1\0";

/// The answer to them: a login, and nothing else.
const READY: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";

#[test]
fn messages_of_postgres_are_frames_in_both_directions() {
    let rules = ["insert \"!\" @ frame 2 payload up", "rst @ frame 2 byte 3 down"];
    let Through { proxy, mut client, mut server } = through("postgres", &rules);
    for byte in [STARTUP, QUERY].concat() {
        client.send(&[byte]);
    }
    server.receives(&[STARTUP, b"Q\0\0\0\x0d!SELECT 1\0"].concat());
    server.send(&READY[..12]);
    client.receives(&READY[..12]);
    client.receives_reset();
    let fault = proxy.event("fault", |event| event.text("direction") == "down");
    let place = ["byte", "frame", "frame_byte"].map(|field| fault.count(field));
    assert_eq!(place, [12, 2, 3], "{fault:?}");
    let close = proxy.ends(client.address(), "fault", ["open", "rst", "open", "rst"]);
    assert_eq!((close.count("frames_up"), close.count("frames_down")), (2, 1));
    proxy.stop();
}

#[test]
fn a_refused_request_for_encryption_is_a_frame_before_the_first_message_of_postgres() {
    let Through { proxy, mut client, mut server } =
        through("postgres", &["rst @ frame 3 end down"]);
    let ssl_request = b"\0\0\0\x08\x04\xd2\x16\x2f";
    client.send(ssl_request);
    server.receives(ssl_request);
    server.send(b"N");
    client.receives(b"N");
    client.send(&[STARTUP, QUERY].concat());
    server.receives(&[STARTUP, QUERY].concat());
    server.send(READY);
    client.receives(READY);
    client.receives_reset();
    let close = proxy.ends(client.address(), "fault", ["open", "rst", "open", "rst"]);
    assert_eq!(close.count("frames_up"), 3, "{close:?}");
    proxy.stop();
}

#[test]
fn frames_of_postgres_end_where_encryption_begins() {
    let Through { proxy, mut client, mut server } = through("postgres", &[]);
    let ssl_request = b"\0\0\0\x08\x04\xd2\x16\x2f";
    client.send(ssl_request);
    server.receives(ssl_request);
    server.send(b"S");
    client.receives(b"S");
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc";
    client.send(hello);
    server.receives(hello);
    let lost = |direction| {
        let lost = proxy.event("framing_lost", |event| event.text("direction") == direction);
        (lost.count("frame"), lost.count("byte"))
    };
    assert_eq!((lost("down"), lost("up")), ((2, 1), (2, 12)));
    client.half_close();
    server.receives_end();
    server.half_close();
    client.receives_end();
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!((close.count("frames_up"), close.count("frames_down")), (1, 1));
    let events = proxy.stop();
    assert_eq!(event::named(&events, "framing_lost").len(), 2);
}

#[test]
fn a_record_of_tls_is_changed_where_it_is() {
    let rule = "xor 0x20 @ frame 2 payload down";
    let Through { proxy, mut client, mut server } = through("tls", &[rule]);
    server.send(b"\x16\x03\x03\0\x02hi\x17\x03\x03\0\x03abc\x17\x03\x03\0\0");
    server.half_close();
    client.receives_to_end(b"\x16\x03\x03\0\x02hi\x17\x03\x03\0\x03Abc\x17\x03\x03\0\0");
    client.half_close();
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!(close.count("frames_down"), 3, "{close:?}");
    proxy.stop();
}

#[test]
fn frames_of_http2_begin_after_the_preface() {
    let rules = ["insert \"?\" @ frame 1 up", "length = 258 @ frame 2 up"];
    let Through { proxy, mut client, mut server } = through("http2", &rules);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = b"\0\0\0\x04\0\0\0\0\0";
    client.send(&[&preface[..], settings, b"\0\0\x02\0\x01\0\0\0\x01hi"].concat());
    client.half_close();
    let changed = b"\0\x01\x02\0\x01\0\0\0\x01hi";
    server.receives_to_end(&[&preface[..], b"?", settings, changed].concat());
    server.send(settings);
    server.half_close();
    client.receives_to_end(settings);
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!((close.count("frames_up"), close.count("frames_down")), (2, 1));
    proxy.stop();
}

#[test]
fn commands_of_redis_are_frames_and_line_ends_in_strings_end_none() {
    let rules = ["insert \"!\" @ frame 3 up", "insert \"?\" @ frame 1 end down"];
    let Through { proxy, mut client, mut server } = through("redis", &rules);
    let set = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$6\r\na\r\n*1\n\r\n";
    for byte in [&set[..], b"PING\r\nQUIT\r\n"].concat() {
        client.send(&[byte]);
    }
    client.half_close();
    server.receives_to_end(&[&set[..], b"PING\r\n!QUIT\r\n"].concat());
    server.send(b"*2\r\n+OK\r\n:1\r\n+PONG\r\n");
    server.half_close();
    client.receives_to_end(b"*2\r\n+OK\r\n:1\r\n?+PONG\r\n");
    let close = proxy.ends(client.address(), "fin", ["fin", "fin", "fin", "fin"]);
    assert_eq!((close.count("frames_up"), close.count("frames_down")), (3, 2));
    proxy.stop();
}

#[test]
fn what_a_dialect_cannot_do_is_refused() {
    let refused = |arguments: &[&str]| {
        let arguments = [&["proxy", "0", "localhost:7", "--dialect"], arguments].concat();
        Home::new().trustctl(arguments).run().exits_with(64).complains_in_one_line().stderr
    };
    let names = "expected dns, ftp, http2, kafka, line, memcached, modbus, mqtt, mysql, postgres, \
                 redis, smtp or tls\n";
    let unknown = refused(&["postgers"]);
    assert_eq!(unknown, format!("error: invalid value 'postgers' for --dialect: {names}"));
    let http = refused(&["http"]);
    assert!(http.contains("where an answer of HTTP/1.1 ends depends on its request"), "{http}");
    let twice = refused(&["tls", "--framing", "u16be"]);
    assert!(twice.contains("--dialect cannot be used with --framing"), "{twice}");
    for (dialect, rule, lacks) in [
        ("redis", "rst @ frame 7 payload", "a length field"),
        ("smtp", "rst @ frame 7 -2 up", "a length field"),
        ("mqtt", "length = 3 @ frame 2", "a length field of a fixed width"),
    ] {
        let message = refused(&[dialect, "--fault", rule]);
        let expected = format!("error: the rule '{rule}' needs {lacks}: expected ");
        assert!(message.starts_with(&expected), "{message}");
    }
}
