//! What the API asks of the loop: what is going on, other rules, and the end of a connection.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use socket2::SockRef;
use trust_cli::zone;
use trust_toxiproxy::traffic::{
    BothWays, ConnectionEnd, ConnectionReport, ProxyTraffic, RuleReport, StreamReport,
    StreamTotals, TrafficReport,
};
use trust_wire::relay::{RelayClose, RelaySide};

use super::RelayLoop;
use crate::engine::client::{RelayStage, RelayedClient};
use crate::engine::pair::PairTraffic;
use crate::events::RelayReason;
use crate::rules::{Direction, Rule, RuleOwner};

impl RelayLoop<'_> {
    /// All traffic up to now.
    pub(crate) fn report(&self) -> TrafficReport {
        let mut traffic: BTreeMap<&str, (PairTraffic, [u64; 2])> = BTreeMap::new();
        for (name, record) in &self.listeners.records {
            traffic.entry(name).or_default().0.add(&record.traffic);
        }
        for pair in self.listeners.pairs.values() {
            traffic.entry(&pair.proxy).or_default().0.add(&pair.traffic);
        }
        for (_, client) in &self.clients.table {
            let name = &self.listeners.pair(client.pair).proxy;
            let (total, held) = traffic.entry(name).or_default();
            for side in RelaySide::BOTH {
                total.received[side.index()] += client.received_from(side);
                total.sent[side.index()] += client.sent_to(side);
                held[side.index()] += client.held_for(side);
            }
        }
        let proxies = self.listeners.records.iter().map(|(name, record)| {
            let (total, held) = traffic.get(name.as_str()).copied().unwrap_or_default();
            let stream = |from: RelaySide| StreamTotals {
                received: total.received[from.index()],
                sent: total.sent[from.other().index()],
                held: held[from.other().index()],
            };
            ProxyTraffic {
                proxy: name.clone(),
                listen: record.listen.clone(),
                upstream: record.upstream.clone(),
                streams: BothWays {
                    up: stream(RelaySide::Client),
                    down: stream(RelaySide::Upstream),
                },
                connections: total.connections,
                open: total.open,
                rejected: total.rejected,
            }
        });
        TrafficReport {
            uptime: self.uptime(),
            seed: self.faults.rules.seed(),
            proxies: proxies.collect(),
            rules: self.rule_reports(),
            lateness: self.faults.lateness.unwrap_or_default(),
        }
    }

    fn rule_reports(&self) -> Vec<RuleReport> {
        let reports = self.faults.rules.numbered().map(|(_, kept)| {
            let owner = kept.owner.as_ref();
            let pair = owner.and_then(|owner| self.listeners.pairs.get(&owner.pair));
            RuleReport {
                rule: kept.rule.to_string(),
                proxy: pair.map(|pair| pair.proxy.clone()),
                toxic: owner.and_then(|owner| owner.toxic.clone()),
                fired: kept.fired,
            }
        });
        reports.collect()
    }

    /// The live connections, of one proxy or of all: the newest ones, in the order of their
    /// numbers.
    pub(crate) fn connections(
        &self,
        proxy: Option<&str>,
        count_max: usize,
    ) -> Vec<ConnectionReport> {
        let clients = self.clients.table.iter().map(|(_, client)| client);
        let name = |client: &RelayedClient| self.listeners.pair(client.pair).proxy.as_str();
        let is_of = |client: &&RelayedClient| proxy.is_none_or(|proxy| name(client) == proxy);
        let mut clients: Vec<&RelayedClient> = clients.filter(is_of).collect();
        clients.sort_unstable_by_key(|client| client.id);
        let first = clients.len().saturating_sub(count_max);
        clients[first..].iter().map(|client| self.connection_report(client)).collect()
    }

    fn connection_report(&self, client: &RelayedClient) -> ConnectionReport {
        let stream = |from: RelaySide| StreamReport {
            received: client.received_from(from),
            sent: client.sent_to(from.other()),
            held: client.held_for(from.other()),
            frames: client.frames_from(from),
        };
        let (mut toxics, mut rules, mut upstream) = (vec![], vec![], None);
        if let RelayStage::Relaying(relayed) = &client.stage {
            toxics = relayed.toxics.iter().map(|held| held.of.toxic.name.clone()).collect();
            let numbers = RelaySide::BOTH.into_iter().flat_map(|to| relayed.relay.rules(to));
            rules = numbers.map(|number| self.faults.rules.rule(number).to_string()).collect();
            rules.dedup();
            let stream = relayed.upstream.as_ref();
            upstream = stream.and_then(|stream| SockRef::from(&stream.as_fd()).peer_addr().ok());
        }
        let named = |address: socket2::SockAddr| match address.as_socket() {
            Some(address) => zone::shown_address(&address.into()),
            None => self.listeners.pair(client.pair).upstream.text.clone(),
        };
        ConnectionReport {
            conn: client.id,
            proxy: self.listeners.pair(client.pair).proxy.clone(),
            client: client.peer.to_string(),
            upstream: upstream.map(named),
            state: client.state(),
            age: self.now.since(client.began),
            streams: BothWays { up: stream(RelaySide::Client), down: stream(RelaySide::Upstream) },
            toxics,
            rules,
        }
    }

    /// Ends a connection; false: there is none of that number.
    pub(crate) fn end_connection(&mut self, conn: u64, by: ConnectionEnd) -> bool {
        let found = self.clients.table.iter().find(|(_, client)| client.id == conn);
        let Some((key, _)) = found else { return false };
        match by {
            ConnectionEnd::Fin => self.finish(key),
            ConnectionEnd::Rst => self.close(key, [RelayClose::Reset; 2], RelayReason::Api),
        }
        true
    }

    /// What random choices of connections depend on that are accepted from now on.
    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.faults.rules.set_seed(seed);
    }

    /// Forgets what pairs of a name have done.
    pub(crate) fn forget_record(&mut self, proxy: &str) {
        self.listeners.records.remove(proxy);
    }

    /// Replaces the rules of a pair besides its toxics, also for its connections.
    pub(crate) fn set_rules(&mut self, pair: usize, rules: Vec<Rule>) {
        let gone = self.faults.rules.numbers_of(pair);
        let add = |rule| self.faults.rules.add(rule, Some(RuleOwner { pair, toxic: None }));
        let new: Vec<usize> = rules.into_iter().map(add).collect();
        let keys = if gone.is_empty() && new.is_empty() { vec![] } else { self.clients_of(pair) };
        for key in keys {
            let now = self.waiting.clock.now();
            let client = &self.clients.table[key];
            let RelayStage::Relaying(relayed) = &client.stage else { continue };
            if relayed.upstream.is_none() {
                continue;
            }
            let faults = RelaySide::BOTH.map(|to| {
                let (place, direction) = (relayed.relay.place(to, now), Direction::towards(to));
                self.faults.rules.faults_from(&new, client.who(), direction, place)
            });
            self.rearm(key, &gone, faults);
        }
        gone.iter().for_each(|number| self.faults.rules.remove(*number));
    }
}
