//! What the runner and the two processes of the sandbox tell each other: an order on the way in, a report on the way out.
//! Each is JSON with its length before it, so that what follows on the same pipe is not swallowed.

use super::watch::Span;
use super::{Confined, Limits};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::PathBuf;

/// An order or a report is never longer.
const FRAME_MAX_BYTES: u32 = 16 * 1024 * 1024;

/// What is to be run, and how it is confined.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) confined: Confined,
    /// Whether it is run with all the rights of its runner instead.
    pub(super) bare: bool,
    /// Whether it lasts as long as its runner wants it, which sends it what it reads.
    pub(super) lasting: bool,
    /// Where directories for a while are made.
    pub(super) scratch: PathBuf,
    /// What the first process adds for the second.
    pub(super) place: Option<Place>,
}

impl Order {
    /// How long the program may run.
    pub(super) fn span(&self) -> Span {
        if self.lasting { Span::Lasting } else { Span::Secs(self.confined.limits.wall_secs) }
    }
}

/// What was made ready for one program. Only `tmp` of it is the program's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Place {
    /// The process that started the sandbox's first.
    pub(super) supervisor: u32,
    /// Where the second process writes its report.
    pub(super) report: PathBuf,
    /// The program's own directory for temporary files.
    pub(super) tmp: PathBuf,
    /// An empty directory that stands in the place of those that are hidden.
    pub(super) nothing: PathBuf,
    /// An empty file that stands in the place of those that are hidden.
    pub(super) blank: PathBuf,
}

/// How it came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Report {
    /// Nothing was run: this is not enforced here.
    Lacks(String),
    /// Nothing was run: the program cannot be started.
    NotStarted(String),
    /// It ended by itself.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// It ran longer than it may.
    OutOfTime,
    /// There were more processes and threads than may be.
    TooManyProcesses,
    /// They held more memory than they may.
    TooMuchMemory,
    /// They used more processor time than they may.
    OutOfCpu,
    /// What kept watch over it ended first.
    Lost(String),
}

pub(super) fn write_frame(to: &mut impl Write, value: &impl Serialize) -> std::io::Result<()> {
    to.write_all(&frame(value)?)?;
    to.flush()
}

pub(super) fn frame(value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= FRAME_MAX_BYTES);
    let length = length.ok_or_else(|| std::io::Error::other("the order is too long"))?;
    Ok([&length.to_be_bytes()[..], &json].concat())
}

pub(super) fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> std::io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > FRAME_MAX_BYTES {
        return Err(std::io::Error::other("the order is too long"));
    }
    let mut json = vec![0; length as usize];
    from.read_exact(&mut json)?;
    Ok(serde_json::from_slice(&json)?)
}

impl Limits {
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_mib.saturating_mul(1024 * 1024)
    }
}
