//! JSON documents as printed by commands with `--json`, and their schemas in `docs/schema`.

use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a text that is one JSON document and nothing else.
///
/// # Panics
///
/// If it does not fit the published schema of this name or its type. Either rejects unknown fields.
#[track_caller]
pub fn read<T: DeserializeOwned>(text: &str, schema: &str) -> T {
    assert!(text.ends_with("}\n"), "the document ends with a newline: {text:?}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
    let published = fs::read(path.join(schema).with_extension("json")).expect("a schema");
    let published: Value = serde_json::from_slice(&published).expect("a schema is JSON");
    let validator = jsonschema::validator_for(&published).expect("a schema is one");
    let document: Value = serde_json::from_str(text).expect("JSON");
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "no document of docs/schema/{schema}.json: {errors:?}\n{text}");
    serde_json::from_str(text).expect("a document of its type")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shown {
        source: String,
        value: Option<String>,
    }

    fn shown(setting: &str) -> Shown {
        let text = format!("{{\"port\": {setting}}}\n");
        let mut settings: BTreeMap<String, Shown> = read(&text, "config-show");
        settings.remove("port").expect("it was read")
    }

    #[test]
    fn a_document_of_its_schema_is_read() {
        let Shown { source, value } = shown(r#"{"value": null, "source": "unset"}"#);
        assert_eq!((source.as_str(), value), ("unset", None));
    }

    #[test]
    #[should_panic(expected = "is a required property")]
    fn a_field_that_is_missing_is_not_null() {
        shown(r#"{"source": "unset"}"#);
    }

    #[test]
    #[should_panic(expected = "unknown field `more`")]
    fn a_field_that_nobody_knows_is_told() {
        shown(r#"{"value": null, "source": "unset", "more": 1}"#);
    }
}
