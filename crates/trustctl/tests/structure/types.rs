//! Checks that type names are unique, and that structs have few fields or a reason for more.

use std::collections::BTreeMap;

use crate::crates::members;
use crate::modules::{Modules, Type};

/// How many types may share a name.
const NAMESAKES_MAX: usize = 2;

/// The same for `State`, which is the state of its module's subject, and private to it.
const STATES_MAX: usize = 4;

/// The most fields of a struct, unless a comment above it says why it has more.
const FIELDS_MAX: usize = 12;

/// Crates with only test code.
const FOR_TESTS: [&str; 2] = ["trust-testkit", "trust-fuzz"];

/// The errors in a list of types and their places.
fn wrong(types: &[(String, Type)]) -> Vec<String> {
    let mut wrong = vec![];
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (place, of) in types {
        places.entry(&of.name).or_default().push(place);
        if of.fields > FIELDS_MAX && !of.is_excused {
            wrong.push(format!("{} of {place} has {} fields, and no reason", of.name, of.fields));
        }
    }
    for (name, places) in places {
        let most = if name == "State" { STATES_MAX } else { NAMESAKES_MAX };
        if places.len() > most {
            wrong.push(format!("{name} is defined in {}", places.join(", ")));
        }
    }
    wrong
}

#[test]
fn types_have_names_of_their_own_and_few_fields() {
    let members = members().into_iter().filter(|member| !FOR_TESTS.contains(&&*member.name));
    let types: Vec<(String, Type)> =
        members.flat_map(|member| Modules::of_member(&member).into_types(&member.name)).collect();
    assert!(types.len() > 300, "only {} types were found", types.len());
    let wrong = wrong(&types);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The errors in a crate of one file.
fn wrong_with(text: &str) -> Vec<String> {
    let modules = Modules::of("src/lib.rs".as_ref(), &|_| Some(text.to_owned()));
    wrong(&modules.into_types("it"))
}

#[test]
fn a_third_type_of_the_same_name_is_noticed() {
    let two = "struct End; mod a { pub(crate) enum End { One } }";
    assert_eq!(wrong_with(two), [""; 0]);
    assert_eq!(wrong_with(&format!("{two} #[cfg(test)] mod b {{ struct End; }}")), [""; 0]);
    for third in ["mod b { type End = u8; }", "fn b() { trait End {} }"] {
        let found = wrong_with(&format!("{two} {third}"));
        assert!(
            matches!(&found[..], [told] if told.starts_with("End is defined in ")),
            "{found:?}"
        );
    }
}

#[test]
fn a_state_may_be_that_of_four_modules() {
    let state = |module| format!("mod {module} {{ enum State {{ One }} }}");
    let four = ["a", "b", "c", "d"].map(state).concat();
    assert_eq!(wrong_with(&four), [""; 0]);
    assert_eq!(wrong_with(&(four + &state("e"))).len(), 1);
}

#[test]
fn a_struct_of_many_fields_says_why() {
    let fields = |count: usize| (0..count).map(|n| format!("f{n}: u8, ")).collect::<String>();
    let of = |above: &str, count| format!("{above}\npub struct Large {{ {} }}", fields(count));
    assert_eq!(wrong_with(&of("/// Large.", 12)), [""; 0]);
    let found = wrong_with(&of("/// Large.", 13));
    assert_eq!(found, ["Large of it has 13 fields, and no reason"]);
    let reason = "// Many fields: it is a page.\n/// Large.\n#[derive(Debug)]";
    assert_eq!(wrong_with(&of(reason, 13)), [""; 0]);
    let other = format!("{reason}\nstruct Other;");
    assert_eq!(wrong_with(&of(&other, 13)).len(), 1);
}
