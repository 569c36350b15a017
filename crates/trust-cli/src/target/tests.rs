use super::*;

const SERVER: ServerSettings = ServerSettings { host: &HOST_SETTING, port: &PORT_SETTING };
static HOST_SETTING: Setting<ServerWord> =
    Setting::new(Some("x"), b"host", HOST, Some("localhost"), "");
static PORT_SETTING: Setting<u16> = Setting::new(Some("x"), b"port", SERVER_PORT, None, "");

fn words(arguments: &[&str]) -> Vec<OsString> {
    arguments.iter().map(OsString::from).collect()
}

fn parse(arguments: &[&str]) -> Result<(String, u16, usize), String> {
    match Target::parse(&words(arguments)) {
        Ok((Target(TargetPlace::Host { host, port }), rest)) => Ok((host, port, rest.len())),
        Ok((unix, rest)) => Ok((unix.to_string(), 0, rest.len())),
        Err(failure) => {
            assert_eq!(failure.exit, ExitCode::Usage);
            Err(failure.message)
        }
    }
}

/// What names the server: arguments, then the flags, a variable's `HOST` and `PORT`.
fn named(
    arguments: &[&str],
    flags: [Option<&str>; 2],
    variables: [Option<&str>; 2],
    kind: Arguments,
) -> Result<Option<(String, usize)>, String> {
    let settings: [&dyn AnySetting; 2] = [&HOST_SETTING, &PORT_SETTING];
    let mut layers = Layers::default();
    for (setting, (flag, variable)) in settings.into_iter().zip(flags.into_iter().zip(variables)) {
        if let Some(flag) = flag {
            layers.add_flag(setting, flag.as_ref()).map_err(|failure| failure.message)?;
        }
        if let Some(value) = variable {
            let variables = [(setting.variable().into(), value.into())];
            layers.add_environment(&variables, &settings).map_err(|failure| failure.message)?;
        }
    }
    let arguments = words(arguments);
    let found = SERVER.target(&layers, &arguments, kind, Family::Any);
    let found = found.map_err(|failure| failure.message)?;
    Ok(found.map(|(target, rest)| (target.to_string(), rest.len())))
}

#[test]
fn a_server_is_one_argument_or_two() {
    let cases: [(&[&str], &str, u16, usize); 14] = [
        (&["localhost", "9900"], "localhost", 9900, 0),
        (&["localhost:9900"], "localhost", 9900, 0),
        (&["localhost:9900", "9901"], "localhost", 9900, 1),
        (&["localhost", "9900", "a", "b"], "localhost", 9900, 2),
        (&["192.0.2.1:1", "hi"], "192.0.2.1", 1, 1),
        (&["::1", "65535"], "::1", 65535, 0),
        (&["[::1]:9900", "x"], "::1", 9900, 1),
        (&["[::1]", "9900", "x"], "::1", 9900, 1),
        (&["fe80::1%eth0", "9900"], "fe80::1%eth0", 9900, 0),
        (&["[fe80::1%eth0]:9900"], "fe80::1%eth0", 9900, 0),
        (&[":9900"], "localhost", 9900, 0),
        (&[":9900", "hi"], "localhost", 9900, 1),
        (&["9900"], "localhost", 9900, 0),
        (&["9900", "hi"], "localhost", 9900, 1),
    ];
    for (arguments, host, port, rest) in cases {
        assert_eq!(parse(arguments), Ok((host.into(), port, rest)), "{arguments:?}");
    }
}

#[test]
fn what_is_no_server_is_named_with_what_is_expected() {
    let link_local = "a link-local address needs its interface, as in fe80::1%eth0";
    let port = "expected a port from 1 to 65535";
    let cases: [(&[&str], &str); 18] = [
        (&[], "missing server: expected HOST:PORT, HOST PORT, [IPV6]:PORT, :PORT, PORT, unix:PATH"),
        (&["localhost"], "server 'localhost' has no port: expected HOST:PORT,"),
        (&["::1:9900x", "1"], "invalid server '::1:9900x': expected HOST:PORT,"),
        (&["a:b:c"], "invalid server 'a:b:c': expected HOST:PORT,"),
        (&["[::1]9900"], "invalid server '[::1]9900': expected HOST:PORT,"),
        (&["[localhost]:9900"], "invalid server '[localhost]:9900': expected HOST:PORT,"),
        (&["[::1", "1"], "invalid server '[::1': expected HOST:PORT,"),
        (&["::1]", "1"], "invalid server '::1]': expected HOST:PORT,"),
        (&["", "1"], "invalid server '': expected HOST:PORT,"),
        (&["fe80::1%eth0:9900"], "invalid server 'fe80::1%eth0:9900': expected HOST:PORT,"),
        (&["localhost:"], &format!("invalid server 'localhost:': invalid port '': {port}")),
        (&["localhost", "0"], &format!("invalid server 'localhost': invalid port '0': {port}")),
        (&["localhost", "hi"], &format!("invalid server 'localhost': invalid port 'hi': {port}")),
        (
            &["localhost:+80"],
            &format!("invalid server 'localhost:+80': invalid port '+80': {port}"),
        ),
        (&["65536"], &format!("invalid server '65536': invalid port '65536': {port}")),
        (&[":"], &format!("invalid server ':': invalid port '': {port}")),
        (&["fe80::1", "9900"], &format!("invalid server 'fe80::1': {link_local}")),
        (&["[fe80::1]:9900"], &format!("invalid server '[fe80::1]:9900': {link_local}")),
    ];
    for (arguments, expected) in cases {
        let message = parse(arguments).unwrap_err();
        assert!(message.starts_with(expected), "{arguments:?}: {message}");
    }
}

