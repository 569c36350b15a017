//! `trustctl echo-client HOST:PORT [MESSAGE…]`: sends messages and prints their echoes.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use trust_cli::approach::Approach;
use trust_cli::command::{Context, Entry, Product};
use trust_cli::echo::link::Link;
use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::layers::{self, Layers};
use trust_cli::settings::AnySetting;
use trust_cli::target::{Arguments, Family, ServerSettings};

use crate::client::input::Cut;
use crate::client::options::{
    CHUNK, ClientOptions, EXCLUSIONS, NAME, ONE_INPUT, PAYLOAD_SIZE, RAW, SERVER, SETTINGS,
    arguments,
};
use crate::client::session::Session;
use crate::client::source::{PlannedMessage, SendPlan, Source};

/// The command.
pub const ENTRY: Entry = Entry {
    example: "localhost:9900 hello",
    settings: SETTINGS,
    exclusions: EXCLUSIONS,
    arguments,
    ..Entry::new(
        NAME,
        "Send messages to an echo server and print what comes back",
        Product::Output,
        run,
    )
};

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
    let (family, signals) = (Family::of(context.matches), context.signals);
    let named = SERVER.target(context.layers, &arguments, Arguments::ServerThenMessages, family)?;
    let missing = || ServerSettings::missing("--host and --port");
    let (target, messages) = named.ok_or_else(missing)?;
    let options = options(context.layers, !messages.is_empty());
    let plan = plan(&options, messages)?;
    let ClientOptions { timeout, wait, send_proxy: preface, .. } = options;
    let approach = Approach { target: &target, family, timeout, wait, preface, signals };
    let session = || {
        let connected = approach.reach()?;
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let source = Source::new(plan, stdin.as_fd());
        let link = Link::new(connected.stream, source.conversation()).with_preface(preface);
        let limit = (!timeout.is_zero()).then_some(timeout);
        Session::new(&target, limit, context.signals, source, link, stdout.as_fd()).run()
    };
    session().map_or_else(|stopped| context.end(stopped), |()| Ok(ExitCode::Success))
}

/// What the settings say. A message on the command line beats a variable and the file, as a flag
/// does.
fn options(layers: &Layers, has_messages: bool) -> ClientOptions {
    let mut options = ClientOptions::of(layers);
    let is_beaten =
        |choice: &dyn AnySetting| has_messages && layers.source(choice) != layers::Source::Flag;
    options.payload_size = options.payload_size.filter(|_| !is_beaten(&PAYLOAD_SIZE));
    options.chunk = options.chunk.filter(|_| !is_beaten(&CHUNK));
    options.raw &= !is_beaten(&RAW);
    options
}

/// What to send.
///
/// # Errors
///
/// 64 if more than one thing was asked for, or something that cannot be repeated is to be.
fn plan(options: &ClientOptions, messages: &[OsString]) -> Result<SendPlan, Failure> {
    let others = [
        (PAYLOAD_SIZE.flag(), options.payload_size.is_some()),
        (CHUNK.flag(), options.chunk.is_some()),
        (RAW.flag(), options.raw),
    ];
    if let (false, Some((flag, _))) = (messages.is_empty(), others.iter().find(|(_, is)| *is)) {
        let message = format!("{flag} cannot be used with MESSAGE: {ONE_INPUT}");
        return Err(Failure::new(ExitCode::Usage, message));
    }
    let plan = match (options.payload_size, options.chunk) {
        (Some(size), _) => {
            SendPlan::Messages(vec![PlannedMessage::Generated(size)], options.interval)
        }
        (_, Some(len)) => SendPlan::Frames(Cut::Chunks { len }),
        _ if options.raw => SendPlan::Raw,
        _ if messages.is_empty() => SendPlan::Frames(Cut::Lines { max: options.max_frame }),
        _ => {
            let bytes = |message: &OsString| PlannedMessage::Bytes(message.as_bytes().to_vec());
            SendPlan::Messages(messages.iter().map(bytes).collect(), options.interval)
        }
    };
    if options.interval.is_some() && !matches!(plan, SendPlan::Messages(..)) {
        let message = "--interval needs something to repeat: MESSAGE or --payload-size";
        return Err(Failure::new(ExitCode::Usage, message));
    }
    Ok(plan)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::options::MAX_FRAME;
    use trust_wire::DEFAULT_MAX_PAYLOAD;

    fn no_flags() -> ClientOptions {
        ClientOptions::of(&Layers::default())
    }

    fn refused(flags: &ClientOptions, messages: &[OsString]) -> String {
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
        let raw = ClientOptions { raw: true, ..no_flags() };
        let chunk = ClientOptions { chunk: Some(1), ..no_flags() };
        let expected = "--chunk cannot be used with MESSAGE: each of them says what is sent";
        assert_eq!(refused(&chunk, &message), expected);
        assert_eq!(plan(&raw, &[]), Ok(SendPlan::Raw));
        let lines = Cut::Lines { max: 65_536 };
        assert_eq!(plan(&no_flags(), &[]), Ok(SendPlan::Frames(lines)));
    }

    #[test]
    fn only_messages_can_be_repeated() {
        let interval = Some(Duration::from_secs(1));
        let flags = ClientOptions { interval, ..no_flags() };
        assert!(refused(&flags, &[]).starts_with("--interval needs something to repeat"));
        let repeated = SendPlan::Messages(vec![PlannedMessage::Bytes(b"hi".to_vec())], interval);
        assert_eq!(plan(&flags, &["hi".into()]), Ok(repeated));
    }
}
