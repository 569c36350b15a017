//! Events in the form that people see and programs do not.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};

use rustix::process::Signal;

use trust_testkit::event;
use trust_testkit::kernel::wait_until;
use trust_testkit::program::Home;
use trust_testkit::terminal::Terminal;

#[test]
fn as_text_a_connection_is_lines_for_people_on_stdout_and_json_in_the_file() {
    for model in ["event", "process"] {
        let home = Home::new();
        let flags = ["--host", "127.0.0.1", "--port", "0", "--model", model];
        let server = home.trustctl(["echo-server", "--log-format", "text"]).args(flags).start();
        let has = |name: &str| {
            home.log_file().exists() && home.logged().iter().any(|event| event.name() == name)
        };
        wait_until("the server's start", || has("server_start"));
        let port = event::only(&home.logged(), "server_start").count("port");
        let port = u16::try_from(port).expect("a port");
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it accepts");
        client.write_all(b"hello").expect("it reads");
        client.shutdown(Shutdown::Write).expect("a half-close");
        let mut echo = String::new();
        client.read_to_string(&mut echo).expect("the echo");
        let peer = client.local_addr().expect("an address").to_string();
        wait_until("the end of the connection", || has("client_close"));
        server.signal(Signal::TERM);
        let shown = server.wait().exits_with(0).text().to_owned();
        let of_client = |event: &str| format!("  {event:20}  {peer:21}");
        for words in [
            format!("  server_start          {:21}  auto  {model}  ", format!("127.0.0.1:{port}")),
            of_client("client_connect").trim_end().to_owned(),
            of_client("client_close") + "  peer_fin  5 B in  5 B out  ",
        ] {
            assert!(shown.contains(&words), "{words:?} in\n{shown}");
        }
        assert!(!shown.contains(['{', '\u{1b}']), "{shown}");
    }
}

#[test]
fn text_is_for_terminals_where_auto_decides_and_colours_are_left_out_on_request() {
    let demo = ["log", "demo", "hello", "--log-format", "auto"];
    let on_terminal = |name: &str, value: &str| {
        let (home, terminal) = (Home::new(), Terminal::open());
        let launch = home.trustctl(demo).env("TERM", "xterm").env(name, value);
        launch.stdout(terminal.end()).run().exits_with(0);
        assert_eq!(home.logged().len(), 3);
        terminal.shown()
    };
    let coloured = on_terminal("TRUST_LOG_LEVEL", "info");
    assert!(
        coloured.contains("\u{1b}[32mlog_demo            \u{1b}[0m  hello\r\n"),
        "{coloured:?}"
    );
    let plain = on_terminal("NO_COLOR", "1");
    assert!(plain.ends_with("  log_demo              hello\r\n"), "{plain:?}");
    let events = Home::new().trustctl(demo).run().exits_with(0).events();
    event::check_run(&events);
}

#[test]
fn a_mistake_at_a_terminal_is_told_in_words_alone() {
    for line in [&["--no-such"][..], &["echo-server", "--port", "x"], &["echo-server"]] {
        let (home, terminal) = (Home::new(), Terminal::open());
        let launch = home.trustctl(line).env("TERM", "xterm");
        launch.stdout(terminal.end()).stderr(terminal.end()).run().exits_with(64);
        let shown = terminal.shown();
        assert!(shown.starts_with("error: ") && !shown.contains('{'), "{shown:?}");
        let names: Vec<String> =
            home.logged().iter().map(|event| event.name().to_owned()).collect();
        assert_eq!(names, ["cmd_start", "error", "cmd_finish"], "{line:?}");
        let elsewhere = Home::new().trustctl(line).run().exits_with(64).events();
        event::check_run(&elsewhere);
    }
}

#[test]
fn manual_pages_and_completions_are_printed_and_make_nothing() {
    let home = Home::new();
    for (words, name) in [(&[][..], "trustctl"), (&["load", "merge"], "trustctl-load-merge")] {
        let page = home.trustctl(["help", "--man"]).args(words).run();
        let page = page.exits_with(0).complains_about_nothing();
        for part in [&*format!(".TH {name} 1"), ".SH SYNOPSIS", "Exit codes"] {
            assert!(page.text().contains(part), "{part} in {}", page.text());
        }
    }
    for shell in ["bash", "elvish", "fish", "zsh"] {
        let script = home.trustctl(["completions", shell]).run();
        let script = script.exits_with(0).complains_about_nothing();
        for word in ["echo-server", "max-frame"] {
            assert!(script.text().contains(word), "{word} for {shell}");
        }
        let short = home.trustctl(["completions", shell, "echo-client"]).run().exits_with(0);
        assert!(short.text().contains("echo-client") && short.text().contains("payload-size"));
        assert!(!short.text().contains("max-clients"), "another command's flag for {shell}");
    }
    assert!(home.is_untouched(), "they made something");
    let refused = home.trustctl(["help", "--man", "chek"]).run().exits_with(64);
    refused.complains_about(&["no manual page for 'chek'"]).complains_in_one_line();
    let refused = home.trustctl(["completions", "cmd"]).run().exits_with(64);
    refused.complains_about(&["invalid value 'cmd' for SHELL: expected bash, "]);
}
