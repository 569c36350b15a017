//! What the server's processes keep of clients that have left, looked at from outside (`--pid`,
//! `--command`).
//!
//! [`Watch`] notes what they have before the first case, and again whenever a group is over and the
//! server was left alone. The cases judge the difference. They also send clients of their own, one
//! after the other, so that each of them says something when it is tried alone.

mod growth;
mod held;
mod idle;

use std::time::{Duration, Instant};

use trust_cli::framing::Framing;
use trust_cli::text::{grouped, seconds};

use crate::case::{Case, Isolation, Needs};
use crate::setup::{LARGE_MAX, Setup};
use crate::trial::CaseTrial;
use crate::verdict::{Evidence, Judged, Verdict};
use crate::watch::{IDLE_SHARE_MAX, Look, ProcessSample, Watch};

/// Clients at the same time, and then one after the other, before the first look: pools and caches
/// are filled then.
const WARM_UP_CLIENTS: usize = 8;

/// Their messages, in bytes: what a receive is usually made for.
const WARM_UP_BYTES: u64 = 64 * 1024;

/// Clients, one after the other, of which a leak of one of anything by client is told from caches.
const CLIENTS: u64 = 64;

/// Ways in which they leave, in turn.
const WAYS_TO_LEAVE: u64 = 8;

/// Messages whose answers are not read.
const UNREAD_MESSAGES: usize = 16;

/// Longest time for them: a server that answers slowly is not waited for 64 times.
const CLIENTS_TIME_MAX: Duration = Duration::from_secs(5);

/// Clients that may get no answer before no more are sent.
const LOST_CLIENTS_MAX: u32 = 3;

/// Rounds of that many clients for memory, which is more blurred than what can be counted.
const MEMORY_ROUNDS: usize = 10;

/// Rounds where every one brought some: enough for a collector to begin.
const GROWING_ROUNDS: usize = 40;

/// Allowances by which memory must go on growing to count as a leak: a heap that is reused does not
/// grow that much once it is above the first.
const GROWTH_IN_ALLOWANCES: u64 = 2;

/// Longest time for all of them, unless each brought some.
const MEMORY_TIME_MAX: Duration = Duration::from_secs(4);

/// Longest time for rounds that each brought some: a busy machine is to tell a leak too.
const GROWING_TIME_MAX: Duration = Duration::from_secs(20);

/// Descriptors that a server may have more than before the cases: a log, a resolver, a pool that
/// grew.
const DESCRIPTORS_ALLOWED: u64 = 8;

/// Children not waited for that a server may have: some wait for them when the next client comes.
const ZOMBIES_ALLOWED: u64 = 3;

/// Threads beyond one for each client at the busiest moment: pools keep theirs.
const THREADS_ALLOWED: u64 = 16;

/// Growth of a client below which memory that grows and grows is not worth a word, in bytes.
const GROWTH_BY_CLIENT_MIN: u64 = 512;

/// The cases of this group.
pub const CASES: &[Case] = &[
    case(
        1,
        "the server is still there",
        "No client can end the server",
        "signal(7); send(2), EPIPE",
        "an unhandled signal (SIGPIPE on a send to a client that has left), a crash, an exit where \
         the error concerns one client",
        survival,
    ),
    case(
        2,
        "descriptors come back",
        "The descriptor of a connection is closed when the connection is over, however it ended",
        "close(2); accept(2), EMFILE",
        "a code path that leaves the connection's socket open: after enough clients no one is \
         accepted",
        descriptors,
    ),
    case(
        3,
        "memory comes back",
        "What a connection has allocated is freed or used again when it is over",
        "docs/LIMITS.md",
        "buffers or entries of a table that outlive their connection",
        memory,
    ),
    case(
        4,
        "no connection is left in CLOSE_WAIT",
        "A server closes its side soon after its client has left",
        "RFC 9293, 3.6; tcp(7)",
        "the end of the stream (a receive of 0 bytes) or an error is not taken for a reason to \
         close",
        |trial| counted(trial, "connections in CLOSE_WAIT", 0, |had| had.close_wait),
    ),
    case(
        5,
        "an idle server sleeps",
        "A server with nothing to do does not compute",
        "poll(2); epoll(7)",
        "a socket at its end stays readable and is asked again and again, or a loop does not wait",
        idleness,
    ),
    case(
        6,
        "no zombies are left",
        "A server that gives clients to child processes waits for those that have ended",
        "wait(2); signal(7), SIGCHLD",
        "children are never waited for: after enough clients no process can be started",
        |trial| counted(trial, "zombies", ZOMBIES_ALLOWED, |had| had.zombies),
    ),
    case(
        7,
        "threads come back",
        "The thread of a client ends, or serves the next one, when the client has left",
        "pthreads(7)",
        "a thread waits for ever for a client that has left",
        threads,
    ),
    case(
        8,
        "declared lengths take no memory",
        "A declared length is a claim: memory grows with the bytes that arrive",
        "docs/LIMITS.md; CWE-770; CWE-789",
        "a buffer of the declared length is made, and filled, as soon as the header is there: a \
         few clients that send nothing take all memory",
        held::declared,
    ),
    case(
        9,
        "a server that waits for its clients sleeps",
        "A client that is silent, wherever it stopped, costs no time",
        "poll(2); epoll(7)",
        "a receive that would block is tried again at once, or a socket with unread bytes or room \
         to send is polled for what is not wanted",
        held::silence,
    ),
    case(
        10,
        "clients that time out leave nothing",
        "The descriptor and the memory of a connection are given back when the timeout ends it",
        "close(2); docs/PROTOCOL.md (recv_timeout)",
        "the way out of the connection's code that a timeout takes does not give back what the \
         others do",
        idle::timed_out,
    ),
];

