//! The table as one page that needs nothing else. Its cells lead to the cases, with transcripts.

use maud::{Markup, html};
use trust_cli::markup;

use super::{Cell, Row, cells, group, groups};
use crate::report::reading::{details, is_tried};

/// Rules for this page alone.
const STYLE: &str = "table { border-collapse: collapse; } \
                     th, td { border: 1px solid var(--line); padding: .2rem .5rem; \
                     text-align: left; } td a { text-decoration: none; } \
                     .wide { overflow-x: auto; }";

/// The page.
pub(super) fn page(rows: &[Row]) -> String {
    let groups = groups(rows);
    let body = html! {
        h1 { "trustctl check, " (rows.len()) " servers" }
        p {
            "A cell has the verdict that says most, and how many of the cases that were tried have \
             it. " b { "allowed" } ": not what the case wants, but the server's protocol says that \
             it may be so; " b { "warn" } ": no bug, but unwise; " b { "info" } ": measured, and \
             not judged. What was skipped is not counted."
        }
        div .wide {
            table {
                tr { th { "server" } @for group in &groups { th { (group) } } }
                @for (number, row) in rows.iter().enumerate() {
                    tr {
                        th { a href={ "#" (number) } { (row.name) } }
                        @for (group, cell) in groups.iter().zip(cells(row, &groups)) {
                            td { (link(number, group, cell)) }
                        }
                    }
                }
            }
        }
        @for (number, row) in rows.iter().enumerate() { (server(number, row, &groups)) }
    };
    markup::page("trustctl check matrix", STYLE, &body)
}

fn link(number: usize, group: &str, cell: Cell) -> Markup {
    let Some(worst) = cell.worst else { return html! { span .soft { (cell.text()) } } };
    html! { a class=(worst.word()) href={ "#" (number) "-" (group) } { (cell.text()) } }
}

fn server(number: usize, row: &Row, groups: &[&str]) -> Markup {
    let report = &row.report;
    let server = &report.server;
    let facts = [
        ("protocol", server.protocol.as_deref().unwrap_or("echo")),
        ("server", server.target.as_deref().or(server.command.as_deref()).unwrap_or_default()),
        ("began", &report.started),
    ];
    html! {
        h2 id=(number) { (row.name) }
        (markup::list("facts", facts))
        @for name in groups {
            @let of_group = || report.cases.iter().filter(|case| group(case) == *name);
            @if of_group().any(is_tried) {
                h3 id={ (number) "-" (name) } { (name) }
                @for case in of_group().filter(|case| is_tried(case)) { (details(case)) }
            }
        }
    }
}
