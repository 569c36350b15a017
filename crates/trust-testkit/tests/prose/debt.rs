//! The files that are not clean yet, and in which respect.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::files;
use crate::text::Kind;

/// What is left to clean up. It only shrinks: no line is added by a program.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Debt {
    comment: String,
    of: BTreeMap<String, Vec<Kind>>,
}

impl Debt {
    pub(crate) fn read() -> Self {
        Self::parse(&fs::read_to_string(path()).expect("read debt.txt"))
    }

    /// Reads lines like `docs/CHECK.md words lines`, and a comment above them.
    fn parse(text: &str) -> Self {
        let mut debt = Self::default();
        for line in text.lines() {
            if line.starts_with('#') {
                let _ = writeln!(debt.comment, "{line}");
                continue;
            }
            let mut words = line.split_whitespace();
            let Some(path) = words.next() else { continue };
            let kinds = words.map(|word| {
                let kind = Kind::ALL.into_iter().find(|kind| kind.name() == word);
                kind.unwrap_or_else(|| panic!("debt.txt: '{word}' is neither words nor lines"))
            });
            debt.of.insert(path.to_owned(), kinds.collect());
        }
        debt
    }

    fn text(&self) -> String {
        let mut text = self.comment.clone();
        for (path, kinds) in &self.of {
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
            let _ = writeln!(text, "{path} {}", kinds.join(" "));
        }
        text
    }

    pub(crate) fn write(&self) {
        fs::write(path(), self.text()).expect("write debt.txt");
    }

    pub(crate) fn has(&self, path: &str, kind: Kind) -> bool {
        self.of.get(path).is_some_and(|kinds| kinds.contains(&kind))
    }

    /// Takes out what is no longer owed, and says what that was.
    pub(crate) fn take_paid(&mut self, is_owed: impl Fn(&str, Kind) -> bool) -> Vec<String> {
        let mut paid = vec![];
        for (path, kinds) in &mut self.of {
            for kind in kinds.extract_if(.., |kind| !is_owed(path, *kind)) {
                paid.push(format!("{path} {}", kind.name()));
            }
        }
        self.of.retain(|_, kinds| !kinds.is_empty());
        paid
    }
}

fn path() -> PathBuf {
    files::root().join("crates/trust-testkit/tests/prose/debt.txt")
}

#[test]
fn debt_that_is_paid_leaves_the_list() {
    let text = "# A comment.\na.rs words lines\nb.md words\n";
    let mut debt = Debt::parse(text);
    assert_eq!(debt.text(), text);
    assert_eq!(debt.take_paid(|_, _| true), [""; 0]);

    let paid = debt.take_paid(|path, kind| path == "a.rs" && kind == Kind::Lines);
    assert_eq!(paid, ["a.rs words", "b.md words"]);
    assert_eq!(debt.text(), "# A comment.\na.rs lines\n");
    assert!(debt.has("a.rs", Kind::Lines) && !debt.has("a.rs", Kind::Words));
}
