//! Toxics: what happens to the traffic of a proxy.

use serde::{Serialize, Serializer};

use crate::error::ApiError;
use crate::json::Json;

/// What happens to one direction of the connections of a proxy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Toxic {
    /// What it is, and how much of it.
    pub attributes: ToxicAttributes,
    /// Unique in its proxy, over both directions.
    pub name: String,
    /// The word for what it is.
    #[serde(rename = "type")]
    pub type_name: &'static str,
    /// The direction as the client wrote it.
    pub stream: String,
    /// The share of the connections that have it.
    #[serde(serialize_with = "shortest")]
    pub toxicity: f32,
}

/// Which way the bytes go that a toxic is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ToxicStream {
    /// From the client to the upstream.
    Upstream,
    /// From the upstream to the client.
    Downstream,
}

/// What a toxic does, and how much of it. Numbers are as the client sent them, negative ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ToxicAttributes {
    /// Bytes come later.
    Latency {
        /// How much, in ms.
        latency: i64,
        /// How much more or less at most, in ms.
        jitter: i64,
    },
    /// Bytes come at a rate.
    Bandwidth {
        /// In KB/s, of 1000 bytes each; 0 holds everything.
        rate: i64,
    },
    /// The end of the stream comes later.
    SlowClose {
        /// How much, in ms.
        delay: i64,
    },
    /// No data comes, and the connection is closed at last.
    Timeout {
        /// When, in ms after it took effect; 0 is never.
        timeout: i64,
    },
    /// The connection is reset.
    ResetPeer {
        /// When, in ms after the first data.
        timeout: i64,
    },
    /// Data comes in small pieces.
    Slicer {
        /// How large they are, in bytes.
        average_size: i64,
        /// How much larger or smaller at most, in bytes.
        size_variation: i64,
        /// The pause after each, in µs.
        delay: i64,
    },
    /// The connection is closed after some data.
    LimitData {
        /// How much, in bytes.
        bytes: i64,
    },
    /// Nothing happens.
    Noop {},
}

impl ToxicAttributes {
    /// All types, with nothing said about how much.
    const ALL: [(&str, ToxicAttributes); 8] = [
        ("latency", ToxicAttributes::Latency { latency: 0, jitter: 0 }),
        ("bandwidth", ToxicAttributes::Bandwidth { rate: 0 }),
        ("slow_close", ToxicAttributes::SlowClose { delay: 0 }),
        ("timeout", ToxicAttributes::Timeout { timeout: 0 }),
        ("reset_peer", ToxicAttributes::ResetPeer { timeout: 0 }),
        ("slicer", ToxicAttributes::Slicer { average_size: 0, size_variation: 0, delay: 0 }),
        ("limit_data", ToxicAttributes::LimitData { bytes: 0 }),
        ("noop", ToxicAttributes::Noop {}),
    ];

    /// The attribute of that name.
    fn field(&mut self, name: &str) -> Option<&mut i64> {
        use ToxicAttributes as Of;
        match (self, name) {
            (Of::Latency { latency: it, .. }, "latency")
            | (Of::Latency { jitter: it, .. }, "jitter")
            | (Of::Bandwidth { rate: it }, "rate")
            | (Of::SlowClose { delay: it } | Of::Slicer { delay: it, .. }, "delay")
            | (Of::Timeout { timeout: it } | Of::ResetPeer { timeout: it }, "timeout")
            | (Of::Slicer { average_size: it, .. }, "average_size")
            | (Of::Slicer { size_variation: it, .. }, "size_variation")
            | (Of::LimitData { bytes: it }, "bytes") => Some(it),
            _ => None,
        }
    }

    /// Replaces those that are given; `null` gives none.
    fn merge(&mut self, given: Json) -> Result<(), ApiError> {
        for (key, value) in given.members("attributes").map_err(ApiError::body)? {
            if let Some(field) = self.field(&key) {
                let what = format!("attributes.{key}");
                value.replace_integer(&what, field).map_err(ApiError::body)?;
            }
        }
        match self {
            ToxicAttributes::Bandwidth { rate } if *rate < 0 => {
                Err(ApiError::attribute("rate", *rate, "0 or more"))
            }
            _ => Ok(()),
        }
    }