const fn case(
    number: u8,
    title: &'static str,
    requirement: &'static str,
    source: &'static str,
    bug: &'static str,
    run: fn(&mut CaseTrial<'_>) -> Judged,
) -> Case {
    const IDS: [&str; 11] = [
        "",
        "resources/1",
        "resources/2",
        "resources/3",
        "resources/4",
        "resources/5",
        "resources/6",
        "resources/7",
        "resources/8",
        "resources/9",
        "resources/10",
    ];
    let (needs, isolation) = (Needs::Process, Isolation::Alone);
    Case { id: IDS[number as usize], title, requirement, source, bug, needs, isolation, run }
}

/// Fills the pools and caches of a server that has just been started. What goes wrong is for the
/// cases to say.
pub fn warm_up(trial: &mut CaseTrial<'_>) {
    let together = match trial.setup.one_at_a_time {
        true => 1,
        false => trial.setup.together(WARM_UP_CLIENTS),
    };
    let _ = greet_together(trial, together);
    for _ in 0..WARM_UP_CLIENTS {
        let _ = trial.expect_service("others");
    }
}

fn greet_together(trial: &mut CaseTrial<'_>, count: usize) -> Judged<()> {
    let message = trial.message(WARM_UP_BYTES);
    let mut wires = vec![];
    for _ in 0..count {
        let mut wire = trial.connect()?;
        wire.send(&message.bytes)?;
        wires.push(wire);
    }
    wires.iter_mut().try_for_each(|wire| wire.expect_answers(&[&message]))
}

fn survival(trial: &mut CaseTrial<'_>) -> Judged {
    let watch = watched(trial)?;
    if watch.end().is_none() {
        exercised(trial)?;
        watch.note_end(true, &["resources/1"]);
    }
    let deaths = watch.deaths();
    if !deaths.is_empty() {
        let told =
            deaths.iter().map(|death| format!("it died during {}: {}", death.during, death.how));
        return Err(Verdict::fail_by(
            Evidence::Bytes,
            "the server is there after everything that the cases did",
            told.collect::<Vec<_>>().join("; "),
        ));
    }
    let looks = watch.looks();
    if let Some(look) = looks.iter().find(|look| !look.lost.is_empty()) {
        let lost: Vec<String> = look.lost.iter().map(u32::to_string).collect();
        let (lost, group) = (lost.join(" and "), &look.group);
        if watch.has_replaced_them() {
            return Ok(Verdict::Info(format!(
                "process {lost} was gone after {group}, and others came in their place: they may \
                 retire after a number of requests, or have died"
            )));
        }
        return Err(Verdict::warn(
            "the processes that listened at the start are there at the end",
            format!(
                "process {lost} was gone after {group}, with whatever other clients it had; others \
                 go on"
            ),
        ));
    }
    trial.expect_service("everything that the cases did")?;
    Ok(Verdict::Pass)
}

/// Judges something that is to be what it was before the cases.
fn counted(
    trial: &mut CaseTrial<'_>,
    what: &str,
    allowed: u64,
    of: fn(&ProcessSample) -> u64,
) -> Judged {
    let looks = exercised(trial)?;
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return Err(no_looks()) };
    let (before, after) = (of(&first.had), of(&last.had));
    if after <= before + allowed {
        return Ok(match after > before {
            true => Verdict::Info(format!(
                "{after} {what} at the end and {before} before the cases: too few for one by client"
            )),
            false => Verdict::Pass,
        });
    }
    Err(Verdict::fail(
        format!("as many {what} as before the cases, {before}, once the clients have left"),
        format!("{after} {what} at the end; {}", largest_step(&looks, of, grouped)),
    ))
}

