//! What is measured: the bare provider, nginx, the floor, and the gateway.

use super::Options;
use super::backstop;
use super::process::{Cores, Process};
use crate::Stop;
use crate::load::{ask, until_ready};
use crate::mock::BILLS;
use clap::ValueEnum;
use serde::Serialize;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::sleep;

/// How long a target may take until it is ready.
const READY_MAX: Duration = Duration::from_mins(1);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub(crate) enum Who {
    /// The mock provider itself
    Direct,
    /// nginx as a bare reverse proxy: what all are held against
    Nginx,
    /// A bare proxy of hyper
    Floor,
    /// Backstop, or what `--target` starts
    Gateway,
}

impl Who {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

pub(super) struct Target {
    pub(super) who: Who,
    pub(super) at: SocketAddr,
    /// Its own: configs, logs, databases.
    pub(super) dir: PathBuf,
    pub(super) headers: Vec<(String, String)>,
    /// What it answers with 200 as soon as it can work.
    ready: String,
    /// Nothing to start for the mock, which is there.
    line: Option<Line>,
    pub(super) process: Option<Process>,
}

/// How a target is started.
struct Line {
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    log: PathBuf,
}

/// Where a target finds things.
pub(super) struct Place<'a> {
    pub(super) mock: SocketAddr,
    pub(super) listen: SocketAddr,
    pub(super) dir: &'a Path,
}

impl Place<'_> {
    /// Fills in `{mock}`, `{listen}`, `{port}` and `{dir}`.
    pub(super) fn fill(&self, text: &str) -> String {
        text.replace("{mock}", &self.mock.to_string())
            .replace("{listen}", &self.listen.to_string())
            .replace("{port}", &self.listen.port().to_string())
            .replace("{dir}", &self.dir.display().to_string())
    }

    fn file(&self, name: &str, template: &str) -> Result<String, Stop> {
        let path = self.dir.join(name);
        fs::write(&path, self.fill(template)).map_err(|error| failed(&path, &error))?;
        Ok(path.display().to_string())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Stop {
    Stop::failed(format!("{}: {error}", path.display()))
}

impl Target {
    /// Writes what it needs into its directory; nothing is started yet.
    pub(super) fn prepare(who: Who, options: &Options) -> Result<Self, Stop> {
        let dir = options.dir()?.join(who.name());
        fs::create_dir_all(&dir).map_err(|error| failed(&dir, &error))?;
        let place = Place { mock: options.at(0), listen: options.at(1 + who as u16), dir: &dir };
        let mut target = Self {
            who,
            at: place.listen,
            dir: dir.clone(),
            headers: options.headers(&who.name()),
            ready: BILLS.to_owned(),
            line: None,
            process: None,
        };
        let line = |program: PathBuf, args: Vec<String>, env| Line {
            program,
            args,
            env,
            log: dir.join("output.log"),
        };
        match who {
            Who::Direct => target.at = place.mock,
            Who::Nginx => {
                let config = place.file("nginx.conf", include_str!("nginx.conf"))?;
                let args = ["-p", &dir.display().to_string(), "-c", &config, "-g", "daemon off;"];
                target.line = Some(line(find_nginx()?, args.map(str::to_owned).to_vec(), Vec::new()));
            }
            Who::Floor => {
                let (port, mock) = (place.listen.port().to_string(), place.mock.to_string());
                let args = ["floor", "--port", &port, "--upstream", &mock].map(str::to_owned).to_vec();
                target.line = Some(line(super::this_program()?, args, Vec::new()));
            }
            Who::Gateway if options.target.is_some() => {
                let text = place.fill(options.target.as_deref().unwrap_or_default());
                let mut words = text.split_whitespace().map(str::to_owned);
                let program = words.next().ok_or_else(|| Stop::usage("--target is empty"))?;
                target.headers.clone_from(&options.headers);
                target.ready.clone_from(&options.ready);
                target.line = Some(line(program.into(), words.collect(), Vec::new()));
            }
            Who::Gateway => {
                let config = place.file("backstop.toml", &options.config()?)?;
                let key = backstop::create_key(&options.backstop, &config)?;
                target.headers = options.headers(&key);
                backstop::READY.clone_into(&mut target.ready);
                let (args, env) = (backstop::serve_args(&config), backstop::env());
                target.line = Some(line(options.backstop.clone(), args, env));
            }
        }
        Ok(target)
    }

    /// Starts it and waits until it is ready.
    pub(super) async fn start(&mut self, cores: Cores) -> Result<(), Stop> {
        let Some(line) = &self.line else { return Ok(()) };
        let mut command = Command::new(&line.program);
        command.args(&line.args).envs(line.env.iter().map(|(key, value)| (key, value)));
        let mut process = Process::start(&mut command, (cores.target, cores), line.log.clone())?;
        let ended = async {
            loop {
                if let Some(status) = process.ended() {
                    return status;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        let name = self.who.name();
        tokio::select! {
            () = until_ready(self.at, &self.ready) => {}
            status = ended => {
                let tail = process.tail();
                return Err(Stop::failed(format!("{name} ended before it was ready, with {status}: {tail}")));
            }
            () = sleep(READY_MAX) => {
                let last = ask(self.at, &self.ready).await;
                let last = last.map_or_else(|error| error, |(status, _)| format!("status {status}"));
                return Err(Stop::failed(format!("{name} is not ready: {}: {last}", self.ready)));
            }
        }
        self.process = Some(process);
        Ok(())
    }

    /// Ends it, when it runs.
    pub(super) async fn stop(&mut self) -> Result<(), Stop> {
        match self.process.take() {
            Some(process) => process.stop().await,
            None => Ok(()),
        }
    }
}

/// Where nginx is. Debian puts it where only root looks.
pub(super) fn find_nginx() -> Result<PathBuf, Stop> {
    let runs = |program: &&str| {
        let told = Command::new(program).arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
        told.is_ok_and(|status| status.success())
    };
    let found = ["nginx", "/usr/sbin/nginx"].into_iter().find(runs);
    found.map(PathBuf::from).ok_or_else(|| {
        let missing = "nginx is not installed, and every figure is held against it";
        Stop::usage(format!("{missing}\nhint: apt-get install nginx-light"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in_completely() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let place = Place { mock: at(28_300), listen: at(28_304), dir: Path::new("d") };
        assert_eq!(place.fill("{mock} {listen} {port} {dir}/x"), "127.0.0.1:28300 127.0.0.1:28304 28304 d/x");
        let config = backstop::config(crate::prompt::Dialect::Chat);
        for template in [include_str!("nginx.conf"), config.as_str()] {
            for left in ["{mock}", "{listen}", "{port}", "{dir}", "{dialect}"] {
                assert!(!place.fill(template).contains(left), "{left}");
            }
        }
    }
}
