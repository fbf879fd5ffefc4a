//! Serves the simulated provider until its input ends: `cargo run -p backstop-sim --example serve -- [SCENARIO] [SEED]`.
//! Prints its address on a line of its own. For clients in other languages, and the judges in `sdk/`.
#![expect(clippy::print_stdout, reason = "the address is what it is run for")]

use backstop_call::{Clock, Secret, Timestamp};
use backstop_sim::{Scenario, Sim, SimConfig};
use std::error::Error;
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use tokio::io::AsyncReadExt;

struct System;

impl Clock for System {
    #[expect(clippy::disallowed_methods, reason = "a program's edge is where the time comes from")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut config = SimConfig::new(Arc::new(System));
    config.scenario = Scenario::open(&args.next().unwrap_or_else(|| "calm".to_owned()))?;
    config.seed = args.next().map_or(Ok(0), |seed| seed.parse())?;
    config.keys = vec![Secret::new("sim-key")];
    config.threads = true;
    let sim = Sim::start(config).await?;
    println!("{}", sim.addr());
    tokio::io::stdin().read_to_end(&mut Vec::new()).await?;
    println!("billed {}", sim.shutdown().await.total);
    Ok(())
}