    /// The average size of pieces and its variation, as far as pieces can be made of them. Without
    /// an average size there are none.
    pub(crate) fn sliceable(average_size: i64, size_variation: i64) -> Option<(i64, i64)> {
        (average_size > 0).then(|| (average_size, size_variation.clamp(0, average_size - 1)))
    }
}

impl Toxic {
    /// The toxic that a client wants; `is_taken` says which names it cannot have.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, in the order in which Toxiproxy looks.
    pub(crate) fn read(json: Json, is_taken: impl Fn(&str) -> bool) -> Result<Toxic, ApiError> {
        let (mut name, mut type_name) = (String::new(), String::new());
        let mut stream = "downstream".to_owned();
        let (mut toxicity, mut given) = (1.0, Json::Null);
        for (key, value) in json.members("toxic").map_err(ApiError::body)? {
            let outcome = match key.as_str() {
                "name" => value.replace_text(&key, &mut name),
                "type" => value.replace_text(&key, &mut type_name),
                "stream" => value.replace_text(&key, &mut stream),
                "toxicity" => value.replace_float(&key, &mut toxicity),
                "attributes" => {
                    given = value;
                    Ok(())
                }
                _ => Ok(()),
            };
            outcome.map_err(ApiError::body)?;
        }
        if parse_stream(&stream).is_none() {
            return Err(ApiError::stream());
        }
        let found = ToxicAttributes::ALL.into_iter().find(|(name, _)| *name == type_name);
        let (type_name, mut attributes) = found.ok_or_else(ApiError::toxic_type)?;
        if name.is_empty() {
            name = format!("{type_name}_{stream}");
        }
        if is_taken(&name) {
            return Err(ApiError::toxic_exists());
        }
        attributes.merge(given)?;
        Ok(Toxic { attributes, name, type_name, stream, toxicity })
    }

    /// The toxic with what a client wants to be different. Unlike in Toxiproxy, an error leaves it
    /// as it was.
    ///
    /// # Errors
    ///
    /// The first value of a wrong type.
    pub(crate) fn updated(&self, json: Json) -> Result<Toxic, ApiError> {
        let mut toxic = self.clone();
        for (key, value) in json.members("toxic").map_err(ApiError::body)? {
            match key.as_str() {
                "attributes" => toxic.attributes.merge(value)?,
                "toxicity" => {
                    value.replace_float(&key, &mut toxic.toxicity).map_err(ApiError::body)?;
                }
                _ => {}
            }
        }
        Ok(toxic)
    }

    /// Which way the bytes go that it is about.
    ///
    /// # Panics
    ///
    /// If its stream is neither, which is refused when it is made.
    pub fn direction(&self) -> ToxicStream {
        parse_stream(&self.stream).expect("checked when it was made")
    }

    /// A line for the log, if it does something else than its numbers say.
    pub fn note(&self) -> Option<String> {
        let ToxicAttributes::Slicer { average_size, size_variation, .. } = self.attributes else {
            return None;
        };
        let name = &self.name;
        match ToxicAttributes::sliceable(average_size, size_variation) {
            None => Some(format!("toxic {name}: average_size {average_size}: nothing is sliced")),
            Some((_, used)) if used != size_variation => {
                Some(format!("toxic {name}: size_variation {size_variation}: {used} is used"))
            }
            Some(_) => None,
        }
    }
}

fn parse_stream(text: &str) -> Option<ToxicStream> {
    match text.to_ascii_lowercase().as_str() {
        "upstream" => Some(ToxicStream::Upstream),
        "downstream" => Some(ToxicStream::Downstream),
        _ => None,
    }
}

