//! Files that commands write their results to, and read.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::support::program::{Home, Launch};
use crate::support::server::{NO_FLAGS, Server};

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

    /// The names of what is there.
    fn names(&self) -> BTreeSet<OsString> {
        let entries = fs::read_dir(&self.path).expect("list a directory");
        entries.map(|entry| entry.expect("an entry").file_name()).collect()
    }

    /// `trustctl load` with five messages to that server.
    fn load(&self, server: &Server) -> Launch {
        let port = server.port().to_string();
        self.home.trustctl(["load", "--host", "127.0.0.1", "--port", &port, "--messages", "5"])
    }

    /// `trustctl check` with one case of that server.
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
