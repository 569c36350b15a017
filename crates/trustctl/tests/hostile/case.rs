//! A case, the models of the server that it applies to, and the tests made from it.

use trust_testkit::model::Model;
use trust_testkit::suite::Test;

/// What happens to a server or a client, and what the outcome must be. It fails by a panic whose
/// message is the reason.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Its number, if it dates from when cases were known by number.
    alias: Option<u32>,
    /// What happens, in words that fit on one line.
    pub(crate) name: &'static str,
    run: Option<fn(Model)>,
    /// The models to which it does not apply, and why not.
    except: &'static [(Model, &'static str)],
    /// The part that runs only once, whatever the models.
    once: Option<fn()>,
    /// Why there is no other part, if there is none.
    why_once: &'static str,
    /// Nothing else of the suite runs meanwhile.
    pub(crate) is_heavy: bool,
}

impl Case {
    /// A case of the server, for every model.
    pub(crate) const fn new(name: &'static str, run: fn(Model)) -> Case {
        let (alias, once, why_once) = (None, None, "");
        Case { alias, name, run: Some(run), except: &[], once, why_once, is_heavy: false }
    }

    /// A case that runs once instead of once per model, with the reason in half a line.
    pub(crate) const fn once(name: &'static str, run: fn(), why_once: &'static str) -> Case {
        let (alias, once) = (None, Some(run));
        Case { alias, name, run: None, except: &[], once, why_once, is_heavy: false }
    }

    /// Gives it an old number. New cases have none.
    pub(crate) const fn alias(self, number: u32) -> Case {
        Case { alias: Some(number), ..self }
    }

    /// Leaves out these models, each with the reason in half a line.
    pub(crate) const fn except(self, except: &'static [(Model, &'static str)]) -> Case {
        Case { except, ..self }
    }

    /// Adds a part that runs once.
    pub(crate) const fn and_once(self, run: fn()) -> Case {
        Case { once: Some(run), ..self }
    }

    /// It is so much work that other clients would not be served in time, or it measures the
    /// kernel's memory for peers, which grows when the server is scheduled late.
    pub(crate) const fn with_the_machine_to_itself(self) -> Case {
        Case { is_heavy: true, ..self }
    }

    /// Why it does not apply to that model; `None` if it does.
    pub(crate) fn reason_against(&self, model: Model) -> Option<&'static str> {
        if self.run.is_none() {
            return Some(self.why_once);
        }
        self.except.iter().find(|(other, _)| *other == model).map(|(_, why)| *why)
    }

    /// The name, after the number if it has one.
    pub(crate) fn title(&self) -> String {
        self.alias.map_or_else(String::new, |number| format!("{number} ")) + self.name
    }

    /// One test for each subject that it applies to.
    pub(crate) fn tests(&self) -> impl Iterator<Item = Test> {
        let server = Model::ALL.into_iter().filter_map(|model| {
            let run = self.run.filter(|_| self.reason_against(model).is_none())?;
            Some(self.test(model.name(), move || run(model)))
        });
        let once = self.once.map(|run| self.test("once", run));
        server.chain(once).collect::<Vec<_>>().into_iter()
    }

    fn test(&self, subject: &str, run: impl FnOnce() + Send + 'static) -> Test {
        let test = Test::new(format!("{}/{subject}", self.name), run);
        let test = if self.is_heavy { test.with_the_machine_to_itself() } else { test };
        self.alias.into_iter().fold(test, Test::with_alias)
    }

    /// What is wrong with it, if anything, so that no case is left out unnoticed.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        let is_reason = |why: &str| !why.trim().is_empty() && !why.contains('\n');
        let models = |model| self.except.iter().filter(|(other, _)| *other == model).count();
        if self.tests().next().is_none() {
            Some("it applies to nothing")
        } else if !self.except.iter().all(|(_, why)| is_reason(why)) {
            Some("an exception has no reason in one line")
        } else if Model::ALL.into_iter().any(|model| models(model) > 1) {
            Some("a model is excepted twice")
        } else if self.run.is_none() && (!is_reason(self.why_once) || !self.except.is_empty()) {
            Some("one reason why it is run once is needed")
        } else {
            None
        }
    }
}
