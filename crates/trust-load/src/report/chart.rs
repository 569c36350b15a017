//! Charts as SVG that stretches to any width, with labels beside it that do not.
//!
//! Places are shares of the plot from 0 to 1, from the left and from below.

use std::fmt::Write as _;

use maud::{Markup, Render, html};

/// Units of the drawing along each side; it is stretched, so they are not pixels.
const SIDE: f64 = 1000.0;

/// A chart.
#[derive(Clone, Debug, Default)]
pub struct Chart {
    /// What no other chart of the page has.
    pub id: &'static str,
    /// What is shown, in a few words.
    pub title: &'static str,
    /// What one would see, in words.
    pub description: String,
    /// What the upward axis is, with what is special about it.
    pub y_name: String,
    /// What the axis to the right is.
    pub x_name: &'static str,
    /// Labels of the upward axis.
    pub y_ticks: Vec<Tick>,
    /// Labels of the axis to the right.
    pub x_ticks: Vec<Tick>,
    /// What is drawn, the last on top.
    pub lines: Vec<Line>,
    /// What is told where a pointer is: from here to there, this.
    pub hints: Vec<(f64, f64, String)>,
    /// Whether it is one of several thin ones, one above the other.
    pub is_strip: bool,
}

/// A label of an axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// Where.
    pub at: f64,
    /// What it says.
    pub text: String,
}

/// Something that is drawn.
#[derive(Clone, Debug)]
pub struct Line {
    /// How it looks.
    pub look: Look,
    /// What it is; none, if the chart's title says it.
    pub name: Option<&'static str>,
    /// Its pieces.
    pub path: Path,
}

/// How a line looks: in colour, and for those who see none, in dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// The most important one: solid.
    First,
    /// Dashed.
    Second,
    /// Dotted.
    Third,
    /// What was asked for: thin, with long dashes.
    Asked,
    /// Filled down to the axis.
    Area,
    /// Filled, for errors.
    Bad,
    /// Shaded, where there is nothing to draw and should be.
    Nothing,
}

impl Render for Look {
    fn render_to(&self, class: &mut String) {
        class.push_str(match self {
            Look::First => "first",
            Look::Second => "second",
            Look::Third => "third",
            Look::Asked => "asked",
            Look::Area => "area",
            Look::Bad => "bad",
            Look::Nothing => "nothing",
        });
    }
}

/// The commands of an SVG path.
#[derive(Clone, Debug, Default)]
pub struct Path(String);

impl Path {
    /// A line through places.
    pub fn through(places: impl IntoIterator<Item = (f64, f64)>) -> Path {
        let mut path = Path::default();
        for (index, (x, y)) in places.into_iter().enumerate() {
            let _ = write!(path.0, "{}{} {}", if index == 0 { 'M' } else { 'L' }, along(x), up(y));
        }
        path
    }

    /// A level from here to there for each value, joined where there is none between them.
    pub fn steps(levels: impl IntoIterator<Item = (f64, f64, Option<f64>)>) -> Path {
        let (mut path, mut is_drawing) = (Path::default(), false);
        for (from, to, level) in levels {
            if let Some(level) = level {
                let _ = match is_drawing {
                    true => write!(path.0, "V{}H{}", up(level), along(to)),
                    false => write!(path.0, "M{} {}H{}", along(from), up(level), along(to)),
                };
            }
            is_drawing = level.is_some();
        }
        path
    }

    /// A bar from the axis for each value that is not 0.
    pub fn bars(levels: impl IntoIterator<Item = (f64, f64, f64)>) -> Path {
        let mut path = Path::default();
        for (from, to, level) in levels.into_iter().filter(|(_, _, level)| *level > 0.0) {
            let _ = write!(path.0, "M{} {SIDE}V{}H{}V{SIDE}Z", along(from), up(level), along(to));
        }
        path
    }
}

impl Render for Chart {
    fn render(&self) -> Markup {
        let Chart { id, title, description, y_name, x_name, .. } = self;
        let (title_id, description_id) = (format!("{id}-title"), format!("{id}-desc"));
        html! {
            figure .strip[self.is_strip] {
                figcaption {
                    b { (title) }
                    @for line in &self.lines {
                        @if let Some(name) = line.name {
                            " "
                            span .key {
                                svg viewBox="0 0 28 8" aria-hidden="true" {
                                    path class=(line.look) d="M0 4H28" {}
                                }
                                " " (name)
                            }
                        }
                    }
                }
                p .axis { (y_name) }
                .plot {
                    .y { (labels("bottom", &self.y_ticks)) }
                    svg role="img" aria-labelledby={ (title_id) " " (description_id) }
                        viewBox={ "0 0 " (SIDE) " " (SIDE) } preserveAspectRatio="none"
                    {
                        title id=(title_id) { (title) }
                        desc id=(description_id) { (description) }
                        path .grid d=(self.grid()) {}
                        @for Line { look, path, .. } in &self.lines {
                            path class=(look) d=(path.0) {}
                        }
                        @if !self.hints.is_empty() { g .hints { (self.hints()) } }
                    }
                    .x { (labels("left", &self.x_ticks)) }
                }
                p .axis .x-name { (x_name) }
            }
        }
    }
}

impl Chart {
    fn grid(&self) -> String {
        let rows = self.y_ticks.iter().map(|tick| format!("M0 {}H{SIDE}", up(tick.at)));
        let columns = self.x_ticks.iter().map(|tick| format!("M{} 0V{SIDE}", along(tick.at)));
        rows.chain(columns).collect()
    }

    fn hints(&self) -> Markup {
        html! {
            @for (from, to, text) in &self.hints {
                @let (from, to) = (along(*from), along(*to));
                @let width = format!("{:.1}", (to - from).max(0.0));
                rect x=(from) width=(width) height=(SIDE) { title { (text) } }
            }
        }
    }
}

fn labels(side: &str, ticks: &[Tick]) -> Markup {
    html! {
        @for Tick { at, text } in ticks {
            span style=(format!("{side}:{:.2}%", at * 100.0)) { (text) }
        }
    }
}

/// Units from the left, to a tenth.
fn along(x: f64) -> f64 {
    (x.clamp(0.0, 1.0) * SIDE * 10.0).round() / 10.0
}

/// Units from above, to a tenth.
fn up(y: f64) -> f64 {
    along(1.0 - y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_through_its_places_from_the_left_and_from_below() {
        let path = Path::through([(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)]);
        assert_eq!(path.0, "M0 1000L500 750L1000 0");
    }

    #[test]
    fn steps_have_a_gap_where_there_was_nothing() {
        let levels =
            [(0.0, 0.1, Some(0.5)), (0.1, 0.2, Some(1.0)), (0.2, 0.3, None), (0.3, 0.4, Some(0.0))];
        assert_eq!(Path::steps(levels).0, "M0 500H100V0H200M300 1000H400");
    }

    #[test]
    fn nothing_has_no_bar() {
        let bars = Path::bars([(0.0, 0.1, 0.0), (0.1, 0.2, 0.75)]);
        assert_eq!(bars.0, "M100 1000V250H200V1000Z");
    }

    #[test]
    fn a_place_outside_is_drawn_at_the_edge() {
        let path = Path::through([(-1.0, 2.0), (f64::INFINITY, f64::NEG_INFINITY)]);
        assert_eq!(path.0, "M0 0L1000 1000");
    }
}
