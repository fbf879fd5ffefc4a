//! Which requests a grant lets through, as tables.

use super::HttpMethod::{Delete, Get, Head, Post};
use super::Manner::{Keyed, Plain};
use super::*;

fn checked(grant: &HttpGrant) -> Result<Granted, HttpGrantError> {
    Granted::check(grant, &|reference| match reference {
        "env:TOKEN" => Ok(Secret::new("Bearer canary-token\n")),
        "env:BROKEN" => Ok(Secret::new("a\nb")),
        other => Err(format!("{other} is not set")),
    })
}

fn hosts(hosts: Vec<HostGrant>) -> HttpGrant {
    HttpGrant { hosts, ..HttpGrant::default() }
}

fn host(host: &str) -> HostGrant {
    HostGrant::new(host)
}

#[test]
fn what_a_host_grants() {
    let api = HostGrant {
        methods: vec![Get, Post],
        paths: vec!["/v1".to_owned(), "/files/".to_owned()],
        keyed: vec![Post],
        ..host("api.example.com")
    };
    let granted = checked(&hosts(vec![
        api,
        host("*.docs.test"),
        host("http://10.0.0.5:8080"),
        host("https://[::1]:8443"),
        host("bücher.example"),
    ]))
    .unwrap();
    for (method, url, manner, want) in [
        (Get, "https://api.example.com/v1", Plain, true),
        (Get, "https://API.example.com:443/v1/x?y=/../z", Plain, true),
        (Get, "https://api.example.com/files/x", Plain, true),
        (Get, "https://api.example.com/files", Plain, false),
        (Get, "https://api.example.com/v10", Plain, false),
        (Get, "https://api.example.com/v1/../admin", Plain, false),
        (Get, "https://api.example.com/v1/%2e%2e/admin", Plain, false),
        (Get, "https://api.example.com/v1/..%2fadmin", Plain, false),
        (Get, "https://api.example.com/v1/%252e%252e/admin", Plain, false),
        (Get, "https://api.example.com/v1/..;/admin", Plain, false),
        (Get, "https://api.example.com/v1/%5c..%5cadmin", Plain, false),
        (Head, "https://api.example.com/v1", Plain, false),
        (Post, "https://api.example.com/v1", Plain, false),
        (Post, "https://api.example.com/v1", Keyed, true),
        (Get, "https://api.example.com/v1", Keyed, false),
        (Delete, "https://api.example.com/v1", Plain, false),
        (Get, "http://api.example.com/v1", Plain, false),
        (Get, "https://api.example.com:8443/v1", Plain, false),
        (Get, "https://api.example.com.evil.test/v1", Plain, false),
        (Get, "https://xapi.example.com/v1", Plain, false),
        (Get, "https://a.docs.test/", Plain, true),
        (Get, "https://a.b.docs.test/", Plain, true),
        (Get, "https://docs.test/", Plain, false),
        (Get, "https://xdocs.test/", Plain, false),
        (Get, "http://10.0.0.5:8080/", Plain, true),
        (Get, "http://0x0a.5:8080/", Plain, true),
        (Get, "http://10.0.0.5/", Plain, false),
        (Get, "http://[::ffff:10.0.0.5]:8080/", Plain, false),
        (Get, "https://[0:0::1]:8443/", Plain, true),
        (Get, "https://xn--bcher-kva.example/", Plain, true),
    ] {
        let target = Target::parse(url).unwrap();
        assert_eq!(granted.admit(&target, method, manner).is_ok(), want, "{method:?} {url} {manner:?}");
    }
    let refused = granted.admit(&Target::parse("https://evil.test/").unwrap(), Get, Plain).err().unwrap();
    expect_test::expect!["GET https://evil.test/ is not granted. Granted is: GET api.example.com /v1 /files/; GET/HEAD *.docs.test; GET/HEAD http://10.0.0.5:8080; GET/HEAD https://[::1]:8443; GET/HEAD bücher.example. Ask for nothing else."].assert_eq(&refused);
}

