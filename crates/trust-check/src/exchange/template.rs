//! Bytes with places for a number that differs between copies.

/// Bytes with places for a number that differs between copies, so that the copies do: `{n}`, or
/// `{n:04}` for exactly four digits, with zeros in front.
///
/// Only these two are places, with one to twenty digits. All other braces are themselves, because
/// JSON is full of them.
///
/// ```
/// use trust_check::exchange::template::Template;
///
/// let template = Template::parse(br#"{"id":{n},"key":"k{n:04}"}"#);
/// assert_eq!(template.bytes(7), br#"{"id":7,"key":"k0007"}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template(Vec<TemplatePart>);

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TemplatePart {
    /// Never empty, and never next to another one.
    Bytes(Vec<u8>),
    Number {
        /// How many digits it has; `None`: as many as it needs.
        digits: Option<u32>,
    },
}

/// The most digits of a place: those of `u64::MAX`.
const DIGITS_MAX: u32 = 20;

impl Template {
    /// Reads bytes with places in them.
    pub fn parse(bytes: &[u8]) -> Template {
        let mut parts = vec![];
        let (mut from, mut at) = (0, 0);
        while at < bytes.len() {
            match place(&bytes[at..]) {
                Some((digits, len)) => {
                    parts.push(TemplatePart::Bytes(bytes[from..at].to_vec()));
                    parts.push(TemplatePart::Number { digits });
                    at += len;
                    from = at;
                }
                None => at += 1,
            }
        }
        parts.push(TemplatePart::Bytes(bytes[from..].to_vec()));
        parts.retain(|part| !matches!(part, TemplatePart::Bytes(bytes) if bytes.is_empty()));
        Template(parts)
    }

    /// These bytes alone, in every copy.
    pub fn of_bytes(bytes: Vec<u8>) -> Template {
        let is_empty = bytes.is_empty();
        Template(if is_empty { vec![] } else { vec![TemplatePart::Bytes(bytes)] })
    }

    /// What it is read from by [`Template::parse`], unless bytes of it look like a place.
    pub fn source(&self) -> Vec<u8> {
        let mut source = vec![];
        for part in &self.0 {
            match part {
                TemplatePart::Bytes(part) => source.extend_from_slice(part),
                TemplatePart::Number { digits: None } => source.extend_from_slice(b"{n}"),
                TemplatePart::Number { digits: Some(digits) } => {
                    source.extend(format!("{{n:0{digits}}}").into_bytes());
                }
            }
        }
        source
    }

    /// Whether it has no bytes, in any copy.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the number is in it.
    pub fn has_number(&self) -> bool {
        self.0.iter().any(|part| matches!(part, TemplatePart::Number { .. }))
    }

    /// Whether all copies have the same length.
    pub fn is_fixed_length(&self) -> bool {
        !self.0.iter().any(|part| matches!(part, TemplatePart::Number { digits: None }))
    }

    /// The bytes of the copy with that number. A place that is too short for the number gets its
    /// last digits, so that a length field around it stays right.
    pub fn bytes(&self, number: u64) -> Vec<u8> {
        let mut bytes = vec![];
        for part in &self.0 {
            match part {
                TemplatePart::Bytes(part) => bytes.extend_from_slice(part),
                TemplatePart::Number { digits: None } => {
                    bytes.extend(number.to_string().into_bytes())
                }
                TemplatePart::Number { digits: Some(digits) } => {
                    let number = 10u64.checked_pow(*digits).map_or(number, |end| number % end);
                    let width = *digits as usize;
                    bytes.extend(format!("{number:0width$}").into_bytes());
                }
            }
        }
        bytes
    }

    /// The same after other bytes.
    pub fn after(&self, front: Vec<u8>) -> Template {
        let mut parts = self.0.clone();
        match parts.first_mut() {
            Some(TemplatePart::Bytes(first)) => *first = [front, std::mem::take(first)].concat(),
            _ => parts.splice(0..0, Template::of_bytes(front).0).for_each(drop),
        }
        Template(parts)
    }
}

