//! Where calls go: address, dialect, key, headers. Values only; nothing here opens a connection or reads the environment.

use crate::Quirk;
use backstop_call::{Dialect, ProviderName, Secret};
use http::header::{AUTHORIZATION, HOST, HeaderName, HeaderValue, InvalidHeaderValue};
use http::{HeaderMap, Uri};
use serde::Deserialize;
use std::fmt;

/// The version of Messages that is spoken to an endpoint whose own headers name none. The next, 2026-10-21, refuses
/// `temperature`, `top_p` and `top_k`, which requests of other dialects have.
const MESSAGES_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");

/// A provider at an address, ready to be called.
#[derive(Clone)]
pub struct Endpoint {
    /// Its name, as it stands in config, events and errors.
    pub name: ProviderName,
    /// What it speaks.
    pub dialect: Dialect,
    /// Its address.
    pub base_url: BaseUrl,
    /// How its key is sent.
    pub auth: Auth,
    /// Its key.
    pub key: Option<Secret>,
    /// Sent with every request. They may hold secrets of their own, so `Debug` shows their names only.
    pub headers: HeaderMap,
    /// Whether it runs on a machine of the owner's: it may see what is private, and costs nothing.
    pub local: bool,
    /// Where it differs from its dialect.
    pub quirks: Vec<Quirk>,
    /// Its id in the price data; `None` is not priced there.
    pub prices: Option<String>,
    /// Whether it keeps message threads: one that does not know them would take a part of a conversation for the whole.
    pub threads: bool,
}

/// How a key is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// In the header `x-api-key`.
    XApiKey,
    /// In the header `authorization`, after `Bearer`.
    Bearer,
    /// Not at all.
    None,
}

/// An address of a provider: scheme, host, port and the path that all its resources have in common.
#[derive(Clone, PartialEq, Eq)]
pub struct BaseUrl(Uri);

/// An endpoint that cannot be. The texts never repeat the address or a header's value: both may hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The address is no URL.
    #[error("the base-url is no URL (write it like https://host/path)")]
    NoUrl,
    /// Another scheme than http and https.
    #[error("the base-url begins with neither http:// nor https://")]
    Scheme,
    /// A user or password in the address.
    #[error("the base-url holds a user or password; use a key reference")]
    UserInfo,
    /// A query in the address.
    #[error("the base-url holds a query")]
    Query,
    /// A header that cannot be sent.
    #[error("the header `{0}` has a name or value that HTTP does not allow")]
    Header(String),
}

impl BaseUrl {
    /// Reads an address; a trailing slash means nothing.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let text = text.trim().trim_end_matches('/');
        let uri: Uri = text.parse().map_err(|_| EndpointError::NoUrl)?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(_) => return Err(EndpointError::Scheme),
            None => return Err(EndpointError::NoUrl),
        }
        let authority = uri.authority().ok_or(EndpointError::NoUrl)?;
        if authority.as_str().contains('@') {
            return Err(EndpointError::UserInfo);
        }
        if uri.query().is_some() || text.contains('#') {
            return Err(EndpointError::Query);
        }
        Ok(Self(uri))
    }

    /// Host and port, as they stand in the address.
    pub fn authority(&self) -> &str {
        self.0.authority().map_or("", |authority| authority.as_str())
    }

    /// Whether the host is this machine.
    pub fn is_loopback(&self) -> bool {
        let host = self.0.host().unwrap_or("").trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// Where connections lead to: scheme, host and port count.
    pub(crate) fn origin(&self) -> (String, Uri) {
        (format!("{}://{}", self.0.scheme_str().unwrap_or_default(), self.authority()), self.0.clone())
    }

    /// The value of the header `host`: without the port that the scheme has anyway.
    fn host(&self) -> &str {
        let usual = if self.0.scheme_str() == Some("http") { ":80" } else { ":443" };
        self.authority().strip_suffix(usual).unwrap_or(self.authority())
    }

    /// The address of a resource: `path` begins with a slash.
    fn join(&self, path: &str) -> Uri {
        let scheme = self.0.scheme_str().unwrap_or("https");
        let base = self.0.path().trim_end_matches('/');
        format!("{scheme}://{}{base}{path}", self.authority())
            .parse()
            .expect("a path of ours after an address that was read is an address")
    }
}

impl fmt::Debug for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

impl Endpoint {
    /// Where calls are posted to.
    pub fn call_uri(&self) -> Uri {
        self.base_url.join(match self.dialect {
            Dialect::Messages => "/v1/messages",
            Dialect::Chat => "/chat/completions",
            Dialect::Responses => "/responses",
        })
    }

    /// The path of [`Endpoint::call_uri`], as a request line has it.
    pub(crate) fn call_path(&self) -> Uri {
        path_of(&self.call_uri())
    }

    /// Where the tokens of a request are counted; `None` where the dialect has no such place.
    pub(crate) fn count_path(&self) -> Option<Uri> {
        let path = "/v1/messages/count_tokens";
        (self.dialect == Dialect::Messages).then(|| path_of(&self.base_url.join(path)))
    }

    /// Where the models are listed: what a probe asks for.
    pub(crate) fn models_path(&self) -> Uri {
        path_of(&self.base_url.join(match self.dialect {
            Dialect::Messages => "/v1/models",
            Dialect::Chat | Dialect::Responses => "/models",
        }))
    }

