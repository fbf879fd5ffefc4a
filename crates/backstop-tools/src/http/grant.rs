//! What an owner grants, as plain values. `granted.rs` checks them and decides by them.

use crate::schemas::SecretReference;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What HTTP requests an agent may make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct HttpGrant {
    /// Where requests may go; the first that fits is taken. Since 0.1.
    pub hosts: Vec<HostGrant>,
    /// The largest body of a request, in bytes. Since 0.1.
    #[schemars(range(max = 67_108_864))]
    pub request_max_bytes: u64,
    /// The most of an answer's body that is read, in bytes; the rest is cut off. Since 0.1.
    #[schemars(range(max = 67_108_864))]
    pub response_max_bytes: u64,
    /// How long a request may take with its redirects, from the lookup of the name to the last byte, in seconds. Since 0.1.
    #[schemars(range(min = 1, max = 3_600))]
    pub timeout_seconds: u64,
    /// How many redirects of a GET or HEAD are followed; each must be granted like a request. Others never are. Since 0.1.
    #[schemars(range(max = 20))]
    pub redirects_max: u32,
    /// The headers that the model may set. Since 0.1.
    pub model_headers: Vec<String>,
    /// The headers of an answer that the model is shown. Since 0.1.
    pub shown_headers: Vec<String>,
}

/// Where requests may go, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostGrant {
    /// A host: `api.example.com`, or `*.example.com` for all below it (and not itself). With a scheme (`https` if none
    /// is given) and a port (the scheme's own): `http://10.0.0.5:8080`. Since 0.1.
    pub host: String,
    /// The methods. Since 0.1.
    #[serde(default = "reads")]
    pub methods: Vec<HttpMethod>,
    /// What paths begin with, by whole segments: `/v1` is `/v1` and `/v1/x`, not `/v10`. Since 0.1.
    #[serde(default = "every_path")]
    pub paths: Vec<String>,
    /// Whether it may lie on this machine or in a private network. Since 0.1.
    #[serde(default)]
    pub private: bool,
    /// Headers that are added to each request to it and to no other host, as references to secrets. The model sees their
    /// names at most. Since 0.1.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, SecretReference>")]
    pub headers: BTreeMap<String, String>,
    /// Methods, beside the others, that this host does once per key however often they are sent. Since 0.1.
    #[serde(default)]
    pub keyed: Vec<HttpMethod>,
    /// The header with the key. Since 0.1.
    #[serde(default = "key_header")]
    pub key_header: String,
}

/// A method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Reads.
    Get,
    /// Reads the headers alone.
    Head,
    /// Does whatever the host makes of it.
    Post,
    /// Puts something in a place.
    Put,
    /// Changes a part.
    Patch,
    /// Deletes.
    Delete,
}

/// A grant that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpGrantError {
    /// A host that is none.
    #[error("`{host}` is no host: {reason}")]
    Host {
        /// As it was written.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A path that does not begin with a slash, or is not written as it is sent.
    #[error("`{0}` is no beginning of a path; write it like /v1")]
    Path(String),
    /// Not the name of a header.
    #[error("`{0}` is no name of a header")]
    HeaderName(String),
    /// A header that a model must not set.
    #[error("a model must not set the header `{0}`")]
    ModelHeader(String),
    /// A header that the connection needs for itself.
    #[error("the header `{0}` cannot be set: it says how the request is sent")]
    OwnersHeader(String),
    /// A secret that is not there. The text says which reference, never a value.
    #[error("the header `{header}` for `{host}`: {reason}")]
    Secret {
        /// The header.
        header: String,
        /// The host.
        host: String,
        /// Why there is none.
        reason: String,
    },
    /// A method that only reads is no method that needs a key.
    #[error("`{0}` only reads: it cannot be keyed")]
    KeyedRead(String),
    /// A number outside of what is allowed.
    #[error("{0}")]
    Range(&'static str),
}

fn reads() -> Vec<HttpMethod> {
    vec![HttpMethod::Get, HttpMethod::Head]
}

fn every_path() -> Vec<String> {
    vec!["/".to_owned()]
}

fn key_header() -> String {
    "idempotency-key".to_owned()
}

impl Default for HttpGrant {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            hosts: Vec::new(),
            request_max_bytes: 256 * 1024,
            response_max_bytes: 256 * 1024,
            timeout_seconds: 30,
            redirects_max: 5,
            model_headers: names(&[
                "accept",
                "accept-language",
                "content-type",
                "if-match",
                "if-modified-since",
                "if-none-match",
                "prefer",
            ]),
            shown_headers: names(&[
                "content-type",
                "etag",
                "last-modified",
                "link",
                "location",
                "retry-after",
            ]),
        }
    }
}

impl HostGrant {
    /// GET and HEAD of every path of a host.
    pub fn new(host: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            methods: reads(),
            paths: every_path(),
            private: false,
            headers: BTreeMap::new(),
            keyed: Vec::new(),
            key_header: key_header(),
        }
    }
}

impl HttpMethod {
    /// As it stands in the request.
    pub(super) fn as_http(self) -> http::Method {
        match self {
            Self::Get => http::Method::GET,
            Self::Head => http::Method::HEAD,
            Self::Post => http::Method::POST,
            Self::Put => http::Method::PUT,
            Self::Patch => http::Method::PATCH,
            Self::Delete => http::Method::DELETE,
        }
    }

    pub(super) fn is_read(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}
