//! The table of `docs/SERVERS-TRIED.md`, which is made from the list of servers. That the list is
//! right is what the tests of the servers show.

use std::fmt::Write as _;

use trust_check::report::json::VerdictName;
use trust_testkit::docs::has_table;

use super::launch;
use super::servers::{self, BedServer, Finding, Kind, Speaks};

const WITHHELD: &str = "a fault; the report to its maintainers is pending, and the rest follows \
                        once they have had time for it";

/// Checks that the document has this table, with the versions of the servers that are here.
pub(crate) fn check() {
    has_table("docs/SERVERS-TRIED.md", "bed", &table());
}

fn table() -> String {
    let mut table = String::from(
        "| server | version | set up | checked with | found | allowed |\n\
         |---|---|---|---|---|---|\n",
    );
    for server in servers::ALL {
        let BedServer { name, about, set_up, .. } = server;
        let version = launch::version_of(server);
        let checks = server.speaks.iter().map(check_command).collect::<Vec<_>>().join("<br>");
        let allowed = listed(server, |verdict| verdict == VerdictName::Allowed);
        let found = match server.kind {
            Kind::Withheld => WITHHELD.to_owned(),
            _ => listed(server, |verdict| verdict != VerdictName::Allowed),
        };
        let _ = writeln!(
            table,
            "| {about} (`{name}`) | {version} | {set_up} | {checks} | {found} | {allowed} |"
        );
    }
    table
}

/// What a user types.
fn check_command(speaks: &Speaks) -> String {
    match speaks {
        Speaks::Dialect(name) => format!("`--dialect {name}`"),
        Speaks::File(name) => {
            format!("[`--exchange {name}`](../crates/trustctl/tests/bed/servers/{name})")
        }
        Speaks::Echo => "nothing: it echoes".to_owned(),
    }
}

/// The findings with these verdicts.
fn listed(server: &BedServer, is_one: impl Fn(VerdictName) -> bool) -> String {
    let findings = server.findings.iter().filter(|finding| is_one(finding.verdict));
    let listed = findings.map(|Finding { cases, verdict, why, .. }| {
        let cases: Vec<String> = cases.split_whitespace().map(|case| format!("`{case}`")).collect();
        format!("{}: {why} ({})", verdict.word(), cases.join(", "))
    });
    let listed = listed.collect::<Vec<_>>().join("<br>");
    if listed.is_empty() { "nothing".to_owned() } else { listed }
}
