//! A case, the models of the server that it applies to, and the tests that come of it.

use trust_testkit::model::Model;

/// What happens to a server or a client, and what has to come of it. It fails by a panic, whose message is
/// the reason.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) number: u32,
    /// What happens, in words that fit on a line.
    pub(crate) name: &'static str,
    run: Option<fn(Model)>,
    /// The models to which it does not apply, and why not.
    except: &'static [(Model, &'static str)],
    /// What of it is to be run once, whatever the models.
    once: Option<fn()>,
    /// Why the rest is not there, if there is nothing else.
    why_once: &'static str,
    /// Nothing else of the suite runs meanwhile.
    pub(crate) is_heavy: bool,
}

/// What a test is run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Server(Model),
    /// Whatever there is, once: a client, another command, somebody else's server.
    Once,
}

/// A case and one subject of it.
#[derive(Clone, Copy)]
pub(crate) struct Test {
    pub(crate) case: Case,
    pub(crate) subject: Subject,
}

impl Case {
    /// A case of the server, in every model.
    pub(crate) const fn new(number: u32, name: &'static str, run: fn(Model)) -> Case {
        let (once, why_once) = (None, "");
        Case { number, name, run: Some(run), except: &[], once, why_once, is_heavy: false }
    }

    /// A case that is run once and not for each model, with the reason in half a line.
    pub(crate) const fn once(
        number: u32,
        name: &'static str,
        run: fn(),
        why_once: &'static str,
    ) -> Case {
        let once = Some(run);
        Case { number, name, run: None, except: &[], once, why_once, is_heavy: false }
    }

    /// But not in these models, each with the reason in half a line.
    pub(crate) const fn except(self, except: &'static [(Model, &'static str)]) -> Case {
        Case { except, ..self }
    }

    /// With a part that is run once.
    pub(crate) const fn and_once(self, run: fn()) -> Case {
        Case { once: Some(run), ..self }
    }

    /// It is so much work that others would not be served in time beside it, or it measures what the kernel holds
    /// for peers, which is more when the server gets its turn late.
    pub(crate) const fn with_the_machine_to_itself(self) -> Case {
        Case { is_heavy: true, ..self }
    }

    /// Why it does not apply to that subject; nothing if it does.
    pub(crate) fn reason_against(&self, subject: Subject) -> Option<&'static str> {
        match subject {
            Subject::Server(_) if self.run.is_none() => Some(self.why_once),
            Subject::Server(model) => {
                self.except.iter().find(|(other, _)| *other == model).map(|(_, why)| *why)
            }
            Subject::Once if self.once.is_none() => Some("it is about the server"),
            Subject::Once => None,
        }
    }

    fn tests(&self) -> impl Iterator<Item = Test> {
        let case = *self;
        let applies = move |subject: &Subject| case.reason_against(*subject).is_none();
        Subject::all().filter(applies).map(move |subject| Test { case, subject })
    }
}

impl Subject {
    pub(crate) fn all() -> impl Iterator<Item = Subject> {
        Model::ALL.into_iter().map(Subject::Server).chain([Subject::Once])
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Subject::Server(model) => model.name(),
            Subject::Once => "once",
        }
    }
}

impl Test {
    pub(crate) fn title(&self) -> String {
        format!("{:>2} {}/{}", self.case.number, self.case.name, self.subject.name())
    }

    pub(crate) fn run(&self) {
        match (self.subject, self.case.run, self.case.once) {
            (Subject::Server(model), Some(run), _) => run(model),
            (Subject::Once, _, Some(run)) => run(),
            _ => unreachable!("{} does not apply", self.title()),
        }
    }
}

/// The tests of all the cases, in order.
///
/// # Errors
///
/// A sentence, when a number is there twice, when a case applies to nothing, or when an exception has no reason or
/// is made twice: a case must not be left out unnoticed.
pub(crate) fn tests(cases: &[Case]) -> Result<Vec<Test>, String> {
    let mut last = 0;
    for case in cases {
        let wrong = |what: String| Err(format!("case {} {}: {what}", case.number, case.name));
        if case.number <= last {
            return wrong(format!("it stands behind {last}"));
        }
        last = case.number;
        if case.tests().next().is_none() {
            return wrong("it applies to nothing".to_owned());
        }
        for (at, (model, why)) in case.except.iter().enumerate() {
            if why.trim().is_empty() || why.contains('\n') {
                return wrong(format!("no reason in one line against {}", model.name()));
            }
            if case.except[..at].iter().any(|(other, _)| other == model) {
                return wrong(format!("{} is excepted twice", model.name()));
            }
        }
        if case.run.is_none() && (case.why_once.is_empty() || !case.except.is_empty()) {
            return wrong("one reason why it is run once is needed".to_owned());
        }
    }
    Ok(cases.iter().flat_map(Case::tests).collect())
}
