//! Waits beside a sandbox until it has ended, or has to be ended, and meanwhile passes on what its program reads. Starts and
//! ends nothing. (A thread for that cannot be had: the namespaces belong to the one there is.)

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin};

/// So much of what a runner sends is taken at once; more only when the program has read it.
const PASSED_MAX_BYTES: usize = 64 * 1024;

/// How long a program may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// For so many seconds. What it reads is known from the beginning.
    Secs(u64),
    /// As long as its runner wants it, which sends it what it reads.
    Lasting,
}

/// Why a sandbox is ended.
pub(super) enum Ended {
    /// Its first process ended.
    ByItself,
    OutOfTime,
    /// Nobody is there any more who wants the result.
    Orphaned,
}

/// What a program is given to read, on one pipe, which it need never empty.
struct Feed {
    pipe: Option<ChildStdin>,
    rest: Vec<u8>,
    span: Span,
}

/// Waits until the sandbox has ended, or has to be ended. Its first process is told `told`, and then what the span says.
pub(super) fn watch(
    child: &mut Child,
    told: Vec<u8>,
    span: Span,
    runner: &UnixStream,
) -> std::io::Result<Ended> {
    let pid = Pid::from_raw(child.id().cast_signed()).ok_or(Errno::SRCH)?;
    let ended = pidfd_open(pid, PidfdFlags::empty())?;
    let timer = timer(span)?;
    let mut feed = Feed::new(child.stdin.take(), told, span)?;
    loop {
        let mut fds = vec![
            PollFd::new(&ended, PollFlags::IN),
            PollFd::new(&timer, PollFlags::IN),
            PollFd::new(runner, feed.asks()),
        ];
        let full = feed.pipe.as_ref().filter(|_| !feed.rest.is_empty());
        fds.extend(full.map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let said: Vec<_> = fds.iter().map(PollFd::revents).collect();
        match said[..] {
            [ended, ..] if !ended.is_empty() => return Ok(Ended::ByItself),
            [_, timer, ..] if !timer.is_empty() => return Ok(Ended::OutOfTime),
            [_, _, PollFlags::IN, ..] if span == Span::Lasting => feed.take(runner)?,
            [_, _, runner, ..] if !runner.is_empty() => return Ok(Ended::Orphaned),
            [.., pipe] if !pipe.is_empty() => feed.pass(),
            _ => {}
        }
    }
}

impl Feed {
    fn new(pipe: Option<ChildStdin>, told: Vec<u8>, span: Span) -> std::io::Result<Self> {
        if let Some(pipe) = &pipe {
            fcntl_setfl(pipe, fcntl_getfl(pipe)? | OFlags::NONBLOCK)?;
        }
        Ok(Self { pipe, rest: told, span })
    }

    /// What is to be heard of the runner. Where it sends on, that is left with it until the program has read what it was sent.
    fn asks(&self) -> PollFlags {
        match self.span {
            Span::Lasting if !self.rest.is_empty() => PollFlags::RDHUP,
            Span::Lasting | Span::Secs(_) => PollFlags::IN | PollFlags::RDHUP,
        }
    }

    fn take(&mut self, mut runner: &UnixStream) -> std::io::Result<()> {
        let mut buffer = vec![0; PASSED_MAX_BYTES];
        let length = runner.read(&mut buffer)?;
        // Nobody reads what is sent to a program that has closed its input.
        if self.pipe.is_some() {
            self.rest.extend_from_slice(&buffer[..length]);
        }
        Ok(())
    }

    /// Writes as much as the pipe takes, and closes it at the end, or when nobody reads it any more.
    fn pass(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.write(&self.rest) {
            Ok(length) => drop(self.rest.drain(..length)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return,
            Err(_) => {
                self.rest.clear();
                self.pipe = None;
            }
        }
        if self.rest.is_empty() && self.span != Span::Lasting {
            self.pipe = None;
        }
    }
}

/// A timer that never goes off where there is no time to keep.
fn timer(span: Span) -> rustix::io::Result<OwnedFd> {
    let timer = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::CLOEXEC)?;
    let Span::Secs(secs) = span else { return Ok(timer) };
    let once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let after = Timespec { tv_sec: i64::try_from(secs.max(1)).unwrap_or(i64::MAX), tv_nsec: 0 };
    let when = Itimerspec { it_interval: once, it_value: after };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &when)?;
    Ok(timer)
}
