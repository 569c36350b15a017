use std::io::{Read, Write};
use std::path::PathBuf;

use super::*;

/// Longer than any test here takes.
const DEADLINE: Duration = Duration::from_secs(20);

fn gap_line() -> GapLine {
    Box::new(|missing, sink| format!("gap of {missing} in {sink}\n").into_bytes())
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("logs").join("trustctl.log");
    (directory, path)
}

fn file_output(path: &Path) -> SinkOutput {
    SinkOutput::File(LogFile::open(path).unwrap())
}

fn deadline() -> Instant {
    Instant::now() + DEADLINE
}

/// A pipe in place of a file, opened in the same way. It is full until its reader reads.
fn sink_into_pipe() -> (Sink, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    (
        Sink::start(SinkOutput::File(LogFile::new(Path::new(""), file)), None, gap_line()).unwrap(),
        reader,
    )
}

#[test]
fn lines_come_out_whole_and_in_order() {
    let (_directory, path) = scratch();
    let sink = Sink::start(file_output(&path), None, gap_line()).unwrap();
    let lines: Vec<String> = (0..10_000).map(|number| format!("line {number}\n")).collect();
    lines.iter().for_each(|line| sink.push(line.as_bytes()));
    assert_eq!(sink.settle(deadline()), 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), lines.concat());
}

#[test]
fn a_sink_that_nobody_reads_holds_nobody_up_and_counts_what_it_lost() {
    let (sink, mut reader) = sink_into_pipe();
    let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<u8>>();
    let pushed = 3 * QUEUE_BYTES / line.len();
    for _ in 0..pushed {
        sink.push(&line);
    }
    let missing = sink.settle(Instant::now());
    assert!(missing > 0);

    let reading = thread::spawn(move || {
        let mut text = Vec::new();
        let mut piece = [0; 65_536];
        while !text.ends_with(b"the end\n") {
            let count = reader.read(&mut piece).unwrap();
            text.extend_from_slice(&piece[..count]);
        }
        String::from_utf8(text).unwrap()
    });
    while sink.settle(deadline()) > 0 {}
    sink.push(b"the end\n");
    let text = reading.join().unwrap();
    let gaps: Vec<&str> = text.lines().filter(|line| line.starts_with("gap of")).collect();
    let lost = gaps.iter().map(|gap| gap.split(' ').nth(2).unwrap().parse::<usize>().unwrap());
    let written = text.lines().filter(|line| line.starts_with('x')).count();
    assert_eq!(written + lost.sum::<usize>(), pushed, "{gaps:?}");
}

#[test]
fn what_was_given_up_is_never_written() {
    let (sink, mut reader) = sink_into_pipe();
    let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<u8>>();
    let pushed = 1000;
    (0..pushed).for_each(|_| sink.push(&line));
    let missing = sink.give_up(deadline());
    assert!(missing > 0, "a pipe takes less");
    // The writer closes its end of the pipe when it ends.
    let (mut written, mut piece) = (0, [0; 65_536]);
    while written + missing <= pushed {
        match reader.read(&mut piece).unwrap() {
            0 => break,
            count => written += count_lines(&piece[..count]),
        }
    }
    assert_eq!(written + missing, pushed);
}

#[test]
fn a_log_fifo_keeps_its_lines_for_the_next_reader() {
    let (directory, _) = scratch();
    let fifo = directory.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let open_reader =
        || OpenOptions::new().read(true).custom_flags(nonblocking).open(&fifo).unwrap();

    let first = open_reader();
    let sink = Sink::start(file_output(&fifo), None, gap_line()).unwrap();
    drop(first);
    sink.push(b"one\n");
    sink.push(b"two\n");
    assert_eq!(sink.settle(Instant::now() + RETRY_PAUSE), 2);
    let mut second = open_reader();
    assert_eq!(sink.settle(deadline()), 0);
    let mut text = [0; 8];
    second.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"one\ntwo\n");
}

#[test]
fn another_file_takes_over_from_a_fifo_whose_reader_does_not_read() {
    let (directory, path) = scratch();
    let fifo = directory.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let reader = OpenOptions::new().read(true).custom_flags(nonblocking).open(&fifo).unwrap();
    let sink = Sink::start(file_output(&fifo), None, gap_line()).unwrap();
    let lines: Vec<String> = (0..10_000).map(|number| format!("line {number}\n")).collect();
    lines.iter().for_each(|line| sink.push(line.as_bytes()));
    let waiting = sink.settle(Instant::now() + 2 * RETRY_PAUSE);
    assert!(waiting > 0, "a pipe takes less");
    sink.replace_file(LogFile::open(&path).unwrap());
    assert_eq!(sink.settle(deadline()), 0);
    // The FIFO got the first lines, all complete, and the file the rest.
    let mut first = vec![0; 1024 * 1024];
    let count = (&reader).read(&mut first).unwrap();
    let (first, rest) = (&first[..count], fs::read(&path).unwrap());
    assert!(first.ends_with(b"\n") && !rest.is_empty());
    assert!([first, &rest].concat() == lines.concat().as_bytes());
}

