//! `trustctl echo-client HOST PORT [MESSAGE…]`: sends messages and prints their echoes.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::{Arg, Command, value_parser};
use trust_cli::command::{Context, Entry, Product};
use trust_cli::connect::{ConnectError, Limit, connect, resolve};
use trust_cli::echo::link::Link;
use trust_cli::exclusions::Exclusion;
use trust_cli::exclusions::When::{Given, On};
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::layers::Source as Layer;
use trust_cli::settings::{AnySetting, Setting};
use trust_cli::target::{Family, Target};
use trust_cli::values::{
    ALLOWED_LIMIT, ALLOWED_LIMIT_AT_ONCE, ALLOWED_SIZE, parse_limit, parse_size,
};

use crate::client::input::Cut;
use crate::client::session::{Finished, Session};
use crate::client::source::{Message, Plan, Source};

/// The word that calls it.
const NAME: &str = "echo-client";

/// Its settings.
const SETTINGS: &[&dyn AnySetting] =
    &[&PAYLOAD_SIZE, &CHUNK, &RAW, &INTERVAL, &MAX_FRAME, &TIMEOUT];

const PAYLOAD_SIZE: Setting<u32> = Setting::of(
    NAME,
    "payload-size",
    "BYTES",
    None,
    "Send one generated frame with a payload of this size; from 16777216 on, a server in auto mode \
           takes it for raw bytes",
    ALLOWED_SIZE,
    parse_size,
);

const CHUNK: Setting<u32> = Setting::of(
    NAME,
    "chunk",
    "BYTES",
    None,
    "Send standard input in frames of this size; print exactly the echoed bytes",
    "a whole number of bytes from 1 to 4294967295",
    |text| parse_size(text).filter(|size| *size > 0),
);

const RAW: Setting<bool> = Setting::switch(
    NAME,
    "raw",
    "Send standard input without frames, half-close when it ends, read to the end",
);

const INTERVAL: Setting<Duration> = Setting::of(
    NAME,
    "interval",
    "SECONDS",
    None,
    "Repeat the messages so often, with round-trip times on stderr, until stopped",
    ALLOWED_LIMIT_AT_ONCE,
    parse_limit,
);

const MAX_FRAME: Setting<u32> = Setting::of(
    NAME,
    "max-frame",
    "BYTES",
    Some("65536"),
    "Longest line of standard input that is sent as a message",
    ALLOWED_SIZE,
    parse_size,
);

const TIMEOUT: Setting<Duration> = Setting::of(
    NAME,
    "timeout",
    "SECONDS",
    Some("5"),
    "Longest time to connect, and without progress while an answer is owed; 0: no limit",
    ALLOWED_LIMIT,
    parse_limit,
);

/// Settings that cannot be used together.
const EXCLUSIONS: &[Exclusion] = &[
    Exclusion(Given(&PAYLOAD_SIZE), Given(&CHUNK), ONE_INPUT),
    Exclusion(Given(&PAYLOAD_SIZE), On(&RAW), ONE_INPUT),
    Exclusion(Given(&CHUNK), On(&RAW), ONE_INPUT),
    Exclusion(Given(&INTERVAL), Given(&CHUNK), "standard input cannot be repeated"),
    Exclusion(Given(&INTERVAL), On(&RAW), "standard input cannot be repeated"),
];

const ONE_INPUT: &str = "each of them says what is sent";

/// The command.
pub const ENTRY: Entry = Entry {
    name: NAME,
    settings: SETTINGS,
    exclusions: EXCLUSIONS,
    check: |_| Ok(()),
    command,
    run,
    product: Product::Output,
    on_descriptor_0: None,
};

/// Its part of the command line.
fn command() -> Command {
    let server = Arg::new("server")
        .value_name("HOST PORT|HOST:PORT")
        .help("The server; an IPv6 address as ::1 9900 or [::1]:9900")
        .required(true)
        .value_parser(value_parser!(OsString));
    let messages = Arg::new("messages")
        .value_name("MESSAGE")
        .help("Messages, a frame each; without any, each line of standard input is one")
        .num_args(0..)
        .value_parser(value_parser!(OsString));
    Command::new(NAME)
        .about("Send messages to an echo server and print what comes back")
        .args([server, messages])
        .args(SETTINGS.iter().map(|setting| setting.arg()))
        .args(Family::args())
}

