//! The syntax of OpenMetrics: descriptors, samples, labels that are escaped, decimals that are exact.

use crate::projections::numbers::{Spread, bounds};
use std::fmt::{self, Write};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// What stands above the samples of a metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    name: &'static str,
    help: &'static str,
    kind: Kind,
}

/// The units that a name may end in; both are kept in billionths.
const UNITS: [&str; 2] = ["seconds", "usd"];

impl Metric {
    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Counter }
    }

    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Gauge }
    }

    pub(super) fn histogram(name: &'static str, help: &'static str) -> Self {
        Self { name, help, kind: Kind::Histogram }
    }

    fn unit(&self) -> Option<&'static str> {
        UNITS.into_iter().find(|unit| self.name.ends_with(unit))
    }
}

/// The names of a sample's labels, and their values.
pub(super) type Labels<'a> = (&'a [&'a str], &'a [&'a str]);

/// The page as it grows.
#[derive(Debug, Default)]
pub(super) struct Text(String);

impl Text {
    /// The whole page.
    pub(super) fn end(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }

    /// The descriptor of a metric. The unit must be the end of the name.
    pub(super) fn head(&mut self, metric: &Metric) -> fmt::Result {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        writeln!(self.0, "# TYPE {} {kind}", metric.name)?;
        if let Some(unit) = metric.unit() {
            writeln!(self.0, "# UNIT {} {unit}", metric.name)?;
        }
        writeln!(self.0, "# HELP {} {}", metric.name, metric.help)
    }

    /// One sample of a counter or gauge. What has a unit is in billionths of it.
    pub(super) fn number(&mut self, metric: &Metric, labels: Labels<'_>, value: u128) -> fmt::Result {
        let suffix = if metric.kind == Kind::Counter { "_total" } else { "" };
        write!(self.0, "{}{suffix}", metric.name)?;
        self.labels(labels, None)?;
        match metric.unit() {
            Some(_) => writeln!(self.0, " {}", decimal(value)),
            None => writeln!(self.0, " {value}"),
        }
    }

    /// The samples of one series of a histogram.
    pub(super) fn histogram(&mut self, metric: &Metric, labels: Labels<'_>, spread: &Spread) -> fmt::Result {
        let name = metric.name;
        for bound in bounds() {
            let within = spread.within(bound);
            write!(self.0, "{name}_bucket")?;
            self.labels(labels, Some(&decimal(bound.as_nanos())))?;
            writeln!(self.0, " {within}")?;
        }
        write!(self.0, "{name}_bucket")?;
        self.labels(labels, Some("+Inf"))?;
        writeln!(self.0, " {}", spread.count())?;
        for (suffix, value) in
            [("count", spread.count().to_string()), ("sum", decimal(spread.sum().as_nanos()))]
        {
            write!(self.0, "{name}_{suffix}")?;
            self.labels(labels, None)?;
            writeln!(self.0, " {value}")?;
        }
        Ok(())
    }

    fn labels(&mut self, (names, values): Labels<'_>, bound: Option<&str>) -> fmt::Result {
        let named = names.iter().copied().zip(values.iter().copied());
        let mut open = '{';
        for (name, value) in named.chain(bound.map(|bound| ("le", bound))) {
            write!(self.0, "{open}{name}=\"{}\"", escape(value))?;
            open = ',';
        }
        if open == ',' { self.0.write_char('}') } else { Ok(()) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact_and_labels_escaped() {
        assert_eq!(decimal(0), "0.0");
        assert_eq!(decimal(1), "0.000000001");
        assert_eq!(decimal(12_340_000_000), "12.34");
        assert_eq!(escape("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
