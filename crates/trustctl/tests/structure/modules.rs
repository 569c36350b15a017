//! Reads the modules of a crate: which other modules each one uses, as far as names show it, and
//! which types it defines.
//!
//! Test-only code and comments do not count. An imported name is followed to where it is defined.
//! Methods of a type are not seen: code that has a value got its type from somewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Macro, Stmt, TraitItem, UseTree};

use crate::crates::Member;

/// The path of a module from the crate's root; the root's is empty.
pub(crate) type Way = Vec<String>;

/// How many imports to follow for one name.
const FOLLOWED_MAX: usize = 8;

/// What stands before the reason, above a struct of many fields.
const MANY_FIELDS: &str = "// Many fields: ";

/// The modules of a crate.
#[derive(Default)]
pub(crate) struct Modules {
    modules: BTreeMap<Way, Module>,
    /// Structs with a reason for many fields.
    excused: BTreeSet<String>,
}

#[derive(Default)]
struct Module {
    /// Imported names.
    imported: HashMap<String, Way>,
    /// Mentioned names, from the root.
    mentioned: BTreeSet<Way>,
    types: Vec<Type>,
}

/// A type defined anywhere, even inside a function.
pub(crate) struct Type {
    pub(crate) name: String,
    /// 0 unless it is a struct.
    pub(crate) fields: usize,
    /// A comment gives a reason for a struct's many fields.
    pub(crate) is_excused: bool,
}

impl Type {
    /// The type that an item defines, if any.
    fn of(item: &Item) -> Option<Type> {
        let (name, fields) = match item {
            Item::Struct(of) => (&of.ident, of.fields.len()),
            Item::Enum(of) => (&of.ident, 0),
            Item::Trait(of) => (&of.ident, 0),
            Item::Type(of) => (&of.ident, 0),
            Item::Union(of) => (&of.ident, 0),
            _ => return None,
        };
        Some(Type { name: name.to_string(), fields, is_excused: false })
    }
}

impl Modules {
    /// Reads a crate of the workspace.
    pub(crate) fn of_member(member: &Member) -> Modules {
        let root = ["lib.rs", "main.rs"].map(|file| member.directory.join("src").join(file));
        let root = root.iter().find(|file| file.exists()).expect("a crate has a first file");
        Modules::of(root, &|file| fs::read_to_string(file).ok())
    }

