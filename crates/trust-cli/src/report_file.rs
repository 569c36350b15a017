//! Files that commands write their results to.
//!
//! A report appears under its name only when it is complete, so that a run that fails or is killed
//! leaves the last good one in place. Until then its bytes are in a temporary file next to it.
//! Anything other than a regular file (a terminal, a FIFO, `/dev/full`) is written directly.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::mem;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::exit_code::{ExitCode, Failure};
use crate::text::reason;
use crate::values::quoted;

/// The most links to follow to a file that does not exist yet; the same as the kernel's limit
/// (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The most temporary names to try: killed runs may have left some, and process IDs are reused.
const TEMPORARY_NAMES_MAX: u32 = 100;

/// A file that a command writes results to.
#[derive(Debug)]
pub struct ReportFile {
    /// The name given by the user.
    path: PathBuf,
    place: Place,
    /// It appears with its first bytes instead of its last, because it is already useful while it
    /// grows.
    is_stream: bool,
}

/// Where the bytes are.
#[derive(Debug)]
enum Place {
    /// In a temporary file, which will get the name `to`.
    Temporary { file: File, path: PathBuf, to: PathBuf },
    /// In the file with that name: it is not a regular file, its directory takes no other, or the
    /// report already has its name.
    Final(File),
    /// In an existing file, which is emptied when the first bytes come.
    Old(File),
}

impl ReportFile {
    /// Makes sure that the file can be written, without changing it.
    ///
    /// # Errors
    ///
    /// If the system refuses the file or its directory; ENXIO for a FIFO without a reader.
    pub fn create(path: &Path) -> io::Result<ReportFile> {
        let place = match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Place::over(path, &metadata)?,
            // Without waiting for a reader of a FIFO.
            Ok(_) => Place::Final(open_nonblocking(path)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let to = end_of_links(path)?;
                let (file, path) = temporary(&to)?;
                Place::Temporary { file, path, to }
            }
            Err(error) => return Err(error),
        };
        Ok(ReportFile { path: path.to_owned(), place, is_stream: false })
    }

    /// The same file, but it appears with its first bytes.
    #[must_use]
    pub fn streamed(mut self) -> ReportFile {
        self.is_stream = true;
        self
    }

    /// Lets only its owner read it. Anything other than a regular file is left as it is.
    ///
    /// # Errors
    ///
    /// As `fchmod(2)`.
    pub fn make_private(&self) -> io::Result<()> {
        let (Place::Temporary { file, .. } | Place::Final(file) | Place::Old(file)) = &self.place;
        match file.metadata()?.is_file() {
            true => file.set_permissions(fs::Permissions::from_mode(0o600)),
            false => Ok(()),
        }
    }

    /// Writes the whole report.
    ///
    /// # Errors
    ///
    /// 74, with the name of the file, which is unchanged then.
    pub fn write_whole(mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.write_all(bytes);
        written.map_err(|error| self.failure(&error))?;
        self.finish()
    }

    /// Gives the file its final name.
    ///
    /// # Errors
    ///
    /// 74, with the name of the file.
    pub fn finish(mut self) -> Result<(), Failure> {
        self.put_in_place().map_err(|error| self.failure(&error))
    }

    /// The command's failure after a failed write.
    pub fn failure(&self, error: &io::Error) -> Failure {
        Failure::new(
            ExitCode::Io,
            format!("cannot write {}: {}", quoted(&self.path), reason(error)),
        )
    }

    fn put_in_place(&mut self) -> io::Result<()> {
        let Place::Temporary { file, path, to } = &mut self.place else { return Ok(()) };
        if fs::rename(&*path, &*to).is_err() {
            // A mount point cannot be replaced.
            fs::copy(&*path, &*to)?;
            let own = OpenOptions::new().append(true).open(&*to)?;
            fs::remove_file(&*path)?;
            *file = own;
        }
        let file = file.try_clone()?;
        // It no longer has a temporary name that dropping it would remove.
        drop(mem::replace(&mut self.place, Place::Final(file)));
        Ok(())
    }
}

impl Write for ReportFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Place::Old(file) = &self.place {
            file.set_len(0)?;
            self.place = Place::Final(file.try_clone()?);
        }
        let (Place::Temporary { file, .. } | Place::Final(file) | Place::Old(file)) =
            &mut self.place;
        let written = file.write(bytes)?;
        if self.is_stream {
            self.put_in_place()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if let Place::Temporary { path, .. } = &self.place {
            // Fails only if another process has removed it already.
            let _ = fs::remove_file(path);
        }
    }
}

impl Place {
    /// For an existing file: one that replaces it, with the same owner and permissions.
    fn over(path: &Path, metadata: &fs::Metadata) -> io::Result<Place> {
        // The permissions of the file decide, not those of its directory.
        let old = OpenOptions::new().write(true).open(path)?;
        let to = fs::canonicalize(path)?;
        let Ok((file, temporary)) = temporary(&to) else { return Ok(Place::Old(old)) };
        let is_owner = file.metadata().is_ok_and(|own| {
            (own.uid(), own.gid()) == (metadata.uid(), metadata.gid())
                || fchown(&file, Some(metadata.uid()), Some(metadata.gid())).is_ok()
        });
        let mode = fs::Permissions::from_mode(metadata.mode() & 0o7777);
        if !is_owner || file.set_permissions(mode).is_err() {
            fs::remove_file(&temporary)?;
            return Ok(Place::Old(old));
        }
        Ok(Place::Temporary { file, path: temporary, to })
    }
}

