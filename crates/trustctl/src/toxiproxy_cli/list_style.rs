//! Proxies and toxics as text: with headings and in columns on a terminal, and elsewhere a line for
//! each, with tabs, for programs.

use std::io::{self, IsTerminal};

use serde_json::Value;
use trust_cli::colours::{AnsiColor, Colours, Style};
use trust_toxiproxy::cli::listed::{ListedProxies, ListedProxy, ListedToxic};

/// For whom something is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ListStyle {
    /// For people.
    Table(Colours),
    /// For programs.
    Lines,
}

/// A cell of a table: what it says, and how.
type Cell = (String, Style);

/// The blanks between two columns.
const GAP: usize = 2;

const PLAIN: Style = Style::new();
const NAME: Style = AnsiColor::Cyan.on_default();
const ENABLED: Style = AnsiColor::Green.on_default();
const DISABLED: Style = AnsiColor::Red.on_default();
const HEADING: Style = Style::new().bold();

impl ListStyle {
    /// As fits standard output.
    pub(crate) fn of_stdout() -> ListStyle {
        if io::stdout().is_terminal() {
            ListStyle::Table(Colours::of_stdout())
        } else {
            ListStyle::Lines
        }
    }

    /// All proxies: name, listen, upstream, state, number of toxics.
    pub(crate) fn proxies(self, proxies: &ListedProxies) -> String {
        let rows = proxies.values().map(|proxy| {
            let toxics = proxy.toxics.len().to_string();
            let (listen, upstream) = (clean(&proxy.listen), clean(&proxy.upstream));
            vec![
                (clean(&proxy.name), NAME),
                (listen, PLAIN),
                (upstream, PLAIN),
                (state(proxy).to_owned(), state_style(proxy)),
                (toxics, PLAIN),
            ]
        });
        match self {
            ListStyle::Table(_) if proxies.is_empty() => "no proxies\n".to_owned(),
            ListStyle::Table(colours) => {
                table(colours, &["NAME", "LISTEN", "UPSTREAM", "STATE", "TOXICS"], rows)
            }
            ListStyle::Lines => rows.map(|row| with_tabs(&row)).collect(),
        }
    }

    /// A proxy with its toxics; elsewhere its toxics alone.
    pub(crate) fn proxy(self, proxy: &ListedProxy) -> String {
        let ListStyle::Table(colours) = self else {
            return proxy.toxics.iter().map(|toxic| with_tabs(&keyed(toxic))).collect();
        };
        let state = colours.paint(state_style(proxy), state(proxy));
        let name = colours.paint(NAME, &clean(&proxy.name));
        let (listen, upstream) = (clean(&proxy.listen), clean(&proxy.upstream));
        let head = format!("{name}: {listen} to {upstream}, {state}\n");
        if proxy.toxics.is_empty() {
            return head + "no toxics\n";
        }
        let rows = proxy.toxics.iter().map(|toxic| {
            let attributes: Vec<String> = attributes(toxic).collect();
            vec![
                (clean(&toxic.name), NAME),
                (clean(&toxic.type_name), PLAIN),
                (clean(&toxic.stream), PLAIN),
                (toxic.toxicity.to_string(), PLAIN),
                (attributes.join(" "), PLAIN),
            ]
        });
        head + "\n" + &table(colours, &["TOXIC", "TYPE", "STREAM", "TOXICITY", "ATTRIBUTES"], rows)
    }

    /// Whether a proxy is enabled, in a word.
    pub(crate) fn state(self, proxy: &ListedProxy) -> String {
        match self {
            ListStyle::Table(colours) => colours.paint(state_style(proxy), state(proxy)),
            ListStyle::Lines => state(proxy).to_owned(),
        }
    }
}

/// A text without control characters, which could break a line or drive a terminal.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

fn state(proxy: &ListedProxy) -> &'static str {
    if proxy.enabled { "enabled" } else { "disabled" }
}

fn state_style(proxy: &ListedProxy) -> Style {
    if proxy.enabled { ENABLED } else { DISABLED }
}

/// The columns of a toxic where there are no headings: all but the first say what they are.
fn keyed(toxic: &ListedToxic) -> Vec<Cell> {
    let columns = [
        clean(&toxic.name),
        format!("type={}", clean(&toxic.type_name)),
        format!("stream={}", clean(&toxic.stream)),
        format!("toxicity={}", toxic.toxicity),
    ];
    columns.into_iter().chain(attributes(toxic)).map(|column| (column, PLAIN)).collect()
}

