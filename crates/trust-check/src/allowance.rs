//! What a right server of a protocol may do, though a case wants something else.

use crate::case::Case;
use crate::exchange::protocol::{Allowance, Allowed, AllowedVerdict, Instead};
use crate::verdict::{Finding, SeenInstead, Verdict};

/// What the failure of a case counts as where these are allowed.
pub fn judge(case: &Case, allowances: &[Allowance], failure: Verdict) -> Verdict {
    let (Verdict::Fail(finding) | Verdict::Warn(finding)) = &failure else { return failure };
    let allowance = allowances.iter().find(|allowance| {
        let seen = finding.seen.as_deref();
        let is_covered = allowance.instead.iter().any(|instead| covers(instead, seen));
        concerns(allowance.of, case) && is_covered
    });
    let Some(Allowance { verdict, why, .. }) = allowance else {
        let keys = keys_for(case, finding.seen.as_deref());
        return match keys.is_empty() {
            true => failure,
            false => {
                let keys = keys.join(" or ");
                failure
                    .followed_by(&format!(" ({keys} in [allow] says what a right server may say)"))
            }
        };
    };
    let said = format!("{}: {why}", finding.got);
    match verdict {
        AllowedVerdict::Allowed => Verdict::Allowed(said),
        AllowedVerdict::Info => Verdict::Info(said),
        AllowedVerdict::Warn => Verdict::Warn(Finding { got: said, ..finding.clone() }),
    }
}

/// The keys that could allow what came where nothing, or something else, belongs.
fn keys_for(case: &Case, seen: Option<&SeenInstead>) -> Vec<&'static str> {
    let Some(seen) = seen.filter(|seen| !seen.rest.is_empty() && !seen.is_cut) else {
        return vec![];
    };
    let is_nothing_due = seen.delivery.as_ref().is_none_or(|delivery| delivery.requests.is_empty());
    let is_goodbye = seen.is_over && is_nothing_due || concerns(Allowed::Goodbye, case);
    let others = [Allowed::Truncated, Allowed::HalfClose, Allowed::Overtaken];
    let other = others.into_iter().find(|of| concerns(*of, case));
    is_goodbye.then_some(Allowed::Goodbye).into_iter().chain(other).map(Allowed::key).collect()
}

/// Whether the case wants something that such an allowance is about.
fn concerns(allowed: Allowed, case: &Case) -> bool {
    match allowed {
        Allowed::HalfClose => case.group() == "half-close",
        Allowed::Truncated => {
            matches!(
                case.id,
                "closing/2"
                    | "closing/3"
                    | "half-close/5"
                    // A request of which not a byte has come is not whole either.
                    | "half-close/6"
                    | "recovery/1"
                    | "recovery/2"
                    | "effect/1"
                    | "effect/2"
            )
        }
        Allowed::Early => case.id == "partial/10",
        Allowed::Pieces => {
            case.group() == "partial" || matches!(case.id, "recovery/7" | "recovery/12")
        }
        Allowed::Pipelining => {
            case.group() == "pipelining"
                || matches!(
                    case.id,
                    "partial/5"
                        | "partial/7"
                        | "half-close/2"
                        | "half-close/3"
                        | "half-close/4"
                        | "closing/4"
                        | "closing/13"
                        | "timing/6"
                        | "recovery/6"
                )
        }
        Allowed::Overtaken => {
            matches!(case.id, "framing/16" | "framing/17" | "closing/4" | "closing/13")
        }
        Allowed::Goodbye => case.group() == "timing",
        // These are no matter of cases: answers are told apart by their ids, and without a login no
        // case is tried.
        Allowed::Order | Allowed::Login => false,
    }
}

