//! The server as `--host` and `TOXIPROXY_URL` name it.

use trust_cli::exit_code::{ExitCode, Failure};
use trust_cli::target::{ServerWord, Target};
use trust_cli::values::quoted;

/// Where a server with Toxiproxy's API is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ServerUrl {
    pub(crate) target: Target,
    /// The header `Host`.
    pub(crate) host: String,
    /// What all paths begin with: empty, or from a slash to before one.
    pub(crate) prefix: String,
    has_port: bool,
}

/// The port of a URL without one.
const HTTP_PORT: u16 = 80;

impl ServerUrl {
    /// Reads a URL, possibly without its scheme, that `place` says.
    ///
    /// # Errors
    ///
    /// 1, with what is expected.
    pub(crate) fn parse(text: &str, place: &str) -> Result<ServerUrl, Failure> {
        let bad = |expected: &str| {
            let message =
                format!("invalid value {} for {place}: expected {expected}", quoted(text));
            Failure::new(ExitCode::Negative, message)
        };
        let form = "HOST:PORT or http://HOST:PORT";
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => return Err(bad("http://, as https:// is not supported")),
            Some(_) => return Err(bad(form)),
            None => text,
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        if authority.contains('@') || rest.contains(['?', '#']) {
            return Err(bad(form));
        }
        let Ok(ServerWord::Host { host, port }) = ServerWord::parse(authority) else {
            return Err(bad(form));
        };
        let named = host.unwrap_or_else(|| "localhost".to_owned());
        let target = Target::new(named, port.unwrap_or(HTTP_PORT));
        Ok(ServerUrl {
            host: target.to_string(),
            target,
            prefix: path.trim_end_matches('/').to_owned(),
            has_port: port.is_some(),
        })
    }

    /// What to do if there is no such server.
    pub(crate) fn hint(&self) -> &'static str {
        if self.has_port {
            "start the server, or name another one with --host or TOXIPROXY_URL"
        } else {
            "without a port it is 80; Toxiproxy's is 8474"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ServerUrl, String> {
        ServerUrl::parse(text, "--host").map_err(|failure| failure.message)
    }

    #[test]
    fn a_server_is_a_url_with_or_without_its_scheme() {
        let cases = [
            ("http://localhost:8474", "localhost:8474", ""),
            ("localhost:8474", "localhost:8474", ""),
            ("http://127.0.0.1:1/", "127.0.0.1:1", ""),
            ("http://[::1]:8474", "[::1]:8474", ""),
            ("[::1]:8474", "[::1]:8474", ""),
            (":8474", "localhost:8474", ""),
            ("http://toxiproxy/a/b/", "toxiproxy:80", "/a/b"),
        ];
        for (text, host, prefix) in cases {
            let url = parse(text).unwrap();
            assert_eq!((&*url.host, &*url.prefix), (host, prefix), "{text}");
            assert_eq!(url.target.to_string(), host);
        }
        assert!(parse("toxiproxy").unwrap().hint().contains("8474"));
        assert!(parse("toxiproxy:80").unwrap().hint().contains("--host"));
    }

    #[test]
    fn what_is_no_such_url_is_said_in_one_line() {
        for text in ["", "http://", "ftp://a:1", "a:x", "a:70000", "u:p@a:1", "a:1?x", "unix:/a"] {
            let expected = format!(
                "invalid value '{text}' for --host: expected HOST:PORT or http://HOST:PORT"
            );
            assert_eq!(parse(text), Err(expected));
        }
        let fault = parse("https://a").unwrap_err();
        assert!(fault.ends_with("expected http://, as https:// is not supported"), "{fault}");
    }
}
