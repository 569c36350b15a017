//! `trustctl proxy`: what it passes on, how it ends, what it says of it, and what it leaves as it
//! was.

mod bulk;
mod command;
mod connecting;
mod dialects;
mod faults;
mod limits;
mod listener;
mod others;
mod proxy;
mod relaying;
mod schedules;
mod timing;
mod trace;
mod unix;
