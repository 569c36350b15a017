//! What `make dist` has built, in the directory that TRUSTCTL_DIST names: `make packages` runs the
//! quick tests, `make packages-full` all of them, which need root and Debian's archive.

mod contents;
mod dist;
mod forges;
mod image;
mod systems;
