//! A log file that is moved away while it is being written.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use trust_testkit::event;
use trust_testkit::kernel::wait_until;
use trust_testkit::model::Model;
use trust_testkit::program::{Home, read_log};
use trust_testkit::server::Server;

use crate::leave_out;

/// The paths of the logs in the packaged file.
const PACKAGED_LOG: &str = "/var/log/trustctl/*.log";

#[test]
fn a_server_goes_on_in_a_new_log_file_when_logrotate_has_moved_the_old_one() {
    if Command::new("logrotate").arg("--version").output().is_err() {
        return leave_out("logrotate");
    }
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/logrotate/trustctl");
    let packaged = fs::read_to_string(packaged).expect("it is packaged");
    assert!(packaged.contains(PACKAGED_LOG), "{packaged}");
    for model in [Model::Event, Model::Iterative, Model::Process] {
        let elsewhere = Home::new();
        let [log, configuration, state] =
            ["trustctl.log", "rotate", "state"].map(|name| elsewhere.elsewhere(name));
        let server = Server::of(model, [OsStr::new("--log-file"), log.as_os_str()]);
        server.serves_the_next();
        let text = packaged.replace(PACKAGED_LOG, log.to_str().expect("text"));
        fs::write(&configuration, text).expect("write a file");
        let mut rotate = Command::new("logrotate");
        rotate.arg("--force").arg("--state").arg(state).arg(configuration);
        let output = rotate.output().expect("it runs");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        assert!(!log.exists(), "it was moved");

        wait_until("an event in the new file", || {
            server.serves_the_next();
            fs::read_to_string(&log).is_ok_and(|text| text.contains("client_close"))
        });
        let old = log.with_extension("log.1");
        let printed = server.stop_with_log_elsewhere();
        let written = [read_log(&old), read_log(&log)].concat();
        // Nothing was lost in the move from one file to the other.
        for name in ["client_connect", "client_close", "server_stop"] {
            let counts = [&printed, &written].map(|events| event::named(events, name).len());
            assert_eq!(counts[0], counts[1], "{name} with model {model:?}");
        }
    }
}
