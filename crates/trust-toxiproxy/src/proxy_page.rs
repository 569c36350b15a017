//! The live page of the fault proxy.

use crate::page::LivePage;

const BODY: &str = include_str!("page/proxy.html");
const SCRIPT: &str = include_str!("page/proxy.js");

/// The page at `/`. It asks for `/trustctl/…` only.
pub(crate) fn proxy_page() -> LivePage {
    LivePage::new("Fault proxy", BODY, SCRIPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_builds_no_markup_from_data() {
        let html = proxy_page().html;
        assert_eq!(html.matches("</script>").count(), 1, "the script ends once");
        for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!html.contains(word), "{word}");
        }
    }
}