/// Sends the messages and prints their echoes.
///
/// # Errors
///
/// 64 for arguments that do not go together, 65 for a line that is too long, 68, 69, 75, 76 and 77
/// for the connection, 74 for standard input and output.
fn run(context: &mut Context<'_>) -> Result<ExitCode, Failure> {
    let arguments: Vec<OsString> = ["server", "messages"]
        .iter()
        .flat_map(|id| context.matches.get_many::<OsString>(id).unwrap_or_default())
        .cloned()
        .collect();
    let (target, messages) = Target::parse(&arguments)?;
    let plan = plan(&Flags::of(context, !messages.is_empty())?, messages)?;
    let timeout = context.layers.require(&TIMEOUT)?;
    let limit = Limit::start(timeout);
    let family = Family::of(context.matches);
    let connected = resolve(&target, family, limit, context.signals)
        .and_then(|addresses| connect(&target, &addresses, limit, context.signals));
    let stream = match connected {
        Ok(stream) => stream,
        Err(ConnectError::Signal(signal)) => return Ok(context.stopped_by(signal)),
        Err(ConnectError::Failed(failure)) => return Err(failure),
    };
    let (stdin, stdout) = (io::stdin(), io::stdout());
    let source = Source::new(plan, stdin.as_fd());
    let link = Link::new(stream, source.conversation());
    let limit = (!timeout.is_zero()).then_some(timeout);
    let session = Session::new(&target, limit, context.signals, source, link, stdout.as_fd());
    match session.run()? {
        Finished::Done => Ok(ExitCode::Success),
        Finished::Signal(signal) => Ok(context.stopped_by(signal)),
    }
}

/// The settings that decide what is sent.
struct Flags {
    payload_size: Option<u32>,
    chunk: Option<u32>,
    raw: bool,
    interval: Option<Duration>,
    max_frame: u32,
}

impl Flags {
    /// What the settings say: a message on the command line beats a variable and the file, as a flag does.
    fn of(context: &Context<'_>, has_messages: bool) -> Result<Flags, Failure> {
        let layers = context.layers;
        let counts =
            |choice: &dyn AnySetting| !has_messages || layers.source(choice) == Layer::Flag;
        Ok(Flags {
            payload_size: layers.get(&PAYLOAD_SIZE)?.filter(|_| counts(&PAYLOAD_SIZE)),
            chunk: layers.get(&CHUNK)?.filter(|_| counts(&CHUNK)),
            raw: layers.get(&RAW)?.unwrap_or(false) && counts(&RAW),
            interval: layers.get(&INTERVAL)?,
            max_frame: layers.require(&MAX_FRAME)?,
        })
    }
}

/// What to send.
///
/// # Errors
///
/// 64 if more than one thing was asked for, or something that cannot be repeated is to be.
fn plan(flags: &Flags, messages: &[OsString]) -> Result<Plan, Failure> {
    let others = [
        (PAYLOAD_SIZE.flag(), flags.payload_size.is_some()),
        (CHUNK.flag(), flags.chunk.is_some()),
        (RAW.flag(), flags.raw),
    ];
    if let (false, Some((flag, _))) = (messages.is_empty(), others.iter().find(|(_, is)| *is)) {
        let message = format!("{flag} cannot be used with MESSAGE: {ONE_INPUT}");
        return Err(Failure::new(ExitCode::Usage, message));
    }
    let plan = match (flags.payload_size, flags.chunk) {
        (Some(size), _) => Plan::Messages(vec![Message::Generated(size)], flags.interval),
        (_, Some(len)) => Plan::Frames(Cut::Chunks { len }),
        _ if flags.raw => Plan::Raw,
        _ if messages.is_empty() => Plan::Frames(Cut::Lines { max: flags.max_frame }),
        _ => {
            let bytes = |message: &OsString| Message::Bytes(message.as_bytes().to_vec());
            Plan::Messages(messages.iter().map(bytes).collect(), flags.interval)
        }
    };
    if flags.interval.is_some() && !matches!(plan, Plan::Messages(..)) {
        let message = "--interval needs something to repeat: MESSAGE or --payload-size";
        return Err(Failure::new(ExitCode::Usage, message));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trust_wire::DEFAULT_MAX_PAYLOAD;

    const NO_FLAGS: Flags = Flags {
        payload_size: None,
        chunk: None,
        raw: false,
        interval: None,
        max_frame: DEFAULT_MAX_PAYLOAD,
    };

    fn refused(flags: &Flags, messages: &[OsString]) -> String {
        let failure = plan(flags, messages).unwrap_err();
        assert_eq!(failure.exit, ExitCode::Usage);
        failure.message
    }

    #[test]
    fn the_longest_line_is_the_longest_frame_that_servers_take_by_default() {
        assert_eq!(MAX_FRAME.default, Some(DEFAULT_MAX_PAYLOAD.to_string().as_str()));
    }

    #[test]
    fn one_thing_is_sent_at_a_time() {
        let message = ["hi".into()];
        let raw = Flags { raw: true, ..NO_FLAGS };
        let chunk = Flags { chunk: Some(1), ..NO_FLAGS };
        let expected = "--chunk cannot be used with MESSAGE: each of them says what is sent";
        assert_eq!(refused(&chunk, &message), expected);
        assert_eq!(plan(&raw, &[]), Ok(Plan::Raw));
        let lines = Cut::Lines { max: 65_536 };
        assert_eq!(plan(&NO_FLAGS, &[]), Ok(Plan::Frames(lines)));
    }

    #[test]
    fn only_messages_can_be_repeated() {
        let interval = Some(Duration::from_secs(1));
        let flags = Flags { interval, ..NO_FLAGS };
        assert!(refused(&flags, &[]).starts_with("--interval needs something to repeat"));
        let repeated = Plan::Messages(vec![Message::Bytes(b"hi".to_vec())], interval);
        assert_eq!(plan(&flags, &["hi".into()]), Ok(repeated));
    }
}
