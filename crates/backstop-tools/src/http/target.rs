//! An address as a model writes it, read once, by the parser of the URL standard. What that parser made of it is all that is
//! used afterwards: for the grant, for the name that is resolved and spoken to, and for the request line.

use http::uri::PathAndQuery;
use std::fmt;
use std::net::IpAddr;
use url::{Host, Url};

/// The longest address, in bytes.
const URL_MAX_BYTES: usize = 8 * 1024;

/// Where a request goes. Its text is the parser's, never the one it was read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    url: Url,
    host: Host,
    port: u16,
}

/// An address that is not used, in words for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TargetError {
    #[error("it is no URL ({0}); write it like https://host/path")]
    NoUrl(String),
    #[error("it has more than {URL_MAX_BYTES} bytes")]
    TooLong,
    #[error("only http:// and https:// are spoken")]
    Scheme,
    #[error("it holds a space, a control character or a backslash; write them percent-encoded")]
    Characters,
    #[error("it holds a user or password before the host; leave them out")]
    UserInfo,
    #[error("its host ends in a dot; write it without")]
    TrailingDot,
    #[error("port 0 is no port")]
    PortZero,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, TargetError> {
        if text.len() > URL_MAX_BYTES {
            return Err(TargetError::TooLong);
        }
        // The standard drops line ends, and takes a backslash for a slash: readers differ over what is left.
        if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(TargetError::Characters);
        }
        let url = Url::parse(text).map_err(|error| TargetError::NoUrl(error.to_string()))?;
        let (scheme, rest) = text.split_once(':').unwrap_or_default();
        if !["http", "https"].contains(&url.scheme()) || !scheme.eq_ignore_ascii_case(url.scheme()) {
            return Err(TargetError::Scheme);
        }
        // The standard takes any number of slashes here; a reader who wants two sees another host.
        let rest = rest.strip_prefix("//").filter(|rest| !rest.starts_with('/'));
        let rest =
            rest.ok_or_else(|| TargetError::NoUrl("it needs two slashes after the scheme".to_owned()))?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') || !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::UserInfo);
        }
        Self::of(url)
    }

    /// Where a redirect from here leads.
    pub(super) fn joined(&self, location: &str) -> Result<Self, TargetError> {
        if location.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
            return Err(TargetError::Characters);
        }
        let url = self.url.join(location).map_err(|error| TargetError::NoUrl(error.to_string()))?;
        Self::parse(url.as_str())
    }

    fn of(mut url: Url) -> Result<Self, TargetError> {
        url.set_fragment(None);
        let no_host = || TargetError::NoUrl("it has no host".to_owned());
        let host = url.host().ok_or_else(no_host)?.to_owned();
        if matches!(&host, Host::Domain(name) if name.ends_with('.')) {
            return Err(TargetError::TrailingDot);
        }
        let port = url.port_or_known_default().ok_or_else(no_host)?;
        if port == 0 {
            return Err(TargetError::PortZero);
        }
        Ok(Self { url, host, port })
    }

    pub(super) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// The address, of a host that is given by its address.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(v4) => Some(v4.into()),
            Host::Ipv6(v6) => Some(v6.into()),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn path(&self) -> &str {
        self.url.path()
    }

    /// What stands in the request line.
    pub(super) fn path_and_query(&self) -> Result<PathAndQuery, TargetError> {
        let text = &self.url[url::Position::BeforePath..url::Position::AfterQuery];
        PathAndQuery::try_from(text).map_err(|error| TargetError::NoUrl(error.to_string()))
    }

    /// Host and port as the header `host` has them: without the port that the scheme has anyway.
    pub(super) fn authority(&self) -> &str {
        &self.url[url::Position::BeforeHost..url::Position::AfterPort]
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> &str {
        &self.url[..url::Position::AfterPort]
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.url.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reading_of_odd_addresses() {
        let no_url = |text: &str| Err(TargetError::NoUrl(text.to_owned()));
        for (text, want) in [
            ("https://Example.COM/a/../b?q=1#f", Ok("https://example.com/b?q=1")),
            ("https://example.com:443/", Ok("https://example.com/")),
            ("https://example.com/%2e%2e/x", Ok("https://example.com/x")),
            ("http://0177.0.0.1/", Ok("http://127.0.0.1/")),
            ("http://2130706433/", Ok("http://127.0.0.1/")),
            ("http://0x7f.1/", Ok("http://127.0.0.1/")),
            ("http://127.0.0.1./", Ok("http://127.0.0.1/")),
            ("http://①②⑦.0.0.1/", Ok("http://127.0.0.1/")),
            ("http://[::ffff:7f00:1]/", Ok("http://[::ffff:7f00:1]/")),
            ("https://bücher.example/", Ok("https://xn--bcher-kva.example/")),
            ("https://example。com/", Ok("https://example.com/")),
            ("https://example.com./", Err(TargetError::TrailingDot)),
            ("https://u:p@example.com/", Err(TargetError::UserInfo)),
            ("https://@example.com/", Err(TargetError::UserInfo)),
            ("https://example.com@evil.test/", Err(TargetError::UserInfo)),
            ("https://example.com/@evil.test", Ok("https://example.com/@evil.test")),
            ("https://evil.test\\@example.com/", Err(TargetError::Characters)),
            ("https://exam\nple.com/", Err(TargetError::Characters)),
            (" https://example.com/", Err(TargetError::Characters)),
            ("https://example.com/a b", Err(TargetError::Characters)),
            ("ftp://example.com/", Err(TargetError::Scheme)),
            ("file:///etc/passwd", Err(TargetError::Scheme)),
            ("https:example.com", no_url("it needs two slashes after the scheme")),
            ("https:///example.com", no_url("it needs two slashes after the scheme")),
            ("https://", no_url("empty host")),
            ("https://exa%00mple.com/", no_url("invalid international domain name")),
            ("https://a<b/", no_url("invalid international domain name")),
            ("http://1.2.3.4.5/", no_url("invalid IPv4 address")),
            ("http://[fe80::1%25eth0]/", no_url("invalid IPv6 address")),
            ("http://example.com:99999/", no_url("invalid port number")),
            ("http://example.com:0/", Err(TargetError::PortZero)),
            ("example.com/x", no_url("relative URL without a base")),
        ] {
            assert_eq!(
                Target::parse(text).map(|target| target.to_string()),
                want.map(str::to_owned),
                "{text}"
            );
        }
        let long = format!("https://example.com/{}", "x".repeat(URL_MAX_BYTES));
        assert_eq!(Target::parse(&long), Err(TargetError::TooLong));
    }

    #[test]
    fn redirects_are_read_from_where_they_stand() {
        let from = Target::parse("https://example.com:8443/a/b?q").unwrap();
        for (location, want) in [
            ("c", Ok("https://example.com:8443/a/c")),
            ("/c", Ok("https://example.com:8443/c")),
            ("//evil.test/c", Ok("https://evil.test/c")),
            ("http://evil.test", Ok("http://evil.test/")),
            ("https://u@evil.test", Err(TargetError::UserInfo)),
            ("javascript:alert(1)", Err(TargetError::Scheme)),
            ("/\\evil.test", Err(TargetError::Characters)),
        ] {
            let got = from.joined(location).map(|target| target.to_string());
            assert_eq!(got, want.map(str::to_owned), "{location}");
        }
        assert_eq!(from.authority(), "example.com:8443");
        assert_eq!(from.origin(), "https://example.com:8443");
        assert_eq!(from.path_and_query().unwrap().as_str(), "/a/b?q");
    }
}
