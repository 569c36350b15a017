//! The comparison as one page that needs nothing else, with the transcripts of both sides.

use maud::{Markup, html};
use trust_cli::markup;

use super::json::{Change, CompareReport, ComparedCase, Side, Unseen};
use super::measure::unmeasured;
use super::text::summary;
use crate::report::json::CheckReport;
use crate::report::reading::details;
use crate::report::short_list;

/// Rules for this page alone.
const STYLE: &str = ".sides { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1rem; } \
                     @media (max-width: 40rem) { .sides { grid-template-columns: 1fr; } }";

/// The page of a comparison of these two reports.
pub(super) fn page(report: &CompareReport, direct: &CheckReport, through: &CheckReport) -> String {
    let case = |case: &ComparedCase| {
        let of =
            |side: &CheckReport| side.cases.iter().find(|it| it.about.id == case.id).map(details);
        html! {
            h3 id=(case.id) { code { (case.id) } " " (case.title) }
            div .sides {
                div { h4 { "directly" } (of(direct).unwrap_or_default()) }
                div { h4 { "through the box" } (of(through).unwrap_or_default()) }
            }
        }
    };
    let CompareReport { unlike, left_out, changes, measured, unseen, .. } = report;
    let body = html! {
        h1 { "trustctl check compare: " (report.through.name) }
        p { b { (summary(report)) } }
        @for end in [&report.direct, &report.through].into_iter().filter_map(Side::unfinished) {
            p .fail { (end) }
        }
        @for unlike in unlike { p .warn { "Different: " (unlike) } }
        @for Change { text, cases } in changes {
            h2 { (text) }
            @for one in cases { (case(one)) }
        }
        @if !report.measurements.is_empty() {
            h2 { "Measured on both sides" }
            (markup::table(
                "measurements",
                ["", "directly", "through the box"],
                report.measurements.iter().filter(|it| it.is_measured()).map(|it| {
                    [it.of.text(), it.direct.text.as_str(), it.through.text.as_str()]
                }),
            ))
        }
        @let unmeasured = unmeasured(&report.measurements);
        @if !unmeasured.is_empty() { p { "Not measured on either side: " (unmeasured.join("; ")) } }
        @if !measured.is_empty() {
            h2 { "Measured, and not judged" }
            @for one in measured { (case(one)) }
        }
        @if !left_out.is_empty() {
            h2 { "Left out, because they are not right without the box" }
            @for one in left_out { (case(one)) }
        }
        @if !unseen.is_empty() {
            h2 { "Not tried on both sides" }
            (markup::list("facts", unseen.iter().map(|Unseen { why, cases, .. }| {
                (short_list(&cases.iter().map(String::as_str).collect::<Vec<_>>()), why)
            })))
        }
        (side("Directly", &report.direct))
        (side("Through the box", &report.through))
    };
    markup::page("trustctl check compare", STYLE, &body)
}

fn side(title: &str, side: &Side) -> Markup {
    let server = &side.server;
    let facts = [
        ("report", side.name.as_str()),
        ("protocol", server.protocol.as_deref().unwrap_or("echo")),
        ("server", server.target.as_deref().or(server.command.as_deref()).unwrap_or_default()),
        ("began", &side.started),
    ];
    html! { h2 { (title) } (markup::list("facts", facts)) }
}
