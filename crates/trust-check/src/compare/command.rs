//! `trustctl check compare DIRECT THROUGH`: what a box between changes.

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, value_parser};
use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::report_file::FileId;

use super::options::{CompareOptions, HTML, JUNIT, NAME, SETTINGS};
use super::{compare, put};
use crate::report::reading;

const INTRODUCTION: &str = "\
Compares two reports of check --json, one of a server and one of the same server
through what stands between: a balancer, a tunnel, a proxy, a NAT. It says what
the box changes; what is the same is only counted. Cases that fail directly say
nothing about the box, and are left out.

Example:
  trustctl check 10.0.0.5:9900 --json > direct.json
  trustctl check balancer:9900 --json > balancer.json
  trustctl check compare direct.json balancer.json --html balancer.html
";

/// The command.
pub const ENTRY: Entry = Entry {
    example: "direct.json balancer.json --html balancer.html",
    introduction: INTRODUCTION,
    settings: SETTINGS,
    arguments,
    ..Entry::new(NAME, "Show what a box between changes, from two reports", Product::Output, run)
};

fn arguments() -> Vec<Arg> {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name).help(help).required(true).value_parser(value_parser!(OsString))
    };
    vec![
        file("DIRECT", "A report of check --json, without the box"),
        file("THROUGH", "A report of the same cases through the box"),
    ]
}

/// Reads both reports and says what differs.
///
/// # Errors
///
/// 65 for a file that is no report, 73 if a report cannot be made, 74 if reading or writing fails.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let options = CompareOptions::of(context.layers);
    let names = ["DIRECT", "THROUGH"].map(|name| {
        context.matches.get_one::<OsString>(name).expect("the parser wants both").clone()
    });
    let [direct, through] = names.each_ref().map(|name| Path::new(name.as_os_str()));
    let known = [direct, through].into_iter().filter_map(FileId::of_path);
    let inputs = known.map(|id| (id, "is one of the reports".to_owned())).collect();
    let reports = [reading::read(direct)?, reading::read(through)?];
    let files = [(&JUNIT as _, options.junit.as_deref()), (&HTML as _, options.html.as_deref())];
    let files = context.create_reports(files, inputs)?;
    let report = compare([direct, through].map(reading::name), &reports[0], &reports[1]);
    put(&report, &reports, files, options.json)
}
