//! How long something took, as a record of a call has it: whole nanoseconds, with `#[serde(with = "span")]`. It reads what
//! was written before as well: seconds and nanoseconds apart.

use serde::{Deserialize, Deserializer, Serializer};
use std::time::Duration;

/// Either way it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Nanos(u64),
    Parts(Duration),
}

impl From<Written> for Duration {
    fn from(written: Written) -> Self {
        match written {
            Written::Nanos(nanos) => Self::from_nanos(nanos),
            Written::Parts(parts) => parts,
        }
    }
}

/// Writes it. What is longer than 584 years is written as that.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX))
}

/// Reads it.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Written::deserialize(deserializer).map(Duration::from)
}

/// The same where it may be missing.
pub mod option {
    use super::{Deserialize, Deserializer, Duration, Serializer, Written};

    /// Writes it. Whoever leaves out what is missing never asks for a `None`.
    pub fn serialize<S: Serializer>(span: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match span {
            Some(span) => super::serialize(span, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Written>::deserialize(deserializer)?.map(Duration::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Took {
        #[serde(with = "super")]
        all: Duration,
        #[serde(default, with = "option", skip_serializing_if = "Option::is_none")]
        first: Option<Duration>,
    }

    #[test]
    fn is_written_in_nanoseconds_and_read_either_way() {
        let took = Took { all: Duration::new(2, 5), first: Some(Duration::from_nanos(7)) };
        let none = Took { all: Duration::ZERO, first: None };
        let rows = [
            (r#"{"all":2000000005,"first":7}"#, &took),
            (r#"{"all":{"secs":2,"nanos":5},"first":{"secs":0,"nanos":7}}"#, &took),
            (r#"{"all":0}"#, &none),
            (r#"{"all":0,"first":null}"#, &none),
        ];
        for (json, want) in rows {
            assert_eq!(&serde_json::from_str::<Took>(json).unwrap(), want, "{json}");
        }
        assert_eq!(serde_json::to_string(&took).unwrap(), rows[0].0);
        assert_eq!(serde_json::to_string(&none).unwrap(), rows[2].0);
        assert!(serde_json::from_str::<Took>(r#"{"all":-1}"#).is_err());
    }
}
