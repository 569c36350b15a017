//! Unix sockets as the server of the client commands.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use trust_testkit::leftovers::OwnedChild;
use trust_testkit::program::Home;

use super::servers::{COMMANDS, each};

/// Echoes to every client in a thread of its own, for as long as the test runs.
fn serve(listener: UnixListener) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(|| echo(stream));
        }
    });
}

/// Sends back whole messages, until the client ends.
fn echo(mut stream: UnixStream) {
    let mut message = vec![0; 4];
    while stream.read_exact(&mut message[..4]).is_ok() {
        let length = u32::from_be_bytes([message[0], message[1], message[2], message[3]]);
        message.resize(4 + length as usize, 0);
        let received = stream.read_exact(&mut message[4..]);
        if received.and_then(|()| stream.write_all(&message)).is_err() {
            return;
        }
    }
}

/// The path of a socket that is not there yet, and the word for it as a server.
fn socket(home: &Home) -> (PathBuf, String) {
    let path = home.elsewhere("x.sock");
    let word = format!("unix:{}", path.display());
    (path, word)
}

#[test]
fn every_client_command_takes_a_unix_socket_in_every_form() {
    let home = Home::new();
    let (path, by_path) = socket(&home);
    serve(UnixListener::bind(&path).expect("a socket"));
    let name = format!("trustctl-surroundings-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    serve(UnixListener::bind_addr(&address).expect("it is free"));
    let by_name = format!("unix:@{name}");
    for server in [&by_path, &by_name] {
        for form in [&[&**server][..], &["--host", server]] {
            each(&home, form, |_, finished| drop(finished.exits_with(0)));
            let client = home.trustctl(["echo-client"]).args(form).args(["hi"]);
            client.run().exits_with(0).prints("hi\n");
        }
    }
    for command in COMMANDS {
        let variable = format!("TRUST_{}_HOST", command[0].replace('-', "_").to_uppercase());
        home.trustctl(command).env(&variable, &by_name).run().exits_with(0);
    }
    let lines =
        ["echo-client", "load", "check"].map(|it| format!("[{it}]\nhost = \"{by_path}\"\n"));
    home.configure(&lines.concat());
    each(&home, &[], |_, finished| drop(finished.exits_with(0)));
    // What follows the socket of an echo client is a message, as after HOST:PORT.
    let client = home.trustctl(["echo-client", &by_path, "9900"]);
    client.run().exits_with(0).prints("9900\n");
}

#[test]
fn every_client_command_says_the_same_about_a_unix_socket_that_is_none() {
    let home = Home::new();
    let long = format!("unix:{}", "x".repeat(108));
    let cases: [(&[&str], &str); 9] = [
        (
            &["/run/x.sock"],
            "invalid server '/run/x.sock': expected unix:/run/x.sock for a unix socket",
        ),
        (
            &["--host=./x.sock"],
            "invalid value './x.sock' for --host: expected unix:./x.sock for a unix socket",
        ),
        (
            &["unix:80"],
            "invalid server 'unix:80': expected unix:./80 for a unix socket, or unix 80 for",
        ),
        (&["unix:"], "invalid server 'unix:': expected a path after unix:"),
        (&["--host=unix:@"], "invalid value 'unix:@' for --host: expected a name after unix:@"),
        (&["-4", "unix:/s"], "-4 cannot be used with unix:/s: a unix socket is neither IPv4 nor"),
        (&["-6", "--host=unix:/s"], "-6 cannot be used with unix:/s: a unix socket is neither"),
        (
            &["--port=1", "--host=unix:/s"],
            "--port '1' cannot be used with --host 'unix:/s': a unix socket has no port",
        ),
        (&["--port=1", "unix:/s"], "--port cannot be used with 'unix:/s': name the server once"),
    ];
    for (server, words) in cases {
        each(&home, server, |_, finished| {
            let refused = finished.exits_with(64).prints("").complains_in_one_line();
            refused.complains_about(&[&format!("error: {words}")]);
        });
    }
    each(&home, &[&long], |_, finished| {
        let refused = finished.exits_with(64).complains_in_one_line();
        refused.complains_about(&["the path of a unix socket has at most 107 bytes, this has 108"]);
    });
    for command in ["load", "check"] {
        let refused = home.trustctl([command, "unix:/s", "9900"]).run().exits_with(64);
        refused.complains_about(&["unexpected argument '9900': a unix socket has no port"]);
    }
    let load = ["load", "unix:/s", "--concurrency=2", "--spread-addresses"];
    let refused = home.trustctl(load).run().exits_with(64);
    refused.complains_about(&["--spread-addresses cannot be used with unix:/s: a unix socket is"]);
}

#[test]
fn a_unix_socket_that_is_not_there_and_one_that_nobody_has_are_told_apart() {
    let home = Home::new();
    let (path, server) = socket(&home);
    for why in ["no such socket", "nothing listens there"] {
        each(&home, &[&server], |_, finished| {
            let refused = finished.exits_with(69).complains_in_one_line();
            refused.complains_about(&[&format!("error: cannot connect to {server}: {why}\n")]);
        });
        // It leaves its file.
        drop(UnixListener::bind(&path));
    }
}

#[test]
fn every_client_command_waits_for_a_unix_socket_if_it_is_told_to() {
    for leaves_a_file in [false, true] {
        for command in COMMANDS {
            let home = Home::new();
            let (path, server) = socket(&home);
            if leaves_a_file {
                drop(UnixListener::bind(&path).expect("a socket"));
            }
            let running = home.trustctl(command).args([&server, "--wait=60s"]).start();
            running.wait_for_complaint("; waiting up to 60 s for it");
            let _ = std::fs::remove_file(&path);
            serve(UnixListener::bind(&path).expect("a socket"));
            running.wait().exits_with(0);
        }
    }
}

#[test]
fn a_full_accept_queue_is_waited_for_as_long_as_a_connection_may_take() {
    let home = Home::new();
    let (path, server) = socket(&home);
    let listener = UnixListener::bind(&path).expect("a socket");
    rustix::net::listen(&listener, 0).expect("it listens already");
    let _waiting = UnixStream::connect(&path).expect("the queue has room for one");
    for (command, limit) in COMMANDS.into_iter().zip(["--timeout", "--timeout", "--patience"]) {
        let finished = home.trustctl(command).args([&server, limit, "0.2"]).run();
        let why = format!(
            "error: cannot connect to {server}: its accept queue is full: no answer within 0.2 s\n"
        );
        finished.exits_with(75).complains_about(&[&why]);
    }
    let running = home.trustctl(["echo-client", &server, "hi", "--timeout=60s"]).start();
    serve(listener);
    running.wait().exits_with(0).prints("hi\n");
}

#[test]
fn a_server_that_is_not_ours_echoes_everything_over_a_unix_socket() {
    let home = Home::new();
    let (path, server) = socket(&home);
    let listen = format!("UNIX-LISTEN:{},fork,backlog=2", path.display());
    let mut socat = Command::new("socat");
    socat.args(["-t", "30", &listen, "EXEC:cat"]).stdin(Stdio::null());
    if Command::new("socat").arg("-V").output().is_err() {
        return super::leave_out("socat");
    }
    let _socat = OwnedChild::spawn(&mut socat);
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).take(3_000_000).collect();
    for how in [&["--raw"][..], &["--chunk=64KiB"]] {
        let client = home.trustctl(["echo-client", &server, "--wait=60s"]).args(how);
        client.run_with_input(&bytes).exits_with(0).prints(&bytes);
    }
    let load = ["load", &server, "--concurrency=30", "--messages=20"];
    home.trustctl(load).run().exits_with(0).complains_about_nothing();
}

