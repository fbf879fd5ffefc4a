//! On whose behalf a request is made, by its own headers: `x-backstop-task`, `-role`, `-priority`, `-deadline` and
//! `-labels`. What a key pins goes before it. Pure.

use crate::config::Span;
use backstop_call::{Code, Context, Failure, FailureKind, Labels, Priority, Progress, headers_kept};
use http::{HeaderMap, HeaderName, header};
use std::time::Duration;

/// The most of a task's or role's name.
const NAME_CHARS_MAX: usize = 200;

/// What the headers say.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// On whose behalf.
    pub(crate) context: Context,
    /// How long the caller waits.
    pub(crate) patience: Option<Duration>,
}

/// Reads the headers.
pub(crate) fn asked(headers: &HeaderMap) -> Result<Asked, Failure> {
    let mut asked = Asked::default();
    // As a rule there is none of them.
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("x-backstop-") else { continue };
        let text = value.to_str().ok().map(str::trim).filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| wrong(name, "is no text"))?;
        match name {
            "task" => asked.context.task = Some(short(name, text)?.into()),
            "role" => asked.context.role = Some(short(name, text)?.into()),
            "priority" => asked.context.priority = priority(text)?,
            "deadline" => {
                let span: Span =
                    text.parse().map_err(|_| wrong(name, "is no span of time like 30s or 2m"))?;
                asked.patience = Some(span.0);
            }
            "labels" => asked.context.labels = labels(text)?,
            _ => {
                return Err(wrong(name, "is not known; there are task, role, priority, deadline and labels"));
            }
        }
    }
    Ok(asked)
}

fn short<'t>(name: &str, text: &'t str) -> Result<&'t str, Failure> {
    if text.chars().count() > NAME_CHARS_MAX { Err(wrong(name, "is too long")) } else { Ok(text) }
}

fn priority(text: &str) -> Result<Priority, Failure> {
    match text {
        "batch" => Ok(Priority::Batch),
        "standard" => Ok(Priority::Standard),
        "interactive" => Ok(Priority::Interactive),
        _ => Err(wrong("priority", "is not batch, standard or interactive")),
    }
}

/// `untrusted`, `private:health`, several of them with commas.
fn labels(text: &str) -> Result<Labels, Failure> {
    let mut labels = Labels::default();
    for label in text.split(',').map(str::trim) {
        match label.split_once(':') {
            None if label == "untrusted" => labels.untrusted = true,
            Some(("private", category)) if !category.trim().is_empty() => {
                labels.private.insert(category.trim().to_owned().into());
            }
            _ => return Err(wrong("labels", "is not a list of `untrusted` and `private:CATEGORY`")),
        }
    }
    Ok(labels)
}

fn wrong(name: &str, problem: &str) -> Failure {
    let message = format!("the header x-backstop-{name} {problem}");
    Failure::new(FailureKind::Invalid, Progress::NotSent, message).with_code(Code::Usage)
}

/// The secret that a request comes with: as `x-api-key`, or as bearer. Empty when there is none.
pub(crate) fn secret(headers: &HeaderMap) -> &str {
    const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = || {
        let (scheme, secret) = text(header::AUTHORIZATION)?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| secret.trim())
    };
    text(API_KEY).map(str::trim).filter(|key| !key.is_empty()).or_else(bearer).unwrap_or("")
}

/// The client's headers that are the provider's business: all but those of this connection, of the client's right to be
/// here, and of ours.
pub(crate) fn forwarded(headers: HeaderMap) -> HeaderMap {
    headers_kept(headers, |name| !is_own(name.as_str()))
}

fn is_own(name: &str) -> bool {
    matches!(
        name,
        "host"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "expect"
            | "proxy-authorization"
            | "authorization"
            | "x-api-key"
            | "api-key"
            | "cookie"
            | "content-length"
            | "content-type"
            | "content-encoding"
            | "accept"
            | "accept-encoding"
            | "forwarded"
            | "x-forwarded-for"
            | "x-real-ip"
            | "origin"
            | "referer"
    ) || name.starts_with("x-backstop-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        rows.iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn what_a_request_says_of_itself() {
        let asked = asked(&headers(&[
            ("x-backstop-task", "nightly"),
            ("x-backstop-role", "writer"),
            ("x-backstop-priority", "batch"),
            ("x-backstop-deadline", "90s"),
            ("x-backstop-labels", "untrusted, private:health"),
            ("content-type", "application/json"),
        ]))
        .unwrap();
        assert_eq!(asked.context.task, Some("nightly".into()));
        assert_eq!(asked.context.role, Some("writer".into()));
        assert_eq!(asked.context.priority, Priority::Batch);
        assert_eq!(asked.patience, Some(Duration::from_secs(90)));
        assert!(asked.context.labels.untrusted && asked.context.labels.private.len() == 1);
    }

    #[test]
    fn what_it_says_wrong_is_not_passed_over() {
        for (name, value) in [
            ("x-backstop-priority", "high"),
            ("x-backstop-deadline", "soon"),
            ("x-backstop-labels", "secret"),
            ("x-backstop-labels", "private:"),
            ("x-backstop-lables", "untrusted"),
            ("x-backstop-task", " "),
        ] {
            let failure = asked(&headers(&[(name, value)])).unwrap_err();
            assert_eq!(failure.code(), Code::Usage, "{name}: {value}");
        }
    }

    #[test]
    fn a_key_comes_in_either_header() {
        let rows: [(&[(&'static str, &'static str)], &str); 5] = [
            (&[("x-api-key", "bsk_1")], "bsk_1"),
            (&[("authorization", "Bearer bsk_2")], "bsk_2"),
            (&[("authorization", "bearer  bsk_2 ")], "bsk_2"),
            (&[("x-api-key", ""), ("authorization", "Bearer bsk_3")], "bsk_3"),
            (&[("authorization", "Basic eDp5")], ""),
        ];
        for (rows, want) in rows {
            assert_eq!(secret(&headers(rows)), want, "{rows:?}");
        }
    }

    #[test]
    fn the_key_and_our_own_headers_stay_here() {
        let sent = headers(&[
            ("authorization", "Bearer bsk_1"),
            ("x-api-key", "bsk_1"),
            ("cookie", "a=b"),
            ("x-backstop-task", "t"),
            ("accept-encoding", "gzip"),
            ("anthropic-beta", "b1"),
            ("x-stainless-lang", "python"),
            ("user-agent", "Anthropic/Python"),
        ]);
        let mut names: Vec<_> = forwarded(sent).keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        assert_eq!(names, ["anthropic-beta", "user-agent", "x-stainless-lang"]);
    }
}
