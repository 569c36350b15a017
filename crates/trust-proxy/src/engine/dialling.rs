//! On the way to a client's upstream: resolving its name, and racing for an address that answers.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use mio::Registry;
use mio::unix::SourceFd;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::SockRef;
use trust_cli::connect::{Connected, Losses, Race, RaceProgress};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::text::reason;
use trust_cli::values::quoted;
use trust_cli::wait::{Limit, left};
use trust_net::Address;
use trust_net::address::Family;
use trust_net::socket::{self, AcceptedOptions};
use trust_wire::Timestamp;
use trust_wire::relay::{FaultAction, FaultPlace, Relay, RelayClose, RelayFault, RelaySide};

use super::RelayLoop;
use crate::engine::client::{RelayStage, Relayed};
use crate::engine::dial::DialStep;
use crate::engine::{INTEREST, attempt_token, token};
use crate::events::RelayReason;
use crate::options::ConnectFailure;
use crate::resolver::Lookup;
use crate::rules::{Direction, RuleAction};

/// How long a client waits for the next attempt if descriptors ran out.
const PAUSE: Duration = Duration::from_millis(100);

/// Which of the sockets are writable or have failed.
fn ready_ones(sockets: &[BorrowedFd<'_>]) -> Vec<bool> {
    let mut polled: Vec<PollFd<'_>> =
        sockets.iter().map(|it| PollFd::from_borrowed_fd(*it, PollFlags::OUT)).collect();
    // Nothing is waited for, so no signal can interrupt that.
    let _ = poll(&mut polled, Some(&Timespec::default()));
    polled.iter().map(|polled| !polled.revents().is_empty()).collect()
}

/// Registers what has begun since the last call; the others are there already.
fn register(race: &Race, registry: &Registry, key: usize) -> Result<(), Errno> {
    for socket in race.sockets() {
        let (descriptor, token) = (socket.as_raw_fd(), attempt_token(key));
        match registry.register(&mut SourceFd(&descriptor), token, INTEREST) {
            Err(error) if Errno::from_io_error(&error) != Some(Errno::EXIST) => {
                return Err(Errno::from_io_error(&error).unwrap_or(Errno::NOMEM));
            }
            _ => {}
        }
    }
    Ok(())
}

impl RelayLoop<'_> {
    /// Begins to look for the upstream of a client.
    fn dial(&mut self, key: usize) {
        let pair = self.clients.table[key].pair;
        let of = self.listeners.pair_mut(pair);
        match (&of.upstream.target, &of.upstream.known) {
            (Err(failure), _) => {
                let failure = failure.clone();
                self.fail_to_connect(key, &failure);
            }
            (_, Some(addresses)) => {
                let addresses = addresses.clone();
                self.race(key, addresses);
            }
            (Ok(target), None) => {
                of.asking.push((key, self.clients.table[key].id));
                if of.asking.len() == 1 {
                    self.inbox.resolver.look_up(pair, target);
                }
                self.go_on_dialling(key);
            }
        }
    }

    /// Hands what was resolved to the clients that wait for it.
    pub(super) fn take_resolved(&mut self) {
        for (pair, found) in self.inbox.resolver.take_found() {
            let asking = self.listeners.pairs.get_mut(&pair).map(|it| &mut it.asking);
            for (key, id) in asking.map(std::mem::take).unwrap_or_default() {
                if self.clients.table.get(key).is_some_and(|client| client.id == id) {
                    self.handle_found(key, found.clone());
                }
            }
        }
    }

    fn handle_found(&mut self, key: usize, found: Lookup) {
        match found {
            Ok(addresses) => self.race(key, addresses),
            Err(failure) => self.fail_to_connect(key, &failure),
        }
    }

    fn race(&mut self, key: usize, addresses: Vec<Address>) {
        let RelayStage::Dialling(dial) = &mut self.clients.table[key].stage else { return };
        dial.step = DialStep::Racing(Race::start(addresses, dial.limit));
        self.go_on_dialling(key);
    }

    /// Does what is due on the way to a client's upstream.
    pub(super) fn go_on_dialling(&mut self, key: usize) {
        let client = &mut self.clients.table[key];
        let RelayStage::Dialling(dial) = &mut client.stage else { return };
        // What it had sent before is still passed on, and then that it is gone.
        if dial.is_client_gone && socket::unread(client.stream.as_fd()) == 0 {
            return self.close(key, [RelayClose::Close; 2], RelayReason::ClientFailed);
        }
        let is_late = dial.limit.end.is_some_and(|end| left(end).is_zero());
        match &mut dial.step {
            DialStep::Delayed { until, next_rule } if *until <= self.now => {
                let next_rule = *next_rule;
                // The wait for the upstream begins only now.
                dial.limit = Limit::start(self.config.connect_timeout);
                dial.step = DialStep::Resolving;
                self.follow_connect_rules(key, next_rule);
            }
            DialStep::Delayed { .. } => self.arm_dial(key),
            DialStep::Resolving if is_late => {
                let host = quoted(&self.listeners.pair(client.pair).upstream.text);
                let message = format!("cannot resolve {host}: {}", dial.limit.message());
                self.fail_to_connect(key, &Failure::new(ExitCode::TimedOut, message));
            }
            DialStep::Resolving => self.arm_dial(key),
            DialStep::Pausing(addresses, until) if *until <= self.now || is_late => {
                let addresses = std::mem::take(addresses);
                self.race(key, addresses);
            }
            DialStep::Pausing(..) => self.arm_dial(key),
            DialStep::Racing(race) => {
                let sockets: Vec<_> = race.sockets().collect();
                let is_ready = ready_ones(&sockets);
                match race.proceed(&is_ready) {
                    RaceProgress::UnderWay => {
                        if let Err(errno) = register(race, self.waiting.poll.registry(), key) {
                            return self.pause_dial(key, errno);
                        }
                        self.arm_dial(key);
                    }
                    RaceProgress::Won(connected) => self.handle_connected(key, connected),
                    RaceProgress::Lost(losses) => self.handle_losses(key, &losses, is_late),
                }
            }
        }
    }

    fn arm_dial(&mut self, key: usize) {
        let RelayStage::Dialling(dial) = &self.clients.table[key].stage else { return };
        let at = |instant| self.waiting.clock.now() + left(instant);
        let limit = dial.limit.end.map_or(Timestamp::NEVER, at);
        let until = match &dial.step {
            DialStep::Delayed { until, .. } => *until,
            DialStep::Resolving => limit,
            DialStep::Racing(race) => race.until().map_or(Timestamp::NEVER, at),
            DialStep::Pausing(_, until) => limit.min(*until),
        };
        self.clients.arm(key, until);
    }

    fn handle_losses(&mut self, key: usize, losses: &Losses, is_late: bool) {
        if let (Some(errno), false) = (losses.exhaustion(), is_late) {
            return self.pause_dial(key, Errno::from_raw_os_error(errno));
        }
        let pair = self.clients.table[key].pair;
        let failure = match &self.listeners.pair(pair).upstream.target {
            Ok(target) => losses.failure(target),
            Err(failure) => failure.clone(),
        };
        self.fail_to_connect(key, &failure);
    }

    /// Tries again later, as for want of descriptors: the client waits as if it were in the
    /// backlog.
    fn pause_dial(&mut self, key: usize, errno: Errno) {
        self.listeners.policy.handle_exhausted(self.now, errno.raw_os_error(), self.events);
        let RelayStage::Dialling(dial) = &mut self.clients.table[key].stage else { return };
        let step = std::mem::replace(&mut dial.step, DialStep::Resolving);
        if let DialStep::Racing(race) = step {
            dial.step = DialStep::Pausing(race.into_addresses(), self.now + PAUSE);
        }
        self.arm_dial(key);
    }

    fn handle_connected(&mut self, key: usize, connected: Connected) {
        let Connected { stream, address, took, .. } = connected;
        let family = address.family();
        if family == Family::Ip {
            // It fails only for a connection that is gone.
            let options = AcceptedOptions { keepalive: true };
            let _ = socket::prepare(SockRef::from(&stream), options);
        }
        let local = socket::local_address(stream.as_fd()).ok();
        // The event that this brings has the connection's own readiness.
        let descriptor = stream.as_fd().as_raw_fd();
        let (token, registry) = (token(key, RelaySide::Upstream), self.waiting.poll.registry());
        if let Err(error) = registry.reregister(&mut SourceFd(&descriptor), token, INTEREST) {
            let message = format!("cannot wait for it: {}", reason(&error));
            return self.fail_to_connect(key, &Failure::new(ExitCode::OsLimit, message));
        }
        let client = &mut self.clients.table[key];
        let is_client_gone = matches!(&client.stage, RelayStage::Dialling(it) if it.is_client_gone);
        self.events.write_connect(&client.name(), &address, local.as_ref(), took);
        self.faults.trace_connect(client, &address, self.now.since(client.began));
        let mut relay = Relay::new(self.config.linger_timeout).with_hold(self.config.hold);
        let mut is_watched = self.config.frames.is_some();
        let seed = self.faults.rules.seed();
        let toxics = self.listeners.pair(client.pair).toxics_for(client.number, seed);
        for direction in [Direction::Up, Direction::Down] {
            let mut faults = self.faults.rules.faults(client.who(), direction);
            for toxic in &toxics {
                faults.extend(toxic.of.faults(&self.faults.rules, 0, client.id, direction));
            }
            is_watched |= !faults.is_empty();
            let receiver = direction.receiver();
            let frames = self.config.frames.as_ref().map(|it| it.towards(receiver).clone());
            relay.arm(receiver, faults, frames);
        }
        if is_client_gone {
            // Receiving will report it, after what came before.
            let _ = relay.handle_failing(RelaySide::Client);
        }
        let upstream = Some(stream);
        client.stage = RelayStage::Relaying(Relayed {
            relay,
            upstream,
            family,
            pipes: [None, None],
            is_watched,
            toxics,
            is_ended: false,
        });
        self.give_turn(key);
    }

    /// Does what the rules from that number on say of a client that was accepted, and begins to
    /// look for its upstream, unless they leave nothing else to do or have it wait.
    pub(super) fn follow_connect_rules(&mut self, key: usize, from: usize) {
        let client = &self.clients.table[key];
        let Some((number, action)) = self.faults.rules.at_connect(client.who(), from) else {
            return self.dial(key);
        };
        let action = action.clone();
        self.faults.note(number, client, None, self.now.since(client.began));
        match action {
            RuleAction::ConnectDelay(time) => {
                let until = self.waiting.clock.now() + time;
                let step = DialStep::Delayed { until, next_rule: number + 1 };
                if let RelayStage::Dialling(dial) = &mut self.clients.table[key].stage {
                    dial.step = step;
                }
                self.arm_dial(key);
            }
            RuleAction::AcceptReset => {
                self.close(key, [RelayClose::Reset; 2], RelayReason::Fault);
            }
            _ => self.silence(key, number),
        }
    }

    /// Leaves a client without an upstream, as that rule says.
    fn silence(&mut self, key: usize, rule: usize) {
        // Nothing is received from it, and so nothing of its end is seen but a RST.
        let mut relay = Relay::new(self.config.linger_timeout);
        let (place, action) = (FaultPlace::Byte(0), FaultAction::Hold);
        relay.arm(RelaySide::Upstream, vec![RelayFault { rule, place, action }], None);
        let client = &mut self.clients.table[key];
        if matches!(&client.stage, RelayStage::Dialling(dial) if dial.is_client_gone) {
            // It was reset while another rule had it wait.
            let _ = relay.handle_failing(RelaySide::Client);
        }
        client.stage = RelayStage::Relaying(Relayed::without_upstream(relay));
        self.give_turn(key);
    }

    /// Ends a client whose upstream cannot be reached.
    fn fail_to_connect(&mut self, key: usize, failure: &Failure) {
        let client = &mut self.clients.table[key];
        let upstream = &self.listeners.pair(client.pair).upstream.text;
        self.events.write_connect_failed(&client.name(), upstream, failure);
        match self.config.connect_failure {
            ConnectFailure::Reset => {
                self.close(key, [RelayClose::Reset; 2], RelayReason::ConnectFailed);
            }
            ConnectFailure::Close => {
                let relay = Relay::refusal(self.config.linger_timeout);
                client.stage = RelayStage::Relaying(Relayed::without_upstream(relay));
                self.give_turn(key);
            }
        }
    }
}
