//! The processes that are judged: the simulated provider, and the gateway before it. Both listen on a loopback port of
//! their own choice and are ended when they are dropped.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::JoinHandle;

/// Where nobody listens: the port of a service that no machine has any more.
const NOBODY: &str = "127.0.0.1:1";

/// The simulated provider, on a port of its own choice. Ended when it is dropped.
pub(super) struct Sim {
    process: Child,
    pub(super) address: String,
}

impl Sim {
    pub(super) fn start(program: &Path, scenario: &str) -> Result<Self, String> {
        let mut command = Command::new(program);
        let started = command.args([scenario, "7"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let process = started.map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        let mut sim = Self { process, address: String::new() };
        let out = sim.process.stdout.take().expect("it is piped");
        let mut out = BufReader::new(out);
        out.read_line(&mut sim.address)
            .map_err(|error| format!("the simulated provider says nothing: {error}"))?;
        sim.address.truncate(sim.address.trim_end().len());
        if sim.address.is_empty() {
            return Err("the simulated provider ended before it told its address".to_owned());
        }
        // Nothing is left in the buffer: the rest is written only at the end.
        sim.process.stdout = Some(out.into_inner());
        Ok(sim)
    }

    /// Lets it end by the end of its input, and looks at its bill: judges that asked nothing would leave none.
    pub(super) fn stop(mut self) -> Result<(), String> {
        drop(self.process.stdin.take());
        let mut told = String::new();
        if let Some(out) = &mut self.process.stdout {
            out.read_to_string(&mut told)
                .map_err(|error| format!("the simulated provider's bill: {error}"))?;
        }
        let status = self.process.wait().map_err(|error| format!("the simulated provider: {error}"))?;
        let billed = told.trim().strip_prefix("billed $").and_then(|bill| bill.parse::<f64>().ok());
        if status.success() && billed.is_some_and(|bill| bill > 0.0) {
            Ok(())
        } else {
            Err(format!("the simulated provider ended with {status} and the bill `{}`", told.trim()))
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        // When it ended by itself there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The gateway, with a config that was made for it and nothing that an earlier one has kept.
pub(super) struct Gateway {
    process: Child,
    pub(super) address: String,
    /// A key that may do everything, and one that may ask for the model `plain` only.
    pub(super) key: String,
    pub(super) narrow_key: String,
    /// What it says after its greeting. Read all the time, so that it never waits for a reader.
    said: Option<JoinHandle<String>>,
}

impl Gateway {
    /// Starts it in a directory that is emptied, by the config in `folder`.
    pub(super) fn start(program: &Path, folder: &Path, data_dir: &Path, sim: &str) -> Result<Self, String> {
        let at = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        if data_dir.exists() {
            std::fs::remove_dir_all(data_dir).map_err(|error| at(data_dir, error))?;
        }
        std::fs::create_dir_all(data_dir).map_err(|error| at(data_dir, error))?;
        let template = folder.join("backstop.toml");
        let config = std::fs::read_to_string(&template).map_err(|error| at(&template, error))?;
        let config = config.replace("{sim}", sim).replace("{nobody}", NOBODY);
        let path = data_dir.join("backstop.toml");
        std::fs::write(&path, config).map_err(|error| at(&path, error))?;
        let key = create_key(program, &path, &["judge"])?;
        let narrow_key = create_key(program, &path, &["narrow", "--model", "plain"])?;
        let mut command = Command::new(program);
        command.args(["serve", "--config"]).arg(&path).current_dir(data_dir);
        command.env("SIM_KEY", "sim-key").env("WRONG_KEY", "wrong");
        let started = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let process = started.map_err(|error| at(program, error))?;
        let mut gateway = Self { process, address: String::new(), key, narrow_key, said: None };
        let err = gateway.process.stderr.take().expect("it is piped");
        gateway.greeted(BufReader::new(err))?;
        Ok(gateway)
    }

    /// Waits for the line that tells where it listens.
    fn greeted(&mut self, mut err: BufReader<ChildStderr>) -> Result<(), String> {
        let mut said = String::new();
        loop {
            let start = said.len();
            let read =
                err.read_line(&mut said).map_err(|error| format!("the gateway says nothing: {error}"))?;
            if read == 0 {
                return Err(format!("the gateway ended before it told its address: {}", said.trim()));
            }
            if let Some(address) = address_in(&said[start..]) {
                address.clone_into(&mut self.address);
                break;
            }
        }
        self.said = Some(std::thread::spawn(move || {
            let mut rest = String::new();
            // What cannot be read any more is not told.
            let _ = err.read_to_string(&mut rest);
            rest
        }));
        Ok(())
    }

    /// Asks it to end, and looks whether it does so in peace.
    pub(super) fn stop(mut self) -> Result<(), String> {
        let asked = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        asked.map_err(|error| format!("the gateway cannot be asked to end: {error}"))?;
        let status = self.process.wait().map_err(|error| format!("the gateway: {error}"))?;
        let said = self.said.take().and_then(|said| said.join().ok()).unwrap_or_default();
        if status.success() {
            Ok(())
        } else {
            Err(format!("the gateway ended with {status}: {}", said.trim()))
        }
    }
}

/// Makes a key, and gives its secret.
fn create_key(program: &Path, config: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(["keys", "create", "--config"]).arg(config).args(args);
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!("no key can be made: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The address in the gateway's greeting.
fn address_in(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("listens on http://")?;
    rest.split(';').next()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // When it ended by itself there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_greeting() {
        let rows = [
            ("ok the gateway listens on http://127.0.0.1:4141; Ctrl-C ends it\n", Some("127.0.0.1:4141")),
            ("  ANTHROPIC_BASE_URL=http://127.0.0.1:4141\n", None),
        ];
        for (line, want) in rows {
            assert_eq!(address_in(line), want, "{line}");
        }
    }
}