/// What is counted.
type Count = fn(&ProcessSample) -> u64;

/// Sockets, pipes and files apart: which of them grew says where to look.
fn descriptors(trial: &mut CaseTrial<'_>) -> Judged {
    let looks = exercised(trial)?;
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return Err(no_looks()) };
    let kinds: [(&str, Count); 3] = [
        ("sockets", |had| had.sockets),
        ("pipes", |had| had.pipes),
        ("files and other descriptors", |had| had.files),
    ];
    let mut said = vec![];
    for (what, of) in kinds {
        let (before, after) = (of(&first.had), of(&last.had));
        if after <= before + DESCRIPTORS_ALLOWED {
            continue;
        }
        let further = growth::of_count(trial, watched(trial)?, of)?;
        let (clients, more) = (further.clients, further.growth);
        if further.goes_on {
            return Err(Verdict::fail(
                format!("as many {what} as before the cases, {before}, once the clients have left"),
                format!(
                    "{after} {what} at the end, and {more} more after {clients} more clients; {}",
                    largest_step(&looks, of, grouped)
                ),
            ));
        }
        said.push(format!(
            "{after} {what} at the end and {before} before the cases; {more} more after {clients} \
             more clients, so they are kept and used again"
        ));
    }
    let (before, after) = (first.had.descriptors(), last.had.descriptors());
    Ok(match said.is_empty() {
        true if after > before => Verdict::Info(format!(
            "{after} open descriptors at the end and {before} before the cases: too few for one by \
             client"
        )),
        true => Verdict::Pass,
        false => Verdict::Info(said.join("; ")),
    })
}

/// Says after which group there was how much more than before it.
fn largest_step(looks: &[Look], of: Count, shown: fn(u64) -> String) -> String {
    let steps = looks.windows(2);
    let grown = |pair: &[Look]| of(&pair[1].had).saturating_sub(of(&pair[0].had));
    let Some([before, after]) = steps.max_by_key(|pair| grown(pair)) else { return String::new() };
    let advice = match after.group == "resources" {
        true => String::new(),
        false => format!(" (try them again with --case '{}/*,resources/*')", after.group),
    };
    format!(
        "most came with {}: from {} to {} while {} clients came and left{advice}",
        after.group,
        shown(of(&before.had)),
        shown(of(&after.had)),
        after.connections - before.connections,
    )
}

fn idleness(trial: &mut CaseTrial<'_>) -> Judged {
    let looks = exercised(trial)?;
    let shares: Option<Vec<f64>> = looks.iter().map(|look| look.idle_share).collect();
    let at_start = watched(trial)?.idle_at_start();
    let (Some(at_start), Some(shares)) = (at_start, shares) else {
        let why = "the kernel does not tell what threads compute (/proc/PID/task/TID/schedstat)";
        return Err(Verdict::inconclusive(why));
    };
    let expected = "a server without clients computes next to nothing";
    let percent = |share: f64| (share * 100.0).round();
    let busiest = shares.iter().zip(&looks).max_by(|(a, _), (b, _)| a.total_cmp(b));
    match busiest.filter(|(share, _)| **share > IDLE_SHARE_MAX) {
        _ if at_start > IDLE_SHARE_MAX => Err(Verdict::warn(
            expected,
            format!("it used {} % of a core before the first client came", percent(at_start)),
        )),
        Some((share, look)) => Err(Verdict::fail(
            expected,
            format!(
                "it used {} % of a core after {}, when all clients had left, and {} % before the \
                 first one",
                percent(*share),
                look.group,
                percent(at_start)
            ),
        )),
        None => Ok(Verdict::Pass),
    }
}

