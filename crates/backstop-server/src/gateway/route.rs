//! Every route there is, in one table: what is not in it is refused. A model call is a [`Route::Call`] and nothing else is;
//! all of them go through `call.rs`, and so through the stack.

use backstop_call::{Dialect, Purpose};
use http::Method;

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// A model, in this dialect.
    Call(Dialect, Purpose),
    /// The models there are, or one of them.
    Models,
    /// A client looks whether somebody is there.
    Hello,
    /// Whether the process lives.
    Live,
    /// Whether it can answer calls.
    Ready,
    /// How each part of it is.
    Health,
    /// The figures for a scraper.
    Metrics,
}

/// A path and the methods it takes.
pub(crate) struct Entry {
    /// The path; one that ends in `/*` takes any single name there.
    pub(crate) path: &'static str,
    /// The methods.
    pub(crate) methods: &'static [Method],
    /// What it is.
    pub(crate) route: Route,
}

const fn entry(path: &'static str, methods: &'static [Method], route: Route) -> Entry {
    Entry { path, methods, route }
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const POST: &[Method] = &[Method::POST];

/// All of them.
pub(crate) const ROUTES: &[Entry] = &[
    entry("/v1/messages", POST, Route::Call(Dialect::Messages, Purpose::Answer)),
    entry("/v1/messages/count_tokens", POST, Route::Call(Dialect::Messages, Purpose::Count)),
    entry("/v1/chat/completions", POST, Route::Call(Dialect::Chat, Purpose::Answer)),
    entry("/v1/responses", POST, Route::Call(Dialect::Responses, Purpose::Answer)),
    entry("/v1/models", READ, Route::Models),
    entry("/v1/models/*", READ, Route::Models),
    entry("/", READ, Route::Hello),
    entry("/api/hello", READ, Route::Hello),
    entry("/livez", READ, Route::Live),
    entry("/readyz", READ, Route::Ready),
    entry("/api/health", READ, Route::Health),
    entry("/metrics", READ, Route::Metrics),
];

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Here.
    Route(Route),
    /// To a path that takes other methods: these.
    OtherMethod(&'static [Method]),
    /// Nowhere.
    Nothing,
}

/// Looks a path up.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    let Some(entry) = ROUTES.iter().find(|entry| takes(entry.path, path)) else { return Found::Nothing };
    if entry.methods.contains(method) { Found::Route(entry.route) } else { Found::OtherMethod(entry.methods) }
}

fn takes(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        None => pattern == path,
        Some(front) => path.strip_prefix(front).is_some_and(|name| !name.is_empty() && !name.contains('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        let rows = [
            (Method::POST, "/v1/messages", Found::Route(Route::Call(Dialect::Messages, Purpose::Answer))),
            (Method::GET, "/v1/messages", Found::OtherMethod(POST)),
            (Method::POST, "/v1/messages/", Found::Nothing),
            (Method::GET, "/v1/models/claude-opus", Found::Route(Route::Models)),
            (Method::GET, "/v1/models/a/b", Found::Nothing),
            (Method::HEAD, "/", Found::Route(Route::Hello)),
            (Method::POST, "/v1/embeddings", Found::Nothing),
        ];
        for (method, path, want) in rows {
            assert_eq!(find(&method, path), want, "{method} {path}");
        }
    }
}
