//! Which part of a load one of several machines makes.

use std::ffi::OsStr;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use trust_cli::values::quoted;

/// The variable that gives a pod of an Indexed Job its number, from 0, in Kubernetes.
pub const INDEX_VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// The most shards of a load: more machines than one server is tested with.
pub const SHARDS_MAX: u32 = 10_000;

/// `--shard` as it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `I/N`
    Given(Shard),
    /// `/N`: the environment knows which of the N it is.
    FromJob {
        /// N, from 1 to [`SHARDS_MAX`].
        of: u32,
    },
}

/// One part of a load that is split evenly. Invariant: `index < of`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    index: u32,
    of: u32,
}

/// Why `/N` did not lead to a shard.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NoIndex {
    /// There is no such variable, or it is empty.
    #[error("/{of} takes the index from {INDEX_VARIABLE}, which is not set; say it as INDEX/{of}")]
    Unset {
        /// N of `/N`.
        of: u32,
    },
    /// It has none of the indexes.
    #[error(
        "invalid value {} for {INDEX_VARIABLE}: expected a whole number from 0 to {} with /{of}",
        quoted(text),
        of - 1
    )]
    Bad {
        /// What it has.
        text: String,
        /// N of `/N`.
        of: u32,
    },
}

impl Choice {
    /// What [`Choice::parse`] takes.
    pub const ALLOWED: &str = "INDEX/COUNT, as 0/3, with an index from 0 to COUNT - 1 and at most \
         10000 shards; or /COUNT, with the index in JOB_COMPLETION_INDEX";

    /// The choice of a text; `None`: not allowed.
    pub fn parse(text: &str) -> Option<Choice> {
        let (index, of) = text.split_once('/')?;
        let of = number(of).filter(|of| (1..=SHARDS_MAX).contains(of))?;
        if index.is_empty() {
            return Some(Choice::FromJob { of });
        }
        let index = number(index).filter(|index| *index < of)?;
        Some(Choice::Given(Shard { index, of }))
    }

    /// The shard that it is. `variable`: what [`INDEX_VARIABLE`] has, if it is set.
    ///
    /// # Errors
    ///
    /// The index is to come from the variable, and it has none.
    pub fn shard(self, variable: Option<&OsStr>) -> Result<Shard, NoIndex> {
        let of = match self {
            Choice::Given(shard) => return Ok(shard),
            Choice::FromJob { of } => of,
        };
        let text = variable.unwrap_or_default();
        if text.is_empty() {
            return Err(NoIndex::Unset { of });
        }
        match text.to_str().and_then(number).filter(|index| *index < of) {
            Some(index) => Ok(Shard { index, of }),
            None => Err(NoIndex::Bad { text: text.to_string_lossy().into_owned(), of }),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Given(shard) => shard.fmt(f),
            Choice::FromJob { of } => write!(f, "/{of}"),
        }
    }
}

impl Shard {
    /// All of the load.
    pub const WHOLE: Shard = Shard { index: 0, of: 1 };

    /// Part `index`, from 0, of so many; `None`: there is no such part.
    pub fn new(index: u32, of: u32) -> Option<Shard> {
        (index < of && of <= SHARDS_MAX).then_some(Shard { index, of })
    }

    /// Which one it is, from 0.
    pub fn index(self) -> u32 {
        self.index
    }

    /// How many there are.
    pub fn of(self) -> u32 {
        self.of
    }

    /// How many of `total` things are its own; those of all shards add up to `total`, and differ by
    /// one at most.
    pub fn share(self, total: u64) -> u64 {
        let of = u64::from(self.of);
        total / of + u64::from(u64::from(self.index) < total % of)
    }

    /// The numbers of its things among all `total`, which count from 0; each number belongs to
    /// exactly one shard.
    pub fn numbers(self, total: u64) -> impl Iterator<Item = u64> {
        (u64::from(self.index)..total).step_by(self.of as usize)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> String {
        shard.to_string()
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Shard, String> {
        match Choice::parse(&text) {
            // A shard has one name: no zeros in front of it.
            Some(Choice::Given(shard)) if shard.to_string() == text => Ok(shard),
            _ => Err(format!("{} is no shard such as 0/4", quoted(text))),
        }
    }
}

/// A number of digits alone.
fn number(text: &str) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shard(text: &str) -> Shard {
        Choice::parse(text).expect("a shard").shard(None).expect("an index")
    }

    #[test]
    fn a_shard_is_below_its_count_and_shown_as_it_was_given() {
        for text in ["0/1", "0/3", "2/3", "9999/10000", "/1", "/10000"] {
            assert_eq!(Choice::parse(text).expect("a shard").to_string(), text);
        }
        assert_eq!((shard("2/3").index(), shard("2/3").of()), (2, 3));
        assert_eq!(shard("0/1"), Shard::WHOLE);
        let refused = [
            "",
            "/",
            "1",
            "3/3",
            "1/0",
            "0/0",
            "/0",
            "0/10001",
            "/10001",
            "-1/3",
            "+0/3",
            "0/+3",
            "0/3/1",
            " 0/3",
            "0 /3",
            "0/3 ",
            "0.0/3",
            "a/b",
            "4294967296/3",
            "0/4294967297",
            "٠/٣",
        ];
        for text in refused {
            assert_eq!(Choice::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_index_comes_from_the_job_only_where_it_is_left_out() {
        let with = |text, variable: Option<&str>| {
            let shard = Choice::parse(text).expect("a shard").shard(variable.map(OsStr::new));
            shard.map(|shard| shard.to_string()).map_err(|error| error.to_string())
        };
        assert_eq!(with("/3", Some("2")), Ok("2/3".to_owned()));
        assert_eq!(with("1/3", Some("2")), Ok("1/3".to_owned()));
        assert_eq!(with("1/3", Some("nonsense")), Ok("1/3".to_owned()));
        let unset =
            "/3 takes the index from JOB_COMPLETION_INDEX, which is not set; say it as INDEX/3";
        assert_eq!(with("/3", None), Err(unset.to_owned()));
        assert_eq!(with("/3", Some("")), Err(unset.to_owned()));
        for bad in ["3", "-1", "x", "1 "] {
            let expected = format!(
                "invalid value '{bad}' for JOB_COMPLETION_INDEX: \
                 expected a whole number from 0 to 2 with /3"
            );
            assert_eq!(with("/3", Some(bad)), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn every_number_belongs_to_exactly_one_shard(of in 1..50_u32, total in 0..500_u64) {
            let mut seen = Vec::new();
            for index in 0..of {
                let shard = Shard { index, of };
                let numbers: Vec<u64> = shard.numbers(total).collect();
                prop_assert_eq!(numbers.len() as u64, shard.share(total));
                seen.extend(numbers);
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..total).collect::<Vec<_>>());
        }

        #[test]
        fn shares_are_even_and_add_up(of in 1..=100_u32, total: u64) {
            let shares: Vec<u64> = (0..of).map(|index| Shard { index, of }.share(total)).collect();
            let sum: u128 = shares.iter().map(|share| u128::from(*share)).sum();
            prop_assert_eq!(sum, u128::from(total));
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
