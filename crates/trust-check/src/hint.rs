//! What a server speaks that does not speak the framing that was named: another one, or another
//! protocol.

use std::time::{Duration, Instant};

use trust_cli::foreign;
use trust_cli::framing::Framing;
use trust_wire::foreign::{OPENING_MAX, Opening, Protocol};
use trust_wire::format::LengthFormat;

use crate::setup::Setup;
use crate::transcript::Transcript;
use crate::verdict::Judged;
use crate::wire::Wire;

/// Longest time for all tries.
const TRIES_MAX: Duration = Duration::from_secs(6);

/// Longest wait for the echo of one try, unless the run's patience is shorter.
const TRY_MAX: Duration = Duration::from_millis(300);

/// The same for a server that may expect TLS: some linger a while after a failed handshake.
const TLS_MAX: Duration = Duration::from_secs(1);

/// A payload without a newline, of which no part looks like the header of another part.
const HELLO: &[u8; 23] = b"which framing is right?";

/// What helps where it is not known what a server answers.
pub const PROPOSE: &str =
    "--propose FILE learns what comes and where it ends, and writes an exchange file";

/// Whether the message comes back without the PROXY header, and not with it.
pub fn needless_preface(setup: &Setup) -> Option<String> {
    setup.preface.as_ref()?;
    let transcript = Transcript::default();
    let wire = Wire::connect_without_preface(setup, 1, &transcript).ok()?;
    let is_echoed = echoes_over(wire, setup, &setup.framing, &hello(setup), With::Half).ok()?;
    (is_echoed && !is_served(setup, With::Half)).then(|| {
        "it echoes without --send-proxy: the server does not expect a PROXY header".to_owned()
    })
}

/// Tries other framings and says which one comes back right. `None` if none does, or the run is to
/// end, or the one that was named does after all: then a wider one comes back too, as the server
/// sees empty messages in front of it.
pub fn other_framing(setup: &Setup) -> Option<String> {
    let until = Instant::now() + TRIES_MAX;
    if is_served(setup, With::Half) {
        return None;
    }
    // Lengths that count their header are the rarest, so those come last.
    let (exclusive, inclusive) = LengthFormat::NAMES.split_at(LengthFormat::NAMES.len() / 2);
    for name in exclusive.iter().chain(&["line", "raw"]).chain(inclusive) {
        let Some(framing) = Framing::parse(name).filter(|framing| *framing != setup.framing) else {
            continue;
        };
        if Instant::now() >= until {
            break;
        }
        if echoes(setup, &framing, HELLO, With::Half).ok()? {
            return Some(format!("it echoes with --framing {name}"));
        }
    }
    None
}

/// How the server answers a message, if that looks like a protocol that is known by name. `None`
/// too if the run is to end.
pub fn other_protocol(setup: &Setup) -> Option<String> {
    let patience = TRY_MAX.min(setup.patience);
    let mut wire = Wire::connect(setup, 1, &Transcript::default()).ok()?;
    let len = setup.payload_len(HELLO.len() as u64);
    wire.try_send(&setup.framing.encode(&HELLO[..len.min(HELLO.len())]), patience).ok()?;
    let mut got = vec![];
    while got.len() < OPENING_MAX && wire.receive_into(&mut got, OPENING_MAX, patience).ok()? {}
    let opening = Opening::new(&got, None);
    match opening.protocol()? {
        Protocol::Text | Protocol::Frames(_) => None,
        _ => Some(format!("its answer {}", foreign::answer_began(&opening))),
    }
}

