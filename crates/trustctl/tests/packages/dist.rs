//! The files of a release, and the shell that looks into them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The version that is being built.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// A file of the release, `VERSION` in its name replaced.
#[track_caller]
pub(crate) fn file(name: &str) -> PathBuf {
    let dist = env::var_os("TRUSTCTL_DIST").expect("TRUSTCTL_DIST, which make packages sets");
    let path = Path::new(&dist).join(name.replace("VERSION", VERSION));
    assert!(path.exists(), "{} is missing: make dist", path.display());
    path
}

/// What a shell's script says, with the words as `$1`, `$2`, …; it must end with 0.
#[track_caller]
pub(crate) fn shell<I>(script: &str, words: I) -> String
where
    I: IntoIterator,
    I::Item: AsRef<std::ffi::OsStr>,
{
    let output = run(script, words);
    let [out, complaint] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    assert!(output.status.success(), "{script}\n{out}{complaint}");
    out.into_owned()
}

/// The same, however it ends.
#[track_caller]
pub(crate) fn run<I>(script: &str, words: I) -> Output
where
    I: IntoIterator,
    I::Item: AsRef<std::ffi::OsStr>,
{
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script, "test"]).args(words);
    command
        .env("LC_ALL", "C")
        .current_dir(repository())
        .stdin(Stdio::null())
        .output()
        .expect("bash runs")
}
