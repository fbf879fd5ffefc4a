//! The scenarios: what is asked, and how fast. Pure; everything else reads it here.

use crate::load::{Pace, Until};
use crate::mock::Behaviour;
use crate::prompt::Answer;
use clap::ValueEnum;
use serde::Serialize;
use std::time::Duration;

/// Bytes of a usual request, and of one with long documents in it.
const REQUEST_BYTES: usize = 2_048;
const LARGE_REQUEST_BYTES: usize = 400_000;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lower")]
pub(crate) enum Scenario {
    /// 64 connections as fast as they can: requests per second, CPU per request
    Max,
    /// One connection: latency when there is nothing else to do
    C1,
    /// A fixed rate: latency from when each request was due
    Rate,
    /// 4 streams at a time, 20 chunks 10 ms apart: time to the first token, delay of each chunk
    Ttft,
    /// 64 streams at a time, 100 chunks 1 ms apart: CPU per chunk
    StreamLoad,
    /// 8 connections with requests of 400 KB
    Large,
    /// 1,024 streams at once, 100 chunks 50 ms apart
    Streams1024,
    /// Resident memory: idle, after all of the load, and over many requests
    Memory,
    /// From the start of the process until it is ready
    Start,
    /// What the mock billed against what the ledger settled
    Money,
}

/// One load of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) behaviour: Behaviour,
    pub(crate) bytes: usize,
    pub(crate) answer: Answer,
    pub(crate) pace: Pace,
    pub(crate) until: Until,
}

impl Scenario {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// The load of one round of `length` seconds; `None` for what is measured at the end, on the gateway alone.
    pub(crate) fn shape(self, length: Duration, per_second: u64) -> Option<Shape> {
        let timed = Until::Time { warm: Duration::from_millis(500), length };
        let whole = |bytes, pace| Shape {
            behaviour: Behaviour { latency_ms: 0, chunks: 0, chunk_delay_ms: 0 },
            bytes,
            answer: Answer::Whole,
            pace,
            until: timed,
        };
        let streams = |connections, chunks, chunk_delay_ms, until| Shape {
            behaviour: Behaviour { latency_ms: 0, chunks, chunk_delay_ms },
            bytes: REQUEST_BYTES,
            answer: Answer::Stream { chunks },
            pace: Pace::Closed { connections },
            until,
        };
        match self {
            Self::Max => Some(whole(REQUEST_BYTES, Pace::Closed { connections: 64 })),
            Self::C1 => Some(whole(REQUEST_BYTES, Pace::Closed { connections: 1 })),
            Self::Rate => Some(whole(REQUEST_BYTES, Pace::Open { per_second })),
            Self::Large => Some(whole(LARGE_REQUEST_BYTES, Pace::Closed { connections: 8 })),
            Self::Ttft => Some(streams(4, 20, 10, timed)),
            Self::StreamLoad => Some(streams(64, 100, 1, timed)),
            Self::Streams1024 => Some(streams(1_024, 100, 50, Until::Count(1_024))),
            Self::Memory | Self::Start | Self::Money => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_either_a_load_or_measured_at_the_end() {
        let loads: Vec<_> = Scenario::value_variants()
            .iter()
            .filter(|scenario| scenario.shape(Duration::from_secs(1), 100).is_some())
            .map(|scenario| scenario.name())
            .collect();
        assert_eq!(loads, ["max", "c1", "rate", "ttft", "streamload", "large", "streams1024"]);
    }
}
