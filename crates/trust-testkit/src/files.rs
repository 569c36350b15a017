//! Files of a test, in a directory of its own.

use crate::leftovers::OwnedDir;

/// A directory for files, which are named by their place in it.
pub struct Files(OwnedDir);

impl Files {
    pub fn new() -> Files {
        Files(OwnedDir::create())
    }

    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("a path of ours is UTF-8").to_owned()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).expect("write a file");
        path
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("read a file")
    }
}
