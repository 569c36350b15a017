//! Toxics: rules that come and go while bytes flow.

use std::io;
use std::rc::Rc;

use trust_toxiproxy::toxic::Toxic;
use trust_wire::relay::{RelayClose, RelayFault, RelaySide};

use super::RelayLoop;
use crate::engine::client::{RelayStage, Relayed};
use crate::engine::pair::ListeningPair;
use crate::engine::toxic::{AttachedToxic, HeldToxic};
use crate::events::RelayReason;
use crate::rules::{Rule, RuleOwner};

impl Relayed {
    /// Takes the bytes for a side out of its pipe, so that rules can say when they are sent.
    fn take_from_pipe(&mut self, side: RelaySide, buffer: &mut [u8]) {
        while self.relay.piped(side) > 0
            && let Some(count) = self.pipes[side.index()].as_ref().and_then(|it| it.take(buffer))
        {
            self.relay.handle_unpiped(side, &buffer[..count]);
        }
    }
}

impl RelayLoop<'_> {
    /// Accepts clients of another pair, with these rules and toxics; its number.
    ///
    /// # Errors
    ///
    /// Out of descriptors or memory, or the proxy is stopping.
    pub(crate) fn open_pair(
        &mut self,
        pair: ListeningPair,
        rules: Vec<Rule>,
        toxics: &[Toxic],
    ) -> io::Result<usize> {
        if self.is_draining() {
            return Err(io::Error::other("the proxy is stopping"));
        }
        let number = self.listeners.open(pair, self.waiting.poll.registry())?;
        self.set_rules(number, rules);
        for toxic in toxics {
            let attached = self.attach(number, toxic);
            self.listeners.pair_mut(number).toxics.push(attached);
        }
        Ok(number)
    }

    /// Accepts no more clients of a pair, and closes those that there are.
    pub(crate) fn close_pair(&mut self, number: usize) {
        let Some(pair) = self.listeners.pairs.get_mut(&number) else { return };
        let toxics = std::mem::take(&mut pair.toxics);
        self.set_rules(number, vec![]);
        self.listeners.close_pair(number, self.waiting.poll.registry());
        self.end_clients(number);
        self.detach(&toxics);
    }

    /// Adds a toxic to a pair, after its others.
    pub(crate) fn add_toxic(&mut self, number: usize, toxic: &Toxic) {
        let attached = self.attach(number, toxic);
        self.change_toxics(number, &[], Some(&attached));
        if let Some(pair) = self.listeners.pairs.get_mut(&number) {
            pair.toxics.push(attached);
        }
    }

    /// Replaces the toxic of a pair that has the same name.
    pub(crate) fn update_toxic(&mut self, number: usize, toxic: &Toxic) {
        let attached = self.attach(number, toxic);
        let Some(pair) = self.listeners.pairs.get_mut(&number) else { return };
        let same = pair.toxics.iter_mut().find(|it| it.toxic.name == toxic.name);
        let Some(replaced) = same else { return };
        let replaced = std::mem::replace(replaced, Rc::clone(&attached));
        self.change_toxics(number, &[Rc::clone(&replaced)], Some(&attached));
        self.detach(&[replaced]);
    }

    /// Removes toxics from a pair. If one of them dropped data, the connections are closed, whether
    /// or not they had it.
    pub(crate) fn remove_toxics(&mut self, number: usize, removed: &[Toxic]) {
        let Some(pair) = self.listeners.pairs.get_mut(&number) else { return };
        let is_removed =
            |it: &mut Rc<AttachedToxic>| removed.iter().any(|toxic| toxic.name == it.toxic.name);
        let gone: Vec<_> = pair.toxics.extract_if(.., is_removed).collect();
        match gone.iter().any(|it| it.toxic.drops_data()) {
            true => self.end_clients(number),
            false => self.change_toxics(number, &gone, None),
        }
        self.detach(&gone);
    }

    fn attach(&mut self, pair: usize, toxic: &Toxic) -> Rc<AttachedToxic> {
        let owner = RuleOwner { pair, toxic: Some(toxic.name.clone()) };
        Rc::new(AttachedToxic::new(toxic, &owner, &mut self.faults.rules))
    }

    /// Forgets the rules of toxics that no connection has any longer.
    fn detach(&mut self, toxics: &[Rc<AttachedToxic>]) {
        for number in toxics.iter().flat_map(|it| &it.rules) {
            self.faults.rules.remove(*number);
        }
    }

    pub(super) fn clients_of(&self, pair: usize) -> Vec<usize> {
        let clients = self.clients.table.iter().filter(|(_, client)| client.pair == pair);
        clients.map(|(key, _)| key).collect()
    }

    /// Has the connections of a pair do without some toxics, and with a new one.
    fn change_toxics(
        &mut self,
        pair: usize,
        gone: &[Rc<AttachedToxic>],
        new: Option<&Rc<AttachedToxic>>,
    ) {
        for key in self.clients_of(pair) {
            self.change_toxics_of(key, gone, new);
        }
    }

    fn change_toxics_of(
        &mut self,
        key: usize,
        gone: &[Rc<AttachedToxic>],
        new: Option<&Rc<AttachedToxic>>,
    ) {
        let now = self.waiting.clock.now();
        let client = &mut self.clients.table[key];
        let proxy = &self.listeners.pair(client.pair).proxy;
        // One without an upstream gets those of its pair when it has one.
        let RelayStage::Relaying(relayed) = &mut client.stage else { return };
        if relayed.upstream.is_none() {
            return;
        }
        let is_gone = |held: &mut HeldToxic| gone.iter().any(|it| Rc::ptr_eq(it, &held.of));
        let lost: Vec<_> = relayed.toxics.extract_if(.., is_gone).collect();
        let seed = self.faults.rules.seed();
        let new = new.filter(|it| it.toxic.is_for(seed, proxy, client.number));
        if lost.is_empty() && new.is_none() {
            return;
        }
        let disarmed: Vec<usize> = lost.iter().flat_map(|held| &held.of.rules).copied().collect();
        let mut faults = [vec![], vec![]];
        if let Some(new) = new {
            let (direction, to) = (new.direction(), new.direction().receiver());
            let (position, elapsed) = relayed.relay.place(to, now);
            // One that has changed goes on counting.
            let began = lost.first().map_or(position, |held| held.began);
            let own = new.faults(&self.faults.rules, position - began, client.id, direction);
            faults[to.index()] =
                own.into_iter().map(|fault| fault.later(position, elapsed)).collect();
            if new.toxic.drops_data() {
                relayed.relay.drop_held(to);
            }
            relayed.toxics.push(HeldToxic { of: Rc::clone(new), began });
        }
        self.rearm(key, &disarmed, faults);
    }

    /// Has the rules of these numbers do no more to a connection, and these faults happen to what
    /// goes to each side.
    pub(super) fn rearm(&mut self, key: usize, disarmed: &[usize], faults: [Vec<RelayFault>; 2]) {
        let now = self.waiting.clock.now();
        let RelayStage::Relaying(relayed) = &mut self.clients.table[key].stage else { return };
        for (to, faults) in RelaySide::BOTH.into_iter().zip(faults) {
            if !faults.is_empty() {
                relayed.take_from_pipe(to, &mut self.passage.buffer);
            }
            relayed.relay.rearm(to, now, disarmed, faults);
        }
        relayed.is_watched = true;
        if relayed.relay.take_news() {
            self.report_faults(key);
        }
        self.clients.queue(key);
    }

    /// Closes the connections of a pair, none of which carries data from here on.
    fn end_clients(&mut self, pair: usize) {
        for key in self.clients_of(pair) {
            self.finish(key);
        }
    }

    /// Ends a connection with FIN to both sides; it carries no data from here on.
    pub(super) fn finish(&mut self, key: usize) {
        match &mut self.clients.table[key].stage {
            RelayStage::Relaying(relayed) if relayed.upstream.is_some() => {
                relayed.relay.finish();
                relayed.is_ended = true;
                self.clients.queue(key);
            }
            _ => self.close(key, [RelayClose::Close; 2], RelayReason::Api),
        }
    }
}
