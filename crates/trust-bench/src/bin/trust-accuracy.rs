//! `trust-accuracy`: measures how exact the times and rates of `trustctl proxy` are.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to the terminal")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use trust_bench::accuracy;

/// What stands around the tables in the document.
const BEGIN: &str = "<!-- measured by make accuracy -->\n";
const END: &str = "<!-- end of what was measured -->\n";

/// Measures how exact the times and rates of trustctl proxy are
#[derive(Debug, Parser)]
struct Args {
    /// The document whose tables are replaced
    #[arg(long, value_name = "PATH")]
    document: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<()> {
    let trustctl = std::env::current_exe()?.with_file_name("trustctl");
    let scratch = Path::new("target/bench/scratch");
    fs::create_dir_all(scratch)?;
    let tables = accuracy::measure(&trustctl, &scratch.canonicalize()?)?;
    print!("{tables}");
    let Some(path) = &args.document else { return Ok(()) };
    let text = fs::read_to_string(path)?;
    let parts = text
        .split_once(BEGIN)
        .and_then(|(before, rest)| rest.split_once(END).map(|(_, after)| (before, after)));
    let (before, after) = parts.ok_or_else(|| io::Error::other("no place for the tables"))?;
    fs::write(path, format!("{before}{BEGIN}\n{tables}\n{END}{after}"))
}
