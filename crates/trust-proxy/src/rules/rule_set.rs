//! All rules, and which of them are for a connection.

use std::collections::BTreeMap;
use std::time::Duration;

use trust_wire::relay::{FaultAction, FiredFault, RelayFault, SharedRate, draw};

use super::{Direction, Rule, RuleAction, RulePlace, Who};

/// All rules, and how often each of them has happened.
#[derive(Debug, Default)]
pub struct Rules {
    /// By their numbers, which are not used again.
    rules: BTreeMap<usize, KeptRule>,
    next: usize,
    seed: u64,
    /// The rates that connections share, of the rules whose choices are drawn by these numbers.
    shared: BTreeMap<(u64, Direction), SharedRate>,
}

/// A rule, and what it has done.
#[derive(Debug)]
pub struct KeptRule {
    /// What happens, where and to whom.
    pub rule: Rule,
    /// By which number its choices are drawn.
    pub(crate) drawn_by: u64,
    /// How often it has happened.
    pub fired: u64,
    /// `None`: it is for all connections.
    pub owner: Option<RuleOwner>,
}

/// For whose connections a rule is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOwner {
    /// Those of this pair of a place to listen and an upstream.
    pub pair: usize,
    /// Only those that have the toxic of this name.
    pub toxic: Option<String>,
}

impl Rules {
    /// These rules, of which none has happened.
    pub fn new(rules: Vec<Rule>, seed: u64) -> Rules {
        let mut all = Rules { seed, ..Rules::default() };
        for rule in rules {
            all.add(rule, None);
        }
        all
    }

    /// The rules of a run with the numbers that their choices are drawn by, but in place of those
    /// that leave something to chance what these did.
    pub(crate) fn replay(rules: Vec<(u64, Rule)>, explicit: &[(u64, Rule)], seed: u64) -> Rules {
        let mut replayed = Rules { seed, ..Rules::default() };
        for (drawn_by, rule) in rules {
            let is_random = rule.is_random();
            let own = explicit.iter().filter(|(of, _)| is_random && *of == drawn_by);
            let own = own.map(|(_, rule)| rule.clone());
            for rule in own.chain((!is_random).then_some(rule)) {
                replayed.insert(KeptRule { rule, drawn_by, fired: 0, owner: None });
            }
        }
        replayed
    }

    /// Adds a rule; its number.
    pub fn add(&mut self, rule: Rule, owner: Option<RuleOwner>) -> usize {
        self.insert(KeptRule { rule, drawn_by: self.next as u64, fired: 0, owner })
    }

    /// Adds a rule that comes after all others at its place, also after those added later.
    pub fn add_last(&mut self, rule: Rule) {
        let kept = KeptRule { rule, drawn_by: u64::MAX, fired: 0, owner: None };
        self.rules.insert(usize::MAX, kept);
    }

    fn insert(&mut self, kept: KeptRule) -> usize {
        // A replay shares as its run did.
        if let RuleAction::SharedRate(bytes) = kept.rule.action {
            for direction in [Direction::Up, Direction::Down] {
                let rate = self.shared.entry((kept.drawn_by, direction));
                rate.or_insert_with(|| SharedRate::new(bytes));
            }
        }
        let number = self.next;
        self.rules.insert(number, kept);
        self.next += 1;
        number
    }

    /// Removes a rule, which nothing does any longer.
    pub fn remove(&mut self, number: usize) {
        if let Some(kept) = self.rules.remove(&number) {
            self.shared.retain(|(drawn_by, _), _| *drawn_by != kept.drawn_by);
        }
    }

    /// Has the choices of connections from now on depend on another seed.
    pub const fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// By which number the choices of a rule are drawn.
    pub(crate) fn drawn_by(&self, number: usize) -> u64 {
        self.rules[&number].drawn_by
    }

    /// The rule that does what this one did to a connection there, if it left that to chance.
    pub(crate) fn explicit(
        &self,
        number: usize,
        connection: u64,
        at: Option<(Direction, FiredFault)>,
    ) -> Option<Rule> {
        let kept = &self.rules[&number];
        let seed = self.seed_of(kept, connection);
        kept.rule.is_random().then(|| kept.rule.explicit(connection, at, seed))
    }

