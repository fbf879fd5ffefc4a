//! `backstop keys`: who may come to the gateway. One file for each of its commands.

mod create;
mod list;
mod revoke;
mod rotate;

use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::start_log;
use crate::home::{Home, open_store};
use crate::ui::{out, tell};
use backstop_journal::Event;
use backstop_server::config::Problem;
use backstop_server::keys::{KeyError, Made};
use backstop_server::logs::LogWriter;
use backstop_store::SqliteStore;
use serde_json::Value;
use std::process::ExitCode;
use std::sync::Arc;

/// Make, list, rotate and revoke the keys of the gateway
///
/// A key says who a call comes from, what it may ask for and what it may spend. Its secret is shown once, when it is made;
/// what is kept is a hash of it. What a key may do never changes: for something else, make another one.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  KEY=$(backstop keys create ci --budget-day 5)\n  backstop keys list\n  backstop keys rotate ci --overlap 2h\n  backstop keys revoke ci"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Create(Box<create::Args>),
    List(list::Args),
    Rotate(rotate::Args),
    Revoke(revoke::Args),
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    match args.command {
        Command::Create(args) => create::main(*args, &home).await,
        Command::List(args) => list::main(&args, &home).await,
        Command::Rotate(args) => rotate::main(args, &home).await,
        Command::Revoke(args) => revoke::main(args, &home).await,
    }
}

/// The database to be written, whose events go to the log as they do when an engine writes them.
struct Desk {
    store: SqliteStore,
    log: Option<Arc<LogWriter>>,
}

impl Desk {
    /// Opens the database, or makes it.
    fn open(home: &Home) -> Result<Self, Stop> {
        let (store, log) = (open_store(&home.config.journal)?, start_log(home)?.map(Arc::new));
        if let Some(log) = log.clone() {
            store.observe(Arc::new(move |events: &Arc<[Event]>| log.push(events)));
        }
        Ok(Self { store, log })
    }

    /// Opens the database where there is one; without one there is no key, and none is made.
    fn open_existing(home: &Home) -> Result<Option<Self>, Stop> {
        if home.config.journal.exists() { Self::open(home).map(Some) } else { Ok(None) }
    }

    fn close(self) {
        drop(self.store);
        let Some(error) = self.log.and_then(|log| log.close().error) else { return };
        tell(format_args!("warning: log lines were not written: {error}"));
    }
}

impl From<KeyError> for Stop {
    fn from(error: KeyError) -> Self {
        Problem::from(error).into()
    }
}

/// Shows a secret: alone on standard output, so that a shell can take it, or in the key's JSON.
fn show_secret(made: &Made, json: bool) -> Result<(), Stop> {
    if !json {
        return Ok(out(format_args!("{}\n", made.secret.expose()))?);
    }
    let mut document = serde_json::to_value(&made.record).map_err(std::io::Error::from)?;
    document["secret"] = Value::from(made.secret.expose());
    Ok(out(format_args!("{document:#}\n"))?)
}
