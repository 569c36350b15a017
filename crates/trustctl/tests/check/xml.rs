//! A strict reader for the XML of reports: elements, attributes in double quotes, the five
//! entities.

/// An element.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
    pub(crate) children: Vec<Element>,
    pub(crate) text: String,
}

impl Element {
    #[track_caller]
    pub(crate) fn attribute(&self, name: &str) -> &str {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map_or_else(|| panic!("no {name} in {self:?}"), |(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn count(&self, name: &str) -> usize {
        self.attribute(name).parse().expect("a number")
    }

    /// The children with this name.
    pub(crate) fn all<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Element> {
        self.children.iter().filter(move |child| child.name == name)
    }
}

/// Reads a document with its declaration.
///
/// # Panics
///
/// If it is not well-formed.
#[track_caller]
pub(crate) fn read(text: &str) -> Element {
    let declaration = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    let mut rest = text.strip_prefix(declaration).expect("the declaration");
    let root = element(&mut rest);
    assert_eq!(rest.trim(), "", "something follows the root");
    root
}

fn element(rest: &mut &str) -> Element {
    let inside = rest.strip_prefix('<').expect("a tag");
    let end = inside.find('>').expect("the end of the tag");
    assert!(!inside[..end].contains('<'), "a < in a tag: {}", &inside[..end]);
    let (tag, is_empty) = match inside[..end].strip_suffix('/') {
        Some(tag) => (tag, true),
        None => (&inside[..end], false),
    };
    *rest = &inside[end + 1..];
    let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
    assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "a name: {name:?}");
    let mut found = Element { name: name.to_owned(), ..Element::default() };
    let mut attributes = attributes.trim_start();
    while !attributes.is_empty() {
        let (key, value) = attributes.split_once("=\"").expect("an attribute");
        let (value, after) = value.split_once('"').expect("the end of the attribute");
        assert!(found.attributes.iter().all(|(known, _)| known != key), "{key} twice");
        found.attributes.push((key.to_owned(), unescaped(value)));
        attributes = after.trim_start();
    }
    if is_empty {
        return found;
    }
    loop {
        let at = rest.find('<').expect("the end of the element");
        found.text.push_str(&unescaped(&rest[..at]));
        *rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("</") {
            let after = after.strip_prefix(name).expect("the end of the same element");
            *rest = after.strip_prefix('>').expect("the end of a tag");
            return found;
        }
        found.children.push(element(rest));
    }
}

fn unescaped(text: &str) -> String {
    for bad in text.chars() {
        let is_allowed = matches!(bad, '\t' | '\n' | '\r' | ' '..);
        assert!(is_allowed && bad != '\u{fffe}' && bad != '\u{ffff}', "{bad:?} in {text:?}");
    }
    let mut parts = text.split('&');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (entity, after) = part.split_once(';').expect("the end of an entity");
        plain.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" | "apos" => '\'',
            other => panic!("an entity that XML does not have: {other}"),
        });
        plain.push_str(after);
    }
    plain
}