    /// The rule of that number.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub fn rule(&self, number: usize) -> &Rule {
        &self.rules[&number].rule
    }

    /// The toxic that a rule does.
    pub fn toxic(&self, number: usize) -> Option<&str> {
        self.rules[&number].owner.as_ref()?.toxic.as_deref()
    }

    /// The seed of what rules leave open.
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// How many there are.
    #[expect(clippy::len_without_is_empty, reason = "no one asks")]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Each of them, with its number.
    pub fn numbered(&self) -> impl Iterator<Item = (usize, &KeptRule)> {
        self.rules.iter().map(|(number, kept)| (*number, kept))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().map(|kept| &kept.rule)
    }

    /// What the choices of a rule for a connection depend on.
    fn seed_of(&self, rule: &KeptRule, connection: u64) -> u64 {
        draw(draw(self.seed, connection), rule.drawn_by)
    }

    /// The rules for a connection, but for those of toxics, with their numbers and what their
    /// choices depend on.
    fn of(&self, who: Who) -> impl Iterator<Item = (usize, &KeptRule, u64)> {
        let is_for = move |owner: &RuleOwner| owner.toxic.is_none() && owner.pair == who.pair;
        let own = self.numbered().filter(move |(_, kept)| kept.owner.as_ref().is_none_or(is_for));
        let seeded =
            own.map(move |(number, kept)| (number, kept, self.seed_of(kept, who.connection)));
        seeded.filter(move |(_, kept, seed)| kept.rule.connections.has(who, *seed))
    }

    /// What happens to a connection before its upstream is looked for: the first rule from that
    /// number on that says so.
    pub fn at_connect(&self, who: Who, from: usize) -> Option<(usize, &RuleAction)> {
        let mut rules = self.of(who).skip_while(|(number, ..)| *number < from);
        let found = rules.find(|(_, kept, _)| kept.rule.place == RulePlace::Connect);
        found.map(|(number, kept, _)| (number, &kept.rule.action))
    }

    /// What happens to a direction of a connection, but for what toxics do.
    pub fn faults(&self, who: Who, direction: Direction) -> Vec<RelayFault> {
        let rules = self.of(who).filter(|(_, kept, _)| kept.rule.is_for(direction));
        let faults = rules.flat_map(|(number, kept, seed)| {
            let shared = self.shared.get(&(kept.drawn_by, direction));
            kept.rule.faults(number, direction, seed, shared)
        });
        faults.collect()
    }

    /// The numbers of the rules of a pair, but for those of toxics.
    pub fn numbers_of(&self, pair: usize) -> Vec<usize> {
        let is_of = |owner: &RuleOwner| owner.toxic.is_none() && owner.pair == pair;
        let own = self.numbered().filter(|(_, kept)| kept.owner.as_ref().is_some_and(is_of));
        own.map(|(number, _)| number).collect()
    }

    /// What some rules do to a direction of a connection that is under way: rules without a place
    /// begin there. `position` bytes have come by now, and it was first armed `elapsed` ago.
    pub fn faults_from(
        &self,
        numbers: &[usize],
        who: Who,
        direction: Direction,
        (position, elapsed): (u64, Duration),
    ) -> Vec<RelayFault> {
        let is_one = |number: usize, kept: &KeptRule| {
            numbers.contains(&number) && kept.rule.is_for(direction)
        };
        let rules = self.of(who).filter(|(number, kept, _)| is_one(*number, kept));
        let faults = rules.flat_map(|(number, kept, seed)| {
            let holds_from_here =
                kept.rule.place == RulePlace::Byte(0) && kept.rule.action.may_hold_from_the_start();
            let bytes = if holds_from_here { position } else { 0 };
            let shared = self.shared.get(&(kept.drawn_by, direction));
            let faults = kept.rule.faults(number, direction, seed, shared);
            faults.map(move |fault| match fault.action {
                FaultAction::Lift => fault.later(0, elapsed),
                _ => fault.later(bytes, elapsed),
            })
        });
        faults.collect()
    }

    /// What a rule does to a direction of a connection, in place of the kept one of that number.
    pub fn faults_like(
        &self,
        number: usize,
        rule: &Rule,
        connection: u64,
        direction: Direction,
    ) -> impl Iterator<Item = RelayFault> + use<> {
        let kept = &self.rules[&number];
        let shared = self.shared.get(&(kept.drawn_by, direction));
        rule.faults(number, direction, self.seed_of(kept, connection), shared)
    }

    /// Records that a rule has happened; its text.
    pub fn note_fired(&mut self, number: usize) -> String {
        let kept = self.rules.get_mut(&number).expect("rules stay while they can happen");
        kept.fired += 1;
        kept.rule.to_string()
    }

    /// The rules that have not happened, but for those of toxics.
    pub fn unfired(&self) -> impl Iterator<Item = &Rule> {
        let is_unfired = |kept: &&KeptRule| {
            kept.fired == 0 && kept.owner.as_ref().is_none_or(|owner| owner.toxic.is_none())
        };
        self.rules.values().filter(is_unfired).map(|kept| &kept.rule)
    }
}
