//! The texts of flags and variables: ports, sizes and times with or without units, counts,
//! switches, and HOST:PORT.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use trust_cli::exit_code::ExitCode;
use trust_cli::layers::{Layers, check_variable_names};
use trust_cli::level::Level;
use trust_cli::target::{Target, TargetPlace, parse_server_port};
use trust_cli::text::{grouped, seconds};
use trust_cli::values::{
    parse_bool, parse_count, parse_large_size, parse_limit, parse_port, parse_size, parse_text,
    parse_time, quoted,
};
use trustctl::commands::TRUSTCTL;

use crate::oneline::{check_failure, check_line};

/// The shortest and the longest valid time.
const LIMITS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1_000_000_000)];

/// Input: the kind of value, then a text, or several separated by newlines.
///
/// # Panics
///
/// If a text is read as the wrong value, or a valid value is refused.
pub fn run(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    check_line(&quoted(OsStr::from_bytes(bytes)));
    match kind % 4 {
        0 => check_numbers(&text),
        1 => check_time(&text),
        2 => check_target(bytes),
        _ => check_layers(bytes),
    }
}

/// Compares with a reader whose numbers are larger than any valid one.
fn check_numbers(text: &str) {
    let digits = text.trim_start_matches('0');
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = match digits.len() {
        0 => 0,
        1..=38 => digits.parse().unwrap_or(u128::MAX),
        _ => u128::MAX,
    };
    let within = |low: u128, high: u128| {
        Some(number).filter(|_| is_number && (low..=high).contains(&number))
    };
    assert_eq!(parse_port(text).map(u128::from), within(0, 65_535));
    assert_eq!(parse_server_port(text).map(u128::from), within(1, 65_535));
    let bytes = amount(text, SIZE_UNITS).or_else(|| within(0, u128::MAX));
    let fits = |most: u128| bytes.filter(|bytes| *bytes <= most);
    assert_eq!(parse_size(text).map(u128::from), fits(u32::MAX.into()), "{text}");
    let large = fits(u64::MAX.into()).filter(|bytes| *bytes > 0);
    assert_eq!(parse_large_size(text).map(u128::from), large, "{text}");
    assert_eq!(parse_count(text).map(u128::from), within(1, u64::MAX.into()));
    assert_eq!(parse_bool(text).is_some(), ["true", "false", "1", "0"].contains(&text));
    assert_eq!(parse_text(text).as_deref(), Some(text).filter(|text| !text.is_empty()));
    assert_eq!(Level::parse(text).map(Level::name), Level::parse(text).map(|_| text));
    if let Some(count) = parse_count(text) {
        assert_eq!(grouped(count).replace(',', ""), count.to_string());
    }
}

/// Units of time in nanoseconds, and of sizes in bytes.
const TIME_UNITS: &[(&str, u128)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];
const SIZE_UNITS: &[(&str, u128)] = &[
    ("B", 1),
    ("k", 1_000),
    ("kB", 1_000),
    ("Ki", 1_024),
    ("KiB", 1_024),
    ("M", 1_000_000),
    ("MB", 1_000_000),
    ("Mi", 1_048_576),
    ("MiB", 1_048_576),
    ("G", 1_000_000_000),
    ("GB", 1_000_000_000),
    ("Gi", 1_073_741_824),
    ("GiB", 1_073_741_824),
];

/// The amount of a number with a unit, computed digit by digit; `None` if it is not whole, or
/// exceeds 2^64.
fn amount(text: &str, units: &[(&str, u128)]) -> Option<u128> {
    let at = text.find(|character: char| character != '.' && !character.is_ascii_digit())?;
    let (number, name) = text.split_at(at);
    let (_, unit) = units.iter().find(|(unit, _)| *unit == name)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > 18 {
        return None;
    }
    let mut sum = 0;
    for digit in whole.bytes() {
        sum = sum * 10 + u128::from(digit - b'0') * unit;
        if sum > u64::MAX.into() {
            return None;
        }
    }
    let (mut parts, mut scale) = (0, 1);
    for digit in fraction.bytes() {
        parts = parts * 10 + u128::from(digit - b'0') * unit;
        scale *= 10;
    }
    let sum = sum + parts / scale;
    (parts % scale == 0 && sum <= u64::MAX.into()).then_some(sum)
}

