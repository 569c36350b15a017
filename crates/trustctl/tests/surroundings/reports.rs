//! Files that commands read and write their results to.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use crate::leave_out;
use trust_check::report::json::{CheckReport, RunState};
use trust_load::report::json::{EndState, LoadDocument};
use trust_testkit::document;
use trust_testkit::program::{Home, Launch};
use trust_testkit::server::{NO_FLAGS, Server};

/// A directory for reports.
struct Place {
    home: Home,
    path: PathBuf,
}

impl Place {
    fn new() -> Place {
        let home = Home::new();
        let path = home.elsewhere("reports");
        fs::create_dir(&path).expect("make a directory");
        Place { home, path }
    }

    fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.path.join(name.as_ref())
    }

    /// The names of the files in it.
    fn names(&self) -> BTreeSet<OsString> {
        let entries = fs::read_dir(&self.path).expect("list a directory");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    }

    /// `trustctl load` with five messages to this server.
    fn load(&self, server: &Server) -> Launch {
        let port = server.port().to_string();
        self.home.trustctl(["load", "--host", "127.0.0.1", "--port", &port, "--messages", "5"])
    }

    /// `trustctl check` with one case on this server.
    fn check(&self, server: &Server) -> Launch {
        self.home.trustctl(["check", &server.address().to_string(), "--case", "framing/1"])
    }
}

fn is_html(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| text.ends_with("</html>\n"))
}

#[test]
fn names_of_files_and_commands_may_be_any_bytes() {
    let (place, server) = (Place::new(), Server::start(NO_FLAGS));
    let name = |prefix: &[u8]| OsString::from_vec([prefix, b"-\xff\xfe"].concat());
    let files = ["html", "log", "junit", "page", "merged", "started"];
    let [html, log, junit, page, merged, started] =
        files.map(|prefix| place.path(name(prefix.as_bytes())));
    let load = place.load(&server).args([OsStr::new("--html"), html.as_os_str()]);
    load.env("TRUST_LOAD_HDR_LOG", &log).run().exits_with(0).complains_about_nothing();
    let merge = ["load".as_ref(), "merge".as_ref(), log.as_os_str(), "--hdr-log".as_ref()];
    place.home.trustctl(merge).args([&merged]).run().exits_with(0).complains_about_nothing();
    let flags = ["--junit".as_ref(), junit.as_os_str(), "--html".as_ref(), page.as_os_str()];
    place.check(&server).args(flags).run().exits_with(0).complains_about_nothing();

    let known = place.path(name(b"known"));
    fs::write(&known, "framing/1\n").expect("write a list");
    let expect = [OsStr::new("--expect"), known.as_os_str()];
    let passes = place.check(&server).args(expect).run().exits_with(1);
    assert!(passes.text().contains("framing/1"), "{}", passes.text());
    let missing = [OsStr::new("--expect"), OsStr::from_bytes(b"/no/such-\xff")];
    place.check(&server).args(missing).run().exits_with(74).complains_in_one_line();

    let script = [b"exit 3; {port} >'", started.as_os_str().as_bytes(), b"'"].concat();
    let script = [b": >'", started.as_os_str().as_bytes(), b"'; ", &script[..]].concat();
    let command = [OsStr::new("check"), OsStr::new("--command"), OsStr::from_bytes(&script)];
    place.home.trustctl(command).run().exits_with(69).complains_in_one_line();

    assert!(is_html(&html) && is_html(&page));
    let expected: BTreeSet<OsString> =
        files.iter().chain(["known"].iter()).map(|prefix| name(prefix.as_bytes())).collect();
    assert_eq!(place.names(), expected);
    server.stop();
}

