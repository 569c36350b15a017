//! What the threads of a server share, in every order in which they can run (`make interleavings`).
//!
//! The loop of a worker is repeated here, without sockets; everything that it calls is the
//! server's.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};
use mio::{Registry, Token};
use trust_wire::Reason;
use trust_wire::connection::Totals;

use crate::handoff::{HandedOver, Handoff, Handoffs};
use crate::loads::Loads;
use crate::observer::Stats;
use crate::pulse::Pulse;
use crate::shared::{Counters, Handle};
use crate::stats::{ClosedCounters, StatsRequest};
use crate::stop::{Stop, StopFlag};

/// How often a thread may be interrupted where it would not wait anyway. Each one more makes about
/// four times as many orders.
const PREEMPTIONS: Option<usize> = Some(3);

/// Runs a scenario in every order of its threads with at most this many preemptions, unless
/// `LOOM_MAX_PREEMPTIONS` is set, and prints the number of orders.
#[expect(clippy::print_stdout, reason = "the number of orders is for those who run the tests")]
fn in_every_order(preemptions: Option<usize>, scenario: impl Fn() + Send + Sync + 'static) {
    let orders = Arc::new(std::sync::Mutex::new(0));
    let count = Arc::clone(&orders);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(preemptions);
    model.check(move || {
        *count.lock().unwrap() += 1;
        scenario();
    });
    let (name, orders) = (std::thread::current(), orders.lock().unwrap());
    println!("{}: {orders} orders", name.name().unwrap_or_default());
}

/// A worker's bell as mio and the kernel make one: however often it is rung, it ends one wait, the
/// next one that is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waker(Arc<(Mutex<bool>, Condvar)>);

impl Waker {
    pub(crate) fn new(_: &Registry, _: Token) -> io::Result<Waker> {
        Ok(Waker::default())
    }

    pub(crate) fn wake(&self) -> io::Result<()> {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
        Ok(())
    }

    fn wait(&self) {
        let mut is_rung = self.0.0.lock().unwrap();
        while !*is_rung {
            is_rung = self.0.1.wait(is_rung).unwrap();
        }
        *is_rung = false;
    }

    /// A wait that ends at once, like the one before deadlines are judged.
    fn wait_no_time(&self) {
        *self.0.0.lock().unwrap() = false;
    }
}

/// Two workers' handoffs, and what wakes the workers.
#[derive(Clone)]
struct Office {
    bells: [Waker; 2],
    handoffs: Arc<Handoffs>,
    loads: Arc<Loads>,
    handle: Handle,
    /// What was reported. No lock that the checker would have to try orders of.
    reports: Arc<std::sync::Mutex<Vec<Stats>>>,
}

/// Which worker's share of a report has come from which round.
const SHARE_BITS: u32 = 16;
/// The share of a worker that has ended.
const ENDED: u64 = (1 << SHARE_BITS) - 1;

impl Office {
    fn new() -> Office {
        let bells = [Waker::default(), Waker::default()];
        let handoffs = bells.clone().map(|bell| Arc::new(Handoff::new(bell)));
        let woken = handoffs.clone();
        let handle = Handle {
            stop: Arc::new(StopFlag::default()),
            stats: Arc::new(StatsRequest::new(handoffs.len())),
            notices: Arc::default(),
            wake: Arc::new(move || woken.iter().for_each(|handoff| handoff.wake())),
        };
        let loads = Arc::new(Loads::new(handoffs.len()));
        let handoffs = Arc::new(Handoffs::new(handoffs.to_vec()));
        Office { bells, handoffs, loads, handle, reports: Arc::default() }
    }

    fn contribute(&self, worker: usize, round: u64, share: u64) {
        let open = share << (SHARE_BITS * worker as u32);
        let share = Stats { open, ..Stats::default() };
        if let Some(sum) = self.handle.stats.contribute(worker, round, &share) {
            self.reports.lock().unwrap().push(sum);
        }
    }

    fn contribute_if_wanted(&self, worker: usize, last: &mut u64) {
        if let Some(round) = self.handle.stats.wanted(*last) {
            *last = round;
            self.contribute(worker, round, round);
        }
    }

    /// A worker that serves until the server stops; returns whom.
    fn work(&self, worker: usize) -> Vec<u64> {
        let mut served = Vec::new();
        let mut serve = |clients: Vec<HandedOver>| {
            for client in clients {
                served.push(client.id);
                self.loads.take_off(worker);
            }
        };
        let mut stats_round = 0;
        loop {
            self.bells[worker].wait();
            self.bells[worker].wait_no_time();
            serve(self.handoffs.handed_over(worker));
            self.contribute_if_wanted(worker, &mut stats_round);
            if self.handle.stop.load() != Stop::No
                && let Some(clients) = self.handoffs.last_handed_over(worker)
            {
                serve(clients);
                break;
            }
        }
        self.contribute(worker, u64::MAX, ENDED);
        served
    }

