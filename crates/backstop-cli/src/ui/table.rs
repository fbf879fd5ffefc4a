//! Tables of text: columns as wide as their widest cell, no lines, two blanks between.

#![expect(clippy::format_push_string, reason = "a few short lines, once per command")]

use super::{Look, Tone};

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// A table that grows row by row.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<(Tone, String)>>,
}

impl Table {
    /// A table with these heads.
    pub(crate) fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<(Tone, String)>) {
        self.rows.push(cells);
    }

    /// The text of it, each line ended.
    pub(crate) fn render(&self, look: Look) -> String {
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
        cells.chain([self.columns[column].0.len()]).max().unwrap_or(0)
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
}
