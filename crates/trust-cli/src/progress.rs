//! The progress line on a terminal.

use std::fmt::Write;
use std::io;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use rustix::termios::{isatty, tcgetwinsize};

/// Width of a terminal that does not report its own.
const COLUMNS_USUAL: usize = 80;

/// Columns for the bar and the gap between it and the text.
pub const BAR_COLUMNS: usize = 22;

/// Steps of the bar.
const BAR_STEPS: u64 = 1000;

/// The progress line on a terminal.
pub struct Progress {
    /// Where to draw it; `None` if that is not a terminal.
    terminal: Option<Terminal>,
    /// The line as drawn, until it is cleared.
    bar: Option<ProgressBar>,
}

type Terminal = Box<dyn Fn() -> ProgressDrawTarget>;

impl Progress {
    /// A line on stderr, if that is a terminal.
    pub fn on_stderr() -> Progress {
        let terminal = || -> Terminal { Box::new(ProgressDrawTarget::stderr) };
        Progress { terminal: isatty(io::stderr()).then(terminal), bar: None }
    }

    /// Redraws the line. `line` gets the number of columns and returns the text and, for a bar
    /// before it, how much is done, from 0 to 1. The bar takes [`BAR_COLUMNS`].
    pub fn show(&mut self, line: impl FnOnce(usize) -> (String, Option<f64>)) {
        let Some(terminal) = &self.terminal else { return };
        // The last column stays free, so that the terminal does not wrap the line.
        let (text, done) = line(columns() - 1);
        let template = if done.is_some() { "{bar:20.cyan} {text}" } else { "{text}" };
        let Ok(style) = ProgressStyle::with_template(template) else { return };
        // As the bar's message, the text would be drawn separately: two drawings instead of one.
        let text = move |_: &ProgressState, line: &mut dyn Write| _ = line.write_str(&text);
        let made = || ProgressBar::with_draw_target(Some(BAR_STEPS), terminal());
        let step = (done.unwrap_or(0.0).clamp(0.0, 1.0) * BAR_STEPS as f64) as u64;
        let bar = self.bar.take().unwrap_or_else(made).with_position(step);
        bar.set_style(style.progress_chars("=> ").with_key("text", text));
        bar.force_draw();
        self.bar = Some(bar);
    }

    /// Removes the line, before other output.
    pub fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn columns() -> usize {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { COLUMNS_USUAL } else { columns }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use indicatif::TermLike;

    use super::*;

    /// Everything sent to a terminal, however it would look.
    #[derive(Clone, Debug, Default)]
    struct Screen(Arc<Mutex<String>>);

    impl Screen {
        fn take(&self) -> String {
            std::mem::take(&mut self.0.lock().expect("no thread panics while holding it"))
        }
    }

    impl TermLike for Screen {
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
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().expect("no thread panics while holding it").push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            self.write_str("(clear)")
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    fn on(screen: &Screen) -> Progress {
        let screen = screen.clone();
        let target = move || ProgressDrawTarget::term_like(Box::new(screen.clone()));
        Progress { terminal: Some(Box::new(target)), bar: None }
    }

    #[test]
    fn each_line_is_drawn_once_and_taken_away_before_something_else_is_written() {
        let screen = Screen::default();
        let mut progress = on(&screen);
        progress.clear();
        assert_eq!(screen.take(), "");
        // More often than any rate limit on drawing allows.
        for number in 0..100 {
            progress.show(|_| (format!("line {number}."), None));
            let drawn = screen.take();
            assert_eq!(drawn.matches(&format!("line {number}.")).count(), 1, "{drawn}");
            assert_eq!(drawn.contains("(clear)"), number % 10 > 0, "{drawn}");
            if number % 10 == 9 {
                progress.clear();
                assert_eq!(screen.take(), "(clear)");
            }
        }
    }

    #[test]
    fn a_bar_shows_how_much_is_done() {
        let screen = Screen::default();
        let mut progress = on(&screen);
        let bars = [0.0, 0.25, 1.0].map(|done| {
            progress.show(|_| ("text".to_owned(), Some(done)));
            let drawn = screen.take();
            assert!(drawn.contains(" text"), "{drawn}");
            drawn.matches('=').count()
        });
        assert_eq!(bars, [0, 5, 20]);
    }

    #[test]
    fn where_there_is_no_terminal_nothing_is_drawn() {
        let mut progress = Progress { terminal: None, bar: None };
        progress.show(|_| panic!("no line is wanted"));
        progress.clear();
    }
}