fn check_time(text: &str) {
    let taken = parse_limit(text);
    let longest = LIMITS[1].as_nanos();
    let with_unit = amount(text, TIME_UNITS).filter(|time| *time <= longest);
    assert_eq!(parse_time(text).map(|time| time.as_nanos()), with_unit, "{text}");
    if let Some(time) = with_unit {
        let is_allowed = time == 0 || time >= LIMITS[0].as_nanos();
        assert_eq!(taken.map(|time| time.as_nanos()), is_allowed.then_some(time), "{text}");
        return;
    }
    if let Some(plain) = plain_nanoseconds(text) {
        let is_allowed = plain == 0 || plain >= LIMITS[0].as_nanos();
        assert_eq!(taken.is_some(), is_allowed, "{text}");
        // A float of that size is off by at most one part in 2^52, and is rounded.
        let off = taken.unwrap_or_default().as_nanos().abs_diff(plain.min(longest));
        assert!(!is_allowed || off <= 1 + (plain >> 52), "{text}: {taken:?}");
    }
    let Some(time) = taken else { return };
    assert!(text.bytes().all(|byte| b"0123456789.eE+-".contains(&byte)), "{text:?}: {time:?}");
    let mantissa = text.split(['e', 'E']).next().expect("split yields something");
    let is_zero = !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    assert_eq!(time.is_zero(), is_zero, "{text}: {time:?}");
    assert!(is_zero || (LIMITS[0]..=LIMITS[1]).contains(&time), "{text}: {time:?}");
    let again = time.as_secs_f64().to_string();
    assert_eq!(parse_limit(&again), Some(time), "{text} is shown as {again}");
    check_line(&seconds(time));
}

/// The nanoseconds of a plain decimal number, if it has few enough digits.
fn plain_nanoseconds(text: &str) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = |digits: &str, most| {
        digits.len() <= most && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    if !is_plain(whole, 20) || !is_plain(fraction, 9) || whole.len() + fraction.len() == 0 {
        return None;
    }
    format!("{whole}{fraction:0<9}").parse().ok()
}

/// A target that is taken is spelled by its argument or arguments, and by what is shown of it.
fn check_target(bytes: &[u8]) {
    let arguments: Vec<OsString> =
        bytes.split(|byte| *byte == b'\n').map(|text| OsString::from_vec(text.to_vec())).collect();
    let (target, rest) = match Target::parse(&arguments) {
        Ok(parsed) => parsed,
        Err(failure) => return check_failure(&failure, ExitCode::Usage),
    };
    let taken: Vec<&str> = arguments[..arguments.len() - rest.len()]
        .iter()
        .map(|argument| argument.to_str().expect("a target is UTF-8"))
        .collect();
    let shown = target.to_string();
    check_line(&shown);
    let (of_target, port_of_target) = match target.place() {
        TargetPlace::Host { host, port } => (host, *port),
        TargetPlace::Unix(name) => {
            assert_eq!(taken, [name.to_string()]);
            if !taken[0].contains(char::is_control) {
                let again = Target::parse(&[OsString::from(&shown)]).map(|(target, _)| target);
                assert_eq!(again, Ok(target), "shown as {shown}");
            }
            return;
        }
    };
    assert!(port_of_target > 0 && !of_target.is_empty(), "{target:?}");
    let (host, port) = match taken[..] {
        [one] => one.rsplit_once(':').unwrap_or(("", one)),
        [host, port] => (host, port),
        _ => panic!("a server is one argument or two, not {taken:?}"),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let bare = if bare.is_empty() { "localhost" } else { bare };
    assert_eq!((bare, parse_port(port)), (&**of_target, Some(port_of_target)), "{taken:?}");
    // A zone may have a bracket, which only two arguments can say.
    let is_odd = |character: char| character.is_control() || character == ']';
    if of_target.len() <= 200 && !of_target.contains(is_odd) {
        // A host named `unix` is shown with its port as a word of its own.
        let words = match shown.split_once(' ').filter(|_| of_target == "unix") {
            Some((host, port)) => vec![host, port],
            None => vec![&*shown],
        };
        let again: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        let again = Target::parse(&again).map(|(target, _)| target);
        assert_eq!(again, Ok(target), "shown as {shown}");
    }
}

/// The first byte chooses a setting; the text is the value of its flag and of its variable, and the
/// name of a variable.
fn check_layers(bytes: &[u8]) {
    let Some((index, text)) = bytes.split_first() else { return };
    let settings = TRUSTCTL.all_settings();
    let setting = settings[usize::from(*index) % settings.len()];
    let text = OsStr::from_bytes(text);
    let fault = setting.given(text, String::new()).err();
    let is_valid = fault.is_none();
    let mut layers = Layers::default();
    match layers.add_flag(setting, text) {
        Ok(()) => assert!(is_valid, "{text:?}"),
        Err(failure) => {
            check_failure(&failure, ExitCode::Usage);
            let fault = fault.unwrap_or_default();
            assert!(!is_valid && failure.message.ends_with(&fault), "{failure:?}");
        }
    }
    assert_eq!(
        layers.text(setting).0 == Some(text),
        is_valid || setting.default.is_some_and(|it| text == it)
    );
    let variables = [(OsString::from(setting.variable()), text.to_owned())];
    match layers.add_environment(&variables, &settings) {
        Ok(()) => assert!(is_valid || text.is_empty(), "{text:?}"),
        Err(failure) => check_failure(&failure, ExitCode::Usage),
    }
    let Some(command) = setting.command else { return };
    let variables = [(text.to_owned(), OsString::new())];
    let of_command: Vec<_> =
        settings.into_iter().filter(|setting| setting.command == Some(command)).collect();
    if let Err(failure) = check_variable_names(&variables, command, &of_command) {
        check_failure(&failure, ExitCode::Usage);
    }
}