    /// Reads a crate from its first file. `read` returns the text of a file, if it exists.
    pub(crate) fn of(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Modules {
        let mut modules = Modules::default();
        modules.read_file(&Way::new(), root, root.parent().expect("it is in a directory"), read);
        modules
    }

    fn read_file(
        &mut self,
        way: &Way,
        file: &Path,
        inside: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let text = read(file).unwrap_or_else(|| panic!("there is no {}", file.display()));
        let parsed =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.excused.extend(excused(&text));
        self.read_items(way, &parsed.items, inside, read);
    }

    /// Reads a module's items; the files of its inner modules are in `inside`.
    fn read_items(
        &mut self,
        way: &Way,
        items: &[Item],
        inside: &Path,
        read: &dyn Fn(&Path) -> Option<String>,
    ) {
        let mut module = Reader { way, children: vec![], module: Module::default() };
        let kept = || items.iter().filter(|item| !is_for_tests(attributes(item)));
        module.children = kept().filter_map(child).collect();
        kept().for_each(|item| module.visit_item(item));
        self.modules.insert(way.clone(), module.module);
        for item in kept() {
            let Item::Mod(child) = item else { continue };
            let name = child.ident.to_string();
            let inner = inside.join(&name);
            let way: Way = way.iter().cloned().chain([name]).collect();
            match &child.content {
                Some((_, items)) => self.read_items(&way, items, &inner, read),
                None => self.read_file(&way, &file_of(&inner, read), &inner, read),
            }
        }
    }

    /// Which module uses which other one.
    pub(crate) fn uses(&self) -> BTreeSet<(Way, Way)> {
        let mentioned = self.modules.iter().flat_map(|(way, module)| {
            module.mentioned.iter().map(move |name| (way.clone(), self.home(name, FOLLOWED_MAX)))
        });
        mentioned.filter(|(from, to)| from != to).collect()
    }

    /// The types defined in this crate, with their places.
    pub(crate) fn into_types(self, name: &str) -> Vec<(String, Type)> {
        let place = |way: &Way| [&[name.to_owned()], &way[..]].concat().join("::");
        let of = |(way, module): (Way, Module)| {
            let place = place(&way);
            let excused = &self.excused;
            module.types.into_iter().map(move |of| {
                (place.clone(), Type { is_excused: excused.contains(&of.name), ..of })
            })
        };
        self.modules.into_iter().flat_map(of).collect()
    }

    /// The module in which a name is defined.
    fn home(&self, name: &[String], followed: usize) -> Way {
        let length =
            (0..=name.len()).rev().find(|length| self.modules.contains_key(&name[..*length]));
        let (module, rest) = name.split_at(length.unwrap_or(0));
        let next = rest.first().and_then(|first| self.modules[module].imported.get(first));
        match next {
            Some(origin) if followed > 0 => {
                let name: Way = origin.iter().chain(&rest[1..]).cloned().collect();
                self.home(&name, followed - 1)
            }
            _ => module.to_vec(),
        }
    }
}

/// The structs that have a reason for many fields.
fn excused(text: &str) -> impl Iterator<Item = String> {
    text.split(MANY_FIELDS).skip(1).filter_map(|reason| {
        let (_, name) = reason.split_once("struct ")?;
        Some(name.chars().take_while(|c| c.is_alphanumeric()).collect())
    })
}

fn file_of(inner: &Path, read: &dyn Fn(&Path) -> Option<String>) -> PathBuf {
    let own = inner.with_extension("rs");
    if read(&own).is_some() { own } else { inner.join("mod.rs") }
}

fn child(item: &Item) -> Option<String> {
    match item {
        Item::Mod(child) => Some(child.ident.to_string()),
        _ => None,
    }
}

struct Reader<'w> {
    way: &'w Way,
    children: Vec<String>,
    module: Module,
}

impl Reader<'_> {
    /// Records what a path in this module refers to, if that is in the crate; returns its path from
    /// the root.
    fn mention(&mut self, path: &[String]) -> Option<Way> {
        let way = self.resolve(path)?;
        self.module.mentioned.insert(way.clone());
        Some(way)
    }

    fn resolve(&self, path: &[String]) -> Option<Way> {
        let (first, rest) = path.split_first()?;
        let from = |start: &[String]| Some(start.iter().chain(rest).cloned().collect());
        match &**first {
            "crate" => from(&[]),
            "self" => from(self.way),
            "super" => {
                let ups = path.iter().take_while(|word| *word == "super").count();
                let start = &self.way[..self.way.len().checked_sub(ups)?];
                Some(start.iter().chain(&path[ups..]).cloned().collect())
            }
            name if self.children.iter().any(|child| child == name) => {
                Some(self.way.iter().chain(path).cloned().collect())
            }
            name => from(self.module.imported.get(name)?),
        }
    }

    fn read_use(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Way>();
        match tree {
            UseTree::Path(path) => self.read_use(&with(path.ident.to_string()), &path.tree),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.read_use(before, tree))
            }
            UseTree::Name(name) if name.ident == "self" => {
                self.import(before.last().cloned().unwrap_or_default(), before);
            }
            UseTree::Name(name) => {
                self.import(name.ident.to_string(), &with(name.ident.to_string()))
            }
            UseTree::Rename(name) => {
                self.import(name.rename.to_string(), &with(name.ident.to_string()))
            }
            UseTree::Glob(_) => {
                if self.mention(before).is_some() {
                    panic!(
                        "{}: this test cannot follow `use {}::*`",
                        self.way.join("::"),
                        before.join("::")
                    );
                }
            }
        }
    }

    fn import(&mut self, name: String, path: &[String]) {
        if let Some(way) = self.mention(path) {
            self.module.imported.insert(name, way);
        }
    }
}

