//! Servers that speak first.

use crate::case::{Case, Isolation, Needs};
use crate::trial::CaseTrial;
use crate::verdict::{Finding, Judged, Verdict};

/// Clients that are silent at the same time.
const SILENT: usize = 3;

/// The cases of this group.
pub const CASES: &[Case] = &[
    Case {
        id: "greeting/1",
        title: "clients that send nothing are all greeted",
        requirement: "Who speaks first does not wait for the client, nor for another one",
        source: "RFC 5321, 3.1; poll(2)",
        bug: "the server waits for a byte of the client before it greets, or for a silent client \
              before it accepts the next one",
        needs: Needs::Greeting,
        isolation: Isolation::Several,
        run: silent_clients,
    },
    Case {
        id: "greeting/2",
        title: "a request that comes before the greeting",
        requirement: "Measured only: clients have to wait for the greeting",
        source: "RFC 5321, 4.3.1; RFC 959, 5.4",
        bug: "what came before the greeting is dropped",
        needs: Needs::Greeting,
        isolation: Isolation::Beside,
        run: early_request,
    },
];

fn silent_clients(trial: &mut CaseTrial<'_>) -> Judged {
    let mut held = vec![];
    for _ in 0..trial.setup.together(SILENT) {
        let greeting = trial.greeting()?;
        let mut wire = trial.connect_alone()?;
        wire.await_greeting()?;
        wire.expect_answers(&[&greeting])?;
        held.push(wire);
    }
    if !has_requests(trial) {
        return Ok(Verdict::Pass);
    }
    // Each is still served, the last one first.
    for wire in held.iter_mut().rev() {
        wire.exchange_beginning_from(1)?;
        let message = trial.message(32);
        wire.send(&message.bytes)?;
        wire.expect_answers(&[&message])?;
    }
    Ok(Verdict::Pass)
}

fn early_request(trial: &mut CaseTrial<'_>) -> Judged {
    if !has_requests(trial) {
        return Err(Verdict::skipped("no request follows the greeting"));
    }
    let [greeting, request] = [trial.greeting()?, trial.first_request()];
    let mut wire = trial.connect_alone()?;
    wire.send_request(&request)?;
    match wire.expect_answers(&[&greeting, &request]) {
        Ok(()) => Ok(Verdict::Info("it is answered, after the greeting".to_owned())),
        Err(Verdict::Fail(Finding { got, .. })) => {
            Ok(Verdict::Info(format!("it is not answered as it is after the greeting: {got}")))
        }
        Err(other) => Err(other),
    }
}

/// Whether more is known of the server than its greeting.
fn has_requests(trial: &CaseTrial<'_>) -> bool {
    trial.setup.exchanges.as_ref().is_some_and(|learned| !learned.has_greeting())
}
