//! What a box between changes: the same cases directly and through it.

pub mod command;
mod html;
pub mod idle;
pub mod json;
mod junit;
pub mod measure;
pub mod options;
mod text;
mod words;

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::output::{document, print};
use trust_cli::report_file::ReportFile;

use crate::report::json::{CaseReport, CheckReport, VerdictName};
use crate::report::reading::is_tried;
use json::{Change, CompareReport, CompareSchema, ComparedCase, Side, SideName, Unseen, VERSION};

/// By how much a number of a measured text has to differ before it is shown: twice as much, or
/// half, and by more than the noise of a short time.
const MEASURED_RATIO: f64 = 2.0;
const MEASURED_NOISE: f64 = 0.5;

/// What a case says about the box.
enum Relevance {
    /// Nothing: it is the same through it.
    Same,
    /// Nothing: it is not right directly either.
    Broken,
    /// Nothing, as it was tried on one side at most, for the other's reason.
    Unseen(Option<SideName>, String),
    /// A measurement that differs.
    Measured,
    /// Another verdict.
    Changed,
}

impl Relevance {
    fn of(direct: &CaseReport, through: &CaseReport) -> Relevance {
        match (direct.verdict, through.verdict) {
            (VerdictName::Skipped, VerdictName::Skipped) => Relevance::Unseen(None, why(direct)),
            (VerdictName::Skipped, _) => Relevance::Unseen(Some(SideName::Through), why(direct)),
            (VerdictName::Fail | VerdictName::Inconclusive, _) => Relevance::Broken,
            (_, VerdictName::Skipped) => Relevance::Unseen(Some(SideName::Direct), why(through)),
            (VerdictName::Info, VerdictName::Info) => {
                let said = |case: &CaseReport| case.said.clone().unwrap_or_default();
                match differs(&said(direct), &said(through)) {
                    true => Relevance::Measured,
                    false => Relevance::Same,
                }
            }
            (one, other) if one == other => Relevance::Same,
            _ => Relevance::Changed,
        }
    }
}

fn why(case: &CaseReport) -> String {
    case.said.clone().unwrap_or_else(|| "it was not tried".to_owned())
}

/// Whether two texts about a measurement say something else: other words, or a number that is twice
/// another one.
fn differs(one: &str, other: &str) -> bool {
    let ([words, numbers], [other_words, others]) = (parted(one), parted(other));
    let number = |text: &String| text.replace(',', "").parse::<f64>().unwrap_or(0.0);
    let is_far = |(one, other): (&String, &String)| {
        let (one, other) = (number(one), number(other));
        (one - other).abs() > MEASURED_NOISE && one.max(other) > one.min(other) * MEASURED_RATIO
    };
    words != other_words || numbers.iter().zip(&others).any(is_far)
}

/// The words of a text and its numbers, with thousands separators as they are.
fn parted(text: &str) -> [Vec<String>; 2] {
    let is_numeric = |c: char| c.is_ascii_digit() || matches!(c, ',' | '.');
    let (mut words, mut numbers) = (vec![String::new()], vec![]);
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c| !is_numeric(c)).unwrap_or(from.len());
        let number = from[..end].trim_end_matches([',', '.']);
        words.push(before.to_owned());
        numbers.push(number.to_owned());
        rest = &from[number.len()..];
    }
    words.push(rest.to_owned());
    [words, numbers]
}

