//! Logging by a super-server's programs: each is a separate run, and its standard streams are only
//! the client's connection.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use super::logs::{ENOUGH_DISK, FEW_CONNECTIONS, SMALL_DISK, long_lines};
use trust_testkit::event::{self, Event};
use trust_testkit::followed::Followed;
use trust_testkit::kernel;
use trust_testkit::net::SmallDisk;
use trust_testkit::peer::Peer;
use trust_testkit::program::Home;
use trust_testkit::server::all_are_served;
use trust_testkit::super_server::SuperServer;

/// Programs that share the file, and have no other place to report lost lines.
pub(super) fn share_a_full_disk(directory: &Path) {
    let disk = SmallDisk::mount(directory, SMALL_DISK);
    let log = directory.join("trustctl.log");
    let (home, log_text) = (Home::new(), log.display().to_string());
    home.configure(&long_lines());
    let programs = SuperServer::start(log.clone(), move || {
        home.trustctl(["echo-server", "--inetd", "--log-file", &log_text])
    });
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, programs.port()));
    let serves = |count: usize| {
        let peers = (0..count).map(|_| Peer::connect(address)).collect();
        let served = all_are_served(peers);
        kernel::wait_until("the end of every program", || programs.processes().is_empty());
        served
    };
    for _ in 0..FEW_CONNECTIONS {
        serves(1);
    }
    assert!(disk.is_full(), "the disk did not fill");
    serves(FEW_CONNECTIONS);
    let len = fs::metadata(&log).expect("ask for the log's length").len();
    assert!(len <= SMALL_DISK, "a log of {len} bytes");

    disk.resize(ENOUGH_DISK);
    let last = serves(1)[0].to_string();
    let codes: Vec<_> = programs.wait().into_iter().map(|status| status.code()).collect();
    assert_eq!(codes, [Some(0); 2 * FEW_CONNECTIONS + 1]);
    let (logged, torn) = Followed::new(&log).finish();
    assert!(torn.len() <= 1, "more than one torn line: {torn:?}");
    assert_eq!(logged.first().map(Event::name), Some("cmd_start"));
    // The first one that has room again finds a torn line, closes it, and loses nothing.
    let begins =
        logged.iter().rposition(|event| event.name() == "cmd_start").expect("it has begun");
    event::check_run(&logged[begins..]);
    event::check_connections(&logged[begins..]);
    assert_eq!(event::only(&logged[begins..], "client_close").text("peer"), last);
}

/// A client whose program cannot log gets an end of stream and nothing else.
pub(super) fn have_no_log() {
    let home = Home::new();
    let in_a_file = home.elsewhere("file/trustctl.log");
    fs::write(home.elsewhere("file"), "in the way").expect("write a file");
    fs::write(home.path(), "in the way").expect("write a file");
    let home_text = home.path().display().to_string();
    for flags in [
        ["--log-file".to_owned(), in_a_file.display().to_string()],
        ["--trust-home".to_owned(), home_text],
    ] {
        let place = Home::new();
        let log = in_a_file.clone();
        let programs = SuperServer::start(log, move || {
            place.trustctl(["echo-server", "--inetd"]).args(&flags)
        });
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, programs.port()));
        let mut peer = Peer::connect(address);
        peer.receives_end();
        let codes: Vec<_> = programs.wait().into_iter().map(|status| status.code()).collect();
        assert_eq!(codes, [Some(73)]);
    }
    assert_eq!(fs::read(home.path()).expect("read a file"), b"in the way");
}