#[test]
fn another_file_takes_over_between_two_lines() {
    let (_directory, path) = scratch();
    let sink = Sink::start(file_output(&path), None, gap_line()).unwrap();
    sink.push(b"old\n");
    assert_eq!(sink.settle(deadline()), 0);
    let moved = path.with_extension("1");
    fs::rename(&path, &moved).unwrap();
    sink.replace_file(LogFile::open(&path).unwrap());
    sink.push(b"new\n");
    assert_eq!(sink.settle(deadline()), 0);
    assert_eq!(fs::read_to_string(&moved).unwrap(), "old\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
}

#[test]
fn a_full_disk_is_waited_for_and_says_so_at_the_end() {
    let sink = Sink::start(file_output(Path::new("/dev/full")), None, gap_line()).unwrap();
    sink.push(b"one\n");
    sink.push(b"two\n");
    assert_eq!(sink.settle(Instant::now() + RETRY_PAUSE), 2);
    let (_directory, path) = scratch();
    sink.replace_file(LogFile::open(&path).unwrap());
    assert_eq!(sink.settle(deadline()), 0);
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
}

#[test]
fn a_torn_last_line_is_closed_by_the_next_one_whoever_tore_it() {
    let (_directory, path) = scratch();
    fs::create_dir(path.parent().unwrap()).unwrap();
    for before in ["", "{}\n", "{\"to", "\n"] {
        fs::write(&path, before).unwrap();
        let queue = Arc::new(Queue::new(QUEUE_BYTES));
        let mut writer = Writer::new(file_output(&path), None, queue);
        writer.write_batch(b"{1}\n{2}\n");
        let closed = if before == "{\"to" { "{\"to\n" } else { before };
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{closed}{{1}}\n{{2}}\n"));

        // Another process tears a line, and a third one closes it.
        let mut other = OpenOptions::new().append(true).open(&path).unwrap();
        other.write_all(b"{\"torn").unwrap();
        writer.write_batch(b"{3}\n");
        other.write_all(b"{\"torn").unwrap();
        other.write_all(b"\n{4}\n").unwrap();
        writer.write_batch(b"{5}\n");
        let expected = format!("{closed}{{1}}\n{{2}}\n{{\"torn\n{{3}}\n{{\"torn\n{{4}}\n{{5}}\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }
}

#[test]
fn lines_that_a_gap_line_is_to_tell_of_are_missing_until_it_is_written() {
    let (sink, _reader) = sink_into_pipe();
    let line = [b'x'; 1023].into_iter().chain([b'\n']).collect::<Vec<u8>>();
    let pushed = 3 * QUEUE_BYTES / line.len();
    for _ in 0..pushed {
        sink.push(&line);
        // The writer takes whole batches while more lines are pushed.
        thread::yield_now();
    }
    let missing = sink.settle(Instant::now());
    let most_in_pipe = 2 * 1024 * 1024 / line.len();
    assert!(missing as usize >= pushed - most_in_pipe, "{missing} of {pushed}");
}

#[test]
fn a_path_that_cannot_be_a_log_file_is_refused_at_once() {
    let (directory, _) = scratch();
    let directory = directory.path();
    assert!(LogFile::open(directory).is_err());
    fs::write(directory.join("file"), "").unwrap();
    assert!(LogFile::open(&directory.join("file").join("x.log")).is_err());
    let fifo = directory.join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
    assert!(LogFile::open(&fifo).is_err());
}

#[test]
fn a_file_that_was_moved_away_or_removed_is_followed_by_one_of_its_name() {
    let (_directory, path) = scratch();
    let mut writer = Writer::new(file_output(&path), None, Arc::new(Queue::new(QUEUE_BYTES)));
    let mut write = |line: &str, is_due: bool| {
        if is_due {
            writer.next_look = Instant::now();
        }
        writer.use_replacement(None);
        writer.write_batch(line.as_bytes());
    };
    let moved = path.with_extension("1");
    write("one\n", true);
    fs::rename(&path, &moved).unwrap();
    // It is only checked from time to time.
    write("two\n", false);
    write("three\n", true);
    assert_eq!(fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "three\n");
    // Replaced by another, existing file.
    fs::rename(&moved, &path).unwrap();
    write("four\n", true);
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nfour\n");
    fs::remove_file(&path).unwrap();
    write("five\n", true);
    assert_eq!(fs::read_to_string(&path).unwrap(), "five\n");
    // Without its directory it goes on with the old file, until there is a directory again.
    let directory = path.parent().unwrap();
    fs::remove_dir_all(directory).unwrap();
    write("six\n", true);
    assert!(!directory.exists());
    fs::create_dir(directory).unwrap();
    write("seven\n", true);
    assert_eq!(fs::read_to_string(&path).unwrap(), "seven\n");
}
