//! Reduces a failing script to a small one that fails in the same way.

use std::fmt::Debug;
use std::time::Duration;

use crate::script::{Action, ClientScript, Message, Script};

/// Upper limit on the scripts tried.
const TRIES_MAX: u32 = 4_000;

/// A change that makes a script smaller, if it applies.
pub type Change<S> = Box<dyn Fn(&mut S)>;

/// A script that can be made smaller. Scripts are compared by their debug output, which must show
/// everything in them.
pub trait Shrink: Clone + Debug {
    /// All changes that make it smaller, the largest first.
    fn changes(&self) -> Vec<Change<Self>>;

    /// A client of it.
    fn client_mut(&mut self, index: usize) -> &mut ClientScript;
}

/// Removes from `script` whatever is not needed to fail in the same way, as judged by
/// `still_fails`.
pub fn shrink<S: Shrink>(script: &S, still_fails: impl Fn(&S) -> bool) -> S {
    let mut smallest = script.clone();
    let mut tries = 0;
    loop {
        let mut is_smaller = false;
        for change in smallest.changes() {
            let mut candidate = smallest.clone();
            change(&mut candidate);
            if format!("{candidate:?}") == format!("{smallest:?}") {
                continue;
            }
            tries += 1;
            if tries > TRIES_MAX {
                return smallest;
            }
            if still_fails(&candidate) {
                smallest = candidate;
                is_smaller = true;
                break;
            }
        }
        if !is_smaller {
            return smallest;
        }
    }
}

impl Shrink for Script {
    fn changes(&self) -> Vec<Change<Script>> {
        let mut changes: Vec<Change<Script>> = vec![];
        let mut add = |change: Change<Script>| changes.push(change);
        for client in 0..self.clients.len() {
            if self.clients.len() > 1 {
                add(Box::new(move |script| {
                    script.clients.remove(client);
                }));
            }
        }
        for pause in 0..self.pauses.len() {
            add(Box::new(move |script| {
                script.pauses.remove(pause);
            }));
            add(Box::new(move |script| halve(&mut script.pauses[pause].length)));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let header_steps = client.header.as_ref().map_or(0, |header| header.steps.len());
            for step in 0..header_steps {
                add(Box::new(move |script| {
                    let header = script.clients[index].header.as_mut();
                    header.expect("it has one").steps.remove(step);
                }));
            }
        }
        if self.limits.proxy_header.is_some() {
            add(Box::new(|script| {
                script.limits.proxy_header = None;
                script.clients.iter_mut().for_each(|client| client.header = None);
            }));
        }
        add(Box::new(|script| script.second_signal_after = None));
        add(Box::new(|script| script.wake_delay = Duration::ZERO));
        add(Box::new(|script| script.judge_delay = Duration::ZERO));
        add(Box::new(|script| script.max_clients = 1000));
        add(Box::new(|script| script.limits.max_lifetime = None));
        add(Box::new(|script| script.limits.frame_timeout = None));
        add(Box::new(|script| script.receive_len = 1 << 16));
        let clients: Vec<&ClientScript> = self.clients.iter().collect();
        changes.extend(client_changes(&clients));
        changes
    }

    fn client_mut(&mut self, index: usize) -> &mut ClientScript {
        &mut self.clients[index]
    }
}

