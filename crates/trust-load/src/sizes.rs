//! How large payloads are.

use std::fmt;

use trust_cli::values::parse_size;

/// Sizes of payloads, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(Kind);

/// Invariants: a range has `min < max`, and a list at least two and at most [`Sizes::LIST_MAX`]
/// sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    One(u32),
    Range { min: u32, max: u32 },
    List(Vec<u32>),
}

impl Sizes {
    /// What [`Sizes::parse`] takes.
    pub const ALLOWED: &str = "a size from 0 to 4294967295 bytes, as 1500, 64k or 64KiB, a range \
         MIN-MAX of them, or up to 100 of them with commas between them";

    /// The most sizes of a list: more than anyone can tell apart in a result.
    pub const LIST_MAX: usize = 100;

    /// `64`: all of them are; `64-1500`: every size from 64 to 1500 equally often; `64,64,1500`:
    /// each of them equally often, so that 64 comes twice as often as 1500. `None`: not allowed.
    pub fn parse(text: &str) -> Option<Sizes> {
        if let Some((min, max)) = text.split_once('-') {
            let (min, max) = (parse_size(min)?, parse_size(max)?);
            return match min.cmp(&max) {
                std::cmp::Ordering::Less => Some(Sizes(Kind::Range { min, max })),
                std::cmp::Ordering::Equal => Some(Sizes(Kind::One(min))),
                std::cmp::Ordering::Greater => None,
            };
        }
        // One more than is allowed shows that there are too many.
        let parts = text.split(',').take(Sizes::LIST_MAX + 1);
        let list: Vec<u32> = parts.map(parse_size).collect::<Option<_>>()?;
        match list.as_slice() {
            [one] => Some(Sizes(Kind::One(*one))),
            _ if list.len() > Sizes::LIST_MAX => None,
            _ => Some(Sizes(Kind::List(list))),
        }
    }

    /// The smallest.
    pub fn min(&self) -> u32 {
        match &self.0 {
            Kind::One(size) | Kind::Range { min: size, .. } => *size,
            Kind::List(sizes) => sizes.iter().copied().min().unwrap_or(0),
        }
    }

    /// The largest.
    pub fn max(&self) -> u32 {
        match &self.0 {
            Kind::One(size) | Kind::Range { max: size, .. } => *size,
            Kind::List(sizes) => sizes.iter().copied().max().unwrap_or(0),
        }
    }

    /// The average that many messages come to.
    pub fn mean(&self) -> f64 {
        match &self.0 {
            Kind::One(size) => f64::from(*size),
            Kind::Range { min, max } => (f64::from(*min) + f64::from(*max)) / 2.0,
            Kind::List(sizes) => {
                sizes.iter().copied().map(f64::from).sum::<f64>() / sizes.len() as f64
            }
        }
    }

