//! All wrong servers, and the cases that must find the fault of each.

use trust_check::case;
use trust_cli::framing::Framing;

use super::mutant::{Behaviour, Server};
use super::{mutants_amounts, mutants_closing, mutants_framing, mutants_limits, mutants_resources};

/// Largest payload of all servers of the matrix, unless they override it.
pub(crate) const MAX_FRAME: u64 = 65_536;

/// A wrong server.
///
/// In its lists of cases each word is an id or a pattern with `*`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    /// Its name, unique among all of them.
    pub(crate) name: &'static str,
    /// The framing that it is tried with, as for `--framing`.
    pub(crate) framing: &'static str,
    /// The framing that it really speaks, if different.
    pub(crate) speaks: Option<&'static str>,
    /// Largest payload, inclusive.
    pub(crate) max_frame: u64,
    pub(crate) behaviour: Behaviour,
    /// The fault also hits later clients: each of its cases gets a separate server, and no other
    /// cases are tried.
    pub(crate) alone: bool,
    /// Cases that must fail on it. No others may, except those in `also`.
    pub(crate) fails: &'static str,
    /// Cases that may also fail on it.
    pub(crate) also: &'static str,
    /// Cases that must warn about it.
    pub(crate) warns: &'static str,
    /// A case without a verdict, and part of what it must say about this server.
    pub(crate) says: Option<(&'static str, &'static str)>,
}

impl Mutant {
    /// A mutant with the default framing and no cases yet.
    pub(crate) const fn of(name: &'static str, behaviour: Behaviour) -> Mutant {
        Mutant {
            name,
            framing: "u32be",
            speaks: None,
            max_frame: MAX_FRAME,
            behaviour,
            alone: false,
            fails: "",
            also: "",
            warns: "",
            says: None,
        }
    }

    pub(crate) const fn tried_as(self, framing: &'static str) -> Mutant {
        Mutant { framing, ..self }
    }

    pub(crate) const fn speaking(self, framing: &'static str) -> Mutant {
        Mutant { speaks: Some(framing), ..self }
    }

    pub(crate) const fn longest(self, max_frame: u64) -> Mutant {
        Mutant { max_frame, ..self }
    }

    pub(crate) const fn alone(self) -> Mutant {
        Mutant { alone: true, ..self }
    }

    /// With `read_exact` instead of a buffer.
    pub(crate) const fn exact(self) -> Mutant {
        Mutant { behaviour: Behaviour { exact: true, ..self.behaviour }, ..self }
    }

    pub(crate) const fn without_timeout(self) -> Mutant {
        Mutant { behaviour: Behaviour { no_timeout: true, ..self.behaviour }, ..self }
    }

    pub(crate) const fn fails(self, fails: &'static str) -> Mutant {
        Mutant { fails, ..self }
    }

    pub(crate) const fn also(self, also: &'static str) -> Mutant {
        Mutant { also, ..self }
    }

    pub(crate) const fn warns(self, warns: &'static str) -> Mutant {
        Mutant { warns, ..self }
    }

    pub(crate) const fn says(self, case: &'static str, part: &'static str) -> Mutant {
        Mutant { says: Some((case, part)), ..self }
    }

    /// The mutant with this name.
    pub(crate) fn named(name: &str) -> Option<&'static Mutant> {
        all().find(|mutant| mutant.name == name)
    }

    /// The server that is run for it.
    pub(crate) fn server(&self) -> Server {
        let framing =
            Framing::parse(self.speaks.unwrap_or(self.framing)).expect("the framing has a name");
        Server { framing, max_frame: self.max_frame, behaviour: self.behaviour }
    }

    /// Ids and patterns of cases that must find something.
    pub(crate) fn found_by(&self) -> impl Iterator<Item = &'static str> {
        let says = self.says.map(|(case, _)| case);
        self.fails.split_whitespace().chain(self.warns.split_whitespace()).chain(says)
    }

    /// Whether the case with this id must find something.
    pub(crate) fn must_be_found_by(&self, id: &str) -> bool {
        self.found_by().any(|name| case::matches(name, id))
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