fn threads(trial: &mut CaseTrial<'_>) -> Judged {
    let looks = exercised(trial)?;
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return Err(no_looks()) };
    let (before, after) = (first.had.threads, last.had.threads);
    let own = looks
        .windows(2)
        .next_back()
        .map_or(0, |pair| pair[1].had.threads.saturating_sub(pair[0].had.threads));
    // One after the other they need one thread, and at the busiest moment one each.
    if own < CLIENTS / 2 && after <= before + last.peak + THREADS_ALLOWED {
        return Ok(Verdict::Pass);
    }
    Err(Verdict::fail(
        format!(
            "no more threads than at the start, {before}, and one for each of the {} clients of \
             the busiest moment",
            last.peak
        ),
        format!("{after} at the end; {}", largest_step(&looks, |had| had.threads, grouped)),
    ))
}

fn memory(trial: &mut CaseTrial<'_>) -> Judged {
    let looks = exercised(trial)?;
    let Some(first) = looks.first() else { return Err(no_looks()) };
    let (before, allowed) = (first.had.resident, memory_allowed(trial.setup));
    let watch = watched(trial)?;
    let mut asked_first = None;
    let (began, mut sizes, mut clients) = (Instant::now(), vec![watch.resident_bytes()], 0);
    let is_above = |sizes: &[u64]| sizes.iter().any(|size| *size > before + allowed);
    // The first round fills what the warm-up left empty. More of them where each brought some.
    let grows = |sizes: &[u64]| {
        sizes.len() > 2
            && sizes[1..].windows(2).all(|pair| pair[1] >= pair[0] + GROWTH_BY_CLIENT_MIN * CLIENTS)
    };
    while !is_above(&sizes) {
        let (rounds, time) = match grows(&sizes) {
            true => (GROWING_ROUNDS, GROWING_TIME_MAX),
            false => (MEMORY_ROUNDS, MEMORY_TIME_MAX),
        };
        if sizes.len() > rounds || began.elapsed() >= time {
            break;
        }
        clients += send_clients(trial)?.clients;
        sizes.push(watch.resident_bytes());
        asked_first.get_or_insert_with(|| watch.data_bytes());
    }
    let more = |size: u64| mebibytes(size.saturating_sub(before));
    if is_above(&sizes) {
        let further = growth::of_memory(trial, watch, GROWTH_IN_ALLOWANCES * allowed)?;
        let grown = largest_step(&looks, |had| had.resident, mebibytes);
        let all = grouped(clients + further.clients);
        let now = more(watch.resident_bytes());
        return match further.goes_on {
            true => Err(Verdict::fail(
                format!(
                    "no more than {} more than before the cases, once the clients have left",
                    mebibytes(allowed)
                ),
                format!(
                    "{now} more after {all} clients that came one after the other, and growing; \
                     {grown}"
                ),
            )),
            false => Ok(Verdict::Info(format!(
                "{now} more than before the cases after {all} clients that came one after the \
                 other; it did not go on growing, as a heap does that is used again"
            ))),
        };
    }
    if !grows(&sizes) {
        return Ok(Verdict::Pass);
    }
    if sizes.len() <= MEMORY_ROUNDS {
        return Err(Verdict::inconclusive(format!(
            "it grew with {} clients, and was too slow for more of them within {}: {:.1} a second",
            grouped(clients),
            seconds(GROWING_TIME_MAX),
            clients as f64 / began.elapsed().as_secs_f64()
        )));
    }
    let asked = watch.data_bytes().saturating_sub(asked_first.unwrap_or(0));
    let told = format!(
        "{} more than before the cases after {} clients, and it grew with every {CLIENTS} of them",
        more(sizes[sizes.len() - 1]),
        grouped(clients)
    );
    match what_grows(&sizes[1..], asked) {
        Growth::Slower => Ok(Verdict::Info(format!("{told}, but less and less"))),
        Growth::Inside => Ok(Verdict::Info(format!(
            "{told}, in memory that it had asked for before: a heap that was not collected yet"
        ))),
        Growth::Steady => Err(Verdict::warn(
            "memory stops growing once the server has served enough clients, one after the other",
            format!("{told}: a leak, unless a collector has not begun"),
        )),
    }
}

/// What it looks like when memory grows with every round of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Growth {
    /// Less in the second half than in the first, as in pools that are being filled. A leak goes
    /// on.
    Slower,
    /// For the most part in memory that the processes had before, and now write to for the first
    /// time. Who leaks asks the kernel for more.
    Inside,
    Steady,
}

