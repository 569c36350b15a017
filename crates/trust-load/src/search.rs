//! `--find-rate`: the highest rate at which a server keeps a budget.
//!
//! Upwards in doublings until a rate does not hold, then between the two by halving the distance in
//! the logarithm, so that the answer is equally exact for slow servers and fast ones. A rate that
//! does not hold gets a second chance, because a busy neighbour may have been the reason; the
//! answer has to hold in two of three more trials, because it may have been luck. Trials that
//! contradict each other are told with the result: the answer is then no sharper than they are.

use std::fmt;
use std::ops::ControlFlow;

use serde::{Deserialize, Serialize};

/// The lowest rate that is tried, in messages per second.
pub const RATE_MIN: f64 = 1.0;

/// The highest rate that is tried, in messages per second: what `--rate` takes.
pub const RATE_MAX: f64 = 1e7;

/// How close the lowest rate that does not hold is to the highest that does: 5 %, about what two
/// runs differ by.
pub const STEP: f64 = 1.05;

/// The share of what was due that a server has to keep up with.
pub const ACHIEVED_MIN: f64 = 0.98;

/// How often the answer is lowered if it does not hold again, by [`STEP`] at first and each time by
/// the square of the factor before. Eight of them lead from the highest rate to the lowest.
pub const STEPS_DOWN_MAX: u32 = 9;

/// How often a rate has to hold, or not to, when the answer is confirmed.
const MAJORITY: usize = 2;

/// The most trials of a search: 24 halvings from [`RATE_MAX`] to [`RATE_MIN`] and 4 between two of
/// them, each twice, then the answer and its steps down, each until two trials agree.
pub const TRIALS_MAX: usize = 2 * (25 + 4) + (2 * MAJORITY - 1) * (1 + STEPS_DOWN_MAX as usize);

/// One run of the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Messages per second that were asked for.
    pub asked: f64,
    /// Messages per second that were due in it: what was asked for, but for the whole messages of a
    /// short run, and for what chance adds or takes with Poisson arrivals.
    pub due: f64,
    /// Messages per second that came back right, as far as the server kept up.
    pub achieved: f64,
    /// Errors, of any cause.
    pub errors: u64,
    /// The budget that does not hold: `p99<5ms: 7.31 ms`; `None`: all of them do.
    pub broken: Option<String>,
    /// Whether the client, and not the server, decided the result.
    pub is_client_limit: bool,
}

/// What came of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The highest rate that holds, in messages per second; `None`: none does. With
    /// [`SearchEnd::Stopped`] it is the highest that held until then, and was not tried again.
    pub rate: Option<f64>,
    /// Why it ended.
    pub end: SearchEnd,
    /// All trials, in their order.
    pub trials: Vec<Trial>,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SearchEnd {
    /// A rate above it, by 5 % at most, does not hold.
    Bracketed,
    /// A rate above it does not hold, but because of the client: the server may hold more.
    ClientLimit,
    /// Even the highest rate that is tried holds.
    Unlimited,
    /// Not even the lowest rate that is tried holds.
    NothingHolds,
    /// What held once did not hold again, nor did anything below.
    Unsteady,
    /// A signal stopped it.
    Stopped,
    /// The server could no longer be reached.
    Unreachable,
}

/// Searches from `start`, which is brought between [`RATE_MIN`] and [`RATE_MAX`], with at most
/// [`TRIALS_MAX`] trials.
///
/// `trial` runs the load at a rate; `Break` stops the search.
pub fn search(start: f64, trial: impl FnMut(f64) -> ControlFlow<(), Trial>) -> Found {
    let mut search = Search { trial, trials: Vec::new(), held: None };
    let end = match search.run(start.clamp(RATE_MIN, RATE_MAX)) {
        ControlFlow::Continue(end) => end,
        ControlFlow::Break(()) => SearchEnd::Stopped,
    };
    assert!(search.trials.len() <= TRIALS_MAX, "{} trials", search.trials.len());
    Found { rate: search.held, end, trials: search.trials }
}

impl Found {
    /// The lowest rate that did not hold in a trial and the highest one that held in another, if
    /// the first is not above the second: between them trials disagree.
    pub fn disagreement(&self) -> Option<(f64, f64)> {
        let asked = |holds: bool| {
            let trials = self.trials.iter().filter(move |trial| trial.why_not().is_none() == holds);
            trials.map(|trial| trial.asked)
        };
        let (low, high) = (asked(false).reduce(f64::min)?, asked(true).reduce(f64::max)?);
        (low <= high).then_some((low, high))
    }
}

