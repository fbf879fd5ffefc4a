//! A file per day, `YYYY-MM-DD.log`, UTC, by the time of the events; and the end of files that are too old. Several
//! processes may write to the same file: what is put is whole lines, in one write at its end.

use super::Lines;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A directory of daily files.
#[derive(Debug)]
pub struct DailyFile {
    dir: PathBuf,
    retention_days: u32,
    open: Option<(String, File)>,
}

impl DailyFile {
    /// Files in `dir`, kept for `retention_days` days, the latest day included. Nothing is made until the first line.
    pub fn new(dir: PathBuf, retention_days: u32) -> Self {
        Self { dir, retention_days, open: None }
    }

    /// The file of a date. Where a date is missing, the file that is open.
    fn file(&mut self, date: &str) -> io::Result<&mut File> {
        let stale = self.open.as_ref().is_none_or(|(open, _)| open != date && !date.is_empty());
        if stale {
            if date.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "no log file is open"));
            }
            self.open = None;
            fs::create_dir_all(&self.dir)?;
            let path = self.dir.join(format!("{date}.log"));
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            expire(&self.dir, date, self.retention_days);
            self.open = Some((date.to_owned(), file));
        }
        let (_, file) = self.open.as_mut().ok_or(io::ErrorKind::NotFound)?;
        Ok(file)
    }
}

impl Lines for DailyFile {
    fn put(&mut self, date: &str, lines: &str) -> io::Result<()> {
        let result = self.file(date).and_then(|file| file.write_all(lines.as_bytes()));
        if result.is_err() {
            // The disk may have room again, or the directory be back, when the next lines come.
            self.open = None;
        }
        result
    }
}

/// Removes the daily files that are older than the retention. Best effort: a file that cannot be removed stays, and
/// what is no log file of ours is not touched.
fn expire(dir: &Path, today: &str, retention_days: u32) {
    let Some(today) = day(today) else { return };
    let oldest = today - i64::from(retention_days) + 1;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let date = name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(day);
        if date.is_some_and(|date| date < oldest) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// The days from 1970-01-01 to a date written `YYYY-MM-DD`, and nothing else: `days_from_civil` of Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms".
fn day(date: &str) -> Option<i64> {
    let bytes = date.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = date.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::Timestamp;

    #[test]
    fn a_date_is_a_day_and_a_day_is_a_date() {
        for days in [0_u64, 59, 60, 365, 10_956, 11_016, 20_779, 47_540] {
            let date = Timestamp::from_secs(days * 86_400).date();
            assert_eq!(day(&date), Some(i64::try_from(days).unwrap()), "{date}");
        }
        for bad in ["", "2026-11-2", "2026-13-01", "2026-11-00", "2026_11_22", "latest-log", "２026-11-"] {
            assert_eq!(day(bad), None, "{bad}");
        }
    }
}