    fn start<T: 'static>(&self, run: impl FnOnce(&Office) -> T + 'static) -> JoinHandle<T> {
        let office = self.clone();
        thread::spawn(move || run(&office))
    }

    /// The first worker accepts a client and gives it to somebody; returns whom it serves itself.
    fn accept(&self, id: u64) -> Option<u64> {
        let worker = self.loads.place(usize::MAX).expect("there is a place");
        if worker == 0 {
            return Some(id);
        }
        self.handoffs.hand_over(worker, client(id));
        None
    }

    /// The rounds of which statistics were reported, sorted. Each has a share of every worker in
    /// it.
    fn reported_rounds(&self, requested: u64) -> Vec<u64> {
        let reports = self.reports.lock().unwrap();
        let round_of = |report: &Stats| {
            let shares = [report.open & ENDED, report.open >> SHARE_BITS];
            assert!(shares.iter().all(|share| *share > 0), "a share is missing in {reports:?}");
            shares.into_iter().min().map_or(0, |round| round.min(requested))
        };
        let mut rounds: Vec<u64> = reports.iter().map(round_of).collect();
        rounds.sort_unstable();
        rounds
    }

    fn assert_rounds_are_reported_once_and_the_last_one_is_among_them(&self, requested: u64) {
        let rounds = self.reported_rounds(requested);
        assert!(rounds.windows(2).all(|pair| pair[0] < pair[1]), "{rounds:?}");
        assert_eq!(rounds.last(), Some(&requested), "{rounds:?}");
    }
}

/// A client whose socket is never used.
fn client(id: u64) -> HandedOver {
    let socket = OwnedFd::from(File::open("/dev/null").unwrap());
    let stream = socket.into();
    HandedOver { stream, peer: std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into(), id }
}

#[test]
fn a_client_that_is_handed_over_is_served_without_anything_else_happening() {
    in_every_order(PREEMPTIONS, || {
        let office = Office::new();
        let worker = office.start(|office| {
            let mut served = Vec::new();
            while served.len() < 2 {
                office.bells[1].wait();
                served.extend(office.handoffs.handed_over(1).into_iter().map(|client| client.id));
            }
            served
        });
        office.handoffs.hand_over(1, client(1));
        office.handoffs.hand_over(1, client(2));
        assert_eq!(worker.join().unwrap(), [1, 2]);
    });
}

#[test]
fn every_client_that_is_handed_over_is_served_once_also_while_the_server_stops() {
    in_every_order(PREEMPTIONS, || {
        let office = Office::new();
        let worker = office.start(|office| office.work(1));
        let stopper = office.start(|office| office.handle.drain());
        let mut served: Vec<u64> = (1..=2).filter_map(|id| office.accept(id)).collect();
        while office.handle.stop.load() == Stop::No {
            office.bells[0].wait();
        }
        // The rest of the backlog.
        served.extend((3..=4).filter_map(|id| office.accept(id)));
        office.handoffs.close();
        served.iter().for_each(|_| office.loads.take_off(0));
        stopper.join().unwrap();
        served.extend(worker.join().unwrap());
        served.sort_unstable();
        assert_eq!(served, [1, 2, 3, 4]);
        assert_eq!(office.loads.total(), 0);
    });
}

#[test]
fn a_client_that_comes_while_workers_give_up_is_served_or_still_in_the_inbox() {
    in_every_order(PREEMPTIONS, || {
        let office = Office::new();
        let worker = office.start(|office| office.work(1));
        let failing = office.start(|office| {
            office.handoffs.close();
            office.handle.cut();
        });
        let mut seen: Vec<u64> = (1..=4).filter_map(|id| office.accept(id)).collect();
        failing.join().unwrap();
        seen.extend(worker.join().unwrap());
        seen.extend(office.handoffs.handed_over(1).into_iter().map(|client| client.id));
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4]);
    });
}

#[test]
fn there_are_never_more_connections_than_places() {
    const PLACES: usize = 2;
    in_every_order(None, || {
        let loads = Arc::new(Loads::new(2));
        let present = Arc::new(std::sync::Mutex::new(PLACES));
        assert_eq!([loads.place(PLACES), loads.place(PLACES)], [Some(0), Some(1)]);
        let workers = [0, 1].map(|worker| {
            let (loads, present) = (Arc::clone(&loads), Arc::clone(&present));
            thread::spawn(move || {
                *present.lock().unwrap() -= 1;
                loads.take_off(worker);
            })
        });
        let mut accepted = 0;
        for _ in 0..3 {
            if loads.place(PLACES).is_some() {
                accepted += 1;
                let mut present = present.lock().unwrap();
                *present += 1;
                assert!(*present <= PLACES);
            }
        }
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert_eq!(loads.total(), accepted);
    });
}