impl<'a> Visit<'a> for Reader<'_> {
    fn visit_item(&mut self, item: &'a Item) {
        if is_for_tests(attributes(item)) {
            return;
        }
        self.module.types.extend(Type::of(item));
        match item {
            // Modules in a file's top level are read separately; functions contain none.
            Item::Mod(_) => {}
            Item::Use(of) => self.read_use(&[], &of.tree),
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Item(item) => self.visit_item(item),
            _ => visit::visit_stmt(self, statement),
        }
    }

    fn visit_impl_item(&mut self, item: &'a ImplItem) {
        let attributes = match item {
            ImplItem::Fn(of) => &of.attrs[..],
            ImplItem::Const(of) => &of.attrs,
            ImplItem::Type(of) => &of.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'a TraitItem) {
        let attributes = match item {
            TraitItem::Fn(of) => &of.attrs[..],
            TraitItem::Const(of) => &of.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_trait_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let words: Vec<String> =
            path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if path.leading_colon.is_none() {
            self.mention(&words);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, of: &'a Macro) {
        visit::visit_macro(self, of);
        for path in paths_in(&of.tokens.to_string()) {
            self.mention(&path);
        }
    }
}

/// The paths in a macro's input: words with `::` between them.
fn paths_in(tokens: &str) -> Vec<Way> {
    let mut paths = vec![];
    let mut path = Way::new();
    let mut is_joined = false;
    for token in tokens.split_whitespace() {
        // Tokens that belong together are not always separated: `crate::a::B(c)`.
        let mut rest = token;
        while !rest.is_empty() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            if length > 0 {
                if !is_joined {
                    paths.push(std::mem::take(&mut path));
                }
                path.push(rest[..length].to_owned());
                is_joined = false;
                rest = &rest[length..];
            } else if let Some(after) = rest.strip_prefix("::") {
                is_joined = true;
                rest = after;
            } else {
                paths.push(std::mem::take(&mut path));
                is_joined = false;
                rest = rest.trim_start_matches(|c: char| !is_word(c) && c != ':');
                rest =
                    rest.strip_prefix(':').filter(|after| !after.starts_with(':')).unwrap_or(rest);
            }
        }
    }
    paths.push(path);
    paths.retain(|path| !path.is_empty());
    paths
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(of) => &of.attrs,
        Item::Enum(of) => &of.attrs,
        Item::Fn(of) => &of.attrs,
        Item::Impl(of) => &of.attrs,
        Item::Macro(of) => &of.attrs,
        Item::Mod(of) => &of.attrs,
        Item::Static(of) => &of.attrs,
        Item::Struct(of) => &of.attrs,
        Item::Trait(of) => &of.attrs,
        Item::Union(of) => &of.attrs,
        Item::Type(of) => &of.attrs,
        Item::Use(of) => &of.attrs,
        _ => &[],
    }
}

/// Whether the attributes restrict it to tests: `cfg(test)`, or `cfg(all(test, …))`.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Ok(list) = attribute.meta.require_list() else { return false };
        let text = list.tokens.to_string().replace(' ', "");
        list.path.is_ident("cfg") && (text == "test" || text.starts_with("all(test,"))
    })
}

#[test]
fn paths_are_found_in_what_a_macro_is_given() {
    let paths = paths_in(r#""{}", crate :: a :: B, x . y (super::c::d (&e)) , f::g:: <H>::i"#);
    let joined: Vec<String> = paths.iter().map(|path| path.join("::")).collect();
    assert_eq!(joined, ["crate::a::B", "x", "y", "super::c::d", "e", "f::g", "H", "i"]);
}
