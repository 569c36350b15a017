//! Wordings that read like a translation, what to say instead, and where they are right.

/// A wording to avoid.
pub(crate) struct Pattern {
    /// Upper and lower case are the same to it.
    pub(crate) regex: &'static str,
    /// What to write instead.
    pub(crate) better: &'static str,
    /// A text that has it.
    pub(crate) example: &'static str,
}

/// Where a wording is right.
pub(crate) struct Exception {
    /// The start of the paths in which it is; empty: everywhere.
    pub(crate) path: &'static str,
    /// What has to stand around the wording.
    pub(crate) regex: &'static str,
    pub(crate) reason: &'static str,
}

pub(crate) const PATTERNS: &[Pattern] = &[
    Pattern {
        regex: r"\ballowed (is|are)\b",
        better: "expected …",
        example: "'70000': allowed is a port",
    },
    Pattern {
        regex: r"\b(does|do|did) not go with\b",
        better: "cannot be used with",
        example: "--rate does not go with --find-rate",
    },
    Pattern {
        regex: r"\bnobody\b",
        better: "no one, or say who: 'no client'",
        example: "it hurts nobody",
    },
    Pattern {
        regex: r"\bwh(o|om|ose)ever\b",
        better: "say who: 'a client that …', 'anyone who …'",
        example: "whoever waits there",
    },
    Pattern {
        regex: r"\bin (an|the) orderly way\b",
        better: "cleanly, or 'with an orderly close'",
        example: "closed in the orderly way",
    },
    Pattern { regex: r"\bany more\b", better: "no longer", example: "it is not served any more" },
    Pattern { regex: r"\bbehind\b", better: "after", example: "a FIN behind the last byte" },
    Pattern {
        regex: r"\btells\b",
        better: "explains, describes, shows, reports, says",
        example: "the page tells how",
    },
    Pattern {
        regex: r"\b(the|a|its|their) begin\b",
        better: "start, beginning",
        example: "the begin of an interval",
    },
    Pattern {
        regex: r"\b(says?|said|saying) nothing\b",
        better: "is idle, is silent, sends nothing",
        example: "a client that says nothing",
    },
    Pattern { regex: r"\bwhat is to\b", better: "what must", example: "what is to be done" },
    Pattern {
        regex: r"(?x) \b(one|number|rate|bytes|[KMG]i?B|[µmn]?s|seconds?|minutes?|times?|messages?
            |echoes|connections?|frames?|lines?|call|instructions|process(es)?|threads?
            |descriptors?|buffers?|rounds?|events?|reasons?)
            \ an?\ (client|connection|message|frame|echo|line|peer|worker
            |child|case|model|run|call|step|turn|round|interval|core|gap|header|operation|crate
            |process|test|shard|socket|request|receive|server|second|minute)\b",
        better: "per: 'one process per client'",
        example: "one process a client",
    },
];

pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception {
        path: "",
        regex: r"(?x)\bbehind\ (\w+(\ \w+)?\ )?(prox(y|ies)|relays?|(load\ )?balancers?|forwarders?
            |nat|box(es)?|firewalls?|routers?|socat|nginx|haproxy|envoy|chromedriver)\b",
        reason: "what forwards connections stands in front of a server",
    },
    Exception {
        path: "",
        regex: r"(?x)\b(leaves?|leaving|left|stays?|lags?|lagged|lagging|falls?|fell)
            (\ \w+){0,2}\ behind\b",
        reason: "'to leave behind', 'to fall behind'",
    },
    Exception {
        path: "",
        regex: r"\w-behind\b|\bbehind-\w|/behind\b",
        reason: "a part of an identifier",
    },
    Exception {
        path: "",
        regex: r"\btells (\w+ ){1,4}(apart|from)\b",
        reason: "'to tell apart', 'to tell one from the other'",
    },
    Exception {
        path: "",
        regex: r"\btells (\w+ ){1,3}to\b",
        reason: "'to tell someone to do something'",
    },
    Exception {
        path: "",
        regex: r"\bsa(ys?|id) nothing about\b",
        reason: "a number or a result that allows no conclusion",
    },
    Exception {
        path: "ci/kubernetes.py",
        regex: r"\ballowed is (not )?None\b",
        reason: "Python, and the name of a variable",
    },
    Exception {
        path: "packaging/",
        regex: r"(\bnowait|=) nobody\b",
        reason: "the user of that name",
    },
    Exception {
        path: "crates/trustctl/tests/hostile/superservers.rs",
        regex: r#"" nobody ""#,
        reason: "the user of that name",
    },
    Exception {
        path: "docs/endings/",
        regex: r"\bsend (nobody home|a question that nobody reads)",
        reason: "a payload, whose length is in the output that ENDINGS.md shows",
    },
];