#[test]
fn every_request_for_statistics_is_answered_once_without_anything_else_happening() {
    in_every_order(PREEMPTIONS, || {
        let office = Office::new();
        let workers = [0, 1].map(|worker| {
            office.start(move |office| {
                let mut last = 0;
                while last < 2 {
                    office.bells[worker].wait();
                    office.contribute_if_wanted(worker, &mut last);
                }
            })
        });
        office.handle.report_stats();
        office.handle.report_stats();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        office.assert_rounds_are_reported_once_and_the_last_one_is_among_them(2);
    });
}

#[test]
fn requests_for_statistics_are_answered_once_while_workers_end() {
    in_every_order(PREEMPTIONS, || {
        let office = Office::new();
        let workers = [0, 1].map(|worker| office.start(move |office| office.work(worker)));
        office.handle.report_stats();
        office.handoffs.close();
        office.handle.report_stats();
        office.handle.drain();
        workers.into_iter().for_each(|worker| drop(worker.join().unwrap()));
        office.assert_rounds_are_reported_once_and_the_last_one_is_among_them(2);
    });
}

#[test]
fn a_worker_that_ends_at_any_time_keeps_no_request_waiting() {
    in_every_order(PREEMPTIONS, || {
        let office = Office::new();
        let ending = office.start(|office| office.contribute(1, u64::MAX, ENDED));
        let working = office.start(|office| {
            let mut last = 0;
            while last < 2 {
                office.bells[0].wait();
                office.contribute_if_wanted(0, &mut last);
            }
        });
        office.handle.report_stats();
        office.handle.report_stats();
        ending.join().unwrap();
        working.join().unwrap();
        office.assert_rounds_are_reported_once_and_the_last_one_is_among_them(2);
    });
}

#[test]
fn a_stop_that_goes_further_is_never_taken_back() {
    in_every_order(PREEMPTIONS, || {
        let office = Office::new();
        let cutting = office.start(|office| office.handle.cut());
        let draining = office.start(|office| office.handle.drain());
        office.bells[0].wait();
        let first = office.handle.stop.load();
        assert!(first >= Stop::Drain);
        cutting.join().unwrap();
        assert_eq!(office.handle.stop.load(), Stop::Cut);
        draining.join().unwrap();
        assert_eq!(office.handle.stop.load(), Stop::Cut);
    });
}

#[test]
fn signs_of_life_need_a_beat_of_everybody_who_has_not_ended() {
    in_every_order(PREEMPTIONS, || {
        let pulse = Arc::new(Pulse::new(2, Some(Duration::from_secs(1))));
        let others = Arc::clone(&pulse);
        let other = thread::spawn(move || {
            let signs = u32::from(others.beat(1)) + u32::from(others.beat(1));
            // After this, a beat of the first worker alone is enough.
            (signs, others.end(1))
        });
        let own = u32::from(pulse.beat(0));
        let (others, at_the_end) = other.join().unwrap();
        // The one beat of the first worker is told once, also if the other one was already ending.
        assert_eq!(own + others + u32::from(at_the_end), 1);
        assert!(pulse.beat(0));
    });
}

#[test]
fn nothing_that_is_counted_is_lost() {
    in_every_order(None, || {
        let counters = Arc::new(Counters::default());
        let closed = Arc::new(ClosedCounters::default());
        let one = Totals { bytes_in: 1, bytes_out: 2, frames_in: 3, frames_out: 4 };
        let count = move |counters: &Counters, closed: &ClosedCounters, cut| {
            counters.note_rejected();
            counters.note_drained(cut);
            closed.note(one, &Reason::Drain);
            counters.next_connection()
        };
        let (others_counters, others_closed) = (Arc::clone(&counters), Arc::clone(&closed));
        let other = thread::spawn(move || count(&others_counters, &others_closed, false));
        let mut numbers = [count(&counters, &closed, true), other.join().unwrap()];
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2]);

        let mut stats = Stats::default();
        closed.add_to(&mut stats);
        assert_eq!(stats.closed.iter().sum::<u64>(), 2);
        let summary = counters.summary(stats.totals, false);
        let counts = [summary.connections, summary.rejected, summary.drained, summary.cut];
        assert_eq!(counts, [2, 2, 1, 1]);
        let Totals { bytes_in, bytes_out, frames_in, frames_out, .. } = summary.totals;
        assert_eq!([bytes_in, bytes_out, frames_in, frames_out], [2, 4, 6, 8]);
    });
}