#[test]
fn one_file_is_not_for_two_reports_by_whatever_names() {
    let (place, server) = (Place::new(), Server::start(NO_FLAGS));
    let file = place.path("file");
    fs::write(&file, "precious").expect("write a file");
    fs::hard_link(&file, place.path("hard")).expect("a link");
    symlink(&file, place.path("soft")).expect("a link");
    symlink("new", place.path("dangling")).expect("a link");
    symlink(".", place.path("here")).expect("a link");
    let pairs = [
        ("file", "file"),
        ("hard", "soft"),
        ("file", "here/hard"),
        ("new", "dangling"),
        ("new", "here/here/new"),
    ];
    let before = place.names();
    for (one, other) in pairs {
        let [one, other] = [one, other].map(|name| place.path(name));
        let is_refused = |launch: Launch, first: &str| {
            let flags =
                [OsStr::new(first), one.as_os_str(), OsStr::new("--html"), other.as_os_str()];
            let refused = launch.args(flags).run().exits_with(64).prints("");
            let words = format!("is the same file as that of {first}");
            refused.complains_about(&["--html: '", &words]).complains_in_one_line();
        };
        is_refused(place.load(&server), "--hdr-log");
        is_refused(place.check(&server), "--junit");
    }

    // Files that the command needs for something else.
    let refused = |launch: Launch, flag: &str, words: &str| {
        let refused = launch.args([OsStr::new(flag), file.as_os_str()]).run().exits_with(64);
        refused.complains_about(&[flag, words]).complains_in_one_line();
    };
    let known = place.check(&server).args([OsStr::new("--expect"), file.as_os_str()]);
    fs::write(&file, "framing/2\n").expect("write a list");
    refused(known, "--html", "is the list of --expect");
    let log = place.load(&server).args([OsStr::new("--log-file"), file.as_os_str()]);
    refused(log, "--html", "is the event log");
    let stdout = fs::OpenOptions::new().append(true).open(&file).expect("open a file");
    refused(place.load(&server).stdout(stdout), "--html", "is where standard output goes");
    let text = fs::read_to_string(&file).expect("it is there");
    assert!(text.starts_with("framing/2\n{\"ts\""), "{text}");
    assert_eq!(place.names(), before);

    // Nothing is lost if nothing is kept.
    let nowhere = ["--hdr-log", "/dev/null", "--html", "/dev/null"];
    place.load(&server).args(nowhere).run().exits_with(0).complains_about_nothing();
    server.stop();
}

#[test]
fn every_output_is_tried_and_the_others_say_which_failed() {
    let (place, server) = (Place::new(), Server::start(NO_FLAGS));
    let path = |name: &str| place.path(name).display().to_string();
    let full = "cannot write '/dev/full': No space left on device";

    let flags = ["--junit", "/dev/full", "--html", &path("check.html"), "--json"];
    let finished = place.check(&server).args(flags).run().exits_with(74);
    let CheckReport { state, detail, exit, .. } = document::read(finished.text(), "check");
    assert_eq!((state, detail.as_deref(), exit), (RunState::Unwritten, Some(full), 74));
    finished.complains_about(&[full]).complains_in_one_line();
    assert!(is_html(&place.path("check.html")));
    let flags = ["--junit", "/dev/full", "--html", "/dev/full"];
    let finished = place.check(&server).args(flags).run().exits_with(74);
    assert!(finished.text().contains(&format!("a report is missing: {full}; {full}\n")));
    finished.complains_about(&[&format!("{full}; {full}")]).complains_in_one_line();

    let hdr_log = path("load.hlog");
    let flags = ["--html", "/dev/full", "--hdr-log", &hdr_log, "--json"];
    let finished = place.load(&server).args(flags).run().exits_with(74);
    let LoadDocument { end, .. } = document::read(finished.text(), "load");
    assert_eq!((end.state, end.detail.as_deref()), (EndState::Unwritten, Some(full)));
    finished.complains_about(&[full]).complains_in_one_line();
    let finished = place.load(&server).args(["--html", "/dev/full"]).run().exits_with(74);
    let words = format!("A report is missing: {full}.");
    assert!(finished.text().starts_with("FAILED") && finished.text().contains(&words));
    place.home.trustctl(["load", "merge", &hdr_log]).run().exits_with(0);

    // A standard output that takes nothing costs no file, and does not look like a lost server.
    let stdout = || fs::OpenOptions::new().write(true).open("/dev/full").expect("open /dev/full");
    let html = path("other.html");
    let words = "cannot write to standard output: No space left on device";
    for launch in [place.check(&server), place.load(&server)] {
        let finished = launch.args(["--html", &html]).stdout(stdout()).run().exits_with(74);
        finished.complains_about(&[words]).complains_in_one_line();
        let page = fs::read_to_string(&html).expect("a page");
        assert!(!page.contains("UNREACHABLE") && page.ends_with("</html>\n"));
        fs::remove_file(&html).expect("remove a page");
    }
    server.stop();
}

