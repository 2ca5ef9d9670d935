//! `cargo x torture`: see the library.

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo x torture", about = "Tries to make the pipeline lose, double or reorder an event")]
struct Cli {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// Writers, relays and faults against an oracle that the writers keep in their own transactions
    Outbox(torture::outbox::Arguments),
    /// Consumers killed at every named point, against a ledger of what was produced
    Inbox(torture::inbox::Arguments),
    /// One relay, as a process of its own to be killed
    #[command(hide = true)]
    RelayProcess(torture::outbox::RelayArguments),
    /// One consumer, as a process of its own to be killed
    #[command(hide = true)]
    InboxProcess(torture::inbox::MemberArguments),
    /// One act of an operator, as a process of its own to be killed
    #[command(hide = true)]
    InboxOperator(torture::inbox::OperatorArguments),
}

#[tokio::main]
async fn main() -> Result<()> {
    match Cli::parse().subject {
        Subject::Outbox(arguments) => torture::outbox::run(&arguments).await,
        Subject::Inbox(arguments) => Box::pin(torture::inbox::run(&arguments)).await,
        Subject::InboxProcess(arguments) => torture::inbox::run_member(arguments).await,
        Subject::InboxOperator(arguments) => torture::inbox::run_operator(arguments).await,
        Subject::RelayProcess(arguments) => torture::outbox::run_relay(arguments).await,
    }
}