/// The changes of a script's clients.
pub fn client_changes<S: Shrink>(clients: &[&ClientScript]) -> Vec<Change<S>> {
    let mut changes: Vec<Change<S>> = vec![];
    let mut add = |change: Change<S>| changes.push(change);
    for (index, client) in clients.iter().enumerate() {
        for step in 0..client.steps.len() {
            add(Box::new(move |script| {
                script.client_mut(index).steps.remove(step);
            }));
        }
        for message in 0..client.messages.len() {
            add(Box::new(move |script| {
                script.client_mut(index).messages.remove(message);
            }));
        }
    }
    for index in 0..clients.len() {
        let mut of_client = |change: fn(&mut ClientScript)| {
            add(Box::new(move |script: &mut S| change(script.client_mut(index))));
        };
        of_client(|client| client.connects_at = Duration::ZERO);
        of_client(|client| client.path.jitter = Duration::ZERO);
        of_client(|client| client.path.latency = Duration::ZERO);
        of_client(|client| client.path.ack_delay = Duration::ZERO);
        of_client(|client| client.path.segment = 1460);
        of_client(|client| client.path.short_send_one_in = u64::MAX);
        of_client(|client| client.path.would_block_one_in = u64::MAX);
        of_client(|client| client.path.interrupt_one_in = u64::MAX);
        of_client(|client| client.path.shortage = None);
        of_client(|client| client.path.urgent_one_in = u64::MAX);
        of_client(|client| client.path.server_send_buffer = 1 << 20);
        of_client(|client| client.path.server_receive_buffer = 1 << 20);
        of_client(|client| client.path.client_receive_buffer = 1 << 20);
        of_client(|client| client.read_gap = Duration::ZERO);
        of_client(|client| client.closes_after = Some(Duration::ZERO));
    }
    for (index, client) in clients.iter().enumerate() {
        for step in 0..client.steps.len() {
            add(Box::new(move |script| {
                let step = &mut script.client_mut(index).steps[step];
                halve(&mut step.after);
            }));
            add(Box::new(move |script| match &mut script.client_mut(index).steps[step].action {
                Action::Send(count) if *count > 1 => *count /= 2,
                Action::Outage(length, _) => halve(length),
                _ => {}
            }));
        }
        for message in 0..client.messages.len() {
            add(Box::new(move |script| match &mut script.client_mut(index).messages[message] {
                Message::Header(_) => {}
                Message::Frame(len)
                | Message::Text(len)
                | Message::Line(len)
                | Message::Letters(len)
                | Message::Bytes(len) => {
                    if *len > 1 {
                        *len /= 2;
                    }
                }
            }));
        }
    }
    changes
}

/// Halves it, in whole milliseconds, so that repeated halving ends.
pub fn halve(time: &mut Duration) {
    *time = Duration::from_millis(time.as_millis() as u64 / 2);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many seeds are shrunk.
    const SEEDS: u64 = 200;

    fn resets(client: &ClientScript) -> bool {
        client.steps.iter().any(|step| matches!(step.action, Action::Reset))
    }

    fn long_frames(client: &ClientScript) -> usize {
        let is_long = |message: &&Message| matches!(message, Message::Frame(len) if *len >= 100);
        client.messages.iter().filter(is_long).count()
    }

    #[test]
    fn what_a_failure_needs_is_all_that_is_left() {
        let needs = |script: &Script| {
            script.clients.iter().any(|client| resets(client) && long_frames(client) >= 2)
        };
        let mut shrunk = 0;
        for seed in (0..SEEDS).filter(|seed| needs(&Script::of(*seed))) {
            let small = shrink(&Script::of(seed), needs);
            let [client] = &small.clients[..] else { panic!("seed {seed}: {small:#?}") };
            let [step] = &client.steps[..] else { panic!("seed {seed}: {client:#?}") };
            assert_eq!(step.after, Duration::ZERO, "seed {seed}");
            assert!(matches!(step.action, Action::Reset), "seed {seed}: {step:?}");
            let lengths: Vec<usize> = client.messages.iter().map(Message::wire_len).collect();
            assert_eq!(lengths.len(), 2, "seed {seed}: {lengths:?}");
            assert!(lengths.iter().all(|len| (104..204).contains(len)), "seed {seed}: {lengths:?}");
            assert!(small.pauses.is_empty() && small.second_signal_after.is_none(), "seed {seed}");
            shrunk += 1;
        }
        assert!(shrunk > 0, "no seed below {SEEDS} has what the failure needs");
    }

    #[test]
    fn what_fails_for_any_script_shrinks_to_next_to_nothing() {
        let small = shrink(&Script::of(3), |_| true);
        assert!(small.clients.len() == 1 && small.clients[0].steps.is_empty(), "{small:#?}");
    }
}
