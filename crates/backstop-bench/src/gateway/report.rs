//! Tables, verdicts and notes. Pure: from samples to text.

use super::sample::Sample;
use super::scenario::Scenario;
use super::target::Who;
use crate::figures::{Beside, median};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Above this share of a core that something else used, a run is not clean.
const FOREIGN_MAX: f64 = 0.03;
/// Above this share of its core the load may be what limits a run.
const LOAD_CORE_MAX: f64 = 0.97;

/// A figure of a sample.
#[derive(Debug, Clone, Copy)]
struct Figure {
    title: &'static str,
    of: fn(&Sample) -> Option<f64>,
    digits: usize,
    /// How it is held against nginx, with the title of that column.
    beside: Option<(Beside, &'static str)>,
}

const PER_S: Figure =
    Figure {
        title: "req/s", of: |sample| sample.per_s, digits: 0, beside: Some((Beside::Ratio, "× nginx"))
    };
const STREAMS_PER_S: Figure = Figure { title: "streams/s", ..PER_S };
const CPU: Figure = Figure {
    title: "CPU µs/req",
    of: |sample| sample.cpu_us_per_request,
    digits: 1,
    beside: Some((Beside::Ratio, "× nginx")),
};
const CPU_CHUNK: Figure =
    Figure { title: "CPU µs/chunk", of: |sample| sample.cpu_us_per_chunk, digits: 2, ..CPU };
const P50: Figure = Figure {
    title: "p50 µs",
    of: |sample| Some(sample.latency?.p50_us),
    digits: 0,
    beside: Some((Beside::Difference, "− nginx")),
};
const P99: Figure =
    Figure { title: "p99 µs", of: |sample| Some(sample.latency?.p99_us), digits: 0, beside: None };
const P999: Figure = Figure { title: "p99.9 µs", of: |sample| Some(sample.latency?.p999_us), ..P99 };
const TOKEN_P50: Figure =
    Figure { title: "first p50 µs", of: |sample| Some(sample.first_token?.p50_us), ..P50 };
const TOKEN_P99: Figure =
    Figure { title: "first p99 µs", of: |sample| Some(sample.first_token?.p99_us), ..P99 };
const TOKEN_P999: Figure =
    Figure { title: "first p99.9 µs", of: |sample| Some(sample.first_token?.p999_us), ..P99 };
const CHUNK_P50: Figure =
    Figure { title: "chunk p50 µs", of: |sample| Some(sample.chunk_delay?.p50_us), ..P50 };
const CHUNK_P99: Figure =
    Figure { title: "chunk p99 µs", of: |sample| Some(sample.chunk_delay?.p99_us), ..P99 };
const CHUNK_P999: Figure =
    Figure { title: "chunk p99.9 µs", of: |sample| Some(sample.chunk_delay?.p999_us), ..P99 };

fn figures(scenario: Scenario) -> &'static [Figure] {
    match scenario {
        Scenario::Ttft | Scenario::StreamLoad | Scenario::Streams1024 => {
            &[STREAMS_PER_S, CPU_CHUNK, TOKEN_P50, TOKEN_P99, TOKEN_P999, CHUNK_P50, CHUNK_P99, CHUNK_P999]
        }
        _ => &[PER_S, CPU, P50, P99, P999],
    }
}