/// `KEY=VALUE` for each attribute.
fn attributes(toxic: &ListedToxic) -> impl Iterator<Item = String> {
    toxic.attributes.iter().map(|(key, value)| match value {
        Value::String(text) => format!("{}={}", clean(key), clean(text)),
        value => format!("{}={value}", clean(key)),
    })
}

fn with_tabs(row: &[Cell]) -> String {
    let columns: Vec<&str> = row.iter().map(|(text, _)| text.as_str()).collect();
    columns.join("\t") + "\n"
}

/// Rows below headings. The last column is as long as it is.
fn table(colours: Colours, headings: &[&str], rows: impl Iterator<Item = Vec<Cell>>) -> String {
    let headings = headings.iter().map(|heading| ((*heading).to_owned(), HEADING)).collect();
    let rows: Vec<Vec<Cell>> = [headings].into_iter().chain(rows).collect();
    let width = |column: usize| {
        let widths = rows.iter().filter_map(|row| row.get(column));
        widths.map(|(text, _)| text.chars().count()).max().unwrap_or(0)
    };
    let mut table = String::new();
    for row in &rows {
        for (column, (text, style)) in row.iter().enumerate() {
            table += &colours.paint(*style, text);
            if column + 1 < row.len() {
                table += &" ".repeat(width(column) - text.chars().count() + GAP);
            }
        }
        table.push('\n');
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy() -> ListedProxy {
        let json = r#"{"name":"re\tdis","listen":"127.0.0.1:1","upstream":"u:2","enabled":true,
            "Logger":{},"toxics":[{"name":"slow","type":"latency","stream":"upstream",
            "toxicity":0.5,"attributes":{"latency":1000,"jitter":0}}]}"#;
        serde_json::from_str(json).unwrap()
    }

    fn proxies() -> ListedProxies {
        let other = ListedProxy { name: "b".to_owned(), enabled: false, toxics: vec![], ..proxy() };
        ListedProxies::from([("a".to_owned(), proxy()), ("b".to_owned(), other)])
    }

    #[test]
    fn elsewhere_each_line_is_one_thing_with_tabs_between_its_columns() {
        let expected = "re\\tdis\t127.0.0.1:1\tu:2\tenabled\t1\nb\t127.0.0.1:1\tu:2\tdisabled\t0\n";
        assert_eq!(ListStyle::Lines.proxies(&proxies()), expected);
        let expected =
            "slow\ttype=latency\tstream=upstream\ttoxicity=0.5\tjitter=0\tlatency=1000\n";
        assert_eq!(ListStyle::Lines.proxy(&proxy()), expected);
        assert_eq!(ListStyle::Lines.proxies(&ListedProxies::new()), "");
    }

    #[test]
    fn on_a_terminal_there_are_headings_and_columns() {
        let style = ListStyle::Table(Colours::Off);
        let expected = "\
NAME     LISTEN       UPSTREAM  STATE     TOXICS
re\\tdis  127.0.0.1:1  u:2       enabled   1
b        127.0.0.1:1  u:2       disabled  0
";
        assert_eq!(style.proxies(&proxies()), expected);
        let expected = "\
re\\tdis: 127.0.0.1:1 to u:2, enabled

TOXIC  TYPE     STREAM    TOXICITY  ATTRIBUTES
slow   latency  upstream  0.5       jitter=0 latency=1000
";
        assert_eq!(style.proxy(&proxy()), expected);
        assert_eq!(style.proxies(&ListedProxies::new()), "no proxies\n");
        let bare = ListedProxy { toxics: vec![], ..proxy() };
        assert!(style.proxy(&bare).ends_with("no toxics\n"));
    }

    #[test]
    fn colours_change_no_text() {
        let coloured = ListStyle::Table(Colours::On).proxies(&proxies());
        assert!(coloured.contains("\x1b[32menabled\x1b[0m"), "{coloured:?}");
        let plain = ListStyle::Table(Colours::Off).proxies(&proxies());
        let mut stripped = String::new();
        for part in coloured.split('\x1b') {
            stripped +=
                part.split_once('m').filter(|_| part.starts_with('[')).map_or(part, |it| it.1);
        }
        assert_eq!(stripped, plain);
    }
}
