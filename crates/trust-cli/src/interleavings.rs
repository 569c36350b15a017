//! The log queue under every possible order of its threads (`make interleavings`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loom::thread::{self, JoinHandle};

use crate::log_queue::Queue;

/// Lines are two bytes long; the first one names the line, lower case until `END`.
const LINE_BYTES: usize = 2;
/// The last line, after which the writer ends.
const END: u8 = b'Z';
/// The first file that lines are written to; others replace it.
const FIRST_FILE: u8 = 0;

/// How often threads may be interrupted where they would not wait anyway. Each more makes for about
/// four times as many orders.
const PREEMPTIONS: Option<usize> = Some(4);

/// Runs a scenario in every order of its threads with at most this many preemptions, unless
/// `LOOM_MAX_PREEMPTIONS` is set, and prints the number of orders.
#[expect(clippy::print_stdout, reason = "the number of orders is for those who run the tests")]
fn in_every_order(preemptions: Option<usize>, scenario: impl Fn() + Send + Sync + 'static) {
    let orders = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&orders);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(preemptions);
    model.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        scenario();
    });
    let (name, orders) = (std::thread::current(), orders.load(Ordering::Relaxed));
    println!("{}: {orders} orders", name.name().unwrap_or_default());
}

/// What the writer did: wrote a line, marked a gap and its number of lines, or switched to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Line(u8),
    Gap(u64),
    File(u8),
}

/// No wait for the queue may be in vain: one that nothing ends is a deadlock, which the checker
/// reports.
fn no_deadline() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn queue(max_lines: usize) -> Arc<Queue<u8>> {
    Arc::new(Queue::new(max_lines * LINE_BYTES))
}

fn push(queue: &Queue<u8>, name: u8) {
    queue.push(&[name, b'\n']);
}

/// A thread that logs these lines one after another.
fn start_producer(queue: &Arc<Queue<u8>>, names: &'static [u8]) -> JoinHandle<()> {
    let queue = Arc::clone(queue);
    thread::spawn(move || names.iter().for_each(|name| push(&queue, *name)))
}

/// Everything written so far, as seen from outside; a lock that the checker ignores, to save
/// orders.
type Paper = Arc<std::sync::Mutex<Vec<Written>>>;

/// Does what a sink's writer does, until the line `END`. If it `is_slow`, it finishes each line
/// separately and looks for another file in between, as after an error.
fn start_writer(queue: &Arc<Queue<u8>>, is_slow: bool) -> (Paper, JoinHandle<()>) {
    let (queue, paper) = (Arc::clone(queue), Paper::default());
    let written = Arc::clone(&paper);
    let write = move |what| written.lock().unwrap().push(what);
    let writer = thread::spawn(move || {
        let mut batch = Vec::new();
        loop {
            let (missing, file) = queue.take(&mut batch);
            file.into_iter().for_each(|file| write(Written::File(file)));
            for line in batch.chunks(LINE_BYTES) {
                write(Written::Line(line[0]));
                if is_slow {
                    queue.note_written(1);
                    queue
                        .take_replacement()
                        .into_iter()
                        .for_each(|file| write(Written::File(file)));
                }
            }
            if missing > 0 {
                write(Written::Gap(missing));
                if is_slow {
                    // The gap line counts as one of the lines written.
                    queue.note_written(1);
                }
            }
            if batch.ends_with(&[END, b'\n']) {
                return;
            }
        }
    });
    (paper, writer)
}

/// The lines of `paper` whose names are among `names`.
fn lines_of(paper: &Paper, names: &[u8]) -> Vec<u8> {
    let paper = paper.lock().unwrap();
    let lines = paper.iter().filter_map(|written| match written {
        Written::Line(name) if names.contains(name) => Some(*name),
        _ => None,
    });
    lines.collect()
}

#[test]
fn every_line_of_every_thread_is_written_once_and_in_its_order() {
    in_every_order(PREEMPTIONS, || {
        let queue = queue(8);
        let (paper, writer) = start_writer(&queue, false);
        let producers = [b"ab", b"mn"].map(|names| start_producer(&queue, names));
        producers.into_iter().for_each(|producer| producer.join().unwrap());
        push(&queue, END);
        writer.join().unwrap();
        assert_eq!(lines_of(&paper, b"ab"), b"ab");
        assert_eq!(lines_of(&paper, b"mn"), b"mn");
        assert_eq!(paper.lock().unwrap().len(), 5, "{paper:?}");
    });
}

#[test]
fn lines_that_do_not_fit_are_told_of_once_where_they_are_missing() {
    in_every_order(PREEMPTIONS, || {
        let queue = queue(1);
        let (paper, writer) = start_writer(&queue, false);
        let producer = start_producer(&queue, b"abc");
        producer.join().unwrap();
        assert_eq!(queue.settle(no_deadline()), 0, "lines are missing although the queue is empty");
        push(&queue, END);
        writer.join().unwrap();

        let mut next = b'a';
        for written in paper.lock().unwrap().iter() {
            match written {
                Written::Line(END) => assert_eq!(next, b'd', "{paper:?}"),
                Written::Line(name) => {
                    assert_eq!(*name, next, "{paper:?}");
                    next += 1;
                }
                Written::Gap(missing) => next += u8::try_from(*missing).unwrap(),
                Written::File(_) => unreachable!("nothing replaces it"),
            }
        }
        assert_eq!(next, b'd', "{paper:?}");
    });
}