/// Compares what came of the same cases directly and through a box. `names` are those of the two
/// reports.
pub fn compare(names: [String; 2], direct: &CheckReport, through: &CheckReport) -> CompareReport {
    let [own, other] = names;
    let (mut left_out, mut changed, mut measured) = (vec![], vec![], vec![]);
    let (mut unseen, mut same): (Vec<Unseen>, usize) = (vec![], 0);
    for case in &direct.cases {
        let Some(boxed) = through.cases.iter().find(|it| it.about.id == case.about.id) else {
            continue;
        };
        match Relevance::of(case, boxed) {
            Relevance::Same => same += 1,
            Relevance::Broken => left_out.push(ComparedCase::of(case, boxed)),
            Relevance::Measured => measured.push(ComparedCase::of(case, boxed)),
            Relevance::Changed => changed.push(ComparedCase::of(case, boxed)),
            Relevance::Unseen(tried, why) => {
                let is_known = |it: &&mut Unseen| (it.tried, &it.why) == (tried, &why);
                match unseen.iter_mut().find(is_known) {
                    Some(known) => known.cases.push(case.about.id.clone()),
                    None => unseen.push(Unseen { why, tried, cases: vec![case.about.id.clone()] }),
                }
            }
        }
    }
    let changes = words::changes(changed);
    let is_worse =
        |change: &Change| change.cases.iter().any(|case| case.through.verdict == VerdictName::Fail);
    let shows_something = same + measured.len() + changes.len() > 0;
    let sides = [Side::of(own, direct), Side::of(other, through)];
    let is_whole = sides.iter().all(|side| side.unfinished().is_none());
    let is_success = shows_something && is_whole && !changes.iter().any(is_worse);
    let unlike = unlike(direct, through);
    let [direct, through] = sides;
    CompareReport {
        schema: CompareSchema::Comparison,
        version: VERSION,
        exit: u8::from(!is_success),
        direct,
        through,
        unlike,
        left_out,
        changes,
        measured,
        measurements: vec![],
        unseen,
        same,
    }
}

/// Writes the reports about these two runs, a JUnit document and a page, and prints the comparison.
///
/// # Errors
///
/// 74 if writing fails.
pub fn put(
    report: &CompareReport,
    [direct, through]: &[CheckReport; 2],
    [junit, html]: [Option<ReportFile>; 2],
    is_json: bool,
) -> Result<ExitCode, Failure> {
    if let Some(file) = junit {
        file.write_whole(junit::report(report).as_bytes())?;
    }
    if let Some(file) = html {
        file.write_whole(html::page(report, direct, through).as_bytes())?;
    }
    let text = if is_json { document(report) } else { text::report(report) };
    print(text.as_bytes())?;
    Ok(if report.exit == 0 { ExitCode::Success } else { ExitCode::Negative })
}

/// What was not the same about the two runs themselves, in words.
fn unlike(direct: &CheckReport, through: &CheckReport) -> Vec<String> {
    let (a, b) = (&direct.server, &through.server);
    let limit = |limit: Option<u64>| limit.map_or("none".to_owned(), |limit| limit.to_string());
    let time = |time: Option<f64>| time.map_or("none".to_owned(), |time| format!("{time} s"));
    let name = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
    let protocol = |name: &Option<String>| name.clone().unwrap_or_else(|| "echo".to_owned());
    let (own, other) = (&direct.settings, &through.settings);
    let pairs = [
        ("protocol", protocol(&a.protocol), protocol(&b.protocol)),
        ("framing", a.framing.clone(), b.framing.clone()),
        ("largest payload", limit(a.max_frame_bytes), limit(b.max_frame_bytes)),
        ("timeout", time(a.timeout_sec), time(b.timeout_sec)),
        ("limit on clients", limit(a.max_clients), limit(b.max_clients)),
        ("PROXY header", name(&a.send_proxy), name(&b.send_proxy)),
        ("patience", time(Some(own.patience_sec)), time(Some(other.patience_sec))),
        ("settle time", time(Some(own.settle_sec)), time(Some(other.settle_sec))),
        ("seed", own.seed.to_string(), other.seed.to_string()),
        ("--strict", own.strict.to_string(), other.strict.to_string()),
    ];
    let is_unlike = |(_, one, other): &(&str, String, String)| one != other;
    let said = |(what, one, other)| format!("{what}: {one} directly, {other} through the box");
    let mut unlike: Vec<String> = pairs.into_iter().filter(is_unlike).map(said).collect();
    let [only_direct, only_through] = [(direct, through), (through, direct)].map(|(one, other)| {
        let is_missing = |case: &&CaseReport| {
            is_tried(case) && !other.cases.iter().any(|it| it.about.id == case.about.id)
        };
        one.cases.iter().filter(is_missing).count()
    });
    let both = ["directly", "through the box"];
    for (number, [own, other]) in [(only_direct, both), (only_through, [both[1], both[0]])] {
        if number > 0 {
            let were = if number == 1 { "case was" } else { "cases were" };
            unlike.push(format!("{number} {were} tried {own} and not {other}"));
        }
    }
    unlike
}

#[cfg(test)]
mod tests;
