//! The comparison as one JSON document; `docs/CHECK-REPORT.md` says what its fields are.

use serde::{Deserialize, Serialize};

use super::measure::Measurement;
use crate::report::json::{CaseReport, CheckReport, RunState, ServerFields, VerdictName};

/// Changes when a field goes away or changes its meaning, not when one is added.
pub const VERSION: u32 = 1;

// Many fields: those of the document.
/// What `trustctl check compare --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct CompareReport {
    /// Names the document.
    pub schema: CompareSchema,
    /// `1`.
    pub version: u32,
    /// The exit code: 1 if a case that is right directly fails through the box, if no case could be
    /// compared, or if a run was not complete.
    pub exit: u8,
    /// The run without the box.
    pub direct: Side,
    /// The run through it.
    pub through: Side,
    /// What was not the same about the two runs themselves.
    pub unlike: Vec<String>,
    /// Cases that show nothing about the box, as they fail or are inconclusive directly.
    pub left_out: Vec<ComparedCase>,
    /// What the box changes.
    pub changes: Vec<Change>,
    /// Measurements that differ; none of them is judged.
    pub measured: Vec<ComparedCase>,
    /// What was measured of both sides with `--baseline`; none of it is judged.
    pub measurements: Vec<Measurement>,
    /// Cases that were tried on one side at most.
    pub unseen: Vec<Unseen>,
    /// Cases that are the same.
    pub same: usize,
}

/// Names the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum CompareSchema {
    /// What `trustctl check compare --json` prints.
    #[serde(rename = "trustctl-check-compare")]
    Comparison,
}

/// One of the two runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// What it is called: the server, or the report's file without its ending.
    pub name: String,
    /// How the run ended.
    pub state: RunState,
    /// Why, or by what; `null` if it is complete.
    pub detail: Option<String>,
    /// When it began, UTC.
    pub started: String,
    /// The server.
    pub server: ServerFields,
}

impl Side {
    pub(super) fn of(name: String, report: &CheckReport) -> Side {
        let CheckReport { state, detail, started, server, .. } = report;
        let (detail, started, server) = (detail.clone(), started.clone(), server.clone());
        Side { name, state: *state, detail, started, server }
    }

    /// How the run ended, if it did before all cases were tried.
    pub fn unfinished(&self) -> Option<String> {
        let detail = self.detail.as_deref().unwrap_or_default();
        match self.state {
            RunState::Complete | RunState::Unwritten => None,
            RunState::ServerDied => Some(format!("the server died during {detail}")),
            RunState::Stopped => Some(format!("the run was stopped by {detail}")),
            RunState::Unreachable => Some(format!("no case was tried: {detail}")),
        }
    }
}

/// Which of the two runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SideName {
    /// The one without the box.
    Direct,
    /// The one through it.
    Through,
}

/// Something that the box changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What it does, in words.
    pub text: String,
    /// The cases that show it.
    pub cases: Vec<ComparedCase>,
}

/// A case on both sides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ComparedCase {
    /// Group and number, as in `--list`.
    pub id: String,
    /// In a few words.
    pub title: String,
    /// Without the box.
    pub direct: SideOutcome,
    /// Through it.
    pub through: SideOutcome,
}

impl ComparedCase {
    pub(super) fn of(direct: &CaseReport, through: &CaseReport) -> ComparedCase {
        let (id, title) = (direct.about.id.clone(), direct.about.title.clone());
        let [direct, through] = [direct, through].map(SideOutcome::of);
        ComparedCase { id, title, direct, through }
    }

    /// The part of the id before the number.
    pub fn group(&self) -> &str {
        self.id.split_once('/').map_or(&self.id, |(group, _)| group)
    }
}

/// What came of a case on one side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct SideOutcome {
    /// In a word.
    pub verdict: VerdictName,
    /// What came, what was measured, or why; `null` if it passed.
    pub said: Option<String>,
    /// The command that tries it again, for a shell.
    pub again: String,
}

impl SideOutcome {
    fn of(case: &CaseReport) -> SideOutcome {
        let said = case.got.as_ref().or(case.said.as_ref()).cloned();
        SideOutcome { verdict: case.verdict, said, again: case.again.clone() }
    }
}

/// Cases that were tried on one side at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Unseen {
    /// Why not.
    pub why: String,
    /// The side on which they were tried; `null`: on neither.
    pub tried: Option<SideName>,
    /// Their ids.
    pub cases: Vec<String>,
}