/// What the gateway is to reach, and whether at least or at most.
struct Goal {
    scenario: Scenario,
    figure: Figure,
    bound: Bound,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

const GOALS: &[Goal] = &[
    Goal { scenario: Scenario::Max, figure: PER_S, bound: Bound::AtLeast(0.48) },
    Goal { scenario: Scenario::Max, figure: CPU, bound: Bound::AtMost(2.3) },
    Goal { scenario: Scenario::C1, figure: P50, bound: Bound::AtMost(80.0) },
    Goal { scenario: Scenario::Ttft, figure: TOKEN_P50, bound: Bound::AtMost(150.0) },
    Goal { scenario: Scenario::StreamLoad, figure: CPU_CHUNK, bound: Bound::AtMost(1.5) },
];

/// `PASS` or `MISS` with what was found and what it was to be. What was not found is missed.
pub(super) fn verdict(what: &str, found: Option<f64>, bound: Bound, unit: &str) -> String {
    let (met, side, limit) = match bound {
        Bound::AtLeast(limit) => (found.is_some_and(|found| found >= limit), "at least", limit),
        Bound::AtMost(limit) => (found.is_some_and(|found| found <= limit), "at most", limit),
    };
    let word = if met { "PASS" } else { "MISS" };
    let found = found.map_or_else(|| "nothing measured".to_owned(), |found| format!("{found:.2}{unit}"));
    format!("{word}  {what}: {found}, {side} {limit}{unit}")
}

/// The verdicts on everything that is held against nginx.
pub(super) fn verdicts(samples: &[Sample]) -> Vec<String> {
    let has = |scenario| samples.iter().any(|s| s.scenario == scenario && s.who == Who::Gateway);
    let mut lines: Vec<String> = GOALS
        .iter()
        .filter(|goal| has(goal.scenario))
        .filter_map(|Goal { scenario, figure, bound }| {
            let (beside, against) = figure.beside?;
            let found = held_against_nginx(samples, *scenario, Who::Gateway, *figure);
            let what = format!("{}: {} {against}", scenario.name(), figure.title);
            let unit = if beside == Beside::Difference { " µs" } else { "" };
            Some(verdict(&what, found, *bound, unit))
        })
        .collect();
    let errors: u64 = samples.iter().filter(|s| s.who == Who::Gateway).map(|s| s.errors).sum();
    if samples.iter().any(|s| s.who == Who::Gateway) {
        let word = if errors == 0 { "PASS" } else { "MISS" };
        lines.push(format!("{word}  every answer whole: {errors} errors"));
    }
    lines
}

/// Held against nginx round by round; the median of that.
fn held_against_nginx(samples: &[Sample], scenario: Scenario, who: Who, figure: Figure) -> Option<f64> {
    let (beside, _) = figure.beside?;
    let of = |who, round| {
        let found = samples.iter().find(|s| s.scenario == scenario && s.who == who && s.round == round);
        found.and_then(figure.of)
    };
    let rounds: BTreeSet<u32> = samples.iter().map(|sample| sample.round).collect();
    beside.over_rounds(rounds.into_iter().filter_map(|round| Some((of(who, round)?, of(Who::Nginx, round)?))))
}

/// The table of one scenario: medians over the rounds, and what is held against nginx.
pub(super) fn table(samples: &[Sample], scenario: Scenario) -> String {
    let here: Vec<&Sample> = samples.iter().filter(|sample| sample.scenario == scenario).collect();
    let mut rows = vec![vec![scenario.name()]];
    for figure in figures(scenario) {
        rows[0].push(figure.title.to_owned());
        rows[0].extend(figure.beside.map(|(_, against)| against.to_owned()));
    }
    rows[0].extend(["errors", "core", "load"].map(str::to_owned));
    for who in here.iter().map(|sample| sample.who).collect::<BTreeSet<_>>() {
        let of = |value: &dyn Fn(&Sample) -> Option<f64>| {
            median(here.iter().filter(|sample| sample.who == who).filter_map(|sample| value(sample)))
        };
        let mut row = vec![who.name()];
        for figure in figures(scenario) {
            row.push(shown(of(&figure.of), figure.digits));
            if let Some((beside, _)) = figure.beside {
                let digits = if beside == Beside::Ratio { 2 } else { 0 };
                row.push(shown(held_against_nginx(samples, scenario, who, *figure), digits));
            }
        }
        let errors: u64 = here.iter().filter(|sample| sample.who == who).map(|sample| sample.errors).sum();
        row.push(errors.to_string());
        row.push(shown(of(&|sample| Some(sample.target_core)), 2));
        row.push(shown(of(&|sample| Some(sample.load_core)), 2));
        rows.push(row);
    }
    aligned(&rows)
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// The first column to the left, the others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = width(at).unwrap_or_default();
            let done =
                if at == 0 { write!(text, "{cell:<width$}") } else { write!(text, "  {cell:>width$}") };
            done.expect("a string takes everything");
        }
        text.push('\n');
    }
    text
}

