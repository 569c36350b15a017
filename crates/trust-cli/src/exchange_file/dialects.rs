//! Dialects: exchange files in the program, for common protocols.
//!
//! Each is a place to start from. Their exchanges only read, or use a key with the prefix
//! `trustctl-check`.

use toml::de::{DeTable, DeValue};

use super::fields::Fields;
use super::message_ends::{KEYS, MessageEnds};

/// An exchange file in the program.
#[derive(Debug, PartialEq, Eq)]
pub struct Dialect {
    /// As it is named on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    template: &'static str,
}

macro_rules! dialect {
    ($name:literal, $about:literal) => {
        Dialect {
            name: $name,
            about: $about,
            template: include_str!(concat!("dialects/", $name, ".toml")),
        }
    };
}

/// All of them.
pub const DIALECTS: &[Dialect] = &[
    dialect!("dns", "DNS over TCP: questions about localhost"),
    dialect!("redis", "Redis, RESP2: PING, ECHO, GET, and SET of one key"),
    dialect!("memcached", "memcached: get and set of two keys"),
    dialect!("http", "HTTP/1.1: GET and HEAD of a path"),
    dialect!("smtp", "SMTP up to EHLO: NOOP, RSET, VRFY, QUIT"),
    dialect!("ftp", "FTP before a login: NOOP, SYST, FEAT, QUIT"),
    dialect!("modbus", "Modbus/TCP: a register and a coil are read"),
    dialect!("mqtt", "MQTT 3.1.1: PINGREQ, SUBSCRIBE"),
    dialect!("postgres", "PostgreSQL: simple queries of the user postgres"),
    dialect!("kafka", "Kafka: ApiVersions, Metadata"),
    dialect!("mysql", "MySQL and MariaDB: the greeting"),
    dialect!("line", "lines of text, each answered with a line"),
];

/// Where a dialect has the path that it asks for.
const PATH: &str = "{path}";

/// Where a dialect has the name of the host that it asks.
const HOST: &str = "{host}";

impl Dialect {
    /// The dialect of that name.
    pub fn named(name: &str) -> Option<&'static Dialect> {
        DIALECTS.iter().find(|dialect| dialect.name == name)
    }

    /// Whether [`Dialect::text`] can be given a path.
    pub fn takes_path(&self) -> bool {
        self.template.contains(PATH)
    }

    /// The exchange file. `path` is what is asked for, `/health`, and may have the name of the host
    /// in front, `example.org/health`; `/` of `localhost` if there is none.
    ///
    /// # Errors
    ///
    /// That the dialect takes no path, or what is wrong with it, in one line.
    pub fn text(&self, path: Option<&str>) -> Result<String, String> {
        let Some(path) = path else { return Ok(self.with_path("localhost", "/")) };
        if !self.takes_path() {
            return Err(format!("no path in the dialect {}: expected another dialect", self.name));
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            let expected = "expected ASCII characters without spaces; others are written as %NN";
            return Err(format!("a character that no path has: {expected}"));
        }
        let Some(slash) = path.find('/') else {
            return Err("no slash: expected a path as /health, or HOST/health".to_owned());
        };
        let (host, path) = path.split_at(slash);
        Ok(self.with_path(if host.is_empty() { "localhost" } else { host }, path))
    }

    /// Where its messages end.
    ///
    /// # Panics
    ///
    /// Never: its text has no mistakes, which a test makes sure of.
    pub fn message_ends(&self) -> MessageEnds {
        let text = self.with_path("localhost", "/");
        let document = DeTable::parse(&text).expect("a dialect is TOML");
        let message = document.get_ref().get("message").map(|value| value.get_ref());
        let Some(DeValue::Table(message)) = message else { return MessageEnds::default() };
        let ends = Fields::new("[message]", message, 0, KEYS).and_then(|it| MessageEnds::read(&it));
        ends.expect("a dialect has no mistakes")
    }

    fn with_path(&self, host: &str, path: &str) -> String {
        let escaped = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        self.template.replace(HOST, &escaped(host)).replace(PATH, &escaped(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_has_a_name_and_comments_and_says_where_messages_end() {
        for dialect in DIALECTS {
            assert!(!dialect.about.is_empty());
            let text = dialect.text(None).unwrap();
            assert!(text.starts_with("# ") && text.ends_with('\n'), "{}", dialect.name);
            assert!(!text.contains(PATH) && !text.contains(HOST));
            assert_eq!(Dialect::named(dialect.name), Some(dialect));
            let MessageEnds { request, answer, .. } = dialect.message_ends();
            assert!(request.is_some() && answer.is_some(), "{}", dialect.name);
        }
        assert_eq!(Dialect::named("smpt"), None);
    }

    #[test]
    fn a_wrong_path_is_explained() {
        let http = Dialect::named("http").unwrap();
        for wrong in ["", "health", "/a b", "/\r\nX: y", "/ü", "/\u{7f}"] {
            let message = http.text(Some(wrong)).unwrap_err();
            assert!(message.contains(": expected "), "{message}");
        }
        let message = Dialect::named("redis").unwrap().text(Some("/")).unwrap_err();
        assert_eq!(message, "no path in the dialect redis: expected another dialect");
    }
}