/// A ClientHello of TLS 1.2 (RFC 5246, section 7.4.1.2) with one cipher suite and no extension.
/// Every server that expects TLS answers it with a record, if only with an alert.
#[rustfmt::skip]
const CLIENT_HELLO: [u8; 50] = [
    // A record with a handshake message, and how long they are.
    0x16, 3, 1, 0, 45, 1, 0, 0, 41,
    // The version, the random bytes, and no session.
    3, 3,
    0x74, 0x72, 0x75, 0x73, 0x74, 0x63, 0x74, 0x6c, 0x74, 0x72, 0x75, 0x73, 0x74, 0x63, 0x74, 0x6c,
    0x74, 0x72, 0x75, 0x73, 0x74, 0x63, 0x74, 0x6c, 0x74, 0x72, 0x75, 0x73, 0x74, 0x63, 0x74, 0x6c,
    0,
    // ECDHE, RSA, AES-128 and GCM; no compression.
    0, 2, 0xc0, 0x2f, 1, 0,
];

/// What to say of a server that answers a ClientHello with a record of its own.
pub fn expects_tls(setup: &Setup) -> Option<String> {
    let mut wire = Wire::connect(setup, 1, &Transcript::default()).ok()?;
    wire.try_send(&CLIENT_HELLO, setup.patience).ok()?;
    let mut got = vec![];
    let patience = TLS_MAX.min(setup.patience);
    while got.len() < OPENING_MAX && wire.receive_into(&mut got, OPENING_MAX, patience).ok()? {}
    let is_record = Opening::new(&got, None).protocol() == Some(Protocol::TlsRecord);
    let is_echo = CLIENT_HELLO.starts_with(&got);
    (is_record && !is_echo)
        .then(|| "it answers a TLS ClientHello, and the check speaks no TLS".to_owned())
}

/// What else is sent to see whether messages come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum With {
    /// Half a header, or a line without its end, which is no message: it comes back from a server
    /// with a narrower length field, to which it is an empty message, and from one without
    /// messages.
    Half,
    /// Nothing, as the server dies of that.
    Nothing,
}

/// Whether a message of the framing that was named comes back after all.
pub fn is_served(setup: &Setup, with: With) -> bool {
    echoes(setup, &setup.framing, &hello(setup), with).unwrap_or(false)
}

/// A payload that the framing takes.
fn hello(setup: &Setup) -> Vec<u8> {
    let len = setup.payload_len(HELLO.len() as u64);
    HELLO.iter().copied().cycle().take(len).collect()
}

/// Whether one message of that framing comes back, and nothing else.
fn echoes(setup: &Setup, framing: &Framing, payload: &[u8], with: With) -> Judged<bool> {
    match Wire::connect(setup, 1, &Transcript::default()) {
        Ok(wire) => echoes_over(wire, setup, framing, payload, with),
        Err(_) => Ok(false),
    }
}

/// The same over a new connection.
fn echoes_over(
    mut wire: Wire<'_>,
    setup: &Setup,
    framing: &Framing,
    payload: &[u8],
    with: With,
) -> Judged<bool> {
    let message = framing.encode(payload);
    let patience = TRY_MAX.min(setup.patience);
    let since = Instant::now();
    wire.try_send(&message, patience)?;
    let mut got = vec![];
    while got.len() < message.len() && message.starts_with(&got) {
        if !wire.receive_into(&mut got, message.len(), patience)? {
            break;
        }
    }
    if got != message || wire.receive_into(&mut got, message.len() + 1, setup.settle)? {
        return Ok(false);
    }
    let part = match (framing, framing.overhead() / 2) {
        _ if with == With::Nothing => return Ok(true),
        (Framing::Raw, _) => return Ok(true),
        (_, 0) => &message[..message.len() - 1],
        (_, half) => &message[..half],
    };
    Ok(!answers_part(&mut wire, part, setup.settle.max(since.elapsed() * 2))?)
}

/// Whether less than a message comes back within that time, byte for byte.
///
/// # Errors
///
/// Only when the run is to end.
pub fn answers_part(wire: &mut Wire<'_>, part: &[u8], time: Duration) -> Judged<bool> {
    wire.try_send(part, time)?;
    let mut got = vec![];
    while got.len() <= part.len() && wire.receive_into(&mut got, part.len() + 1, time)? {}
    Ok(got == part)
}