/// A new file in the same directory, and its name.
fn temporary(to: &Path) -> io::Result<(File, PathBuf)> {
    let directory = directory_of(to);
    for number in 0..TEMPORARY_NAMES_MAX {
        let name = format!(".trustctl-{}-{number}.tmp", std::process::id());
        let path = directory.join(name);
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return Ok((made?, path)),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn open_nonblocking(path: &Path) -> io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().write(true).custom_flags(nonblocking).open(path)?;
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The target of a chain of links, which does not exist yet.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(target) => path = directory_of(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    Err(Errno::LOOP.into())
}

/// Identifies a file, whatever its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileId {
    /// An existing file.
    There {
        /// The device.
        device: u64,
        /// Its inode on that device.
        inode: u64,
    },
    /// A file that does not exist yet.
    New {
        /// The device of its directory.
        device: u64,
        /// The inode of that directory.
        directory: u64,
        /// Its name in that directory.
        name: OsString,
    },
}

impl FileId {
    /// The file with this name; `None` for one that can take two reports (a terminal, `/dev/null`),
    /// or if it cannot be determined.
    pub fn of_path(path: &Path) -> Option<FileId> {
        match fs::metadata(path) {
            Ok(metadata) => FileId::of(&metadata),
            Err(_) => {
                let path = end_of_links(path).ok()?;
                let directory = fs::metadata(directory_of(&path)).ok()?;
                let name = path.file_name()?.to_owned();
                Some(FileId::New { device: directory.dev(), directory: directory.ino(), name })
            }
        }
    }

    /// The file with this metadata.
    pub fn of(metadata: &fs::Metadata) -> Option<FileId> {
        let kind = metadata.file_type();
        let is_device = kind.is_char_device() || kind.is_block_device();
        let (device, inode) = (metadata.dev(), metadata.ino());
        (!is_device).then_some(FileId::There { device, inode })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[track_caller]
    fn create(path: &Path) -> ReportFile {
        ReportFile::create(path).expect("the directory takes files")
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_report_appears_when_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        let mut file = create(&path);
        file.write_all(b"one ").unwrap();
        assert!(!path.exists());
        file.write_all(b"two").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one two");

        let mut abandoned = create(&path);
        abandoned.write_all(b"half of").unwrap();
        drop(abandoned);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one two");
        assert_eq!(names(directory.path()), ["report"]);
    }

    #[test]
    fn a_stream_appears_with_its_first_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, "the last one").unwrap();
        drop(create(&path).streamed());
        assert_eq!(fs::read_to_string(&path).unwrap(), "the last one");
        let mut file = create(&path).streamed();
        file.write_all(b"1\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        file.write_all(b"2\n").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n");
        assert_eq!(names(directory.path()), ["log"]);
    }

    #[test]
    fn a_file_that_is_replaced_keeps_its_permissions_and_its_links() {
        let directory = tempfile::tempdir().unwrap();
        let [path, link, dangling, new] =
            ["report", "link", "dangling", "new"].map(|name| directory.path().join(name));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        symlink("report", &link).unwrap();
        symlink("new", &dangling).unwrap();
        create(&link).write_whole(b"new").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o604);
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        create(&dangling).write_whole(b"made").unwrap();
        assert_eq!(fs::read_to_string(&new).unwrap(), "made");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(fs::symlink_metadata(&dangling).unwrap().is_symlink());
        symlink("loop", directory.path().join("loop")).unwrap();
        assert!(ReportFile::create(&directory.path().join("loop")).is_err());
    }

    #[test]
    fn what_is_no_regular_file_is_written_directly() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, mode).unwrap();
        let no_reader = ReportFile::create(&fifo).unwrap_err();
        assert_eq!(no_reader.raw_os_error(), Some(Errno::NXIO.raw_os_error()));
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let mut reader =
            OpenOptions::new().read(true).custom_flags(nonblocking).open(&fifo).unwrap();
        create(&fifo).write_whole(b"through").unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut reader, &mut text).unwrap();
        assert_eq!(text, "through");
        create(Path::new("/dev/null")).write_whole(b"away").unwrap();
        let full = create(Path::new("/dev/full")).write_whole(b"no").unwrap_err();
        assert_eq!(full.message, "cannot write '/dev/full': No space left on device");
        assert_eq!(names(directory.path()), ["fifo"]);
        assert!(ReportFile::create(directory.path()).is_err(), "a directory");
    }

    #[test]
    fn a_file_is_the_same_by_any_of_its_names() {
        let directory = tempfile::tempdir().unwrap();
        let name = |name: &str| directory.path().join(name);
        fs::write(name("file"), "").unwrap();
        fs::hard_link(name("file"), name("hard")).unwrap();
        symlink("file", name("soft")).unwrap();
        symlink("new", name("dangling")).unwrap();
        symlink(".", name("here")).unwrap();
        let is_same = |a: &str, b: &str| FileId::of_path(&name(a)) == FileId::of_path(&name(b));
        assert!(is_same("file", "hard") && is_same("soft", "hard") && is_same("here/file", "file"));
        assert!(is_same("new", "dangling") && is_same("here/new", "./here/dangling"));
        assert!(!is_same("file", "new") && !is_same("new", "newer"));
        assert_eq!(FileId::of_path(Path::new("/dev/null")), None);
    }
}
