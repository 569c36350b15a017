//! Random schedules of the simulator, in real time: two peers, and rules for their connection
//! alone. What each of them gets is compared to the simulator's model.

mod peer;
mod rule;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use trust_sim::relay::endings::{Foretold, SeenEnd, foretell};
use trust_sim::relay::model::StreamModel;
use trust_sim::relay::script::RelayScript;
use trust_testkit::event::Event;
use trust_testkit::files::Files;
use trust_wire::LengthFormat;
use trust_wire::relay::{FaultAction, FrameFormat, RelayFault, RelaySide};

use self::peer::{SchedulePeer, await_any};
use crate::proxy::{Proxy, upstream};

/// How frames are told apart; a batch, and so a proxy, for each.
const FRAMINGS: [&str; 4] = ["none", "u8", "u32be", "line"];

/// Schedules that are played at once; most of their time is waiting.
const AT_ONCE: usize = 16;

/// The longest time for one.
const SCHEDULE_DEADLINE: Duration = Duration::from_secs(30);

/// How long nothing happens before nothing will.
const QUIET: Duration = Duration::from_millis(100);

/// What is left of a schedule, to be compared to the log.
struct PlayedSchedule {
    seed: u64,
    connection: u64,
    foretold: Option<[Foretold; 2]>,
}

#[test]
fn random_schedules_give_each_side_what_the_model_foretells() {
    play(0, 100);
}

#[test]
#[ignore = "a long search: make adversary"]
fn a_thousand_random_schedules_give_each_side_what_the_model_foretells() {
    play(1_000, 1_000);
}

/// Plays these seeds.
#[track_caller]
fn play(from: u64, seeds: u64) {
    let mut foretold = 0;
    for (batch, framing) in (0..).zip(FRAMINGS) {
        let count = seeds / FRAMINGS.len() as u64;
        foretold += play_batch(framing, from + batch * count, count);
    }
    assert!(foretold >= seeds / 8, "only {foretold} of {seeds} were foretold");
}

/// Plays these seeds through one proxy; how many of them were foretold.
#[track_caller]
fn play_batch(framing: &str, from: u64, count: u64) -> u64 {
    let format = match framing {
        "none" => None,
        "line" => Some(FrameFormat::Line),
        name => LengthFormat::parse(name).map(FrameFormat::Length),
    };
    let script = |number: u64| RelayScript::on_loopback(from + number, format.clone());
    let rules: String = (0..count).map(|number| rule::texts(number + 1, &script(number))).collect();
    let files = Files::new();
    let rules = files.write("rules", &rules);
    let mut flags = vec!["--faults", &rules, "--linger-timeout", "10s"];
    if format.is_some() {
        flags.extend(["--framing", framing]);
    }
    let listener = upstream();
    let proxy = Proxy::start(listener.local_addr().expect("an address"), &flags);
    // Connections count in the order of accept.
    let next = Mutex::new(0);
    let played = Mutex::new(vec![]);
    let failed = AtomicU64::new(0);
    let player = || {
        loop {
            let mut number = next.lock().unwrap_or_else(PoisonError::into_inner);
            if *number == count || failed.load(Ordering::SeqCst) > 0 {
                return;
            }
            let script = script(*number);
            let seed = from + *number;
            let client = SchedulePeer::connect(&script.peers[0], proxy.address());
            let server = SchedulePeer::accept(&script.peers[1], &listener);
            *number += 1;
            let connection = *number;
            drop(number);
            match play_one(&script, [client, server]) {
                Ok(foretold) => {
                    let schedule = PlayedSchedule { seed, connection, foretold };
                    played.lock().unwrap_or_else(PoisonError::into_inner).push(schedule);
                }
                Err(error) => {
                    failed.fetch_add(1, Ordering::SeqCst);
                    panic!("seed {seed} with --framing {framing}: {error}\n{script:#?}");
                }
            }
        }
    };
    thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(player))));
    let events = proxy.stop();
    let played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    for schedule in &played {
        check_reports(schedule, &events);
    }
    played.iter().filter(|schedule| schedule.foretold.is_some()).count() as u64
}