impl Trial {
    /// Why its rate does not hold; `None`: it does.
    pub fn why_not(&self) -> Option<String> {
        if let Some(broken) = &self.broken {
            Some(broken.clone())
        } else if self.errors > 0 {
            Some(format!("errors: {}", self.errors))
        } else if self.achieved < self.due * ACHIEVED_MIN {
            Some(format!("kept up with {:.1} of {:.1} messages/s", self.achieved, self.due))
        } else {
            None
        }
    }
}

impl fmt::Display for SearchEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SearchEnd::Bracketed => "a higher rate does not hold",
            SearchEnd::ClientLimit => "the client was the limit; the server may hold more",
            SearchEnd::Unlimited => "the highest rate that can be asked for holds",
            SearchEnd::NothingHolds => "not even the lowest rate holds",
            SearchEnd::Unsteady => "what held once did not hold again",
            SearchEnd::Stopped => "stopped by a signal",
            SearchEnd::Unreachable => "the server could no longer be reached",
        })
    }
}

struct Search<F> {
    trial: F,
    trials: Vec<Trial>,
    /// The answer so far.
    held: Option<f64>,
}

/// What is known of a rate that does not hold.
#[derive(Clone, Copy)]
struct Failed {
    rate: f64,
    is_client_limit: bool,
}

impl<F: FnMut(f64) -> ControlFlow<(), Trial>> Search<F> {
    fn run(&mut self, start: f64) -> ControlFlow<(), SearchEnd> {
        let mut above = self.bracket(start)?;
        while let (Some(failed), Some(low)) = (above, self.held)
            && failed.rate > low * STEP
        {
            let middle = (low * failed.rate).sqrt();
            above = self.holds(middle)?.or(above);
        }
        self.confirm(above)
    }

    /// Goes up until a rate does not hold, or down until one does; the lowest rate that does not
    /// hold.
    fn bracket(&mut self, start: f64) -> ControlFlow<(), Option<Failed>> {
        let mut rate = start;
        let mut lowest: Option<Failed> = None;
        loop {
            let failed = self.holds(rate)?;
            lowest = failed.or(lowest);
            rate = match (failed, lowest) {
                (Some(_), _) if self.held.is_none() && rate > RATE_MIN => {
                    (rate / 2.0).max(RATE_MIN)
                }
                (None, None) if rate < RATE_MAX => (rate * 2.0).min(RATE_MAX),
                _ => return ControlFlow::Continue(lowest),
            };
        }
    }

    /// Tries a rate, and once more if it does not hold.
    fn holds(&mut self, rate: f64) -> ControlFlow<(), Option<Failed>> {
        let failed = match self.try_once(rate)? {
            None => None,
            Some(_) => self.try_once(rate)?,
        };
        if failed.is_none() {
            self.held = Some(rate);
        }
        ControlFlow::Continue(failed)
    }

    /// Tries the answer again, and lower ones until one holds. `above`: the lowest rate that does
    /// not hold.
    fn confirm(&mut self, mut above: Option<Failed>) -> ControlFlow<(), SearchEnd> {
        let Some(mut rate) = self.held else {
            return ControlFlow::Continue(SearchEnd::NothingHolds);
        };
        let mut factor = STEP;
        for _ in 0..=STEPS_DOWN_MAX {
            let failed = self.confirm_once(rate)?;
            if failed.is_none() {
                self.held = Some(rate);
                return ControlFlow::Continue(match above {
                    None => SearchEnd::Unlimited,
                    Some(failed) if failed.is_client_limit => SearchEnd::ClientLimit,
                    Some(_) => SearchEnd::Bracketed,
                });
            }
            above = failed;
            self.held = None;
            rate = (rate / factor).max(RATE_MIN);
            factor *= factor;
        }
        ControlFlow::Continue(SearchEnd::Unsteady)
    }

    /// Tries a rate until two trials agree.
    fn confirm_once(&mut self, rate: f64) -> ControlFlow<(), Option<Failed>> {
        let (mut held, mut failed) = (0, 0);
        loop {
            let result = self.try_once(rate)?;
            let seen = if result.is_none() { &mut held } else { &mut failed };
            *seen += 1;
            if *seen == MAJORITY {
                return ControlFlow::Continue(result);
            }
        }
    }

    fn try_once(&mut self, rate: f64) -> ControlFlow<(), Option<Failed>> {
        let trial = (self.trial)(rate)?;
        let is_client_limit = trial.is_client_limit;
        let failed = trial.why_not().map(|_| Failed { rate, is_client_limit });
        self.trials.push(trial);
        ControlFlow::Continue(failed)
    }
}

#[cfg(test)]
mod tests;
