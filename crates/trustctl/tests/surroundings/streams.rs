//! Standard streams that other programs use too.

use std::io::{self, Read, Write};

use rustix::fs::{FlockOperation, OFlags, fcntl_setfl, flock};
use rustix::pipe::fcntl_setpipe_size;

use trust_testkit::event;
use trust_testkit::kernel::{wait_until, wait_until_quiet};
use trust_testkit::program::Home;
use trust_testkit::server::{NO_FLAGS, Server};

#[test]
fn who_locks_the_pipe_that_is_stdout_holds_nobody_up() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    flock(&reader, FlockOperation::LockExclusive).expect("lock a pipe");
    let home = Home::new();
    home.trustctl(["log", "demo", "x"]).stdout(writer).run().exits_with(0);
    let mut printed = Vec::new();
    reader.read_to_end(&mut printed).expect("read what was printed");
    let events = event::parse_all(&printed, "stdout");
    event::check_run(&events);
    assert_eq!(events.len(), 3, "{events:?}");
}

#[test]
fn a_stdout_that_does_not_wait_for_its_reader_gets_every_byte_all_the_same() {
    let (home, server) = (Home::new(), Server::start(NO_FLAGS));
    let (address, port) = (server.address().to_string(), server.port().to_string());
    let junit = home.elsewhere("junit.xml");
    let load = ["load", "--port", &port, "--clients", "300", "--messages", "1"];
    let check = ["check", &address, "--case", "framing/*", "--jobs", "64"];
    let commands: [&[&str]; 6] = [
        &["echo-client", &address, "--payload-size", "50000"],
        &["check", "--list", "--json"],
        &["config", "show", "--json", "--log-file=none"],
        &["load", "--help"],
        &load,
        &[&check[..], &["--json", "--junit", junit.to_str().expect("text")]].concat(),
    ];
    for command in commands {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let room = fcntl_setpipe_size(&writer, 4096).expect("a pipe of one page");
        fcntl_setfl(&writer, OFlags::NONBLOCK).expect("it does not wait");
        let running = home.trustctl(command).stdout(writer).start();
        // A line that does not fit is not started (pipe(7)).
        let is_full =
            || rustix::io::ioctl_fionread(&reader).is_ok_and(|held| held as usize > room - 256);
        wait_until(&format!("a full pipe: {command:?}"), is_full);
        let mut printed = String::new();
        reader.read_to_string(&mut printed).expect("text");
        running.wait().exits_with(0).complains_about_nothing();
        assert!(printed.len() > room && printed.ends_with('\n'), "{command:?}: {printed}");
    }
    let cases = std::fs::read_to_string(junit).expect("a report");
    assert!(cases.contains("errors=\"0\"") && cases.ends_with("</testsuites>\n"), "{cases}");
    server.stop();
}

#[test]
fn a_stderr_that_is_full_and_does_not_wait_gets_the_message_all_the_same() {
    let home = Home::new();
    let (mut reader, mut writer) = io::pipe().expect("a pipe");
    let room = fcntl_setpipe_size(&writer, 4096).expect("a pipe of one page");
    fcntl_setfl(&writer, OFlags::NONBLOCK).expect("it does not wait");
    writer.write_all(&vec![b'.'; room]).expect("it is empty");
    let running = home.trustctl(["echo-server"]).stderr(writer).start();
    let pid = running.pid();
    // It is in poll(2), or it would have gone on.
    wait_until_quiet(|| vec![pid]);
    let mut told = String::new();
    reader.read_to_string(&mut told).expect("text");
    running.wait().exits_with(64);
    assert_eq!(told.trim_start_matches('.'), "error: missing required flag: --port\n");
}

#[test]
fn an_empty_standard_input_is_told_and_is_no_failure() {
    let server = Server::start(NO_FLAGS);
    let said = "standard input was empty: nothing was sent";
    for flags in [&[][..], &["--chunk", "10"], &["--raw"]] {
        let empty = server.echo_client(flags).run_with_input(b"").exits_with(0).prints("");
        empty.complains_about(&[said]).complains_in_one_line();
        let one = server.echo_client(flags).run_with_input(b"\n").exits_with(0).prints("\n");
        one.complains_about_nothing();
    }
    server.echo_client(["message"]).run().exits_with(0).complains_about_nothing();
    let home = Home::new();
    let to = ["echo-client", &*server.address().to_string()].map(String::from);
    let closed = home.trustctl_in_shell("exec \"$0\" \"$@\" <&-", to).run().exits_with(0);
    closed.complains_about(&[said]).complains_in_one_line();
    server.stop();
}
