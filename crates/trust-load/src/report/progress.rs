//! The line on a terminal that says how a run goes.

use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use trust_cli::text::grouped;

use crate::report::count;
use crate::report::units::{rate, time};
use crate::summary::{Live, Phase};

/// The least time from one drawing to the next: more cannot be read, and each costs the client some time.
const REDRAW: Duration = Duration::from_millis(100);

/// Columns of a terminal that does not say how many it has.
const COLUMNS_USUAL: usize = 80;

/// Columns of the bar, and of the blank before it.
const BAR_COLUMNS: usize = 22;

/// Steps of the bar.
const BAR_STEPS: u64 = 1000;

/// The line on a terminal that says how a run goes. There is none where stderr is no terminal.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    drawn: Option<Instant>,
}

impl Progress {
    /// A line on stderr, if that is a terminal.
    pub fn on_stderr() -> Progress {
        match rustix::termios::isatty(io::stderr()) {
            true => Progress::on(ProgressDrawTarget::stderr()),
            false => Progress { bar: None, drawn: None },
        }
    }

    fn on(target: ProgressDrawTarget) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(BAR_STEPS), target);
        Progress { bar: Some(bar), drawn: None }
    }

    /// Draws the line anew, unless that was done a moment ago.
    pub fn show(&mut self, live: &Live) {
        let size = rustix::termios::tcgetwinsize(io::stderr());
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        let columns = if columns == 0 { COLUMNS_USUAL } else { columns };
        self.show_at(live, columns, Instant::now());
    }

    fn show_at(&mut self, live: &Live, columns: usize, now: Instant) {
        let Some(bar) = &self.bar else { return };
        if self.drawn.is_some_and(|drawn| now.duration_since(drawn) < REDRAW) {
            return;
        }
        self.drawn = Some(now);
        let (text, has_bar) = line(live, columns);
        let template = if has_bar { "{bar:20.cyan} {text}" } else { "{text}" };
        let Ok(style) = ProgressStyle::with_template(template) else { return };
        let text = move |_: &ProgressState, line: &mut dyn Write| _ = line.write_str(&text);
        // The update draws. As a message of the bar, the text would be drawn by itself, which makes two drawings of one.
        bar.set_style(style.progress_chars("=> ").with_key("text", text));
        let done = live.done.unwrap_or(0.0).clamp(0.0, 1.0);
        bar.update(|state| state.set_pos((done * BAR_STEPS as f64) as u64));
    }

    /// Takes the line away, before something else is written.
    pub fn clear(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What there is room for, the most important first, and whether a bar fits before it. The last column stays free.
fn line(live: &Live, columns: usize) -> (String, bool) {
    let room = columns.saturating_sub(1);
    let phase = match live.phase {
        Phase::Waiting => "waiting",
        Phase::Connecting => "connecting",
        Phase::WarmUp => "warm-up",
        Phase::Measuring => "measuring",
        Phase::Finishing => "finishing",
    };
    let mut pieces = vec![format!("{phase} {}", clock(live.elapsed))];
    if live.phase != Phase::Waiting {
        // There is none before the first interval is over.
        pieces.extend(
            (live.rate > 0.0 || live.p50.is_some()).then(|| format!("{}/s", rate(live.rate))),
        );
        pieces.extend(live.p50.map(|p50| format!("p50 {}", time(p50))));
        pieces.extend(live.p99.map(|p99| format!("p99 {}", time(p99))));
        pieces.push(count(live.errors, "error"));
    }
    // What is left of a second is not nothing.
    let left = live.left.map(|left| Duration::from_secs(left.as_millis().div_ceil(1000) as u64));
    pieces.extend(left.map(|left| format!("{} left", clock(left))));
    if live.phase != Phase::Waiting {
        pieces.push(format!("{} open", grouped(live.connections)));
    }
    let mut text = String::new();
    for piece in pieces {
        let gap = if text.is_empty() { "" } else { "  " };
        if text.chars().count() + gap.len() + piece.chars().count() > room {
            break;
        }
        text = text + gap + &piece;
    }
    if text.is_empty() {
        text = phase.chars().take(room).collect();
    }
    let has_bar = live.done.is_some() && text.chars().count() + BAR_COLUMNS <= room;
    (text, has_bar)
}

/// `0:07`, `12:34`, `1:02:03`
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        hours => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    fn live() -> Live {
        Live {
            phase: Phase::Measuring,
            elapsed: Duration::from_secs(7),
            done: Some(0.25),
            left: Some(Duration::from_millis(20_100)),
            connections: 64,
            answered: 140_000,
            rate: 19_998.0,
            p50: Some(105_000),
            p99: Some(1_590_000),
            errors: 3,
        }
    }

    /// What a terminal was told, whatever it would look like.
    #[derive(Clone, Debug, Default)]
    struct Terminal(Arc<Mutex<Vec<String>>>);

    impl Terminal {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().expect("nobody panics with it"))
        }

        fn tell(&self, what: &str) -> io::Result<()> {
            self.0.lock().expect("nobody panics with it").push(what.to_owned());
            Ok(())
        }
    }

    impl TermLike for Terminal {
        fn width(&self) -> u16 {
            120
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.tell(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.tell(text)
        }

        fn clear_line(&self) -> io::Result<()> {
            self.tell("(clear)")
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_most_important_stays_when_there_is_little_room() {
        let cases = [
            (
                120,
                "measuring 0:07  19,998/s  p50 105 µs  p99 1.59 ms  3 errors  0:21 left  64 open",
                true,
            ),
            (78, "measuring 0:07  19,998/s  p50 105 µs  p99 1.59 ms  3 errors  0:21 left", false),
            (40, "measuring 0:07  19,998/s  p50 105 µs", false),
            (8, "measuri", false),
        ];
        for (columns, expected, has_bar) in cases {
            assert_eq!(line(&live(), columns), (expected.to_owned(), has_bar), "{columns}");
        }
        for columns in 0..140 {
            let (text, has_bar) = line(&live(), columns);
            let bar = if has_bar { BAR_COLUMNS } else { 0 };
            assert!(text.chars().count() + bar <= columns.saturating_sub(1), "{columns}: {text}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_shown() {
        let live = Live { done: None, left: None, p50: None, p99: None, errors: 1, ..live() };
        assert_eq!(line(&live, 120).0, "measuring 0:07  19,998/s  1 error  64 open");
        assert!(!line(&live, 120).1);
        let early = Live { rate: 0.0, ..live };
        assert_eq!(line(&early, 120).0, "measuring 0:07  1 error  64 open");
        let waiting = Live { phase: Phase::Waiting, ..live };
        assert_eq!(line(&waiting, 120).0, "waiting 0:07");
        assert_eq!(clock(Duration::from_secs(3_723)), "1:02:03");
    }

    #[test]
    fn it_is_drawn_once_in_a_tenth_of_a_second_at_most_and_taken_away_at_last() {
        let terminal = Terminal::default();
        let mut progress = Progress::on(ProgressDrawTarget::term_like(Box::new(terminal.clone())));
        let begin = Instant::now();
        progress.show_at(&live(), 120, begin);
        let drawn = terminal.take().concat();
        assert_eq!(drawn.matches("measuring").count(), 1, "{drawn}");
        assert!(drawn.contains("[=") || drawn.contains("=>"), "{drawn}");
        assert!(drawn.contains("19,998/s  p50 105 µs"), "{drawn}");
        progress.show_at(&live(), 120, begin + REDRAW - Duration::from_millis(1));
        assert_eq!(terminal.take(), Vec::<String>::new());
        progress.show_at(&Live { errors: 4, ..live() }, 120, begin + REDRAW);
        assert!(terminal.take().concat().contains("4 errors"));
        progress.clear();
        let cleared = terminal.take();
        assert!(cleared.iter().any(|told| told == "(clear)"), "{cleared:?}");
        assert!(!cleared.concat().contains("errors"), "{cleared:?}");
    }

    #[test]
    fn where_there_is_no_terminal_nothing_is_drawn() {
        let mut progress = Progress { bar: None, drawn: None };
        progress.show_at(&live(), 80, Instant::now());
        progress.clear();
        assert_eq!(progress.drawn, None);
    }
}
