//! Checks that sibling modules do not use each other in a circle. A module and its inner modules
//! are one room: they may use each other in both directions.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::crates::members;
use crate::modules::{Modules, Way};

/// Uses that may be part of a circle for now: the crate, the user, and the used. Each has its
/// reason next to it.
const EXEMPT: &[(&str, &str, &str)] = &[];

/// Which sibling rooms use which others, and where. The modules inside one module are a level.
type Level = BTreeMap<(String, String), BTreeSet<String>>;

/// The errors in a crate: `a → b: a::x uses b`, for every step of every circle.
fn circles(uses: &BTreeSet<(Way, Way)>) -> Vec<String> {
    let mut levels: BTreeMap<Way, Level> = BTreeMap::new();
    for (from, to) in uses {
        let common = from.iter().zip(to).take_while(|(one, other)| one == other).count();
        let (Some(one), Some(other)) = (from.get(common), to.get(common)) else { continue };
        let step = (one.clone(), other.clone());
        let told = format!("{} uses {}", from.join("::"), to.join("::"));
        levels.entry(from[..common].to_vec()).or_default().entry(step).or_default().insert(told);
    }
    levels.values().flat_map(circles_in).collect()
}

fn circles_in(level: &Level) -> Vec<String> {
    let in_a_circle = level.iter().filter(|((from, to), _)| reaches(level, to, from));
    in_a_circle
        .flat_map(|((from, to), places)| {
            places.iter().map(move |place| format!("{from} → {to}: {place}"))
        })
        .collect()
}

/// Whether one room uses the other, possibly through others.
fn reaches(level: &Level, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::from([from]);
    let mut next = vec![from];
    while let Some(room) = next.pop() {
        let used = level.keys().filter(|(user, _)| user == room).map(|(_, used)| used.as_str());
        next.extend(used.filter(|used| seen.insert(used)));
    }
    seen.contains(to)
}

#[test]
fn no_modules_of_a_crate_use_each_other_in_a_circle() {
    for member in members() {
        let (name, mut uses) = (&member.name, Modules::of_member(&member).uses());
        for (_, from, to) in EXEMPT.iter().filter(|(exempt, ..)| *exempt == name) {
            let [from, to] =
                [from, to].map(|way| way.split("::").map(str::to_owned).collect::<Way>());
            let is_used = uses.remove(&(from, to));
            assert!(is_used, "{name} no longer needs its exemption: take it out of {}", file!());
        }
        let circles = circles(&uses);
        assert!(circles.is_empty(), "{name}:\n{}", circles.join("\n"));
    }
}

/// The circles of a crate with these files.
fn circles_of(files: &[(&str, &str)]) -> Vec<String> {
    let text = |path: &Path| {
        files
            .iter()
            .find(|(name, _)| path == Path::new("src").join(name))
            .map(|(_, text)| (*text).to_owned())
    };
    circles(&Modules::of(Path::new("src/lib.rs"), &text).uses())
}

#[test]
fn a_circle_is_found_whatever_way_the_modules_use_each_other() {
    let lib = ("lib.rs", "mod a;\nmod b;\npub use b::B;");
    let a = ("a.rs", "use crate::b::B;\npub fn a() {}");
    let ways = [
        "use crate::a::a;",
        "use crate::a::{self as other};",
        "use super::a;",
        "pub struct B(crate::a::A);",
        "fn b() { super::a::a() }",
        "fn b() { println!(\"{}\", crate::a::a()) }",
        "impl B { fn b() { if true { crate::a::a() } } }",
        "fn b() { use crate::a::a; }",
        "mod inside { use crate::a::a; }",
        "#[cfg(not(test))] use crate::a::a;",
    ];
    for way in ways {
        let found = circles_of(&[lib, a, ("b.rs", way)]);
        assert_eq!(found.len(), 2, "{way}: {found:?}");
    }
    let through_the_root = ("a.rs", "use crate::B;");
    let found = circles_of(&[lib, through_the_root, ("b.rs", "use crate::a::a;")]);
    assert_eq!(found, ["a → b: a uses b", "b → a: b uses a"]);
}

#[test]
fn a_circle_of_three_is_found_also_inside_of_a_module() {
    let found = circles_of(&[
        ("lib.rs", "mod room;"),
        ("room/mod.rs", "mod a; mod b; mod c; mod d;"),
        ("room/a.rs", "use super::b::B;"),
        ("room/b.rs", "use crate::room::c::{C, E};"),
        ("room/c/mod.rs", "mod inside;"),
        ("room/c/inside.rs", "use super::super::a;"),
        ("room/d.rs", "use super::a;"),
    ]);
    let expected = [
        "a → b: room::a uses room::b",
        "b → c: room::b uses room::c",
        "c → a: room::c::inside uses room::a",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_no_circle_is_not_taken_for_one() {
    let lib = ("lib.rs", "mod a;\nmod b;\n#[cfg(all(test, loom))]\nmod missing;\nuse a::A;");
    let a = ("a.rs", "use crate::b::B;\nmod inside;\nuse inside::A;");
    let inside = ("a/inside.rs", "use super::a;\nuse crate::b;");
    let ways = [
        "#[cfg(test)]\nmod tests { use crate::a::a; }",
        "#[cfg(all(test, not(loom)))]\nuse crate::a::a;",
        "impl B { #[cfg(test)] fn b() { crate::a::a() } }",
        "#[test]\n#[cfg(test)]\nfn b() { crate::a::a() }",
        "/// As [`crate::a::a`].\nfn b() {}",
        "use ::a::b; use other::a;",
        "use std::a; fn b() { std::a::b() }",
    ];
    for way in ways {
        assert_eq!(circles_of(&[lib, a, inside, ("b.rs", way)]), [""; 0], "{way}");
    }
}