/// Whether what was seen is that.
fn covers(instead: &Instead, seen: Option<&SeenInstead>) -> bool {
    let Some(SeenInstead { answers, rest, is_cut, is_over, .. }) = seen else {
        return matches!(instead, Instead::Anything);
    };
    match instead {
        Instead::Anything => true,
        Instead::Close => *is_over && (rest.is_empty() || *is_cut),
        Instead::First => *answers >= 1 && rest.is_empty(),
        Instead::Nothing => !is_over && rest.is_empty(),
        Instead::Pattern(pattern) => pattern.is_at_start(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases;
    use crate::exchange::pattern::Pattern;

    fn judged(id: &str, of: Allowed, instead: Instead, failure: Verdict) -> Verdict {
        let case = cases::all().find(|case| case.id == id).unwrap();
        let why = "section 7".to_owned();
        let verdict = AllowedVerdict::Allowed;
        let allowance = Allowance { of, instead: vec![Instead::First, instead], verdict, why };
        judge(case, &[allowance], failure)
    }

    fn failure(answers: usize, rest: &[u8], is_over: bool) -> Verdict {
        let rest = rest.to_vec();
        let is_cut = rest == b"HTTP/1.1 2";
        let seen = SeenInstead { answers, rest, is_cut, is_over, asked: 1, delivery: None };
        Verdict::fail("an answer", "none").having_seen(seen)
    }

    #[test]
    fn what_is_allowed_is_that_and_nothing_else() {
        let allowed = Verdict::Allowed("none: section 7".to_owned());
        let pattern = || Instead::Pattern(Pattern::parse("HTTP/1.1 4").unwrap());
        let truncated =
            |instead, failure| judged("closing/3", Allowed::Truncated, instead, failure);
        let bad_request = failure(0, b"HTTP/1.1 400 Bad Request", true);
        assert_eq!(truncated(pattern(), bad_request.clone()), allowed);
        assert_eq!(truncated(Instead::Anything, bad_request.clone()), allowed);
        let told = |failure: &Verdict| {
            let keys = " (goodbye or truncated in [allow] says what a right server may say)";
            failure.clone().followed_by(keys)
        };
        assert_eq!(truncated(Instead::Close, bad_request.clone()), told(&bad_request));
        let executed = failure(0, b"HTTP/1.1 200 OK", true);
        assert_eq!(truncated(pattern(), executed.clone()), told(&executed));

        let nothing = judged("half-close/6", Allowed::Truncated, pattern(), bad_request.clone());
        assert_eq!(nothing, allowed);

        let half_close =
            |instead, failure| judged("half-close/1", Allowed::HalfClose, instead, failure);
        assert_eq!(half_close(Instead::Close, failure(0, b"", true)), allowed);
        assert_eq!(half_close(Instead::Close, failure(1, b"HTTP/1.1 2", true)), allowed);
        let open = failure(0, b"", false);
        assert_eq!(half_close(Instead::Close, open.clone()), open);
        assert_eq!(half_close(Instead::Nothing, open.clone()), allowed);
        assert_eq!(half_close(Instead::First, open.clone()), open);
        assert_eq!(half_close(Instead::First, failure(1, b"", false)), allowed);
    }

    #[test]
    fn an_allowance_is_about_the_cases_of_its_kind() {
        for id in ["pipelining/1", "half-close/3", "half-close/4", "closing/13", "recovery/6"] {
            let first = judged(id, Allowed::Pipelining, Instead::First, failure(1, b"", false));
            assert_eq!(first, Verdict::Allowed("none: section 7".to_owned()), "{id}");
        }
        let overtaken =
            judged("closing/13", Allowed::Overtaken, Instead::First, failure(1, b"", true));
        assert_eq!(overtaken, Verdict::Allowed("none: section 7".to_owned()));
        let closed = failure(0, b"", true);
        let kept = judged("partial/4", Allowed::HalfClose, Instead::Close, closed.clone());
        assert_eq!(kept, closed);
        assert_eq!(judged("framing/1", Allowed::Order, Instead::Anything, closed.clone()), closed);
        let case = cases::all().next().unwrap();
        assert_eq!(judge(case, &[], Verdict::Pass), Verdict::Pass);
    }
}