#[test]
fn flags_name_a_server_as_arguments_do() {
    let by_flags = |host, port| named(&[], [host, port], [None; 2], Arguments::Server);
    let server = |name: &str| Ok(Some((name.to_owned(), 0)));
    assert_eq!(by_flags(None, Some("9900")), server("localhost:9900"));
    assert_eq!(by_flags(Some("h"), Some("9900")), server("h:9900"));
    assert_eq!(by_flags(Some("h:9900"), None), server("h:9900"));
    assert_eq!(by_flags(Some("[::1]"), Some("9900")), server("[::1]:9900"));
    assert_eq!(by_flags(Some("[::1]:9900"), None), server("[::1]:9900"));
    assert_eq!(by_flags(Some("::1"), Some("9900")), server("[::1]:9900"));
    assert_eq!(by_flags(None, None), Ok(None));
    let refused = |host, port| by_flags(host, port).unwrap_err();
    let both = refused(Some("h:1"), Some("2"));
    assert_eq!(both, "--host 'h:1' has a port already: it cannot be used with --port '2'");
    let neither = refused(Some("h"), None);
    assert_eq!(neither, "--host 'h' has no port: add it as HOST:PORT or with --port");
    assert!(
        refused(Some("a:b:c"), None)
            .starts_with("invalid value 'a:b:c' for --host: expected HOST:PORT,")
    );
}

#[test]
fn a_server_is_named_once_on_the_command_line() {
    let flags = [None, Some("1")];
    let refused = |kind| named(&["h:2"], flags, [None; 2], kind).unwrap_err();
    let expected = "--port cannot be used with 'h:2': name the server once";
    assert_eq!(refused(Arguments::Server), expected);
    assert_eq!(refused(Arguments::ServerThenMessages), expected);
    let extra = named(&["h:2", "x"], [None; 2], [None; 2], Arguments::Server).unwrap_err();
    assert_eq!(extra, "unexpected argument 'x'");
}

#[test]
fn beside_flags_arguments_are_messages_where_there_are_any() {
    let messages = named(&["hi", "7"], [None, Some("1")], [None; 2], Arguments::ServerThenMessages);
    assert_eq!(messages, Ok(Some(("localhost:1".to_owned(), 2))));
}

#[test]
fn the_stronger_layer_names_the_server() {
    let named = |arguments, flags, variables| {
        named(arguments, flags, variables, Arguments::Server).map(|found| found.unwrap().0)
    };
    let variables = [Some("v:1"), None];
    assert_eq!(named(&[], [None; 2], variables), Ok("v:1".to_owned()));
    assert_eq!(named(&["h:2"], [None; 2], variables), Ok("h:2".to_owned()));
    assert_eq!(named(&[], [None, Some("2")], variables), Ok("v:2".to_owned()));
    assert_eq!(named(&[], [Some("h:2"), None], [None, Some("1")]), Ok("h:2".to_owned()));
}

#[test]
fn a_server_is_shown_in_one_line_with_brackets_where_needed() {
    let shown = |host: &str| Target::new(host, 7).to_string();
    assert_eq!(shown("localhost"), "localhost:7");
    assert_eq!(shown("::1"), "[::1]:7");
    assert_eq!(shown("a\nb"), "a\\nb:7");
    assert_eq!(shown("'a'"), "'a':7");
    assert_eq!(shown("unix"), "unix 7", "with a colon it would be a socket");
    assert_eq!(parse(&["unix", "7"]), Ok(("unix".into(), 7, 0)));
}

