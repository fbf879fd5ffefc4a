//! The directory that the example plays in: its files, compiled in from `examples/site/`, the website's repository, and the bare
//! one that it is published to.

use super::super::unwritable;
use super::fresh_name;
use crate::args::Global;
use crate::complaint::Stop;
use crate::home::Home;
use backstop_call::{Code, Timestamp};
use std::path::{Path, PathBuf};
use std::process::Command;

macro_rules! site_files {
    ($($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../../../../examples/site/", $path)))),*]
    };
}

/// Everything but the config: path and text.
const FILES: &[(&str, &str)] = site_files! {
    "README.md"
    "prompts/lead.md" "prompts/mailer.md" "prompts/reviewer.md" "prompts/writer.md"
    "site/data/hours.csv" "site/data/tools.csv" "site/goals.md" "site/news.md" "site/pages/about.md"
    "site/subscribers.txt" "site/text/hours.md" "site/text/tools.md"
};

/// The config, with an address of a mail server and of a repository that are replaced by those of the demo.
const CONFIG: &str = include_str!("../../../../../../examples/site/backstop.toml");
const MAIL_PORT: &str = "port = 2525";
const REPOSITORY: &str = "/srv/site/published.git";

/// The directory.
pub(super) struct Stage {
    base: PathBuf,
    first: String,
}

impl Stage {
    /// Copies the example into a directory that is new or empty.
    pub(super) fn make(dir: Option<&Path>, global: &Global, port: u16, now: Timestamp) -> Result<Self, Stop> {
        git_is_there()?;
        let beside = || global.data_dir.clone().unwrap_or_else(std::env::temp_dir).join(fresh_name(now));
        let base = dir.map_or_else(beside, Path::to_owned);
        let made = std::fs::create_dir_all(&base).and_then(|()| base.canonicalize());
        let base = made.map_err(|error| unwritable(&base, &error))?;
        if std::fs::read_dir(&base).is_ok_and(|mut entries| entries.next().is_some()) {
            let stop = Stop::new(Code::WorkspaceUnusable, format!("{} is not empty", base.display()));
            return Err(stop.with_hint("name a directory that is new or empty"));
        }
        let mut stage = Self { base, first: String::new() };
        let bare = stage.bare().display().to_string();
        let config = CONFIG.replace(MAIL_PORT, &format!("port = {port}")).replace(REPOSITORY, &bare);
        for (path, text) in FILES.iter().copied().chain([("backstop.toml", config.as_str())]) {
            let path = stage.base.join(path);
            let dir = path.parent().unwrap_or(&stage.base);
            std::fs::create_dir_all(dir)
                .and_then(|()| std::fs::write(&path, text))
                .map_err(|error| unwritable(&path, &error))?;
        }
        stage.git(&["init", "--quiet", "--bare", &bare])?;
        stage.git(&["init", "--quiet"])?;
        stage.git(&["add", "."])?;
        stage.git(&["commit", "--quiet", "--message", "Begin the website"])?;
        stage.git(&["push", "--quiet", &bare, "main"])?;
        stage.first = stage.published()?;
        Ok(stage)
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn home(&self) -> Result<Home, Stop> {
        let config = Some(self.base.join("backstop.toml"));
        Home::find(&Global { config, data_dir: Some(self.base.join(".backstop")) })
    }

    /// A file of the website; empty where it is not there.
    pub(super) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.base.join("site").join(path)).unwrap_or_default()
    }

    /// The addresses that get the letter.
    pub(super) fn subscribers(&self) -> Vec<String> {
        self.read("subscribers.txt").lines().map(str::to_owned).collect()
    }

    /// The commit that the website began with.
    pub(super) fn first_commit(&self) -> &str {
        &self.first
    }

    /// The commit that is published now.
    pub(super) fn published(&self) -> Result<String, Stop> {
        let bare = self.bare().display().to_string();
        Ok(self.git(&["--git-dir", &bare, "rev-parse", "main"])?.trim().to_owned())
    }

    /// The files that were published since the beginning.
    pub(super) fn published_files(&self) -> Result<Vec<String>, Stop> {
        let bare = self.bare().display().to_string();
        let names = self.git(&["--git-dir", &bare, "diff", "--name-only", &self.first, "main"])?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// A published file.
    pub(super) fn published_text(&self, path: &str) -> Result<String, Stop> {
        let bare = self.bare().display().to_string();
        self.git(&["--git-dir", &bare, "show", &format!("main:{path}")])
    }

    /// Removes it all. What cannot be removed is left.
    pub(super) fn remove(&self) {
        drop(std::fs::remove_dir_all(&self.base));
    }

    fn bare(&self) -> PathBuf {
        self.base.join("published.git")
    }

    /// Runs git in the website, whatever the person's own settings are.
    fn git(&self, args: &[&str]) -> Result<String, Stop> {
        let failed = |why: &str| {
            Stop::new(Code::WorkspaceUnusable, format!("git {} failed: {}", args.join(" "), why.trim()))
        };
        let done = Command::new("git")
            .args(["-c", "user.name=Website", "-c", "user.email=website@example.com"])
            .args(["-c", "init.defaultBranch=main"])
            .args(args)
            .current_dir(self.base.join("site"))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .map_err(|error| failed(&error.to_string()))?;
        if !done.status.success() {
            return Err(failed(&String::from_utf8_lossy(&done.stderr)));
        }
        Ok(String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

/// Fails before anything is written where there is no git.
fn git_is_there() -> Result<(), Stop> {
    let asked = Command::new("git").arg("--version").output();
    asked.map(drop).map_err(|error| {
        let stop = Stop::new(Code::WorkspaceUnusable, format!("git cannot be started: {error}"));
        stop.with_hint("install git: the website of the example is kept in a repository")
    })
}