#[test]
fn who_waits_for_everything_to_be_written_finds_it_written() {
    in_every_order(PREEMPTIONS, || {
        let queue = queue(8);
        let (paper, writer) = start_writer(&queue, true);
        let producer = start_producer(&queue, b"mn");
        push(&queue, b'a');
        assert_eq!(queue.settle(no_deadline()), 0);
        assert_eq!(lines_of(&paper, b"a"), b"a");
        producer.join().unwrap();
        assert_eq!(queue.settle(no_deadline()), 0);
        assert_eq!(lines_of(&paper, b"mn"), b"mn");
        push(&queue, END);
        writer.join().unwrap();
    });
}

#[test]
fn two_who_wait_for_everything_to_be_written_are_both_woken() {
    in_every_order(PREEMPTIONS, || {
        let queue = queue(8);
        let (paper, writer) = start_writer(&queue, false);
        let other = Arc::clone(&queue);
        let seen = Arc::clone(&paper);
        let waiting = thread::spawn(move || {
            push(&other, b'm');
            assert_eq!(other.settle(no_deadline()), 0);
            assert_eq!(lines_of(&seen, b"m"), b"m");
        });
        push(&queue, b'a');
        assert_eq!(queue.settle(no_deadline()), 0);
        assert_eq!(lines_of(&paper, b"a"), b"a");
        waiting.join().unwrap();
        push(&queue, END);
        writer.join().unwrap();
    });
}

#[test]
fn who_waits_for_everything_to_be_written_ends_the_writer_s_rest() {
    in_every_order(PREEMPTIONS, || {
        let queue = queue(8);
        let resting = Arc::clone(&queue);
        let writer = thread::spawn(move || {
            let mut batch = Vec::new();
            loop {
                resting.take(&mut batch);
                if batch.ends_with(&[END, b'\n']) {
                    return;
                }
                // Time does not pass under the checker, so nothing else ends it.
                resting.rest(Duration::from_secs(3600));
            }
        });
        let producer = start_producer(&queue, b"m");
        push(&queue, b'a');
        assert_eq!(queue.settle(no_deadline()), 0);
        producer.join().unwrap();
        assert_eq!(queue.settle(no_deadline()), 0);
        push(&queue, END);
        writer.join().unwrap();
    });
}

#[test]
fn who_does_not_wait_is_told_of_every_line_that_is_not_written() {
    in_every_order(PREEMPTIONS, || {
        let queue = queue(1);
        let (paper, writer) = start_writer(&queue, true);
        push(&queue, b'a');
        push(&queue, b'b');
        let unwritten = queue.settle(Instant::now());
        let told = paper
            .lock()
            .unwrap()
            .iter()
            .map(|written| match written {
                Written::Line(_) => 1,
                Written::Gap(missing) => *missing,
                Written::File(_) => 0,
            })
            .sum::<u64>();
        assert!(unwritten + told >= 2, "{unwritten} are missing, and {paper:?}");
        assert_eq!(queue.settle(no_deadline()), 0);
        push(&queue, END);
        writer.join().unwrap();
    });
}

#[test]
fn another_file_is_taken_once_and_before_the_lines_that_follow_it() {
    in_every_order(PREEMPTIONS, || {
        let queue = queue(8);
        let (paper, writer) = start_writer(&queue, true);
        let producer = start_producer(&queue, b"m");
        push(&queue, b'a');
        queue.replace(FIRST_FILE + 1);
        push(&queue, b'b');
        producer.join().unwrap();
        push(&queue, END);
        writer.join().unwrap();

        let paper = paper.lock().unwrap();
        let at = |what| {
            let found: Vec<usize> = (0..paper.len()).filter(|at| paper[*at] == what).collect();
            assert_eq!(found.len(), 1, "{what:?} in {paper:?}");
            found[0]
        };
        assert!(at(Written::File(FIRST_FILE + 1)) < at(Written::Line(b'b')), "{paper:?}");
        at(Written::Line(b'a'));
        at(Written::Line(b'm'));
    });
}

#[test]
fn a_line_that_is_given_up_is_missing_or_written_and_never_both() {
    in_every_order(PREEMPTIONS, || {
        let queue = queue(8);
        push(&queue, b'a');
        push(&queue, b'b');
        let (writing, paper) = (Arc::clone(&queue), Paper::default());
        let written = Arc::clone(&paper);
        let writer = thread::spawn(move || {
            let mut batch = Vec::new();
            writing.take(&mut batch);
            for line in batch.chunks(LINE_BYTES) {
                if !writing.begin_write() {
                    return;
                }
                written.lock().unwrap().push(Written::Line(line[0]));
                writing.note_written(1);
            }
        });
        let missing = queue.give_up(no_deadline());
        writer.join().unwrap();
        let written = lines_of(&paper, b"ab").len() as u64;
        assert_eq!(missing + written, 2, "{missing} are missing, and {paper:?}");
    });
}