#[test]
fn a_standard_output_that_is_closed_is_an_error_of_writing() {
    let (place, server) = (Place::new(), Server::start(NO_FLAGS));
    let (address, port) = (server.address().to_string(), server.port().to_string());
    let load = ["load", "--port", &port, "--messages", "5"];
    let commands: [&[&str]; 7] = [
        &[&load[..], &["--json"]].concat(),
        &[&load[..], &["--csv"]].concat(),
        &load,
        &["check", &address, "--case", "framing/1", "--json"],
        &["check", &address, "--case", "framing/1"],
        &["config", "show", "--json"],
        &["--help"],
    ];
    for command in commands {
        let launch = place.home.trustctl_in_shell("exec \"$0\" \"$@\" >&-", command);
        let finished = launch.run().exits_with(74).complains_in_one_line();
        finished.complains_about(&["cannot write to standard output: Bad file descriptor"]);
        // Sending it away on purpose is not an error.
        let launch = place.home.trustctl_in_shell("exec \"$0\" \"$@\" 1<>/dev/null", command);
        launch.run().exits_with(0).complains_about_nothing();
    }
    server.stop();
}

#[test]
fn what_there_was_stays_until_there_is_something_better() {
    let (place, server) = (Place::new(), Server::start(NO_FLAGS));
    let [log, page] = ["log", "page"].map(|name| place.path(name).display().to_string());
    let reports = ["--hdr-log", &log, "--html", &page];
    place.load(&server).args(reports).run().exits_with(0).complains_about_nothing();
    let last_good = fs::read(&log).expect("a log");

    let gone = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port");
    let port = gone.port().to_string();
    let no_server = ["load", "--host", "127.0.0.1", "--port", &port];
    place.home.trustctl(no_server).args(reports).run().exits_with(69).complains_in_one_line();
    assert_eq!(fs::read(&log).expect("a log"), last_good);
    let text = fs::read_to_string(&page).expect("a page");
    assert!(text.contains("UNREACHABLE") && text.ends_with("</html>\n"));

    // A merge that fails half-way.
    let (bad, merged) = (place.path("bad"), place.path("merged"));
    fs::write(&bad, [&last_good[..], b"0.0,1.0,1.0,nonsense\n"].concat()).expect("write a log");
    fs::write(&merged, "the last one").expect("write a file");
    let merge = ["load", "merge"].map(OsStr::new).into_iter().chain([bad.as_os_str()]);
    let merge = place.home.trustctl(merge).args([OsStr::new("--hdr-log"), merged.as_os_str()]);
    merge.run().exits_with(65).complains_in_one_line();
    assert_eq!(fs::read_to_string(&merged).expect("it is there"), "the last one");
    assert!(place.names().iter().all(|name| !name.as_bytes().starts_with(b".trustctl")));
    server.stop();
}

#[test]
fn where_no_file_can_be_made_an_existing_one_is_written() {
    if !rustix::process::geteuid().is_root() {
        return leave_out("root, to run as another user");
    }
    const USER: u32 = 54_322;
    let (place, server) = (Place::new(), Server::start(NO_FLAGS));
    let page = place.path("page.html");
    fs::write(&page, "old ".repeat(100_000)).expect("write a file");
    let port = server.port().to_string();
    let run = |page: &Path| {
        let load = ["load", "--port", &port, "--messages", "2", "--log-file", "none", "--html"];
        let load = load.map(OsStr::new).into_iter().chain([page.as_os_str()]);
        place.home.trustctl_as(USER, load).run()
    };
    // The directory belongs to root and the file to the user.
    chown(&page, Some(USER), Some(USER)).expect("give a file away");
    run(&page).exits_with(0).complains_about_nothing();
    assert!(is_html(&page));
    // Now both belong to root.
    chown(&page, Some(0), Some(0)).expect("take a file");
    let words = ["--html: cannot create", "Permission denied"];
    run(&page).exits_with(73).complains_about(&words).complains_in_one_line();
    run(&place.path("new.html")).exits_with(73).complains_about(&words).complains_in_one_line();
    // The directory belongs to the user, but must not be used to get round the permissions of the
    // file.
    chown(&place.path, Some(USER), Some(USER)).expect("give a directory away");
    run(&page).exits_with(73).complains_about(&words).complains_in_one_line();
    assert!(is_html(&page));
    server.stop();
}
