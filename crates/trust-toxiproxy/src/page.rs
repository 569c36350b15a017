//! Live pages: self-contained, and kept up to date by server-sent events. Toxiproxy has no part in
//! it; what a page shows is its own text and script.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

const STYLE: &str = include_str!("page/live.css");
const SCRIPT: &str = include_str!("page/live.js");

/// A page as it is sent.
#[derive(Clone, Debug)]
pub struct LivePage {
    /// The document.
    pub html: String,
    /// The headers that go with it: the browser runs the script and the style of the page and none
    /// that came in with data, asks this server only, and shows it in no other page.
    pub headers: Vec<(&'static str, String)>,
}

impl LivePage {
    /// A page with this title, markup and script, all of which is ours: data comes later, over the
    /// script, as text.
    pub fn new(title: &str, body: &str, script: &str) -> LivePage {
        let nonce = nonce();
        let html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\" data-ready=\"no\">\n<head>\n\
             <meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
             <style nonce=\"{nonce}\">\n{STYLE}</style>\n</head>\n<body>\n{body}\
             <script nonce=\"{nonce}\">\n{SCRIPT}\n{script}</script>\n</body>\n</html>\n"
        );
        let policy = format!(
            "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
             connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        );
        let headers = [
            ("Content-Security-Policy", &*policy),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
        ];
        LivePage { html, headers: headers.map(|(name, value)| (name, value.to_owned())).into() }
    }
}

/// A word that is another one for each page, and that no one can guess: the keys of each hasher
/// come from the system's random numbers.
fn nonce() -> String {
    let draw = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", draw(), draw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_runs_its_own_script_and_loads_nothing() {
        let page = |script| LivePage::new("Title", "<p>Body</p>\n", script);
        let (one, other) = (page("one();"), page("other();"));
        let policy = |page: &LivePage| {
            let found = page.headers.iter().find(|(name, _)| *name == "Content-Security-Policy");
            found.expect("it has one").1.clone()
        };
        let (_, nonce) = one.html.split_once("<script nonce=\"").expect("it has a script");
        let (nonce, _) = nonce.split_once('"').expect("a nonce ends");
        assert_eq!(nonce.len(), 32);
        assert!(policy(&one).starts_with("default-src 'none'; "));
        assert!(policy(&one).contains(&format!("script-src 'nonce-{nonce}'")));
        assert!(!policy(&other).contains(nonce), "each has its own");
        assert!(one.html.contains("one();</script>"));
        for outside in ["http:", "https:", "src=", "@import", "url("] {
            let html = one.html.replace("http://www.w3.org/2000/svg", "");
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
