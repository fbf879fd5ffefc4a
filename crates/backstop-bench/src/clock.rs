//! The one place that looks at the clock, and ticks that are finer than the runtime's timers.

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use std::{io, thread};
use tokio::sync::mpsc::{Receiver, channel};

const NS_PER_S: u64 = 1_000_000_000;
/// Ticks that may wait to be taken. More wait in the timer itself.
const WAITING_MAX: usize = 1_024;

/// Nanoseconds of the machine's monotonic clock: the same for every process, so that one can stamp what another reads.
pub(crate) fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(now.tv_sec) * NS_PER_S + part(now.tv_nsec)
}

/// Tells every point in time from `first_ns` on, `period_ns` apart, some microseconds after it has come: the runtime's own
/// timers are a millisecond wide. Ends when the receiver is dropped.
pub(crate) fn ticks(first_ns: u64, period_ns: u64) -> io::Result<Receiver<u64>> {
    let spec = |ns: u64| {
        let part = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        Timespec { tv_sec: part(ns / NS_PER_S), tv_nsec: part(ns % NS_PER_S) }
    };
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let times = Itimerspec { it_interval: spec(period_ns), it_value: spec(first_ns) };
    timerfd_settime(&timer, TimerfdTimerFlags::ABSTIME, &times)?;
    let (sender, receiver) = channel(WAITING_MAX);
    thread::Builder::new().name("ticks".to_owned()).spawn(move || {
        let mut due = first_ns;
        let mut passed = [0; 8];
        while rustix::io::read(&timer, &mut passed).is_ok() {
            for _ in 0..u64::from_ne_bytes(passed) {
                if sender.blocking_send(due).is_err() {
                    return;
                }
                due += period_ns;
            }
        }
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_tick_is_told_and_none_early() {
        // The first is long past, as after a client that was kept from its work.
        let first = now_ns() - 5_000_000;
        let mut ticks = ticks(first, 1_000_000).unwrap();
        for number in 0..10 {
            let due = ticks.recv().await.unwrap();
            assert_eq!(due, first + number * 1_000_000);
            assert!(now_ns() >= due);
        }
    }
}
