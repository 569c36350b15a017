//! All wrong servers, and which cases must see what is wrong with each.

use trust_check::cases;
use trust_cli::framing::Framing;

use super::mutant::{Behaviour, Server};
use super::{mutants_amounts, mutants_closing, mutants_framing, mutants_limits, mutants_resources};

/// Largest payload of all servers of the matrix, unless they say something else.
pub(crate) const MAX_FRAME: u64 = 65_536;

/// A wrong server.
///
/// Where it lists cases, an entry is an id or a pattern with `*`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    /// Its name, unlike all others.
    pub(crate) name: &'static str,
    /// The framing that it is tried with, as `--framing` takes it.
    pub(crate) framing: &'static str,
    /// What it speaks in truth, if that is another one.
    pub(crate) speaks: Option<&'static str>,
    /// Largest payload, inclusive.
    pub(crate) max_frame: u64,
    pub(crate) behaviour: Behaviour,
    /// What is wrong hits whoever comes next: each of its cases is tried on a server of its own, and no others are.
    pub(crate) alone: bool,
    /// Cases that must fail on it. No others may, but those in `also`.
    pub(crate) fails: &'static [&'static str],
    /// Cases that may fail on it too.
    pub(crate) also: &'static [&'static str],
    /// Cases that must warn about it.
    pub(crate) warns: &'static [&'static str],
    /// Cases that judge nothing: the case, and a part of what it must say about this server.
    pub(crate) says: &'static [(&'static str, &'static str)],
}

/// What a mutant is made from: it speaks the default framing and names no case yet.
pub(crate) const MUTANT: Mutant = Mutant {
    name: "",
    framing: "u32be",
    speaks: None,
    max_frame: MAX_FRAME,
    behaviour: super::mutant::HEALTHY,
    alone: false,
    fails: &[],
    also: &[],
    warns: &[],
    says: &[],
};

impl Mutant {
    /// The server of that name.
    pub(crate) fn named(name: &str) -> Option<&'static Mutant> {
        all().find(|mutant| mutant.name == name)
    }

    /// As it is run.
    pub(crate) fn server(&self) -> Server {
        let framing =
            Framing::parse(self.speaks.unwrap_or(self.framing)).expect("the framing has a name");
        Server { framing, max_frame: self.max_frame, behaviour: self.behaviour }
    }

    /// Ids and patterns of cases that must find something.
    pub(crate) fn found_by(&self) -> impl Iterator<Item = &'static str> {
        let says = self.says.iter().map(|(case, _)| *case);
        self.fails.iter().chain(self.warns).copied().chain(says)
    }

    /// Whether the case of that id must find something.
    pub(crate) fn must_be_found_by(&self, id: &str) -> bool {
        self.found_by().any(|name| cases::matches(name, id))
    }
}

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Mutant> {
    let groups = [
        mutants_framing::MUTANTS,
        mutants_amounts::MUTANTS,
        mutants_closing::MUTANTS,
        mutants_limits::MUTANTS,
        mutants_resources::MUTANTS,
    ];
    groups.into_iter().flatten()
}