#[test]
fn grants_that_cannot_be() {
    let with = |change: fn(&mut HostGrant)| {
        let mut grant = host("h.test");
        change(&mut grant);
        hosts(vec![grant])
    };
    for (grant, want) in [
        (hosts(vec![host("*")]), "`*` is no host: a star stands only before the first dot"),
        (hosts(vec![host("*.com")]), "`*.com` is no host: that would be a whole top-level domain"),
        (hosts(vec![host("*.10.0.0.1")]), "`*.10.0.0.1` is no host: nothing is below an address"),
        (hosts(vec![host("a.*.test")]), "`a.*.test` is no host: a star stands only before the first dot"),
        (
            hosts(vec![host("h.test/v1")]),
            "`h.test/v1` is no host: it has a path or a query; paths are granted by `paths`",
        ),
        (
            hosts(vec![host("ftp://h.test")]),
            "`ftp://h.test` is no host: only http:// and https:// are spoken",
        ),
        (
            hosts(vec![host("u:p@h.test")]),
            "`u:p@h.test` is no host: it holds a user or password before the host; leave them out",
        ),
        (with(|host| host.paths = vec!["v1".into()]), "`v1` is no beginning of a path; write it like /v1"),
        (
            with(|host| host.paths = vec!["/a/../b".into()]),
            "`/a/../b` is no beginning of a path; write it like /v1",
        ),
        (with(|host| host.keyed = vec![Get]), "`GET` only reads: it cannot be keyed"),
        (
            with(|host| drop(host.headers.insert("x-key".into(), "env:NONE".into()))),
            "the header `x-key` for `h.test`: env:NONE is not set",
        ),
        (
            with(|host| drop(host.headers.insert("x-key".into(), "env:BROKEN".into()))),
            "the header `x-key` for `h.test`: its value holds what HTTP does not allow",
        ),
        (
            with(|host| drop(host.headers.insert("x key".into(), "env:TOKEN".into()))),
            "`x key` is no name of a header",
        ),
        (
            with(|host| drop(host.headers.insert("Content-Length".into(), "env:TOKEN".into()))),
            "the header `Content-Length` cannot be set: it says how the request is sent",
        ),
        (
            with(|host| host.key_header = "host".into()),
            "the header `host` cannot be set: it says how the request is sent",
        ),
        (
            HttpGrant { model_headers: vec!["Authorization".into()], ..HttpGrant::default() },
            "a model must not set the header `authorization`",
        ),
        (
            HttpGrant { model_headers: vec!["X-Forwarded-For".into()], ..HttpGrant::default() },
            "a model must not set the header `x-forwarded-for`",
        ),
        (
            HttpGrant { timeout_seconds: 0, ..HttpGrant::default() },
            "the timeout is between 1 and 3600 seconds",
        ),
    ] {
        let got = checked(&grant).err().map(|error| error.to_string());
        assert_eq!(got.as_deref(), Some(want));
    }
    let unknown = serde_json::json!({"hosts": [{"host": "h.test", "methods": ["TRACE"]}]});
    assert!(serde_json::from_value::<HttpGrant>(unknown).is_err());
}

#[test]
fn the_models_headers() {
    let granted = checked(&HttpGrant::default()).unwrap();
    let set = |name: &str, value: &str| {
        let given = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        granted.model_headers(&given).map(|headers| format!("{headers:?}"))
    };
    assert_eq!(set("Accept", "text/html").unwrap(), "{\"accept\": \"text/html\"}");
    for name in
        ["host", "Authorization", "cookie", "transfer-encoding", "content-length", "x-any", "a: b\r\nhost"]
    {
        let refused = set(name, "x").unwrap_err();
        assert!(refused.contains("cannot be set. You may set: accept,"), "{refused}");
    }
    assert!(set("accept", "a\r\nhost: evil").unwrap_err().contains("holds a line break"));
    let twice = ["accept", "Accept"].map(|name| (name.to_owned(), "x".to_owned()));
    assert!(granted.model_headers(&BTreeMap::from(twice)).unwrap_err().contains("given twice"));
}

#[test]
fn the_owners_headers_are_scrubbed_from_what_comes_back() {
    let mut owned = host("h.test");
    owned.headers.insert("authorization".to_owned(), "env:TOKEN".to_owned());
    let granted = checked(&hosts(vec![owned])).unwrap();
    let told = "you sent Bearer canary-token and canary-token".to_owned();
    assert_eq!(granted.scrub(told), "you sent [secret] and [secret]");
    assert!(!format!("{:?}", granted.hosts[0].headers).contains("canary"));
}
