//! The text of the metrics: OpenMetrics 1.0, which Prometheus reads. Names and units are an interface: dashboards hang
//! on them.

use super::Metrics;
use super::family::{BOUNDS_MS, Buckets, Series};
use crate::RunStatus;
use std::fmt::{self, Write};

impl Metrics {
    /// The text for a scraper, ending in `# EOF`. Its type is
    /// `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    pub fn openmetrics(&self) -> String {
        let mut text = Text(String::new());
        self.write(&mut text).expect("writing to a string cannot fail");
        text.0
    }

    fn write(&self, out: &mut Text) -> fmt::Result {
        self.write_calls(out)?;
        self.write_tools_and_runs(out)?;
        self.write_guards(out)?;
        out.0.write_str("# EOF\n")
    }

    fn write_calls(&self, out: &mut Text) -> fmt::Result {
        let counted = Family::counter("backstop_calls", "Model calls that ended, by outcome.");
        out.numbers(&counted, ["model", "role", "outcome"], &self.calls.0)?;
        let counted = Family::counter("backstop_attempts", "Attempts of calls at a provider, by outcome.");
        out.numbers(&counted, ["provider", "model", "outcome"], &self.attempts.0)?;
        let counted = Family::counter("backstop_tokens", "Tokens by kind; the kinds do not overlap.");
        out.numbers(&counted, ["model", "role", "kind"], &self.tokens.0)?;
        let cost = Family {
            scale: Scale::Nano,
            ..Family::counter("backstop_cost_usd", "Dollars that calls cost, suspense included.")
        };
        out.numbers(&cost, ["model", "role"], &self.cost.0)?;
        let duration = "Time from the start of a call to its end, waits and retries included.";
        out.histogram(
            "backstop_call_duration_seconds",
            duration,
            ["model", "outcome"],
            &self.call_duration.0,
        )?;
        let first = "Time from sending the request that was answered to its first content.";
        out.histogram("backstop_first_token_seconds", first, ["model", "provider"], &self.first_token.0)
    }

    fn write_tools_and_runs(&self, out: &mut Text) -> fmt::Result {
        let counted = Family::counter("backstop_tool_calls", "Tool calls, by outcome.");
        out.numbers(&counted, ["tool", "outcome"], &self.tool_calls.0)?;
        let help = "Time that tool calls took.";
        out.histogram("backstop_tool_duration_seconds", help, ["tool"], &self.tool_duration.0)?;
        let counted =
            Family::counter("backstop_runs_finished", "Runs that ended or stopped at a limit, by status.");
        out.numbers(&counted, ["agent", "role", "status"], &self.runs_finished.0)?;
        let help = "Time from a run's creation to its end, parked time included.";
        out.histogram("backstop_run_duration_seconds", help, ["agent", "status"], &self.run_duration.0)?;
        let mut open: Series<1, u128> = Series::new();
        for status in [RunStatus::Running, RunStatus::Parked, RunStatus::Stopped] {
            let count = self.open_runs.values().filter(|run| run.status == status).count();
            *open.of([status.as_str()]) = count as u128;
        }
        let runs = Family::gauge("backstop_runs", "Runs that are not over, by status.");
        out.numbers(&runs, ["status"], &open)
    }

    fn write_guards(&self, out: &mut Text) -> fmt::Result {
        let state = "State of a breaker: 0 closed, 1 half open, 2 open.";
        out.numbers(
            &Family::gauge("backstop_breaker_state", state),
            ["provider", "model"],
            &self.breakers.0,
        )?;
        let counted = Family::counter("backstop_budget_warnings", "Thresholds that budgets passed.");
        out.numbers(&counted, ["account", "percent"], &self.budget_warnings.0)?;
        let suspended = "Dollars counted as spent because the outcome of an attempt was unknown; corrections not deducted.";
        let overrun = "Dollars billed above the worst case that was held.";
        for (name, help, amount) in [
            ("backstop_suspended_usd", suspended, self.suspended),
            ("backstop_overrun_usd", overrun, self.overrun),
        ] {
            let family = Family { scale: Scale::Nano, ..Family::counter(name, help) };
            let mut whole = Series::new();
            *whole.of([]) = super::units(amount);
            out.numbers(&family, [], &whole)?;
        }
        let counted = Family::counter("backstop_events", "Events in the journal.");
        out.numbers(&counted, ["kind"], &self.events.0)
    }
}

