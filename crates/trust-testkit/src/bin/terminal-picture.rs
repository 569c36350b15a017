//! Draws the output of a program on a terminal, as SVG pictures for light and for dark pages.
//!
//! `terminal-picture NAME COMMAND…` runs the command with its standard output on a terminal, shows
//! the output below a prompt with the command, and writes `NAME-light.svg` and `NAME-dark.svg`. It
//! fails if the command could not be run or printed nothing. How the command ended is part of the
//! picture, and not a failure.

use std::error::Error;
use std::process::Command;
use std::{env, fs};

use anstyle::RgbColor;
use anstyle_svg::{Palette, Term};
use trust_testkit::terminal::Terminal;

/// Foreground, background and the sixteen colours of a scheme, as `0xRRGGBB`.
struct Scheme {
    name: &'static str,
    foreground: u32,
    background: u32,
    colours: [u32; 16],
}

/// Dark enough to read on white: a contrast of at least 4.5 to 1, as WCAG 2.2 requires (1.4.3).
const LIGHT: Scheme = Scheme {
    name: "light",
    foreground: 0x1f_2328,
    background: 0xf6_f8fa,
    colours: [
        0x24_292f, 0xa4_0e26, 0x11_6329, 0x7d_4e00, 0x09_50ae, 0x6e_3996, 0x1b_5e66, 0x57_606a,
        0x57_606a, 0xa4_0e26, 0x11_6329, 0x7d_4e00, 0x09_50ae, 0x6e_3996, 0x1b_5e66, 0x24_292f,
    ],
};

const DARK: Scheme = Scheme {
    name: "dark",
    foreground: 0xe6_edf3,
    background: 0x16_1b22,
    colours: [
        0x48_4f58, 0xff_7b72, 0x3f_b950, 0xd2_9922, 0x58_a6ff, 0xbc_8cff, 0x39_c5cf, 0xb1_bac4,
        0x8b_949e, 0xff_a198, 0x56_d364, 0xe3_b341, 0x79_c0ff, 0xd2_a8ff, 0x56_d4dd, 0xff_ffff,
    ],
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [name, command @ ..] = arguments.as_slice() else { return Err("expected NAME".into()) };
    let [program, flags @ ..] = command else { return Err("expected COMMAND".into()) };
    let terminal = Terminal::open();
    Command::new(program)
        .args(flags)
        .env("TERM", "xterm-256color")
        .env_remove("NO_COLOR")
        .stdout(terminal.end())
        .status()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    // The terminal ends lines with both characters.
    let shown = terminal.shown().replace("\r\n", "\n");
    if shown.trim().is_empty() {
        return Err(format!("{program} printed nothing").into());
    }
    let shown = format!("$ {}\n{}", command.join(" "), shown.trim_end());
    for scheme in [LIGHT, DARK] {
        let path = format!("{name}-{}.svg", scheme.name);
        fs::write(&path, draw(&scheme, &shown)).map_err(|error| format!("{path}: {error}"))?;
    }
    Ok(())
}

fn draw(scheme: &Scheme, shown: &str) -> String {
    let colour = |colour: u32| {
        let [_, red, green, blue] = colour.to_be_bytes();
        RgbColor(red, green, blue)
    };
    Term::new()
        .palette(Palette(scheme.colours.map(colour)))
        .fg_color(colour(scheme.foreground).into())
        .bg_color(colour(scheme.background).into())
        .render_svg(shown)
}