/// Plays a schedule to its end, and compares what both peers got; what was foretold.
fn play_one(
    script: &RelayScript,
    mut peers: [SchedulePeer; 2],
) -> Result<Option<[Foretold; 2]>, String> {
    let uploads = [0, 1].map(|peer: usize| script.peers[peer].upload());
    let foretold = foretell(script, [&uploads[0], &uploads[1]]);
    // Whatever rules do, a RST ends both sides; after a hold that takes long.
    let is_hold = |fault: &RelayFault| fault.action == FaultAction::Hold;
    let passes_reset = !script.faults.iter().flatten().any(is_hold);
    let deadline = Instant::now() + SCHEDULE_DEADLINE;
    let mut quiet_since = Instant::now();
    loop {
        let now = Instant::now();
        let acted = peers.each_mut().map(|peer| peer.act(now));
        if acted.contains(&true) {
            quiet_since = now;
        }
        let is_quiet = now >= quiet_since + QUIET;
        let has_got = |(peer, foretold): (&SchedulePeer, &Foretold)| match foretold.seen {
            Some(SeenEnd::Open) => is_quiet && peer.received.len() >= foretold.bytes.len(),
            _ => peer.is_through(),
        };
        let is_over = match &foretold {
            Some(foretold) => peers.iter().zip(foretold).all(has_got),
            None if passes_reset && peers.iter().any(|peer| peer.has_reset) => {
                peers.iter().all(SchedulePeer::is_through)
            }
            None => is_quiet,
        };
        // Who waits for a step is not done.
        if is_over && peers.iter().all(SchedulePeer::has_taken_all_steps) {
            break;
        }
        if now > deadline {
            let seen = peers.each_ref().map(|peer| (peer.received.len(), peer.seen()));
            return Err(format!("not over: {seen:?}, foretold {:?}", foretold.map(short)));
        }
        await_any(&peers, quiet_since + QUIET);
    }
    for (side, peer) in RelaySide::BOTH.into_iter().zip(&peers) {
        let source = &peers[side.other().index()];
        let faults = &script.faults[side.index()];
        let upload = &uploads[side.other().index()];
        let model_of = || StreamModel::of(upload, faults, script.format.as_ref());
        let mut model = model_of();
        if source.has_sent_fin {
            model.finish(source.sent);
        } else {
            model.output.truncate(model.due(source.sent));
        }
        // What is kept comes out when the source is known to have failed, after whatever came.
        let is_released = |received| {
            let mut model = model_of();
            model.fail(received);
            model.output.starts_with(&peer.received)
        };
        let has_failed = source.has_reset && model.holds_frames();
        let is_due = model.output.starts_with(&peer.received)
            || has_failed && (0..=source.sent).any(is_released);
        if !is_due {
            let (got, due) = (peer.received.len(), model.output.len());
            return Err(format!("{side:?} got {got} bytes that are no prefix of the {due} due"));
        }
        let Some(foretold) = &foretold else { continue };
        let Foretold { bytes, is_exact, seen, .. } = &foretold[side.index()];
        if *is_exact && peer.received != *bytes || !bytes.starts_with(&peer.received) {
            let got = peer.received.len();
            return Err(format!("{side:?} got {got} of the {} bytes foretold", bytes.len()));
        }
        if seen.map_or(peer.seen() == SeenEnd::Open, |seen| seen != peer.seen()) {
            return Err(format!("{side:?} saw {:?} in place of {seen:?}", peer.seen()));
        }
    }
    // With FIN, rules for the end of a stream would happen.
    peers.iter_mut().for_each(|peer| peer.close(true));
    Ok(foretold)
}

/// What is foretold, without the bytes.
fn short(foretold: [Foretold; 2]) -> [(usize, bool, Option<SeenEnd>); 2] {
    foretold.map(|Foretold { bytes, is_exact, seen, .. }| (bytes.len(), is_exact, seen))
}

/// Checks that the proxy has reported the foretold faults of a connection, and where they ended.
#[track_caller]
fn check_reports(schedule: &PlayedSchedule, events: &[Event]) {
    let Some(foretold) = &schedule.foretold else { return };
    for (direction, Foretold { fired, is_exact, .. }) in ["down", "up"].into_iter().zip(foretold) {
        let is_of_it = |event: &&Event| {
            matches!(event.name(), "fault" | "fault_lifted")
                && event.count("conn") == schedule.connection
                && event.text("direction") == direction
        };
        let reported: Vec<u64> =
            events.iter().filter(is_of_it).map(|event| event.count("byte")).collect();
        let places: Vec<u64> = fired.iter().map(|fired| fired.position).collect();
        let is_right = match is_exact {
            true => reported == places,
            false => places.starts_with(&reported),
        };
        let PlayedSchedule { seed, .. } = schedule;
        assert!(is_right, "seed {seed} {direction}: {reported:?} in place of {places:?}");
    }
}
