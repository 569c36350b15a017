//! `trustctl check`: finds the bugs of servers that take a stream for messages.
//!
//! A [`case::Case`] is a conversation with the server and a judgement of it. It speaks through
//! [`wire::Wire`], which records every byte, and cannot wait for ever. [`runner`] decides which
//! cases run when; [`report`] shows what came of them.

pub mod allowance;
pub mod answer;
pub mod case;
pub mod cases;
pub mod cause;
pub mod command;
pub mod compare;
pub mod declaration;
pub mod delivery;
pub mod exchange;
pub mod expect;
pub mod hint;
pub mod learning;

pub mod matrix;
pub mod options;
pub mod outcome;
pub mod propose;
pub mod report;
pub mod request;
pub mod runner;
pub mod server_command;
pub mod setup;
pub mod transcript;
pub mod trial;
pub mod verdict;
pub mod watch;
pub mod wire;