#[test]
fn a_unix_socket_is_one_argument() {
    let cases: [(&[&str], &str, usize); 6] = [
        (&["unix:/run/x.sock"], "unix:/run/x.sock", 0),
        (&["unix:x.sock"], "unix:x.sock", 0),
        (&["unix:./80"], "unix:./80", 0),
        (&["unix:@a name"], "unix:@a name", 0),
        (&["unix:/a:9900"], "unix:/a:9900", 0),
        (&["unix:/run/x.sock", "9900", "hi"], "unix:/run/x.sock", 2),
    ];
    for (arguments, name, rest) in cases {
        assert_eq!(parse(arguments), Ok((name.into(), 0, rest)), "{arguments:?}");
    }
    let longest = format!("unix:{}", "x".repeat(107));
    assert_eq!(parse(&[&longest]), Ok((longest.clone(), 0, 0)));
    let name = UnixName::parse("/a\nb".as_ref()).unwrap();
    assert_eq!(Target::unix(name).to_string(), "unix:/a\\nb");
}

#[test]
fn what_is_nearly_a_unix_socket_is_refused_with_what_it_may_be_meant_to_be() {
    let port_or_path =
        "expected unix:./80 for a unix socket, or unix 80 for a port of the host unix";
    let cases = [
        ("/run/x.sock", "expected unix:/run/x.sock for a unix socket"),
        ("./x.sock", "expected unix:./x.sock for a unix socket"),
        ("run/x.sock", "expected unix:run/x.sock for a unix socket"),
        ("/run/x.sock:9900", "expected unix:/run/x.sock:9900 for a unix socket"),
        ("@name", "expected unix:@name for a unix socket"),
        ("unix:", "expected a path after unix:"),
        ("unix:@", "expected a name after unix:@"),
        ("unix:80", port_or_path),
        ("unix:a\0", "the path of a unix socket has no byte 0"),
    ];
    for (text, why) in cases {
        let expected = format!("invalid server {}: {why}", quoted(text));
        assert_eq!(parse(&[text]).unwrap_err(), expected);
    }
    for (kind, start) in [("path", "unix:"), ("name", "unix:@")] {
        let message = parse(&[&format!("{start}{}", "x".repeat(108))]).unwrap_err();
        let why = format!("the {kind} of a unix socket has at most 107 bytes, this has 108");
        assert!(message.ends_with(&why), "{message}");
    }
    assert_eq!(parse(&["unix", "80"]), Ok(("unix".into(), 80, 0)));
    let lossy = ServerWord::parse("unix:/\u{fffd}").unwrap_err();
    assert_eq!(lossy, "not UTF-8");
}

#[test]
fn a_unix_socket_goes_with_no_port_and_no_family() {
    let server = |arguments, flags, variables| {
        named(arguments, flags, variables, Arguments::Server).map(|found| found.unwrap().0)
    };
    let (none, socket) = ([None; 2], "unix:/s".to_owned());
    let by_flag = [Some("unix:/s"), None];
    assert_eq!(server(&[], by_flag, none), Ok(socket.clone()));
    assert_eq!(server(&[], none, by_flag), Ok(socket.clone()));
    assert_eq!(server(&[], by_flag, [None, Some("1")]), Ok(socket.clone()));
    assert_eq!(server(&["unix:/s"], none, [Some("v:1"), Some("1")]), Ok(socket));
    let both = server(&[], [Some("unix:/s"), Some("1")], none).unwrap_err();
    let why = "--port '1' cannot be used with --host 'unix:/s': a unix socket has no port";
    assert_eq!(both, why);
    let stronger = server(&[], [None, Some("1")], by_flag).unwrap_err();
    assert!(stronger.starts_with("--port '1' cannot be used with TRUST_X_HOST"), "{stronger}");
    let second = server(&["unix:/s", "9900"], none, none).unwrap_err();
    assert_eq!(second, "unexpected argument '9900': a unix socket has no port");
    let (layers, arguments) = (Layers::default(), words(&["unix:/s", "9900"]));
    let messages = |family| {
        let found = SERVER.target(&layers, &arguments, Arguments::ServerThenMessages, family);
        found.map(|found| found.unwrap().1.len()).map_err(|failure| failure.message)
    };
    assert_eq!(messages(Family::Any), Ok(1));
    let why = "cannot be used with unix:/s: a unix socket is neither IPv4 nor IPv6";
    assert_eq!(messages(Family::V4).unwrap_err(), format!("-4 {why}"));
    assert_eq!(messages(Family::V6).unwrap_err(), format!("-6 {why}"));
}
