//! Toxics as rules of the fault proxy.

use trust_wire::relay::draw;

use crate::toxic::{Toxic, ToxicAttributes, ToxicStream};

/// The longest time that a rule can have, in ms: a year, after which no test waits.
const TIME_MAX_MS: i64 = 365 * 24 * 60 * 60 * 1000;

/// The highest rate that a rule can have, in KB/s: more than any path can carry.
const RATE_MAX: i64 = 1_000_000_000_000;

impl Toxic {
    /// The rules that do what the toxic does to a connection, in the language of
    /// `trustctl proxy --fault`. Their places and times count from where the toxic took effect.
    ///
    /// They do the same as in Toxiproxy, except:
    ///
    /// - `latency`: jitter is drawn for each 1,460 bytes in place of each read; FIN is delayed too.
    /// - `bandwidth`: a millisecond of data is sent first and waited for then; Toxiproxy waits
    ///   first.
    /// - `slicer`: pieces are drawn one after the other, in place of halving each read.
    /// - `timeout` closes after its time also while data comes.
    pub fn rules(&self) -> Vec<String> {
        self.rules_after(0)
    }

    /// The same for a connection that has the toxic again because it was changed, so many bytes
    /// after it first had it.
    pub fn rules_after(&self, bytes_before: u64) -> Vec<String> {
        let rules = match self.attributes {
            ToxicAttributes::Latency { latency, jitter } => match (time(latency), time(jitter)) {
                (0, 0) => vec![],
                (latency, 0) => vec![format!("delay {latency}ms")],
                (latency, jitter) => vec![format!("delay {latency}ms ±{jitter}ms")],
            },
            ToxicAttributes::Bandwidth { rate } => {
                vec![format!("rate {}kB/s", rate.clamp(0, RATE_MAX))]
            }
            ToxicAttributes::SlowClose { delay } => stall(delay, "eof").into_iter().collect(),
            ToxicAttributes::Timeout { timeout } => {
                // A peer's FIN is no data, so it ends the connection at once.
                let mut rules = vec!["black-hole".to_owned(), "close @ eof".to_owned()];
                if timeout > 0 {
                    rules.push(format!("close @ time {}ms", time(timeout)));
                }
                rules
            }
            ToxicAttributes::ResetPeer { timeout } => {
                // None of the data that is waited for comes out.
                let mut rules = vec!["drop 1 byte @ byte 0".to_owned()];
                for place in ["byte 1", "eof"] {
                    rules.extend(stall(timeout, place));
                    rules.push(format!("rst both @ {place}"));
                }
                rules
            }
            ToxicAttributes::Slicer { average_size, size_variation, delay } => {
                match ToxicAttributes::sliceable(average_size, size_variation) {
                    None => vec![],
                    Some((size, vary)) => {
                        let vary = if vary > 0 { format!(" ±{vary}") } else { String::new() };
                        let per = match delay {
                            ..=0 => String::new(),
                            delay => format!(" per {}us", delay.min(TIME_MAX_MS * 1000)),
                        };
                        vec![format!("slice {size}{vary}{per}")]
                    }
                }
            }
            ToxicAttributes::LimitData { bytes } => {
                match u64::try_from(bytes).unwrap_or(0).saturating_sub(bytes_before) {
                    // Data must come, and none of it passes.
                    0 => ["drop 1 byte @ byte 0", "close @ byte 1"].map(str::to_owned).to_vec(),
                    left => vec![format!("close @ byte {left}")],
                }
            }
            ToxicAttributes::Noop {} => vec![],
        };
        let direction = match self.direction() {
            ToxicStream::Upstream => "up",
            ToxicStream::Downstream => "down",
        };
        rules.into_iter().map(|rule| format!("{rule} {direction}")).collect()
    }

    /// Whether it drops data, so that a connection that had it cannot go on without it.
    pub fn drops_data(&self) -> bool {
        matches!(self.attributes, ToxicAttributes::Timeout { .. })
    }

    /// Whether a connection of a proxy has the toxic, by its number in the order of accept.
    ///
    /// That depends on the seed, the connection and the names of both, so it stays when other
    /// toxics come and go, and it is the same in each run. If the toxicity is raised, those that
    /// had the toxic keep it.
    pub fn is_for(&self, seed: u64, proxy: &str, connection: u64) -> bool {
        let mut seed = draw(seed, connection);
        for name in [proxy, &self.name] {
            // The length keeps `ab`, `c` apart from `a`, `bc`.
            seed = draw(seed, name.len() as u64);
            seed = name.bytes().fold(seed, |seed, byte| draw(seed, byte.into()));
        }
        // As many bits as the number has: from 0 to below 1.
        let drawn = (seed >> 40) as f32 / (1_u32 << 24) as f32;
        drawn < self.toxicity
    }
}

fn time(ms: i64) -> i64 {
    ms.clamp(0, TIME_MAX_MS)
}

