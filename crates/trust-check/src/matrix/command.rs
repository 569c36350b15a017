//! `trustctl check matrix FILE…`: reports of several servers side by side.

use std::ffi::OsString;
use std::path::Path;

use clap::{Arg, value_parser};
use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::output::print;
use trust_cli::report_file::FileId;

use super::options::{HTML, MatrixOptions, NAME, SETTINGS};
use super::{Row, html, table};
use crate::report::reading;

const INTRODUCTION: &str = "\
Puts the reports of several servers side by side: servers down, groups of
cases across. A cell has the verdict that says most, and how many cases have
it. What was skipped is not counted.

Example:
  for port in 6379 6380; do
    trustctl check :$port --dialect redis --json > $port.json
  done
  trustctl check matrix 6379.json 6380.json --html matrix.html
";

/// The command.
pub const ENTRY: Entry = Entry {
    example: "redis.json nginx.json --html matrix.html",
    introduction: INTRODUCTION,
    settings: SETTINGS,
    arguments,
    ..Entry::new(NAME, "Put reports of several servers side by side", Product::Output, run)
};

fn arguments() -> Vec<Arg> {
    let files = Arg::new("files")
        .value_name("FILE")
        .help("Reports of check --json")
        .num_args(1..)
        .required(true)
        .value_parser(value_parser!(OsString));
    vec![files]
}

/// Reads all reports and prints the table.
///
/// # Errors
///
/// 65 for a file that is no report, 73 if the page cannot be made, 74 if reading or writing fails.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let MatrixOptions { html } = MatrixOptions::of(context.layers);
    let names = context.matches.get_many::<OsString>("files").unwrap_or_default();
    let (mut rows, mut inputs) = (vec![], vec![]);
    for name in names {
        let path = Path::new(name);
        inputs.extend(FileId::of_path(path).map(|id| (id, "is one of the reports".to_owned())));
        rows.push(Row { name: reading::name(path), report: reading::read(path)? });
    }
    let [page] = context.create_reports([(&HTML, html.as_deref())], inputs)?;
    if let Some(page) = page {
        page.write_whole(html::page(&rows).as_bytes())?;
    }
    print(table(&rows).as_bytes())?;
    Ok(ExitCode::Success)
}