    /// The size that goes with a random number of 64 bits.
    ///
    /// Each is as likely as the others to within 2^-32 of its share.
    pub fn pick(&self, random: u64) -> u32 {
        match &self.0 {
            Kind::One(size) => *size,
            Kind::Range { min, max } => {
                let count = u64::from(max - min) + 1;
                // Below the count, which is at most 2^32, so that the sum is at most `max`.
                min + below(count, random) as u32
            }
            Kind::List(sizes) => sizes[below(sizes.len() as u64, random) as usize],
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::One(size) => write!(f, "{size}"),
            Kind::Range { min, max } => write!(f, "{min}-{max}"),
            Kind::List(sizes) => {
                let texts: Vec<String> = sizes.iter().map(u32::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

/// A number below `count`: the place of `random` among all numbers of 64 bits, which favours none
/// as a remainder would.
fn below(count: u64, random: u64) -> u64 {
    ((u128::from(random) * u128::from(count)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sizes(text: &str) -> Sizes {
        Sizes::parse(text).expect("sizes")
    }

    #[test]
    fn a_size_a_range_and_a_list_have_their_extremes_and_their_mean() {
        let cases = [
            ("64", 64, 64, 64.0),
            ("0", 0, 0, 0.0),
            ("4294967295", u32::MAX, u32::MAX, 4_294_967_295.0),
            ("0-4294967295", 0, u32::MAX, 2_147_483_647.5),
            ("64-1500", 64, 1500, 782.0),
            ("1500,0,64,64", 0, 1500, 407.0),
        ];
        for (text, min, max, mean) in cases {
            let sizes = sizes(text);
            assert_eq!((sizes.min(), sizes.max(), sizes.mean()), (min, max, mean), "{text}");
            assert_eq!(sizes.to_string(), text);
        }
        assert_eq!(sizes("7-7"), sizes("7"));
        assert_eq!(sizes("1k-64KiB"), sizes("1000-65536"));
        assert_eq!(sizes("64,1.5Ki,1kB"), sizes("64,1536,1000"));
    }

    #[test]
    fn anything_else_is_refused() {
        let refused = [
            "",
            "-",
            ",",
            "64-",
            "-64",
            "64,",
            ",64",
            "64,,64",
            "9-8",
            "1-2-3",
            "1-2,3",
            "4294967296",
            "0-4294967296",
            " 64",
            "64 ",
            "+64",
            "1e3",
            "64K",
            "1k-",
            "5Gi",
            "0x40",
            "64;65",
            "٣",
        ];
        for text in refused {
            assert_eq!(Sizes::parse(text), None, "{text}");
        }
        let list = |count| vec!["1"; count].join(",");
        assert_eq!(Sizes::parse(&list(Sizes::LIST_MAX)).map(|sizes| sizes.max()), Some(1));
        assert_eq!(Sizes::parse(&list(Sizes::LIST_MAX + 1)), None);
    }

    #[test]
    fn random_numbers_spread_evenly_over_all_sizes() {
        // Numbers that are spread evenly themselves, from the first to the last of 64 bits.
        const STEPS: u64 = 1000;
        let evenly = || (0..STEPS).map(|step| step * (u64::MAX / (STEPS - 1)));
        for text in ["10-19", "11,3,5,7,2", "8,9"] {
            let sizes = sizes(text);
            let mut counts = std::collections::BTreeMap::new();
            for random in evenly() {
                *counts.entry(sizes.pick(random)).or_insert(0_u64) += 1;
            }
            let kinds = match text {
                "10-19" => 10,
                list => list.split(',').count() as u64,
            };
            assert_eq!(counts.len() as u64, kinds, "{text}: {counts:?}");
            let share = STEPS / kinds;
            assert!(counts.values().all(|count| count.abs_diff(share) <= 1), "{text}: {counts:?}");
        }
    }

    #[test]
    fn the_ends_of_a_range_come_from_the_ends_of_the_random_numbers() {
        for (text, min, max) in [("0-4294967295", 0, u32::MAX), ("3-5", 3, 5), ("6,7", 6, 7)] {
            assert_eq!([0, u64::MAX].map(|random| sizes(text).pick(random)), [min, max], "{text}");
        }
    }

    #[test]
    fn a_size_that_is_listed_twice_comes_twice_as_often() {
        let sizes = sizes("1,2,1");
        let ones = (0..300_u64).filter(|step| sizes.pick(step * (u64::MAX / 300)) == 1).count();
        assert_eq!(ones, 200);
    }

    proptest! {
        #[test]
        fn what_is_picked_is_between_the_extremes(min: u32, max: u32, random: u64) {
            let sizes = sizes(&format!("{}-{}", min.min(max), min.max(max)));
            let picked = sizes.pick(random);
            prop_assert!(sizes.min() <= picked && picked <= sizes.max());
        }

        #[test]
        fn what_is_shown_is_read_back(list in prop::collection::vec(any::<u32>(), 1..20)) {
            let text = list.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
            let sizes = sizes(&text);
            prop_assert_eq!(Sizes::parse(&sizes.to_string()), Some(sizes));
        }

        #[test]
        fn no_text_breaks_the_parser(text in "[0-9,-]{0,20}") {
            let _ = Sizes::parse(&text);
        }
    }
}
