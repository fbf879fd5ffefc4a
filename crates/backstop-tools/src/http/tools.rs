//! The tools themselves: what each declares, what a person is shown before it runs, and what a lost request means for it.

use super::HttpMethod;
use super::exchange::{Lost, Wanted, exchange};
use super::granted::{Granted, Manner};
use super::network::Network;
use super::target::Target;
use backstop_agent::tool::{Job, read_args, spec_of};
use backstop_agent::{Plan, Tool, ToolContext, ToolError, ToolOutput};
use backstop_agent::{visible, visible_line};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
use bytes::Bytes;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReadArgs {
    /// The address, like https://host/path?query.
    url: String,
    /// `GET` (what is taken when it is left out), or `HEAD` for the headers alone.
    #[serde(default = "get")]
    method: ReadMethod,
    /// Headers to send.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum ReadMethod {
    Get,
    Head,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SendArgs {
    /// The method.
    method: SendMethod,
    /// The address, like https://host/path?query.
    url: String,
    /// Headers to send; say the `content-type` of a body.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The body, exactly as it is sent.
    #[serde(default)]
    body: String,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum SendMethod {
    Post,
    Put,
    Patch,
    Delete,
}

fn get() -> ReadMethod {
    ReadMethod::Get
}

/// Which of the tools it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Request,
    Keyed,
}

pub(super) struct HttpTool {
    kind: Kind,
    granted: Arc<Granted>,
    network: Network,
    declaration: Declaration,
}

impl HttpTool {
    pub(super) fn new(kind: Kind, granted: Arc<Granted>, network: Network) -> Self {
        let class = match kind {
            Kind::Get => Class::Read,
            Kind::Request => Class::Irreversible,
            Kind::Keyed => Class::Idempotent,
        };
        let args = [
            ("url", ArgRole::Sink),
            ("method", ArgRole::Flag),
            ("headers", ArgRole::Content),
            ("body", ArgRole::Content),
        ];
        let declaration = Declaration {
            class,
            effect: Effect::External,
            args: args.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect(),
            integrity: Integrity::Untrusted,
            confidentiality: Confidentiality::Public,
        };
        Self { kind, granted, network, declaration }
    }

    /// The request that arguments ask for, if it is granted.
    fn wanted(&self, args: &Value, key: &str) -> Result<Wanted, ToolError> {
        let (method, url, headers, body) = match self.kind {
            Kind::Get => {
                let ReadArgs { url, method, headers } = read_args(args)?;
                (HttpMethod::from(method), url, headers, String::new())
            }
            Kind::Request | Kind::Keyed => {
                let SendArgs { method, url, headers, body } = read_args(args)?;
                (HttpMethod::from(method), url, headers, body)
            }
        };
        let target = Target::parse(&url)
            .map_err(|error| ToolError::Failed(format!("`{}` is not used: {error}.", visible_line(&url))))?;
        self.granted.admit(&target, method, self.manner()).map_err(ToolError::Failed)?;
        if body.len() as u64 > self.granted.request_max_bytes {
            return Err(ToolError::Failed(format!(
                "The body has {} bytes, more than the {} that may be sent. Send less.",
                body.len(),
                self.granted.request_max_bytes
            )));
        }
        let headers = self.granted.model_headers(&headers).map_err(ToolError::Failed)?;
        let key = match self.manner() {
            Manner::Plain => None,
            Manner::Keyed => Some(HeaderValue::try_from(key).map_err(|_| {
                ToolError::Failed("The key of this call cannot stand in a header.".to_owned())
            })?),
        };
        Ok(Wanted { method, target, headers, body: Bytes::from(body), key })
    }

    fn manner(&self) -> Manner {
        if self.kind == Kind::Keyed { Manner::Keyed } else { Manner::Plain }
    }

    /// The request as it will be sent; the owner's headers by their names.
    fn preview(&self, wanted: &Wanted) -> Result<String, ToolError> {
        let host =
            self.granted.admit(&wanted.target, wanted.method, self.manner()).map_err(ToolError::Failed)?;
        let mut shown = format!("{} {}\n", wanted.method.as_http(), wanted.target);
        for (name, value) in wanted.headers.iter().filter(|(name, _)| !host.headers.contains_key(*name)) {
            let _ = writeln!(shown, "{name}: {}", visible_line(&String::from_utf8_lossy(value.as_bytes())));
        }
        for name in host.headers.keys() {
            let _ = writeln!(shown, "{name}: (the owner's)");
        }
        if wanted.key.is_some() {
            let _ = writeln!(shown, "{}: (this call's key)", host.key_header);
        }
        if !wanted.body.is_empty() {
            let _ = write!(shown, "\n{}", visible(&String::from_utf8_lossy(&wanted.body)));
        }
        Ok(shown)
    }
}

impl Tool for HttpTool {
    fn spec(&self) -> ToolSpec {
        match self.kind {
            Kind::Get => spec_of::<ReadArgs>(
                "http_get",
                "Read an address by HTTP. Gives the status, some headers and the text. It changes nothing.",
            ),
            Kind::Request => spec_of::<SendArgs>(
                "http_request",
                "Send an HTTP request that changes something, once. It cannot be taken back, and redirects are not followed.",
            ),
            Kind::Keyed => spec_of::<SendArgs>(
                "http_request_keyed",
                "Send an HTTP request that changes something to a host that knows the call by a key, so that it is done once \
                 even when it is sent again. Redirects are not followed.",
            ),
        }
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn plan<'a>(&'a self, args: &'a Value, _: &'a ToolContext) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(async move {
            // Planning knows no key; what is planned is sent with the call's own.
            let wanted = self.wanted(args, "")?;
            let effect = (wanted.method == HttpMethod::Delete).then_some(Effect::Destructive);
            Ok(Plan { preview: self.preview(&wanted)?, effect, ..Plan::default() })
        })
    }

    fn run<'a>(&'a self, job: &'a Job, _: &'a ToolContext) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let wanted = self.wanted(&job.args, &job.key)?;
            match exchange(&self.granted, &self.network, wanted).await {
                Ok(told) => Ok(ToolOutput::text(told)),
                Err(Lost::NotSent(why)) => Err(ToolError::Failed(self.granted.scrub(why))),
                Err(Lost::Begun(why)) if self.kind == Kind::Get => Err(ToolError::Failed(format!(
                    "{why}. Nothing was changed; try again later, or ask for less."
                ))),
                Err(Lost::Begun(why)) => {
                    Err(ToolError::Unknown(format!("the request was sent, but {why}; it may have been done")))
                }
            }
        })
    }
}

impl From<ReadMethod> for HttpMethod {
    fn from(method: ReadMethod) -> Self {
        match method {
            ReadMethod::Get => Self::Get,
            ReadMethod::Head => Self::Head,
        }
    }
}

impl From<SendMethod> for HttpMethod {
    fn from(method: SendMethod) -> Self {
        match method {
            SendMethod::Post => Self::Post,
            SendMethod::Put => Self::Put,
            SendMethod::Patch => Self::Patch,
            SendMethod::Delete => Self::Delete,
        }
    }
}
