//! What a person does at a terminal: this program, started with the words that are shown.

use super::super::{LOOK_AGAIN, TELL_AGAIN, unwritable};
use crate::complaint::Stop;
use crate::progress::Screen;
use crate::ui::{Tone, one_line, shortened};
use backstop_call::{Clock, Code};
use backstop_stack::SystemClock;
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long `serve` may take to listen.
const BEGIN: Duration = Duration::from_mins(1);
/// What is shown of a word of a command line, in characters.
const WORD_CHARS_MAX: usize = 60;

/// Types commands in a directory.
pub(super) struct Hands {
    program: PathBuf,
    base: PathBuf,
    screen: Screen,
}

/// `backstop serve`, which works on the queue. It is asked to end, and waited for, when this is dropped.
pub(super) struct Serving {
    child: Child,
    said: PathBuf,
    /// Where it listens: host and port.
    pub(super) address: String,
}

impl Hands {
    pub(super) fn new(base: &Path, screen: Screen) -> Result<Self, Stop> {
        let program = std::env::current_exe()
            .map_err(|error| Stop::new(Code::Internal, format!("this program cannot be found: {error}")))?;
        Ok(Self { program, base: base.to_owned(), screen })
    }

    fn show(&self, args: &[&str]) {
        let quoted = |word: &&str| {
            let short = shortened(word, WORD_CHARS_MAX);
            if word.contains(' ') { format!("\"{short}\"") } else { short }
        };
        let words: Vec<_> = args.iter().map(quoted).collect();
        let look = self.screen.look();
        self.screen.line(&look.paint(Tone::Dim, format_args!("$ backstop {}", words.join(" "))));
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(&self.base).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, and gives what it printed. One that fails ends the demo, with what it said.
    pub(super) fn types(&self, args: &[&str]) -> Result<String, Stop> {
        self.show(args);
        let failed =
            |why: &str| Stop::new(Code::Internal, format!("backstop {} failed: {why}", args.join(" ")));
        let done = self.command(args).output().map_err(|error| failed(&error.to_string()))?;
        if !done.status.success() {
            return Err(failed(&one_line(&String::from_utf8_lossy(&done.stderr))));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Starts `serve` on a free port, and waits until it listens.
    pub(super) async fn serve(&self) -> Result<Serving, Stop> {
        let args = ["serve", "--model", "sim", "--listen", "127.0.0.1:0"];
        self.show(&args);
        let said = self.base.join("serve.txt");
        let file = std::fs::File::create(&said).map_err(|error| unwritable(&said, &error))?;
        let child = self.command(&args).stdout(Stdio::null()).stderr(file).spawn();
        let child =
            child.map_err(|error| Stop::new(Code::Internal, format!("serve cannot be started: {error}")))?;
        let mut serving = Serving { child, said, address: String::new() };
        let clock = SystemClock::new();
        let began = clock.now();
        loop {
            let said = std::fs::read_to_string(&serving.said).unwrap_or_default();
            let listens = said.split_once("listens on http://").and_then(|(_, rest)| rest.split_once(';'));
            if let Some((address, _)) = listens {
                address.clone_into(&mut serving.address);
                return Ok(serving);
            }
            serving.is_alive()?;
            if clock.now().since(began) > BEGIN {
                return Err(Stop::new(Code::Internal, "serve did not listen in time"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Serving {
    /// Fails with what it said when it has ended.
    pub(super) fn is_alive(&mut self) -> Result<(), Stop> {
        if matches!(self.child.try_wait(), Ok(None)) {
            return Ok(());
        }
        let said = std::fs::read_to_string(&self.said).unwrap_or_default();
        Err(Stop::new(Code::Internal, format!("serve has ended: {}", one_line(&said))))
    }

    /// Waits until it has ended by itself, and says why.
    pub(super) async fn ended(&mut self) -> Stop {
        loop {
            if let Err(stop) = self.is_alive() {
                return stop;
            }
            tokio::time::sleep(TELL_AGAIN).await;
        }
    }

    /// What it has warned about: a tool that this machine cannot have, say.
    pub(super) fn warned(&self) -> Vec<String> {
        let said = std::fs::read_to_string(&self.said).unwrap_or_default();
        said.lines().filter(|line| line.starts_with("warning: ")).map(str::to_owned).collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // One that has ended by itself, by Ctrl-C as well, cannot be asked any more; waiting for it is right in both cases.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        drop(self.child.wait());
    }
}