/// The digits and the length of a place at the front of `bytes`.
fn place(bytes: &[u8]) -> Option<(Option<u32>, usize)> {
    let rest = bytes.strip_prefix(b"{n")?;
    if rest.starts_with(b"}") {
        return Some((None, b"{n}".len()));
    }
    let rest = rest.strip_prefix(b":0")?;
    let len = rest.iter().take(3).position(|byte| *byte == b'}')?;
    let is_number = rest[0] != b'0' && rest[..len].iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(&rest[..len]).ok().filter(|_| is_number)?.parse().ok()?;
    (1..=DIGITS_MAX).contains(&digits).then_some((Some(digits), b"{n:0}".len() + len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_get_the_number_of_the_copy() {
        let template = Template::parse(b"GET k{n:04} {n}{n}\r\n");
        assert_eq!(template.bytes(7), b"GET k0007 77\r\n");
        assert_eq!(template.bytes(0), b"GET k0000 00\r\n");
        assert!(template.has_number() && !template.is_fixed_length());
        let long = Template::parse(b"{n:020}");
        assert_eq!(long.bytes(u64::MAX), u64::MAX.to_string().into_bytes());
        assert_eq!(long.bytes(1).len(), 20);
    }

    #[test]
    fn a_number_with_too_many_digits_keeps_the_length() {
        let template = Template::parse(b"$5\r\nb{n:04}\r\n");
        assert!(template.is_fixed_length());
        assert_eq!(template.bytes(120_345), b"$5\r\nb0345\r\n");
        assert_eq!(Template::parse(b"{n:01}").bytes(u64::MAX), b"5");
    }

    #[test]
    fn all_other_braces_are_themselves() {
        let texts = [
            r#"{"op":"quote","n":1}"#,
            "{}",
            "{{}}",
            "{N}",
            "{n",
            "{n:",
            "{n:}",
            "{n:0}",
            "{n:00}",
            "{n:004}",
            "{n:4}",
            "{n:04",
            "{n:0x}",
            "{n:0+1}",
            "{n:021}",
            "{n:099}",
            "{n:0100}",
            "{ n }",
        ];
        for text in texts {
            let template = Template::parse(text.as_bytes());
            assert!(!template.has_number(), "{text}");
            assert_eq!(template.bytes(5), text.as_bytes());
        }
        assert_eq!(Template::parse(b"{{n}}").bytes(5), b"{5}");
    }

    #[test]
    fn bytes_given_as_such_have_no_places() {
        let template = Template::of_bytes(b"{n}".to_vec());
        assert!(!template.has_number());
        assert_eq!(template.bytes(5), b"{n}");
        assert!(Template::of_bytes(vec![]).is_empty() && Template::parse(b"").is_empty());
    }

    #[test]
    fn bytes_can_be_put_in_front() {
        for text in ["abc", "{n}c", ""] {
            let template = Template::parse(text.as_bytes()).after(b"\x00{n}".to_vec());
            let expected = [b"\x00{n}", &Template::parse(text.as_bytes()).bytes(12)[..]].concat();
            assert_eq!(template.bytes(12), expected);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn copies_are_what_replacing_the_places_gives(
            parts in prop::collection::vec(
                prop_oneof![
                    Just("{n}"), Just("{n:03}"), Just("{n:020}"), Just("{"), Just("}"), Just("n"),
                    Just(":0"), Just("3"), Just("\0")
                ],
                0..12,
            ),
            number in prop_oneof![0..1000u64, any::<u64>()],
        ) {
            let text = parts.concat();
            let expected = text
                .replace("{n}", &number.to_string())
                .replace("{n:03}", &format!("{:03}", number % 1000))
                .replace("{n:020}", &format!("{number:020}"));
            // Text that only looks like a place: other digits.
            prop_assume!(!expected.contains("{n:0"));
            let template = Template::parse(text.as_bytes());
            prop_assert_eq!(template.bytes(number), expected.into_bytes());
        }
    }
}
