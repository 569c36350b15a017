//! The server models.

/// A way of serving clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// `--model event`: many clients in one process.
    Event,
    /// `--model iterative`: one client at a time, the next one waits in the backlog.
    Iterative,
    /// `--model process`: one child process per client.
    Process,
    /// `--inetd`: a super-server, here the test itself, starts one program per client.
    Inetd,
}

impl Model {
    pub const ALL: [Model; 4] = [Model::Event, Model::Iterative, Model::Process, Model::Inetd];

    /// Its name, also the value of `--model`.
    pub const fn name(self) -> &'static str {
        match self {
            Model::Event => "event",
            Model::Iterative => "iterative",
            Model::Process => "process",
            Model::Inetd => "inetd",
        }
    }

    /// Whether it serves several clients at the same time.
    pub fn serves_several(self) -> bool {
        self != Model::Iterative
    }

    /// Whether each client has its own process.
    pub fn has_children(self) -> bool {
        matches!(self, Model::Process | Model::Inetd)
    }

    /// The flags that choose it; if it listens itself, on a port chosen by the system.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Model::Event => &["--port", "0", "--model", "event"],
            Model::Iterative => &["--port", "0", "--model", "iterative"],
            Model::Process => &["--port", "0", "--model", "process"],
            Model::Inetd => &["--inetd"],
        }
    }
}
