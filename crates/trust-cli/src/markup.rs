//! HTML pages and other markup documents.

use maud::{DOCTYPE, Markup, PreEscaped, Render, html};

/// The style common to all pages.
const STYLE: &str = include_str!("page.css");

/// A self-contained page: no script, and nothing loaded over a network. The style is for this page
/// only.
pub fn page(title: &str, style: &str, body: &Markup) -> String {
    document(html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy"
                    content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(STYLE)) (PreEscaped(style)) }
            }
            body { (body) }
        }
        "\n"
    })
}

/// The text of a document. Characters that XML 1.0 forbids (2.2), and other control characters, are
/// replaced.
pub fn document(markup: Markup) -> String {
    let is_bad = |c: char| match c {
        '\t' | '\n' => false,
        '\u{fffe}' | '\u{ffff}' => true,
        c => c.is_control(),
    };
    markup.into_string().replace(is_bad, "\u{fffd}")
}

/// A list of names and values.
pub fn list(class: &str, values: impl IntoIterator<Item = (impl Render, impl Render)>) -> Markup {
    html! {
        dl class=(class) { @for (name, value) in values { dt { (name) } dd { (value) } } }
    }
}

/// A table with column names and rows.
pub fn table<R: IntoIterator<Item: Render>>(
    class: &str,
    names: impl IntoIterator<Item: Render>,
    rows: impl IntoIterator<Item = R>,
) -> Markup {
    html! {
        table class=(class) {
            tr { @for name in names { th { (name) } } }
            @for row in rows { tr { @for cell in row { td { (cell) } } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_break_out_of_a_document() {
        let nasty = "<a b='c' d=\"e\">&a\0\x1b[1m\u{9b}\u{ffff}\nb\tü";
        let safe = "&lt;a b='c' d=&quot;e&quot;&gt;&amp;a\u{fffd}\u{fffd}[1m\u{fffd}\u{fffd}\n\
            b\tü";
        assert_eq!(
            document(html! { p title=(nasty) { (nasty) } }),
            format!("<p title=\"{safe}\">{safe}</p>")
        );
    }
}
