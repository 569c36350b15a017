//! `trustctl load merge FILE…`: the logs of several processes as one result.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::path::Path;

use clap::{Arg, value_parser};
use rustix::event::{PollFd, PollFlags};
use trust_cli::command::{Context, Entry, Product};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::output::{document, print};
use trust_cli::report_file::{FileId, ReportFile};
use trust_cli::signals::{Signals, Stopped};
use trust_cli::text::reason;
use trust_cli::values::quoted;

use crate::budget::judge;
use crate::merge::json::{FailedMerge, MergeDocument};
use crate::merge::options::{HDR_LOG, MergeOptions, NAME, SETTINGS};
use crate::merge::{LOGS_MAX, Log, Merged, merge, table};

const INTRODUCTION: &str = "\
Adds up what several processes measured, count by count: percentiles are those
of all messages, and none is averaged. Reads HdrHistogram interval logs, also
those of other tools.

Examples:
  Four shards of a run, each on a machine of its own:
    trustctl load merge shard-0.hlog shard-1.hlog shard-2.hlog shard-3.hlog
  For a script; exits with 1 if a shard is missing or was killed, or a budget missed:
    trustctl load merge --json --fail-if 'p99>5ms,errors>0' *.hlog

docs/HDR-LOG.md describes the log and the document.
";

/// The command.
pub const ENTRY: Entry = Entry {
    example: "shard-0.hlog shard-1.hlog",
    introduction: INTRODUCTION,
    settings: SETTINGS,
    arguments,
    ..Entry::new(
        NAME,
        "Add up the logs of several load tests into the percentiles of all",
        Product::Output,
        run,
    )
};

fn arguments() -> Vec<Arg> {
    let files = Arg::new("files")
        .value_name("FILE")
        .help("Logs that load --hdr-log wrote, or other tools")
        .num_args(1..)
        .required(true)
        .value_parser(value_parser!(OsString));
    vec![files]
}

/// Reads all logs and prints what they say together.
///
/// # Errors
///
/// 64 for a file that is given twice, 65 for one that is no log or cannot be merged with the
/// others, 73 if the merged log cannot be made, 74 if reading or writing fails.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let MergeOptions { json: is_json, hdr_log, fail_if } = MergeOptions::of(context.layers);
    // What reading failed with does not matter where a signal ended it.
    let result =
        read(context, hdr_log.as_deref()).map_err(|unmerged| match context.signals.take() {
            Some(signal) => Stopped::Signal(signal),
            None => unmerged,
        });
    match result {
        Ok(merged) => {
            let judgements = judge(&fail_if.unwrap_or_default(), &merged.summary());
            let is_missed = judgements.iter().any(|judgement| judgement.is_missed);
            let exit = match merged.is_whole() && !is_missed {
                true => ExitCode::Success,
                false => ExitCode::Negative,
            };
            let text = match is_json {
                true => document(&MergeDocument::of(&merged, &judgements, exit)),
                false => table::report(&merged, &judgements),
            };
            print(text.as_bytes())?;
            Ok(exit)
        }
        Err(unmerged) => {
            let (exit, failure) = match unmerged {
                Stopped::Failed(failure) => (Err(failure.clone()), failure),
                Stopped::Signal(signal) => {
                    let exit = context.stopped_by(signal);
                    (Ok(exit), Failure::new(exit, format!("stopped by {}", signal.name())))
                }
            };
            if is_json {
                print(document(&FailedMerge::of(&failure)).as_bytes())?;
            }
            exit
        }
    }
}

fn read(context: &Context<'_>, hdr_log: Option<&Path>) -> Result<Merged, Stopped> {
    let names: Vec<&OsString> =
        context.matches.get_many::<OsString>("files").unwrap_or_default().collect();
    if names.len() > LOGS_MAX {
        let message = format!("{} files are given: {LOGS_MAX} is the most", names.len());
        return Err(Failure::new(ExitCode::Usage, message).into());
    }
    let mut files: Vec<(&OsString, Option<FileId>)> = vec![];
    let mut logs = vec![];
    for name in names {
        let unreadable = |error: io::Error| {
            let message = format!("cannot read {}: {}", quoted(name), reason(&error));
            Failure::new(ExitCode::Io, message)
        };
        let file = File::open(name).map_err(unreadable)?;
        let id = FileId::of(&file.metadata().map_err(unreadable)?);
        let is_id = |known: &Option<FileId>| known.is_some() && *known == id;
        let same = files.iter().find(|(other, known)| *other == name || is_id(known));
        if let Some((other, _)) = same {
            let message = match *other == name {
                true => format!("{} is given twice", quoted(name)),
                false => format!("{} and {} are the same file", quoted(other), quoted(name)),
            };
            return Err(Failure::new(ExitCode::Usage, message).into());
        }
        files.push((name, id));
        let input = Input { file, signals: context.signals };
        logs.push(Log::open(&name.to_string_lossy(), BufReader::new(input))?);
    }
    let is_log = || "is one of the logs that are merged".to_owned();
    let inputs = files.into_iter().filter_map(|(_, id)| Some((id?, is_log())));
    let [mut output] = context.create_reports([(&HDR_LOG, hdr_log)], inputs.collect())?;
    let merged = merge(logs, output.as_mut(), || context.signals.take())?;
    output.map_or(Ok(()), ReportFile::finish)?;
    Ok(merged)
}

/// A file, or a pipe whose writer may have nothing to say for ever: a signal ends waiting for it.
struct Input<'s> {
    file: File,
    signals: &'s Signals,
}

impl Read for Input<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let [a, b, c] = self.signals.descriptors();
        let polled = [a, b, c, self.file.as_fd()];
        let mut polled =
            polled.map(|descriptor| PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
        rustix::io::retry_on_intr(|| rustix::event::poll(&mut polled, None))?;
        match polled[..3].iter().all(|signal| signal.revents().is_empty()) {
            true => self.file.read(bytes),
            false => Err(io::Error::other("a signal came")),
        }
    }
}
