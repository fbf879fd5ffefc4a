//! A grant that was checked: which request may go where, with which headers. Decides and sends nothing.

use super::grant::{HostGrant, HttpGrant, HttpGrantError, HttpMethod};
use super::target::Target;
use backstop_call::Secret;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use std::collections::BTreeMap;
use std::time::Duration;
use url::{Host, Url};

/// Headers that no model sets and no grant lets it set: they decide where a request goes, as whom, or where it ends.
const NEVER_MODELS: [&str; 22] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "cookie2",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "x-http-method-override",
    "x-method-override",
];
/// And those that begin like this.
const NEVER_MODELS_BEGIN: [&str; 3] = ["proxy-", "x-forwarded-", "x-real-"];

/// Headers that nobody sets: they say how the request itself is framed.
const NEVER_OWNERS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// How a request is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// As it is.
    Plain,
    /// With a key, so that twice is once.
    Keyed,
}

/// A grant that was checked.
pub(super) struct Granted {
    hosts: Vec<GrantedHost>,
    model_headers: Vec<HeaderName>,
    pub(super) shown_headers: Vec<HeaderName>,
    pub(super) request_max_bytes: u64,
    pub(super) response_max_bytes: usize,
    pub(super) timeout: Duration,
    pub(super) redirects_max: u32,
}

/// A host that was checked.
pub(super) struct GrantedHost {
    text: String,
    pattern: Pattern,
    is_tls: bool,
    port: u16,
    methods: Vec<HttpMethod>,
    paths: Vec<String>,
    keyed: Vec<HttpMethod>,
    pub(super) private: bool,
    pub(super) headers: HeaderMap,
    pub(super) key_header: HeaderName,
}

enum Pattern {
    Exact(Host),
    /// What ends in this; it begins with a dot.
    Below(String),
}

impl Granted {
    /// Checks a grant. `secret` gives the value of a reference, or says why there is none.
    pub(super) fn check(
        grant: &HttpGrant,
        secret: &dyn Fn(&str) -> Result<Secret, String>,
    ) -> Result<Self, HttpGrantError> {
        let names =
            |names: &[String]| names.iter().map(|name| header_name(name)).collect::<Result<Vec<_>, _>>();
        let model_headers = names(&grant.model_headers)?;
        if let Some(name) = model_headers.iter().find(|name| is_never_models(name)) {
            return Err(HttpGrantError::ModelHeader(name.to_string()));
        }
        if !(1..=3_600).contains(&grant.timeout_seconds) {
            return Err(HttpGrantError::Range("the timeout is between 1 and 3600 seconds"));
        }
        if grant.redirects_max > 20 {
            return Err(HttpGrantError::Range("at most 20 redirects can be followed"));
        }
        let largest = grant.response_max_bytes.max(grant.request_max_bytes);
        if largest > 64 * 1024 * 1024 {
            return Err(HttpGrantError::Range("bodies have at most 67108864 bytes"));
        }
        let hosts =
            grant.hosts.iter().map(|host| GrantedHost::check(host, secret)).collect::<Result<_, _>>()?;
        Ok(Self {
            hosts,
            model_headers,
            shown_headers: names(&grant.shown_headers)?,
            request_max_bytes: grant.request_max_bytes,
            response_max_bytes: usize::try_from(grant.response_max_bytes).unwrap_or(usize::MAX),
            timeout: Duration::from_secs(grant.timeout_seconds),
            redirects_max: grant.redirects_max,
        })
    }

