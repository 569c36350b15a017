//! The output of `--csv`, read as strictly as `docs/LOAD-REPORT.md` defines it.

use std::collections::BTreeMap;

/// A header, and one row per interval.
#[derive(Debug)]
pub(crate) struct Csv {
    pub(crate) rows: Vec<Row>,
}

/// An interval.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) start: f64,
    pub(crate) length: f64,
    pub(crate) answered: u64,
    pub(crate) answered_per_second: f64,
    /// Nanoseconds; `None` if no message came back.
    pub(crate) p50_ns: Option<u64>,
    pub(crate) max_ns: Option<u64>,
    pub(crate) slow: u64,
    pub(crate) bytes_received: u64,
    pub(crate) errors: u64,
    /// Errors by the names of their causes.
    pub(crate) causes: BTreeMap<String, u64>,
}

/// The most that rounding to milliseconds changes a time, in seconds.
const ROUNDING: f64 = 0.001_1;

impl Csv {
    #[track_caller]
    pub(crate) fn read(text: &str) -> Csv {
        let mut lines = text.split_terminator("\r\n");
        let names: Vec<&str> = lines.next().expect("a header").split(',').collect();
        let rows = lines.map(|line| {
            assert!(!line.contains(['\r', '\n']), "{text:?}");
            let fields: Vec<&str> = line.split(',').collect();
            assert_eq!(fields.len(), names.len(), "{line}");
            Row::of(&names.iter().copied().zip(fields).collect())
        });
        Csv { rows: rows.collect() }
    }

    /// Checks that the intervals are consecutive from the beginning, and that each one is
    /// consistent in all its fields.
    #[track_caller]
    pub(crate) fn is_sound(&self) {
        let mut end = 0.0;
        for row in &self.rows {
            let Row { start, length, answered, answered_per_second, p50_ns, max_ns, .. } = row;
            assert!((start - end).abs() <= ROUNDING, "{:?}", self.rows);
            end = start + length;
            let counted = answered_per_second * length;
            let slack = 0.001 + answered_per_second * ROUNDING;
            assert!((counted - *answered as f64).abs() <= slack, "{row:?}");
            assert!(p50_ns <= max_ns, "{row:?}");
            assert_eq!(row.errors, row.causes.values().sum::<u64>(), "{row:?}");
        }
        let all_but_last = self.rows.split_last().map_or(&[][..], |(_, before)| before);
        // Only the one in which the run ends may last slightly longer than a second.
        assert!(all_but_last.iter().all(|row| row.length <= 1.1 + ROUNDING), "{:?}", self.rows);
    }
}

impl Row {
    fn of(fields: &BTreeMap<&str, &str>) -> Row {
        let text = |name: &str| *fields.get(name).unwrap_or_else(|| panic!("no column {name}"));
        let number = |name: &str| text(name).parse::<f64>().expect("a number");
        let whole = |name: &str| text(name).parse::<u64>().expect("a whole number");
        let time =
            |name: &str| Some(text(name)).filter(|text| !text.is_empty()).map(|_| whole(name));
        let causes = fields.iter().filter_map(|(name, count)| {
            let cause = name.strip_prefix("errors_")?;
            Some((cause.to_owned(), count.parse().expect("a whole number")))
        });
        Row {
            start: number("start_seconds"),
            length: number("length_seconds"),
            answered: whole("answered"),
            answered_per_second: number("answered_per_second"),
            p50_ns: time("p50_ns"),
            max_ns: time("max_ns"),
            slow: whole("slow"),
            bytes_received: whole("bytes_received"),
            errors: whole("errors"),
            causes: causes.collect(),
        }
    }
}
