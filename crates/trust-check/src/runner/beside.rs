//! Whether a client is served beside another one.

use std::time::Duration;

use crate::trial::CaseTrial;
use crate::verdict::{Judged, Verdict};

/// How long a second client may wait to be served beside a first one before the server counts as
/// serving one client at a time. The same of a quick run.
const BESIDE_PATIENCE: Duration = Duration::from_secs(1);
const BESIDE_PATIENCE_QUICK: Duration = Duration::from_millis(300);

/// Whether a second client is served only once the first one has left: until then it waits, or it
/// is turned away.
pub(super) fn serves_one_at_a_time(trial: &mut CaseTrial<'_>) -> Judged<bool> {
    let [hello, ours] = [trial.message(16), trial.message(16)];
    let mut first = trial.connect()?;
    first.send(&hello.bytes)?;
    first.expect_answers(&[&hello])?;
    let patience = if trial.setup.is_quick { BESIDE_PATIENCE_QUICK } else { BESIDE_PATIENCE };
    let mut second = trial.connect_alone()?;
    second.be_patient_for(patience);
    match second.exchange_beginning() {
        Err(Verdict::Fail(_)) => {
            first.close();
            drop(second);
            return trial.expect_service("another has left").map(|()| true);
        }
        begun => begun?,
    }
    second.try_send(&ours.bytes, trial.setup.patience)?;
    let mut got = vec![];
    if second.receive_into(&mut got, 1, patience.min(trial.setup.patience))? {
        return Ok(false);
    }
    let is_turned_away = second.end().is_some();
    first.close();
    if is_turned_away {
        return trial.expect_service("another has left").map(|()| true);
    }
    second.receive_into(&mut got, 1, trial.setup.patience)
}