    /// The host that grants a request. The error says what is granted.
    pub(super) fn admit(
        &self,
        target: &Target,
        method: HttpMethod,
        manner: Manner,
    ) -> Result<&GrantedHost, String> {
        if has_hidden_segments(target.path()) {
            return Err(format!(
                "`{target}` is not used: its path hides a slash, a percent sign or dots behind percent-encoding or `;`. \
                 Write the path plainly."
            ));
        }
        let fits = |host: &&GrantedHost| host.grants(target, method, manner);
        self.hosts.iter().find(fits).ok_or_else(|| {
            let granted: Vec<_> = self.hosts.iter().filter_map(|host| host.shown(manner)).collect();
            let granted = if granted.is_empty() { "nothing".to_owned() } else { granted.join("; ") };
            let method = method.as_http();
            format!("{method} {target} is not granted. Granted is: {granted}. Ask for nothing else.")
        })
    }

    /// Whether any host has a method that is of use to this kind of tool.
    pub(super) fn is_of_use(&self, manner: Manner, read: bool) -> bool {
        self.hosts.iter().any(|host| host.methods(manner).iter().any(|method| method.is_read() == read))
    }

    /// The headers that the model sets, if it may.
    pub(super) fn model_headers(&self, given: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let allowed = || {
                let names: Vec<_> = self.model_headers.iter().map(HeaderName::as_str).collect();
                format!(
                    "You may set: {}.",
                    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                )
            };
            let known =
                HeaderName::try_from(name.as_str()).ok().filter(|name| self.model_headers.contains(name));
            let Some(known) = known else {
                return Err(format!("The header `{}` cannot be set. {}", name.escape_debug(), allowed()));
            };
            let value = HeaderValue::try_from(value.as_str()).map_err(|_| {
                format!("The value of the header `{known}` holds a line break or a character that HTTP does not allow.")
            })?;
            if headers.insert(known.clone(), value).is_some() {
                return Err(format!("The header `{known}` is given twice. Give it once."));
            }
        }
        Ok(headers)
    }

    /// A text from outside without the values of the owner's headers in it.
    pub(super) fn scrub(&self, mut text: String) -> String {
        for value in self.hosts.iter().flat_map(|host| host.headers.values()).filter_map(|v| v.to_str().ok())
        {
            // The scheme before a token is no secret, and a server may tell the token alone.
            for secret in [value, value.rsplit(' ').next().unwrap_or(value)] {
                if secret.len() >= 4 && text.contains(secret) {
                    text = text.replace(secret, "[secret]");
                }
            }
        }
        text
    }
}

impl GrantedHost {
    fn check(
        grant: &HostGrant,
        secret: &dyn Fn(&str) -> Result<Secret, String>,
    ) -> Result<Self, HttpGrantError> {
        let (pattern, is_tls, port) = pattern(&grant.host)
            .map_err(|reason| HttpGrantError::Host { host: grant.host.clone(), reason })?;
        if let Some(method) = grant.keyed.iter().find(|method| method.is_read()) {
            return Err(HttpGrantError::KeyedRead(method.as_http().to_string()));
        }
        let paths = grant.paths.iter().map(|path| path_prefix(path)).collect::<Result<_, _>>()?;
        let mut headers = HeaderMap::new();
        let key_header = header_name(&grant.key_header)?;
        for name in grant.headers.keys().chain([&grant.key_header]) {
            if NEVER_OWNERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(HttpGrantError::OwnersHeader(name.clone()));
            }
        }
        for (name, reference) in &grant.headers {
            let fault = |reason: String| HttpGrantError::Secret {
                header: name.clone(),
                host: grant.host.clone(),
                reason,
            };
            let value = secret(reference).map_err(fault)?;
            let mut value = HeaderValue::try_from(value.expose().trim())
                .map_err(|_| fault("its value holds what HTTP does not allow".to_owned()))?;
            value.set_sensitive(true);
            headers.insert(header_name(name)?, value);
        }
        Ok(Self {
            text: grant.host.clone(),
            pattern,
            is_tls,
            port,
            methods: grant.methods.clone(),
            paths,
            keyed: grant.keyed.clone(),
            private: grant.private,
            headers,
            key_header,
        })
    }

    fn grants(&self, target: &Target, method: HttpMethod, manner: Manner) -> bool {
        let is_host = match (&self.pattern, target.host()) {
            (Pattern::Exact(host), given) => host == given,
            (Pattern::Below(end), Host::Domain(name)) => name.ends_with(end.as_str()),
            (Pattern::Below(_), Host::Ipv4(_) | Host::Ipv6(_)) => false,
        };
        let path = target.path();
        let below = |prefix: &String| {
            path == prefix
                || path
                    .strip_prefix(prefix.as_str())
                    .is_some_and(|rest| prefix.ends_with('/') || rest.starts_with('/'))
        };
        is_host
            && self.is_tls == target.is_tls()
            && self.port == target.port()
            && self.methods(manner).contains(&method)
            && self.paths.iter().any(below)
    }

    /// What is keyed is sent with its key only.
    fn methods(&self, manner: Manner) -> Vec<HttpMethod> {
        match manner {
            Manner::Keyed => self.keyed.clone(),
            Manner::Plain => {
                self.methods.iter().filter(|method| !self.keyed.contains(method)).copied().collect()
            }
        }
    }

    fn shown(&self, manner: Manner) -> Option<String> {
        let methods: Vec<_> =
            self.methods(manner).iter().map(|method| method.as_http().to_string()).collect();
        let paths =
            if self.paths.iter().any(|path| path == "/") { String::new() } else { self.paths.join(" ") };
        let shown = format!("{} {} {paths}", methods.join("/"), self.text);
        (!methods.is_empty()).then(|| shown.trim_end().to_owned())
    }
}

