//! A toxic as rules.

use std::rc::Rc;

use trust_toxiproxy::toxic::{Toxic, ToxicStream};
use trust_wire::relay::RelayFault;

use crate::rules::{Direction, Rule, RuleOwner, Rules};

/// A toxic of a pair, and the numbers of the rules that do it.
#[derive(Debug)]
pub(crate) struct AttachedToxic {
    pub(super) toxic: Toxic,
    pub(super) rules: Vec<usize>,
}

/// A toxic that a connection has.
pub(super) struct HeldToxic {
    pub(super) of: Rc<AttachedToxic>,
    /// After how many bytes of its direction it began.
    pub(super) began: u64,
}

impl AttachedToxic {
    /// A toxic whose rules are among the others.
    pub(super) fn new(toxic: &Toxic, owner: &RuleOwner, rules: &mut Rules) -> AttachedToxic {
        let own = parse(toxic, 0).into_iter();
        let own = own.map(|rule| rules.add(rule, Some(owner.clone()))).collect();
        AttachedToxic { toxic: toxic.clone(), rules: own }
    }

    pub(super) fn direction(&self) -> Direction {
        match self.toxic.direction() {
            ToxicStream::Upstream => Direction::Up,
            ToxicStream::Downstream => Direction::Down,
        }
    }

    /// What it does to a direction of a connection, from where it takes effect on. So many bytes
    /// came since it first did.
    pub(super) fn faults(
        &self,
        rules: &Rules,
        since: u64,
        connection: u64,
        direction: Direction,
    ) -> Vec<RelayFault> {
        if direction != self.direction() {
            return vec![];
        }
        let faults = parse(&self.toxic, since).into_iter().enumerate().flat_map(|(index, rule)| {
            // How many rules there are can depend on the bytes.
            let number = self.rules[index.min(self.rules.len() - 1)];
            rules.faults_like(number, &rule, connection, direction)
        });
        faults.collect()
    }
}

/// The rules that do what a toxic does after the bytes that came `since` it began.
fn parse(toxic: &Toxic, since: u64) -> Vec<Rule> {
    let rules = toxic.rules_after(since);
    rules.iter().map(|rule| Rule::parse(rule).expect("toxics make rules")).collect()
}
