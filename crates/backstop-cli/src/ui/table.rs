//! Tables of text: columns as wide as their widest cell, no lines, two blanks between.

#![expect(clippy::format_push_string, reason = "a few short lines, once per command")]

use super::{Look, Tone, shortened};
use std::borrow::Cow;

/// The least room the last column is given before spare columns go.
const LAST_CHARS_MIN: usize = 12;

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table that grows row by row.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<(Cow<'static, str>, Align)>,
    spare: Vec<&'static str>,
    rows: Vec<Vec<(Tone, String)>>,
}

impl Table {
    /// A table with these heads.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        let columns = columns.iter().map(|(head, align)| (Cow::Borrowed(*head), *align)).collect();
        Self { columns, spare: Vec::new(), rows: Vec::new() }
    }

    /// A table whose heads are not known beforehand.
    pub(crate) fn named(columns: Vec<(String, Align)>) -> Self {
        let columns = columns.into_iter().map(|(head, align)| (Cow::Owned(head), align)).collect();
        Self { columns, spare: Vec::new(), rows: Vec::new() }
    }

    /// Columns that go, the first one first, where not all fit on a line.
    pub(crate) fn spare(mut self, columns: &[&'static str]) -> Self {
        self.spare = columns.to_vec();
        self
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<(Tone, String)>) {
        self.rows.push(cells);
    }

    /// The text of it, each line ended.
    pub(crate) fn render(&self, look: Look) -> String {
        match look.width {
            Some(width) => self.clone().fitted(width).lines(look),
            None => self.lines(look),
        }
    }

    /// The same table on lines of so many characters: the last column is cut, spare ones go.
    fn fitted(mut self, width: usize) -> Self {
        let last = self.columns.len() - 1;
        let before =
            |table: &Self| (0..table.columns.len() - 1).map(|column| table.width(column) + 2).sum::<usize>();
        let least = self.width(last).min(LAST_CHARS_MIN);
        for spare in std::mem::take(&mut self.spare) {
            let found = self.columns.iter().position(|(head, _)| head == spare);
            let Some(column) = found.filter(|_| before(&self) + least > width) else { continue };
            self.columns.remove(column);
            for row in &mut self.rows {
                row.remove(column);
            }
        }
        let room = width.saturating_sub(before(&self)).max(least);
        for (_, text) in self.rows.iter_mut().filter_map(|row| row.last_mut()) {
            *text = shortened(text, room);
        }
        self
    }

    fn lines(&self, look: Look) -> String {
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.width(column)).collect();
        let heads = self.columns.iter().map(|(head, _)| (Tone::Dim, head.to_uppercase())).collect();
        let mut text = String::new();
        for row in std::iter::once(&heads).chain(&self.rows) {
            text += &self.line(row, &widths, look);
        }
        text
    }

    fn width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|(_, text)| text.chars().count());
        cells.chain([self.columns[column].0.chars().count()]).max().unwrap_or(0)
    }

    fn line(&self, row: &[(Tone, String)], widths: &[usize], look: Look) -> String {
        let mut line = String::new();
        for (column, (tone, text)) in row.iter().enumerate() {
            let space = " ".repeat(widths[column] - text.chars().count());
            let painted = look.paint(*tone, text);
            let last = column + 1 == row.len();
            match self.columns[column].1 {
                Align::Left if last => line += &painted,
                Align::Left => line += &format!("{painted}{space}  "),
                Align::Right if last => line += &format!("{space}{painted}"),
                Align::Right => line += &format!("{space}{painted}  "),
            }
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(&[("task", Align::Left), ("cost", Align::Right), ("result", Align::Left)]);
        let cell = |text: &str| (Tone::Plain, text.to_owned());
        table.row(vec![cell("sum"), cell("$0.0012"), cell("670.02")]);
        table.row(vec![cell("a-longer-name"), cell("$12.00"), cell("")]);
        expect![[r"
            TASK              COST  RESULT
            sum            $0.0012  670.02
            a-longer-name   $12.00
        "]]
        .assert_eq(&table.render(Look::PLAIN));
    }

    #[test]
    fn no_line_is_longer_than_the_terminal() {
        let columns =
            [("run", Align::Left), ("made", Align::Left), ("cost", Align::Right), ("why", Align::Left)];
        let mut table = Table::new(&columns).spare(&["made"]);
        let row = ["1m81qqjbwmjbhpnj", "2026-11-22 12:00", "$1.00", "the day's budget has $0.02 left"];
        table.row(row.iter().map(|text| (Tone::Plain, (*text).to_owned())).collect());
        let narrow = |width| table.render(Look { width: Some(width), ..Look::PLAIN });
        expect![[r"
            RUN               MADE               COST  WHY
            1m81qqjbwmjbhpnj  2026-11-22 12:00  $1.00  the day's budget...
            RUN                COST  WHY
            1m81qqjbwmjbhpnj  $1.00  the day's...
        "]]
        .assert_eq(&(narrow(62) + &narrow(38)));
    }
}
