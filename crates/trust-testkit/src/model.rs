//! The ways in which the server serves its clients.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// `--model event`: many clients in one process.
    Event,
    /// `--model iterative`: one client at a time, the next one waits in the backlog.
    Iterative,
    /// `--model process`: a child process for each client.
    Process,
    /// `--inetd`: a program that somebody else's server starts for each client, here the test.
    Inetd,
}

impl Model {
    pub const ALL: [Model; 4] = [Model::Event, Model::Iterative, Model::Process, Model::Inetd];

    /// The word for it, also of `--model`.
    pub const fn name(self) -> &'static str {
        match self {
            Model::Event => "event",
            Model::Iterative => "iterative",
            Model::Process => "process",
            Model::Inetd => "inetd",
        }
    }

    /// Whether several clients are served at the same time.
    pub fn serves_several(self) -> bool {
        self != Model::Iterative
    }

    /// Whether each client has a process to itself.
    pub fn has_children(self) -> bool {
        matches!(self, Model::Process | Model::Inetd)
    }

    /// The flags that choose it, with a port that the system chooses where it listens itself.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Model::Event => &["--port", "0", "--model", "event"],
            Model::Iterative => &["--port", "0", "--model", "iterative"],
            Model::Process => &["--port", "0", "--model", "process"],
            Model::Inetd => &["--inetd"],
        }
    }
}
