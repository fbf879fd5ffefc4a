//! A value of a row, exactly: as it is kept in a plan, bound to a statement, and shown.

use backstop_agent::visible_line;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write as _;

/// The most characters of a value that are shown to a person.
const SHOWN_MAX_CHARS: usize = 120;

/// A value. Numbers are kept by their bits: what is read back from a plan must be what was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Cell {
    Null,
    Integer(i64),
    /// The bits of a double.
    Real(u64),
    Text(String),
    /// In hex.
    Blob(String),
}

impl Cell {
    /// `None` for a text that is no UTF-8: it could not be put back as it was.
    pub(super) fn of(value: ValueRef<'_>) -> Option<Self> {
        Some(match value {
            ValueRef::Null => Self::Null,
            ValueRef::Integer(integer) => Self::Integer(integer),
            ValueRef::Real(real) => Self::Real(real.to_bits()),
            ValueRef::Text(text) => Self::Text(String::from_utf8(text.to_vec()).ok()?),
            ValueRef::Blob(bytes) => Self::Blob(hex(bytes)),
        })
    }

    /// An argument of a statement, as a model writes it.
    pub(super) fn of_json(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(flag) => Self::Integer(i64::from(*flag)),
            Value::String(text) => Self::Text(text.clone()),
            Value::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Self::Integer(integer),
                (None, Some(real)) if !number.is_u64() => Self::Real(real.to_bits()),
                (None, _) => return Err(format!("the number {number} is larger than SQLite's integers")),
            },
            Value::Array(_) | Value::Object(_) => {
                return Err("a parameter is a text, a number, true, false or null".to_owned());
            }
        })
    }

    /// How many bytes it takes to keep, roughly.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Null | Self::Integer(_) | Self::Real(_) => 8,
            Self::Text(text) | Self::Blob(text) => text.len() + 8,
        }
    }

    /// As a person reads it, on one line and not too long.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Null => "NULL".to_owned(),
            Self::Integer(integer) => integer.to_string(),
            Self::Real(bits) => format!("{:?}", f64::from_bits(*bits)),
            Self::Text(text) => {
                let cut: String = text.chars().take(SHOWN_MAX_CHARS).collect();
                let more = text.chars().count().saturating_sub(SHOWN_MAX_CHARS);
                let more = if more > 0 { format!("… ({more} more characters)") } else { String::new() };
                format!("'{}'{more}", visible_line(&cut))
            }
            Self::Blob(hex) => format!("(blob of {} bytes)", hex.len() / 2),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::from(rusqlite::types::Null),
            Self::Integer(integer) => ToSqlOutput::from(*integer),
            Self::Real(bits) => ToSqlOutput::from(f64::from_bits(*bits)),
            Self::Text(text) => ToSqlOutput::from(text.as_str()),
            Self::Blob(hex) => ToSqlOutput::from(
                unhex(hex)
                    .ok_or_else(|| rusqlite::Error::ToSqlConversionFailure("a blob that is no hex".into()))?,
            ),
        })
    }
}

/// A value as the model is told it: JSON, and of a blob only its size.
pub(super) fn json_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(integer) => Value::from(integer),
        ValueRef::Real(real) => Value::from(real),
        ValueRef::Text(text) => Value::from(String::from_utf8_lossy(text)),
        ValueRef::Blob(bytes) => Value::from(format!("(blob of {} bytes)", bytes.len())),
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use serde_json::json;

    #[test]
    fn every_value_comes_back_as_it_was() {
        let connection = Connection::open_in_memory().unwrap();
        for sql in [
            "NULL",
            "-9223372036854775808",
            "9007199254740993",
            "0.1",
            "-0.0",
            "9e999",
            "5e-324",
            "''",
            "'it''s'",
            "'1'",
            "x''",
            "x'00ff10'",
        ] {
            let cell = |row: &rusqlite::Row<'_>| Ok(Cell::of(row.get_ref(0)?).unwrap());
            let was = connection.query_row(&format!("SELECT {sql}"), [], cell).unwrap();
            let text = serde_json::to_string(&was).unwrap();
            let kept: Cell = serde_json::from_str(&text).unwrap();
            let back = connection.query_row("SELECT ?1", [&kept], cell).unwrap();
            assert_eq!((&back, kept), (&was, was.clone()), "{sql} {text}");
            let same = format!("SELECT ?1 IS {sql} AND typeof(?1) = typeof({sql})");
            assert!(connection.query_row(&same, [&back], |row| row.get::<_, bool>(0)).unwrap(), "{sql}");
        }
        let broken = |row: &rusqlite::Row<'_>| Ok(Cell::of(row.get_ref(0)?));
        assert_eq!(connection.query_row("SELECT CAST(x'ff' AS TEXT)", [], broken).unwrap(), None);
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("zz"), None);
    }

    #[test]
    fn parameters_of_a_model() {
        for (value, want) in [
            (json!(null), Ok(Cell::Null)),
            (json!(true), Ok(Cell::Integer(1))),
            (json!(-7), Ok(Cell::Integer(-7))),
            (json!(0.5), Ok(Cell::Real(0.5_f64.to_bits()))),
            (json!("x"), Ok(Cell::Text("x".to_owned()))),
            (
                json!(18_446_744_073_709_551_615_u64),
                Err("the number 18446744073709551615 is larger than SQLite's integers"),
            ),
            (json!([1]), Err("a parameter is a text, a number, true, false or null")),
        ] {
            assert_eq!(Cell::of_json(&value), want.map_err(str::to_owned), "{value}");
        }
    }

    #[test]
    fn a_person_sees_one_line() {
        let text = |text: &str| Cell::Text(text.to_owned()).shown();
        assert_eq!(text("a\nb\u{202e}c"), "'a\\nb\\u{202e}c'");
        assert_eq!(text(&"x".repeat(130)), format!("'{}'… (10 more characters)", "x".repeat(120)));
        assert_eq!(Cell::Blob("00ff".to_owned()).shown(), "(blob of 2 bytes)");
        assert_eq!(Cell::Real(1.5_f64.to_bits()).shown(), "1.5");
    }
}