/// A number as Go writes it: whole ones without a point.
fn shortest<S: Serializer>(number: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    // Above, they are written with an exponent or too long for one.
    if number.fract() == 0.0 && number.abs() < 1e15 {
        serializer.serialize_i64(*number as i64)
    } else {
        serializer.serialize_f32(*number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::to_text;

    fn read(body: &str) -> Result<Toxic, ApiError> {
        Toxic::read(Json::first(body.as_bytes()).unwrap(), |name| name == "taken")
    }

    #[test]
    fn every_type_has_all_of_its_attributes_in_order() {
        let cases = [
            ("latency", r#"{"latency":0,"jitter":0}"#),
            ("bandwidth", r#"{"rate":0}"#),
            ("slow_close", r#"{"delay":0}"#),
            ("timeout", r#"{"timeout":0}"#),
            ("reset_peer", r#"{"timeout":0}"#),
            ("slicer", r#"{"average_size":0,"size_variation":0,"delay":0}"#),
            ("limit_data", r#"{"bytes":0}"#),
            ("noop", "{}"),
        ];
        for (name, expected) in cases {
            let toxic = read(&format!(r#"{{"type":"{name}"}}"#)).unwrap();
            assert_eq!(to_text(&toxic.attributes), expected);
            let numbers: serde_json::Value = serde_json::from_str(expected).unwrap();
            let mut attributes = toxic.attributes;
            for key in numbers.as_object().unwrap().keys() {
                *attributes.field(key).expect("it can be set") = 7;
            }
            assert_eq!(to_text(&attributes), expected.replace('0', "7"));
        }
    }

    #[test]
    fn a_toxicity_is_as_short_as_it_can_be() {
        let cases = [
            ("0.1", "0.1"),
            ("1.0", "1"),
            ("-1", "-1"),
            ("0.30000001192092896", "0.3"),
            ("1e-7", "1e-7"),
        ];
        for (given, shown) in cases {
            let toxic = read(&format!(r#"{{"type":"noop","toxicity":{given}}}"#)).unwrap();
            assert!(to_text(&toxic).ends_with(&format!(r#","toxicity":{shown}}}"#)), "{shown}");
        }
    }

    #[test]
    fn the_first_fault_in_the_order_of_toxiproxy_is_the_answer() {
        let mut body = r#"{"name":"taken","type":"x","stream":"x","attributes":5}"#.to_owned();
        let mut refused = |from: &str, to: &str| {
            body = body.replace(from, to);
            read(&body).map_err(|error| error.error)
        };
        let stream = "stream was invalid, can be either upstream or downstream";
        assert_eq!(refused("", ""), Err(stream.to_owned()));
        assert_eq!(refused(r#""x","a"#, r#""UpStream","a"#), Err("invalid toxic type".to_owned()));
        assert_eq!(refused(r#""x""#, r#""latency""#), Err("toxic already exists".to_owned()));
        let attributes = "bad request body: json: invalid attributes: expected an object, found 5";
        assert_eq!(refused("taken", ""), Err(attributes.to_owned()));
        let named = refused("5", "null").map(|toxic| toxic.name);
        assert_eq!(named, Ok("latency_UpStream".to_owned()));
    }

    #[test]
    fn an_update_is_whole_or_not_at_all() {
        let toxic = read(r#"{"type":"latency","attributes":{"latency":5}}"#).unwrap();
        let update = |body: &str| toxic.updated(Json::first(body.as_bytes()).unwrap());
        let updated = update(r#"{"Attributes":{"Jitter":3},"name":"x","type":"noop"}"#).unwrap();
        let attributes = ToxicAttributes::Latency { latency: 5, jitter: 3 };
        assert_eq!(updated, Toxic { attributes, ..toxic.clone() });
        let error = update(r#"{"attributes":{"jitter":3,"latency":"x"}}"#).unwrap_err();
        assert_eq!(
            error.error,
            "bad request body: json: invalid attributes.latency: expected an integer, found a \
             string"
        );
    }

    #[test]
    fn sizes_of_pieces_that_cannot_be_are_noted() {
        let note = |average: i64, variation: i64| {
            let numbers = format!(r#""average_size":{average},"size_variation":{variation}"#);
            let body = format!(r#"{{"type":"slicer","attributes":{{{numbers}}}}}"#);
            read(&body).unwrap().note()
        };
        assert_eq!(note(10, 9), None);
        let nothing = "toxic slicer_downstream: average_size 0: nothing is sliced";
        assert_eq!(note(0, 0).as_deref(), Some(nothing));
        let less = "toxic slicer_downstream: size_variation 10: 9 is used";
        assert_eq!(note(10, 10).as_deref(), Some(less));
    }
}