#[test]
fn a_wrong_echo_over_a_unix_socket_is_told_with_its_name() {
    let home = Home::new();
    let (path, server) = socket(&home);
    let listener = UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 6];
            stream.read_exact(&mut request).expect("a message");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").expect("an answer");
        }
    });
    let finished = home.trustctl(["echo-client", &server, "hi"]).run().exits_with(76);
    let hint = format!("(trustctl check {server} finds out more)");
    finished.complains_about(&[&format!("error: {server}: wrong echo 1"), &hint]);
}

#[test]
fn a_half_close_that_a_unix_socket_does_not_keep_is_no_matter_of_boxes_between() {
    let home = Home::new();
    let (path, server) = socket(&home);
    let listener = UnixListener::bind(&path).expect("a socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // All of it, up to the client's end, and nothing back.
            let _ = stream.read_to_end(&mut vec![]);
        }
    });
    let finished = home.trustctl(["echo-client", &server, "--raw"]).run_with_input(b"hi");
    let finished = finished.exits_with(76).complains_in_one_line();
    finished.complains_about(&[&format!("error: {server} closed the connection while an answer")]);
}

#[test]
fn progress_over_a_unix_socket_is_what_the_server_has_read() {
    let home = Home::new();
    let (path, server) = socket(&home);
    let listener = UnixListener::bind(&path).expect("a socket");
    let limit = Duration::from_secs(2);
    let serving = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut message = vec![0; 400_000];
        // The kernel takes half of it at once, and the client is done with sending long before the
        // last of these.
        for part in message.chunks_mut(50_000) {
            stream.read_exact(part).expect("bytes");
            thread::sleep(limit / 4);
        }
        stream.write_all(&message).expect("an echo");
        let _ = stream.read(&mut [0]);
    });
    let seconds = limit.as_secs_f64().to_string();
    let client = home.trustctl(["echo-client", &server, "--raw", "--timeout", &seconds]);
    client.run_with_input(&vec![b'x'; 400_000]).exits_with(0).prints(vec![b'x'; 400_000]);
    serving.join().expect("it has served");
}
