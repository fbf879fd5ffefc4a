//! The commands, one file each.

mod alerts;
mod apply;
mod approvals;
mod audit;
mod batch;
mod cancel;
mod check;
mod demo;
mod erase;
mod explain;
pub(crate) mod grants;
mod init;
mod jobs;
mod keys;
mod logs;
mod query;
mod resolve;
mod resume;
pub(crate) mod run;
mod runs;
mod schema;
mod serve;
mod show;
mod sim;
mod stats;
mod submit;
mod tasks;
mod tools;
mod undo;
mod worker;

use crate::args::Cli;
use crate::complaint::Stop;
use backstop_call::Code;
use clap::Subcommand;
use std::process::ExitCode;

/// What can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Run(run::Args),
    Resume(resume::Args),
    Resolve(resolve::Args),
    Apply(apply::Args),
    Approvals(approvals::Args),
    Cancel(cancel::Args),
    Grants(grants::Args),
    Undo(undo::Args),
    Erase(erase::Args),
    Submit(submit::Args),
    Tasks(tasks::Args),
    Batch(batch::Args),
    Jobs(jobs::Args),
    Worker(worker::Args),
    Runs(runs::Args),
    Show(show::Args),
    Logs(logs::Args),
    Stats(stats::Args),
    Alerts(alerts::Args),
    Query(query::Args),
    Audit(audit::Args),
    Tools(tools::Args),
    Keys(keys::Args),
    Init(init::Args),
    Check(check::Args),
    Serve(serve::Args),
    Sim(sim::Args),
    Demo(demo::Args),
    Explain(explain::Args),
    #[command(hide = true)]
    Schema(schema::Args),
}

/// On one core a second thread would only be in the way.
fn runtime() -> tokio::runtime::Builder {
    match std::thread::available_parallelism() {
        Ok(cores) if cores.get() == 1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    }
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Result<ExitCode, Stop> {
    let runtime = runtime()
        .enable_all()
        .build()
        .map_err(|error| Stop::new(Code::Internal, format!("no runtime: {error}")))?;
    let global = &cli.global;
    runtime.block_on(async {
        match cli.command {
            Command::Run(args) => Box::pin(run::main(args, global)).await,
            Command::Resume(args) => Box::pin(resume::main(args, global)).await,
            Command::Resolve(args) => resolve::main(args, global).await,
            Command::Apply(args) => Box::pin(apply::main(args, global)).await,
            Command::Approvals(args) => approvals::main(args, global).await,
            Command::Cancel(args) => cancel::main(args, global).await,
            Command::Grants(args) => grants::main(args, global).await,
            Command::Undo(args) => undo::main(args, global).await,
            Command::Erase(args) => erase::main(args, global).await,
            Command::Submit(args) => submit::main(args, global).await,
            Command::Tasks(args) => tasks::main(args, global).await,
            Command::Batch(args) => batch::main(args, global).await,
            Command::Jobs(args) => Box::pin(jobs::main(args, global)).await,
            Command::Worker(args) => worker::main(args, global).await,
            Command::Audit(args) => audit::main(args, global).await,
            Command::Runs(args) => runs::main(args, global).await,
            Command::Show(args) => show::main(args, global).await,
            Command::Logs(args) => logs::main(args, global).await,
            Command::Alerts(args) => alerts::main(args, global).await,
            Command::Stats(args) => stats::main(args, global).await,
            Command::Query(args) => query::main(args, global).await,
            Command::Tools(args) => tools::main(args, global).await,
            Command::Keys(args) => keys::main(args, global).await,
            Command::Init(args) => init::main(&args, global),
            Command::Check(args) => check::main(args, global).await,
            Command::Serve(args) => Box::pin(serve::main(args, global)).await,
            Command::Sim(args) => sim::main(args).await,
            Command::Demo(args) => demo::main(args, global).await,
            Command::Explain(args) => explain::main(&args),
            Command::Schema(args) => schema::main(&args),
        }
    })
}