/// What it looks like, where memory had these sizes after each round and so much more was asked for
/// meanwhile.
fn what_grows(sizes: &[u64], asked: u64) -> Growth {
    let [first, middle, last] = [0, sizes.len() / 2, sizes.len() - 1].map(|at| sizes[at]);
    let halves = [middle.saturating_sub(first), last.saturating_sub(middle)];
    match halves {
        [early, late] if late < early / 2 => Growth::Slower,
        [early, late] if asked < (early + late) / 2 => Growth::Inside,
        _ => Growth::Steady,
    }
}

/// What a server may keep for later: what its allocator holds, and room for some of the longest
/// messages.
fn memory_allowed(setup: &Setup) -> u64 {
    setup.memory_allowance + 16 * setup.payload_max().min(LARGE_MAX)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The watch, if it can tell anything.
fn watched<'s>(trial: &CaseTrial<'s>) -> Judged<&'s Watch> {
    let watch = trial.watch.ok_or_else(|| Verdict::skipped("needs --pid or --command"))?;
    match watch.misfit() {
        Some(why) => Err(Verdict::skipped(why)),
        None => Ok(watch),
    }
}

/// All looks, the last one after clients of our own.
fn exercised(trial: &mut CaseTrial<'_>) -> Judged<Vec<Look>> {
    let watch = watched(trial)?;
    if watch.end().is_none() && watch.is_to_be_exercised() {
        send_clients(trial)?;
        watch.look_last("resources", trial.setup);
        watch.note_end(true, &["resources"]);
    }
    match watch.end() {
        Some(during) if trial.id != "resources/1" => {
            Err(Verdict::skipped(format!("the server died during {during}")))
        }
        _ => Ok(watch.looks()),
    }
}

/// What came of a round of clients.
struct Sent {
    clients: u64,
    /// The last ones were not served.
    are_lost: bool,
}

/// Clients one after the other that leave in all ways there are.
fn send_clients(trial: &mut CaseTrial<'_>) -> Judged<Sent> {
    let (until, mut lost, mut clients) = (Instant::now() + CLIENTS_TIME_MAX, 0, 0);
    while clients < CLIENTS && lost < LOST_CLIENTS_MAX && Instant::now() < until {
        match send_client(trial, clients) {
            Err(stop @ Verdict::Skipped(_)) => return Err(stop),
            Err(_) => lost += 1,
            Ok(()) => lost = 0,
        }
        clients += 1;
    }
    Ok(Sent { clients, are_lost: lost >= LOST_CLIENTS_MAX })
}

fn send_client(trial: &mut CaseTrial<'_>, number: u64) -> Judged<()> {
    let message = trial.message(64);
    let frame = &message.bytes;
    let mut wire = trial.connect()?;
    wire.send(frame)?;
    wire.expect_answers(&[&message])?;
    let in_the_payload = match trial.setup.framing {
        Framing::Length(format) => (frame.len() + format.header_len()) / 2,
        Framing::Raw | Framing::Line => frame.len() / 2,
    };
    match number % WAYS_TO_LEAVE {
        0 => wire.close(),
        1 => {
            wire.finish();
            wire.drain(trial.setup.patience)?;
        }
        2 => wire.reset(),
        3 => {
            // In the header, where there is one of more than a byte.
            wire.send(&frame[..1])?;
            wire.close();
        }
        4 => {
            wire.send(&frame[..in_the_payload])?;
            wire.close();
        }
        5 => {
            wire.send(&frame[..in_the_payload])?;
            wire.reset();
        }
        6 => {
            // The answer meets a connection that is gone, or is unread when it closes.
            wire.send(&frame.repeat(UNREAD_MESSAGES))?;
            wire.close_at_once();
        }
        _ => {
            let refused = trial.refused().unwrap_or_default();
            wire.send(&refused)?;
            wire.finish();
            wire.drain(trial.setup.prompt())?;
        }
    }
    Ok(())
}

fn no_looks() -> Verdict {
    Verdict::inconclusive("the server's processes could not be looked at")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_growth_that_goes_on_and_is_asked_for_looks_like_a_leak() {
        let steady: Vec<u64> = (0..11).map(|round| 1000 + round * 64).collect();
        assert_eq!(what_grows(&steady, 640), Growth::Steady);
        assert_eq!(what_grows(&steady, 100), Growth::Inside);
        let mut pool = vec![1000];
        for step in [512, 256, 128, 64, 32, 16, 8, 4, 2, 1] {
            pool.push(pool[pool.len() - 1] + step);
        }
        assert_eq!(what_grows(&pool, 1023), Growth::Slower);
    }
}