    /// Adds a header that is sent with every request, in place of one of the same name.
    pub fn insert_header(&mut self, name: &str, value: &str) -> Result<(), EndpointError> {
        let bad = || EndpointError::Header(name.to_owned());
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
        value.set_sensitive(true);
        self.headers.insert(header, value);
        Ok(())
    }

    /// All headers that every request to it has: its own, what the dialect demands where none is its own, and the key
    /// where it belongs. The one place where a key becomes bytes.
    pub(crate) fn request_headers(&self) -> Result<HeaderMap, InvalidHeaderValue> {
        let mut headers = self.headers.clone();
        if let Ok(mut host) = HeaderValue::from_str(self.base_url.host()) {
            host.set_sensitive(true);
            headers.entry(HOST).or_insert(host);
        }
        if self.dialect == Dialect::Messages {
            headers.entry("anthropic-version").or_insert(MESSAGES_VERSION);
        }
        let Some(key) = &self.key else { return Ok(headers) };
        // A key that was read from a file often ends in a line break.
        let key = key.expose().trim();
        let (name, value) = match self.auth {
            Auth::XApiKey => (HeaderName::from_static("x-api-key"), HeaderValue::from_str(key)?),
            Auth::Bearer => (AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}"))?),
            Auth::None => return Ok(headers),
        };
        let mut value = value;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(headers)
    }

    /// Whether a text tells the key or the address.
    pub(crate) fn is_told_by(&self, text: &str) -> bool {
        let key = self.key.as_ref().map(|key| key.expose().trim()).filter(|key| !key.is_empty());
        key.is_some_and(|key| text.contains(key)) || text.contains(self.base_url.authority())
    }

    /// A text from outside without this endpoint's key and address in it.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(key) = self.key.as_ref().map(|key| key.expose().trim()).filter(|key| !key.is_empty()) {
            text = text.replace(key, "[key]");
        }
        if text.contains(self.base_url.authority()) {
            text = text.replace(self.base_url.authority(), "[upstream]");
        }
        text
    }
}

fn path_of(uri: &Uri) -> Uri {
    uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from)
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .field("dialect", &self.dialect)
            .field("base_url", &self.base_url)
            .field("auth", &self.auth)
            .field("key", &self.key)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("local", &self.local)
            .field("quirks", &self.quirks)
            .field("prices", &self.prices)
            .field("threads", &self.threads)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(auth: Auth, key: &str) -> Endpoint {
        Endpoint {
            name: "p".into(),
            dialect: Dialect::Chat,
            base_url: BaseUrl::parse("http://10.0.0.5:8000/v1/").unwrap(),
            auth,
            key: Some(Secret::new(key)),
            headers: HeaderMap::new(),
            local: false,
            quirks: Vec::new(),
            prices: None,
            threads: false,
        }
    }

    #[test]
    fn messages_has_its_version_unless_another_is_set() {
        let version = |endpoint: &Endpoint| {
            endpoint
                .request_headers()
                .unwrap()
                .get("anthropic-version")
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let chat = endpoint(Auth::None, "k");
        assert_eq!(version(&chat), None);
        let mut messages = Endpoint { dialect: Dialect::Messages, ..chat };
        assert_eq!(version(&messages).as_deref(), Some("2023-06-01"));
        messages.insert_header("anthropic-version", "2027-01-01").unwrap();
        assert_eq!(version(&messages).as_deref(), Some("2027-01-01"));
    }

    #[test]
    fn addresses() {
        for (text, want) in [
            ("https://h", Ok("https://h")),
            ("http://h:1/v1/", Ok("http://h:1/v1")),
            ("https://h/a/b//", Ok("https://h/a/b")),
            ("ftp://h", Err(EndpointError::Scheme)),
            ("h/v1", Err(EndpointError::NoUrl)),
            ("", Err(EndpointError::NoUrl)),
            ("https://u:p@h/v1", Err(EndpointError::UserInfo)),
            ("https://h/v1?key=1", Err(EndpointError::Query)),
        ] {
            assert_eq!(BaseUrl::parse(text).map(|url| url.to_string()), want.map(str::to_owned), "{text}");
        }
        assert!(BaseUrl::parse("http://[::1]:80").unwrap().is_loopback());
        assert!(!BaseUrl::parse("http://10.0.0.5").unwrap().is_loopback());
    }

    #[test]
    fn the_key_is_in_one_header_and_nowhere_else() {
        for (auth, header, value) in
            [(Auth::XApiKey, "x-api-key", "sk-canary"), (Auth::Bearer, "authorization", "Bearer sk-canary")]
        {
            let mut endpoint = endpoint(auth, "sk-canary\n");
            endpoint.insert_header("api-key", "canary-2").unwrap();
            let headers = endpoint.request_headers().unwrap();
            assert_eq!(headers[header], value);
            assert!(headers.values().all(HeaderValue::is_sensitive));
            let shown = format!("{endpoint:?} {headers:?}");
            assert!(!shown.contains("canary"), "{shown}");
        }
        assert!(endpoint(Auth::None, "k").request_headers().unwrap().keys().all(|name| *name == HOST));
        assert!(endpoint(Auth::Bearer, "a\nb").request_headers().is_err());
    }

    #[test]
    fn texts_from_outside_are_scrubbed() {
        let text = "key sk-canary is wrong; ask http://10.0.0.5:8000/v1/keys";
        let shown = endpoint(Auth::Bearer, "sk-canary").scrub(text);
        assert_eq!(shown, "key [key] is wrong; ask http://[upstream]/v1/keys");
        assert_eq!(endpoint(Auth::Bearer, " ").scrub("a b"), "a b");
    }
}