/// What makes a figure less than clean, in one line for each scenario and target.
pub(super) fn notes(samples: &[Sample]) -> Vec<String> {
    let mut cells: BTreeMap<(Scenario, Who), Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        cells.entry((sample.scenario, sample.who)).or_default().push(sample);
    }
    let mut notes = Vec::new();
    for ((scenario, who), samples) in cells {
        let at = format!("{}, {}", scenario.name(), who.name());
        // Nothing of the bare provider runs on the other core.
        let its = if who == Who::Direct { 0.0 } else { most(&samples, |sample| sample.foreign_target_core) };
        let cores = [("its", its), ("the load's", most(&samples, |sample| sample.foreign_load_core))];
        for (whose, share) in cores.into_iter().filter(|(_, share)| *share > FOREIGN_MAX) {
            notes.push(format!("{at}: something else used up to {:.0} % of {whose} core", share * 100.0));
        }
        let is_full =
            |sample: &&Sample| sample.load_core > LOAD_CORE_MAX && sample.target_core < LOAD_CORE_MAX;
        if who != Who::Direct && samples.iter().any(is_full) {
            notes.push(format!("{at}: the load's core is full, and may be the limit"));
        }
        let errors: u64 = samples.iter().map(|sample| sample.errors).sum();
        if let Some(error) = samples.iter().find_map(|sample| sample.first_error.as_ref()) {
            notes.push(format!("{at}: {errors} errors, the first: {error}"));
        }
    }
    notes
}

fn most(samples: &[&Sample], share: impl Fn(&Sample) -> f64) -> f64 {
    samples.iter().map(|sample| share(sample)).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Percentiles;

    fn sample(who: Who, round: u32, per_s: f64, p50_us: f64) -> Sample {
        Sample {
            scenario: Scenario::Max,
            who,
            round,
            ok: 10,
            errors: 0,
            first_error: None,
            served: 10,
            per_s: Some(per_s),
            latency: Some(Percentiles { p50_us, p99_us: p50_us * 2.0, p999_us: p50_us * 3.0 }),
            first_token: None,
            chunk_delay: None,
            cpu_us_per_request: (who != Who::Direct).then_some(20.0),
            cpu_us_per_chunk: None,
            target_core: 0.9,
            load_core: 0.5,
            foreign_target_core: 0.0,
            foreign_load_core: 0.0,
        }
    }

    #[test]
    fn a_table_shows_medians_and_what_each_round_gives_beside_nginx() {
        let samples = [
            sample(Who::Direct, 0, 400.0, 10.0),
            sample(Who::Nginx, 0, 200.0, 30.0),
            sample(Who::Nginx, 1, 100.0, 60.0),
            sample(Who::Gateway, 0, 120.0, 50.0),
            sample(Who::Gateway, 1, 60.0, 90.0),
        ];
        let want = "\
max      req/s  × nginx  CPU µs/req  × nginx  p50 µs  − nginx  p99 µs  p99.9 µs  errors  core  load
direct     400     2.00           –        –      10      -20      20        30       0  0.90  0.50
nginx      150     1.00        20.0     1.00      45        0      90       135       0  0.90  0.50
gateway     90     0.60        20.0     1.00      70       25     140       210       0  0.90  0.50
";
        assert_eq!(table(&samples, Scenario::Max), want);
        let want = [
            "PASS  max: req/s × nginx: 0.60, at least 0.48",
            "PASS  max: CPU µs/req × nginx: 1.00, at most 2.3",
            "PASS  every answer whole: 0 errors",
        ];
        assert_eq!(verdicts(&samples), want);
        assert_eq!(verdicts(&samples[..3]), [""; 0], "nothing is judged that was not measured");
    }

    #[test]
    fn what_is_not_found_is_missed() {
        let rows = [
            (Some(0.48), Bound::AtLeast(0.48), "PASS  x: 0.48 MB, at least 0.48 MB"),
            (Some(0.47), Bound::AtLeast(0.48), "MISS  x: 0.47 MB, at least 0.48 MB"),
            (Some(80.1), Bound::AtMost(80.0), "MISS  x: 80.10 MB, at most 80 MB"),
            (None, Bound::AtMost(80.0), "MISS  x: nothing measured, at most 80 MB"),
        ];
        for (found, bound, want) in rows {
            assert_eq!(verdict("x", found, bound, " MB"), want);
        }
    }

    #[test]
    fn a_run_that_is_not_clean_is_told() {
        let clean = sample(Who::Nginx, 0, 1.0, 1.0);
        let noisy = Sample { foreign_load_core: 0.07, load_core: 0.99, target_core: 0.6, ..clean.clone() };
        let failed = Sample { errors: 2, first_error: Some("status 500".to_owned()), ..clean.clone() };
        assert_eq!(
            notes(&[clean, noisy, failed]),
            [
                "max, nginx: something else used up to 7 % of the load's core",
                "max, nginx: the load's core is full, and may be the limit",
                "max, nginx: 2 errors, the first: status 500",
            ]
        );
    }
}