/// Reads a host of a grant: what it stands for, whether by TLS, and the port. By the parser that reads the requests.
fn pattern(text: &str) -> Result<(Pattern, bool, u16), String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    let (is_below, rest) = rest.strip_prefix("*.").map_or((false, rest), |rest| (true, rest));
    if rest.contains('*') {
        return Err("a star stands only before the first dot".to_owned());
    }
    let target = Target::parse(&format!("{scheme}://{rest}")).map_err(|error| error.to_string())?;
    let bare =
        Url::parse(&format!("{}/", target.origin())).is_ok_and(|url| url.as_str() == target.to_string());
    if !bare || rest.ends_with('/') {
        return Err("it has a path or a query; paths are granted by `paths`".to_owned());
    }
    let pattern = match (is_below, target.host()) {
        (false, host) => Pattern::Exact(host.clone()),
        (true, Host::Domain(name)) if name.contains('.') => Pattern::Below(format!(".{name}")),
        (true, Host::Domain(_)) => return Err("that would be a whole top-level domain".to_owned()),
        (true, Host::Ipv4(_) | Host::Ipv6(_)) => return Err("nothing is below an address".to_owned()),
    };
    Ok((pattern, target.is_tls(), target.port()))
}

fn path_prefix(text: &str) -> Result<String, HttpGrantError> {
    let bad = || HttpGrantError::Path(text.to_owned());
    let read = Target::parse(&format!("https://h{text}")).map_err(|_| bad())?;
    let same = read.path() == text && text.starts_with('/') && !has_hidden_segments(text);
    same.then(|| text.to_owned()).ok_or_else(bad)
}

/// Whether a server that decodes a path once more could see other segments in it than we do.
fn has_hidden_segments(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    let encoded = ["%2f", "%5c", "%25", "%2e", "%00"].iter().any(|hidden| lower.contains(hidden));
    encoded || path.split('/').any(|segment| segment.starts_with("..") || segment.starts_with(".;"))
}

fn header_name(name: &str) -> Result<HeaderName, HttpGrantError> {
    HeaderName::try_from(name).map_err(|_| HttpGrantError::HeaderName(name.to_owned()))
}

fn is_never_models(name: &HeaderName) -> bool {
    let name = name.as_str();
    NEVER_MODELS.contains(&name) || NEVER_MODELS_BEGIN.iter().any(|begin| name.starts_with(begin))
}

#[cfg(test)]
mod tests;
