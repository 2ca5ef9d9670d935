//! The roles as real processes: killed at named points, asked to stop, given bad settings.

mod api_kills;
mod buyers_side;
mod cache_faults;
mod cli;
mod contract;
mod dead_letters;
mod harness;
mod kill_points;
mod offsets;
mod outbox_status;
mod parked;
mod rebase;
mod records;
mod redrives;
mod schemathesis;
mod secrecy;
mod shutdown;
mod storefront;
mod streamer_kills;
mod token;
mod watcher;