/// What stands above the series of a family.
struct Family {
    name: &'static str,
    help: &'static str,
    /// `counter` or `gauge`.
    kind: &'static str,
    /// What its samples' names end in.
    suffix: &'static str,
    scale: Scale,
}

/// In what unit a value is kept.
#[derive(Clone, Copy)]
enum Scale {
    /// As it is written.
    One,
    /// In billionths.
    Nano,
}

impl Family {
    fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: "counter", suffix: "_total", scale: Scale::One }
    }

    fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: "gauge", suffix: "", scale: Scale::One }
    }
}

struct Text(String);

impl Text {
    /// The descriptor of a family. The unit must be the end of the name.
    fn head(&mut self, name: &str, kind: &str, help: &str) -> fmt::Result {
        writeln!(self.0, "# TYPE {name} {kind}")?;
        for unit in ["seconds", "usd"] {
            if name.ends_with(unit) {
                writeln!(self.0, "# UNIT {name} {unit}")?;
            }
        }
        writeln!(self.0, "# HELP {name} {help}")
    }

    fn numbers<const N: usize>(
        &mut self,
        family: &Family,
        labels: [&str; N],
        series: &Series<N, u128>,
    ) -> fmt::Result {
        self.head(family.name, family.kind, family.help)?;
        for (values, value) in series.iter() {
            write!(self.0, "{}{}", family.name, family.suffix)?;
            self.labels(labels, values, None)?;
            match family.scale {
                Scale::One => writeln!(self.0, " {value}")?,
                Scale::Nano => writeln!(self.0, " {}", decimal(*value))?,
            }
        }
        Ok(())
    }

    fn histogram<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        series: &Series<N, Buckets>,
    ) -> fmt::Result {
        self.head(name, "histogram", help)?;
        for (values, buckets) in series.iter() {
            let mut below = 0;
            for (count, bound_ms) in buckets.counts.iter().zip(BOUNDS_MS.iter().map(Some).chain([None])) {
                below += count;
                let bound = bound_ms.map_or("+Inf".to_owned(), |ms| seconds(*ms));
                write!(self.0, "{name}_bucket")?;
                self.labels(labels, values, Some(&bound))?;
                writeln!(self.0, " {below}")?;
            }
            for (suffix, value) in [("count", below.to_string()), ("sum", decimal(buckets.sum_nanos))] {
                write!(self.0, "{name}_{suffix}")?;
                self.labels(labels, values, None)?;
                writeln!(self.0, " {value}")?;
            }
        }
        Ok(())
    }

    fn labels<const N: usize>(
        &mut self,
        names: [&str; N],
        values: &[Box<str>; N],
        bound: Option<&str>,
    ) -> fmt::Result {
        let named = names.into_iter().zip(values.iter().map(AsRef::as_ref));
        for (i, (name, value)) in named.chain(bound.map(|bound| ("le", bound))).enumerate() {
            let open = if i == 0 { '{' } else { ',' };
            write!(self.0, "{open}{name}=\"{}\"", escape(value))?;
        }
        if N > 0 || bound.is_some() { self.0.write_char('}') } else { Ok(()) }
    }
}

/// What a label's value may not hold as it is: a model may have written it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Billionths as a decimal, exactly.
fn decimal(nanos: u128) -> String {
    let digits = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    let kept = digits.trim_end_matches('0');
    if kept.ends_with('.') { format!("{kept}0") } else { kept.to_owned() }
}

/// A bound as OpenMetrics wants it: a float, always with a point.
fn seconds(ms: u64) -> String {
    decimal(u128::from(ms) * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_labels_escaped() {
        assert_eq!(decimal(0), "0.0");
        assert_eq!(decimal(1), "0.000000001");
        assert_eq!(decimal(12_340_000_000), "12.34");
        assert_eq!(seconds(81_920), "81.92");
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