/// A stall at that place, unless its time is 0 or less.
fn stall(ms: i64, place: &str) -> Option<String> {
    (ms > 0).then(|| format!("stall {}ms @ {place}", time(ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    fn toxic(body: &str) -> Toxic {
        Toxic::read(Json::first(body.as_bytes()).unwrap(), |_| false).unwrap()
    }

    fn rules(type_name: &str, attributes: &str) -> Vec<String> {
        let body = format!(
            r#"{{"type":"{type_name}","stream":"upstream","attributes":{{{attributes}}}}}"#
        );
        toxic(&body).rules()
    }

    #[test]
    fn every_toxic_has_the_rules_that_do_it() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("latency", r#""latency":100"#, &["delay 100ms up"]),
            ("latency", r#""latency":100,"jitter":10"#, &["delay 100ms ±10ms up"]),
            ("latency", r#""latency":5,"jitter":10"#, &["delay 5ms ±10ms up"]),
            ("latency", r#""latency":-5"#, &[]),
            ("bandwidth", "", &["rate 0B/s up"]),
            ("bandwidth", r#""rate":1000"#, &["rate 1MB/s up"]),
            ("bandwidth", r#""rate":9223372036854775807"#, &["rate 1000000GB/s up"]),
            ("slow_close", r#""delay":1500"#, &["stall 1500ms @ eof up"]),
            ("slow_close", "", &[]),
            ("timeout", "", &["black-hole up", "close @ eof up"]),
            (
                "timeout",
                r#""timeout":2000"#,
                &["black-hole up", "close @ eof up", "close @ time 2s up"],
            ),
            (
                "reset_peer",
                r#""timeout":7"#,
                &[
                    "drop 1 byte @ byte 0 up",
                    "stall 7ms @ byte 1 up",
                    "rst both @ byte 1 up",
                    "stall 7ms @ eof up",
                    "rst both @ eof up",
                ],
            ),
            (
                "reset_peer",
                "",
                &["drop 1 byte @ byte 0 up", "rst both @ byte 1 up", "rst both @ eof up"],
            ),
            ("slicer", "", &[]),
            ("slicer", r#""average_size":64"#, &["slice 64 up"]),
            (
                "slicer",
                r#""average_size":64,"size_variation":99,"delay":10"#,
                &["slice 64 ±63 per 10us up"],
            ),
            ("limit_data", "", &["drop 1 byte @ byte 0 up", "close @ byte 1 up"]),
            ("limit_data", r#""bytes":5"#, &["close @ byte 5 up"]),
            ("noop", "", &[]),
        ];
        for (type_name, attributes, expected) in cases {
            let rules = rules(type_name, attributes);
            let parse = |rule: &String| trust_proxy::rules::Rule::parse(rule).expect("a rule");
            let shown: Vec<String> = rules.iter().map(|rule| parse(rule).to_string()).collect();
            assert_eq!(shown, *expected, "{type_name} {attributes}");
        }
    }

    #[test]
    fn the_longest_times_are_those_of_rules_too() {
        let most = i64::MAX;
        for (type_name, key) in [
            ("latency", "latency"),
            ("slow_close", "delay"),
            ("timeout", "timeout"),
            ("reset_peer", "timeout"),
            ("limit_data", "bytes"),
        ] {
            for rule in rules(type_name, &format!(r#""{key}":{most}"#)) {
                trust_proxy::rules::Rule::parse(&rule).expect("a rule");
            }
        }
        let slicer = format!(r#""average_size":{most},"size_variation":{most},"delay":{most}"#);
        for rule in rules("slicer", &slicer) {
            trust_proxy::rules::Rule::parse(&rule).expect("a rule");
        }
    }

    #[test]
    fn a_toxicity_is_drawn_once_for_each_connection_and_toxic() {
        let of = |toxicity: &str, name: &str| {
            let toxic =
                toxic(&format!(r#"{{"type":"noop","name":"{name}","toxicity":{toxicity}}}"#));
            (1..=10_000).map(|connection| toxic.is_for(7, "p", connection)).collect::<Vec<bool>>()
        };
        let count = |drawn: &[bool]| drawn.iter().filter(|is_for| **is_for).count();
        assert_eq!((count(&of("0", "a")), count(&of("-1", "a"))), (0, 0));
        assert_eq!((count(&of("1", "a")), count(&of("2", "a"))), (10_000, 10_000));
        let (some, more, other) = (of("0.3", "a"), of("0.5", "a"), of("0.3", "b"));
        assert!((2_800..3_200).contains(&count(&some)), "{}", count(&some));
        assert!(some.iter().zip(&more).all(|(some, more)| *more || !*some), "kept when raised");
        let both = some.iter().zip(&other).filter(|(some, other)| **some && **other).count();
        assert!((750..1_050).contains(&both), "{both}: independent of each other");
    }
}
