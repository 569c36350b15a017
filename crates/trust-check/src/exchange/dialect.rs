//! The protocol that a dialect describes.

use trust_cli::exchange_file::dialects::Dialect;

use super::file;
use super::protocol::Protocol;

/// The protocol that the text of the dialect describes, with this path.
///
/// # Errors
///
/// As [`Dialect::text`]; the text itself has no mistakes.
pub fn protocol(dialect: &Dialect, path: Option<&str>) -> Result<Protocol, String> {
    let no_file = |_: &str| Err("a dialect has no files".to_owned());
    file::parse(dialect.text(path)?.as_bytes(), dialect.name, &no_file)
}

#[cfg(test)]
mod tests {
    use trust_cli::exchange_file::dialects::DIALECTS;
    use trust_cli::exchange_file::message_ends::MessageEnds;

    use super::*;

    #[test]
    fn every_dialect_is_an_exchange_file_with_the_same_ends_of_messages() {
        for dialect in DIALECTS {
            let protocol = protocol(dialect, None).unwrap();
            assert!(!protocol.name.is_empty());
            let ends = MessageEnds {
                request: protocol.request_end,
                first_request: protocol.first_request_end,
                answer: protocol.answer_end.map(|end| end.message),
            };
            assert_eq!(ends, dialect.message_ends(), "{}", dialect.name);
        }
    }

    #[test]
    fn a_path_and_a_host_are_put_into_the_requests() {
        let http = Dialect::named("http").unwrap();
        let get = |path| {
            let protocol = protocol(http, path).unwrap();
            String::from_utf8(protocol.exchanges[0].send.bytes(0)).unwrap()
        };
        assert!(get(None).starts_with("GET / HTTP/1.1\r\nHost: localhost\r\n"));
        assert!(get(Some("/a\"\\?b={}")).starts_with("GET /a\"\\?b={} HTTP/1.1\r\n"));
        let with_host = get(Some("example.org:8080/x/y"));
        assert!(with_host.starts_with("GET /x/y HTTP/1.1\r\nHost: example.org:8080\r\n"));
        assert!(get(Some("/{host}")).starts_with("GET /{host} HTTP/1.1\r\n"));
    }
}
