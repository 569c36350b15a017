//! PROXY headers as simulated proxies send them: right ones, wrong ones, none. Told a second time,
//! so nothing here is the product's.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use trust_wire::{Limits, ProxyHeader};

use crate::rng::Rng;

use super::{Action, Step};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The fixed part of version 2.
const FIXED: usize = 16;

/// What is sent before everything else.
#[derive(Clone, Debug)]
pub struct HeaderScript {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What must come of them.
    pub fate: HeaderFate,
    /// How they are sent: these steps come before the others.
    pub steps: Vec<Step>,
}

/// What must come of the first bytes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFate {
    /// All of them are a header that says this.
    Says(ProxyHeader),
    /// They are none, which is plain from so many bytes.
    WrongAt(usize),
}

impl HeaderScript {
    /// One for a client that has `upload` to send after it.
    pub fn random(rng: &mut Rng, limits: &Limits, upload: &[u8]) -> HeaderScript {
        let (bytes, fate) = header(rng, upload);
        let steps = steps(rng, limits, bytes.len());
        HeaderScript { bytes, fate, steps }
    }
}

fn header(rng: &mut Rng, upload: &[u8]) -> (Vec<u8>, HeaderFate) {
    let kind = rng.within(0..=11);
    match kind {
        0..=2 => line(rng),
        3..=6 => binary(rng),
        7 => (vec![], without(upload)),
        _ => wrong(rng),
    }
}

fn addresses(rng: &mut Rng, is_v6: bool) -> [SocketAddr; 2] {
    [(); 2].map(|()| match is_v6 {
        true => (Ipv6Addr::from_bits(u128::from(rng.bits()) << 40), rng.bits() as u16).into(),
        false => (Ipv4Addr::from_bits(rng.bits() as u32), rng.bits() as u16).into(),
    })
}

/// A line of version 1.
fn line(rng: &mut Rng) -> (Vec<u8>, HeaderFate) {
    if rng.one_in(4) {
        let ignored = " x".repeat(rng.size(0..=45));
        let line = format!("PROXY UNKNOWN{ignored}\r\n").into_bytes();
        return (line, HeaderFate::Says(ProxyHeader::Socket));
    }
    let is_v6 = rng.one_in(2);
    let [source, destination] = addresses(rng, is_v6);
    let word = if is_v6 { "TCP6" } else { "TCP4" };
    let (from, to) = (source.ip(), destination.ip());
    let ports = format!("{} {}", source.port(), destination.port());
    let line = format!("PROXY {word} {from} {to} {ports}\r\n").into_bytes();
    (line, HeaderFate::Says(ProxyHeader::Tcp { source, destination }))
}

/// A header of version 2.
fn binary(rng: &mut Rng) -> (Vec<u8>, HeaderFate) {
    let is_v6 = rng.one_in(2);
    let [source, destination] = addresses(rng, is_v6);
    let mut block = vec![];
    for address in [source, destination] {
        match address {
            SocketAddr::V4(address) => block.extend(address.ip().octets()),
            SocketAddr::V6(address) => block.extend(address.ip().octets()),
        }
    }
    block.extend([source, destination].iter().flat_map(|it| it.port().to_be_bytes()));
    let padding = match rng.within(0..=3) {
        0 | 1 => None,
        2 => Some(rng.size(0..=300)),
        _ => Some(rng.size(0..=4_000)),
    };
    if let Some(len) = padding {
        block.push(0x04);
        block.extend((len as u16).to_be_bytes());
        block.extend(vec![0; len]);
    }
    let (command, says) = match rng.one_in(4) {
        true => (0x20, ProxyHeader::Socket),
        false => (0x21, ProxyHeader::Tcp { source, destination }),
    };
    let fixed = [command, if is_v6 { 0x21 } else { 0x11 }];
    let len = (block.len() as u16).to_be_bytes();
    ([SIGNATURE, &fixed, &len, &block].concat(), HeaderFate::Says(says))
}

/// Something that is a header only at first sight, and how much of it shows that.
fn wrong(rng: &mut Rng) -> (Vec<u8>, HeaderFate) {
    let fixed = |bytes: &[u8]| [SIGNATURE, bytes].concat();
    let (bytes, wrong_at) = match rng.within(0..=7) {
        0 => (fixed(&[0x11, 0x11, 0, 12]), FIXED - 3),
        1 => (fixed(&[0x2a, 0x11, 0, 12]), FIXED - 3),
        2 => (fixed(&[0x21, 0x77, 0, 12]), FIXED - 2),
        3 => (fixed(&[0x21, 0x11, 0, 11]), FIXED),
        4 => (fixed(&[0x21, 0x11, 0x10, 1]), FIXED),
        5 => (format!("PROXY UNKNOWN {}", "x".repeat(200)).into_bytes(), 107),
        6 => (b"PROXY TCP5 ".to_vec(), 11),
        _ => (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536 ".to_vec(), 35),
    };
    (bytes, HeaderFate::WrongAt(wrong_at))
}

/// What comes of a stream that has no header.
fn without(upload: &[u8]) -> HeaderFate {
    let is_start_of_one = |len: &usize| {
        let start = &upload[..*len];
        b"PROXY ".starts_with(start) || SIGNATURE.starts_with(start)
    };
    let begun = (1..=upload.len()).take_while(is_start_of_one).last();
    HeaderFate::WrongAt(begun.unwrap_or_default() + 1)
}

/// In pieces, at any pace, and perhaps not to the end. The last piece may have more than the
/// header.
fn steps(rng: &mut Rng, limits: &Limits, len: usize) -> Vec<Step> {
    let limit = limits.proxy_header.unwrap_or_default();
    let longest = rng.pick(&[1, 5, 30, 5_000, 5_000]).max(len / 40);
    let pace = rng.pick(&[Duration::ZERO, Duration::ZERO, limit / 50, limit / 4, limit]);
    let mut steps = vec![];
    let mut left = len;
    while left > 0 {
        let count = rng.size(1..=longest);
        left = left.saturating_sub(count);
        steps.push(Step { after: rng.time_up_to(pace), action: Action::Send(count) });
    }
    if rng.one_in(6) {
        let action = rng.pick(&[
            Action::HalfClose,
            Action::Close,
            Action::Reset,
            Action::Vanish,
            Action::Outage(Duration::from_secs(2), false),
        ]);
        let place = rng.size(0..=steps.len());
        steps.insert(place, Step { after: rng.time_up_to(pace), action });
    }
    steps
}
