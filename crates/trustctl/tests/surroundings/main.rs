//! A run's surroundings: limits of the system, signals, and files that are in the way.

mod limits;
mod people;
mod ports;
mod processes;
mod reports;
mod rotation;
mod servers;
mod settings;
mod streams;
mod unix_server;
mod unix_sockets;

use trust_testkit::runner::leave_out;
