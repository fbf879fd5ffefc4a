//! Who comes in and who does not, over a journal in memory.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use super::*;
use crate::config::{Problem, sections};
use backstop_call::{
    ApprovalId, BoxFuture, Context, KeyLimits, KeyName, Labels, Money, Priority, RunId, Timestamp,
};
use backstop_journal::event::{KeyCreated, KeyFirstUsedFrom, KeyHash, KeyRight, KeyScope, RunErased};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::keys::{KeyRecord, Keys};
use backstop_journal::{
    Append, Durability, Epoch, Erase, Event, EventBody, Head, Journal, JournalError, ListedRun, Position,
    RunFilter, Seq, StreamId,
};
use backstop_store::MemoryStore;
use expect_test::expect;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// 2026-11-22T12:00:00Z.
const START: Timestamp = Timestamp::from_secs(1_795_348_800);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Keys as they are made, looked up and used.
struct Desk {
    journal: MemoryStore,
    watch: KeyWatch,
}

impl Desk {
    fn new() -> Self {
        Self { journal: MemoryStore::new(), watch: KeyWatch::default() }
    }

    async fn create(&mut self, name: &str, scope: KeyScope) -> String {
        let new = NewKey { name: name.into(), scope, by: "ann".into() };
        let made = create(&self.journal, new, START).await.unwrap();
        self.look().await;
        made.secret.expose().to_owned()
    }

    async fn rotate(&mut self, name: &str, overlap: Duration, now: Timestamp) -> String {
        let made = rotate(&self.journal, &name.into(), overlap, "ann", now).await.unwrap();
        self.look().await;
        made.secret.expose().to_owned()
    }

    async fn look(&mut self) -> bool {
        self.watch.refresh(&self.journal).await.unwrap().is_some()
    }

    fn find(&self, secret: &str, now: Timestamp) -> Result<Arc<Key>, KeyRefusal> {
        self.watch.ring().find(secret, now)
    }

    fn record(&self, name: &str) -> &KeyRecord {
        self.watch.keys().get(&name.into()).unwrap()
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn from_home(model: Option<&str>) -> Asking<'_> {
    Asking { peer: ip("10.1.2.3"), environment: Some("prod"), right: KeyRight::Call, model }
}

/// A scope with everything in it.
fn narrow() -> KeyScope {
    KeyScope {
        right: KeyRight::Call,
        role: Some("clerk".into()),
        models: vec!["claude-haiku-*".into(), "mini".into()],
        agents: Vec::new(),
        budget: KeyLimits { day: Some(Money::from_dollars(5)), whole: Some(Money::from_dollars(9)) },
        requests_per_minute: Some(2),
        tokens_per_minute: Some(1_000),
        concurrent: Some(2),
        from: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        environment: Some("prod".into()),
        priority: Some(Priority::Batch),
        labels: Labels::untrusted(),
        expires: Some(START + 30 * DAY),
    }
}

fn shown(refusal: &KeyRefusal) -> String {
    let Problem { code, message, hint, .. } = refusal.clone().into();
    let wait = refusal.retry_after().map_or(String::new(), |wait| format!(", retry after {wait:?}"));
    format!("{} {code}{wait}: {message}\n  hint: {hint}\n", refusal.status())
}

#[tokio::test]
async fn every_refusal_says_what_is_wrong_and_what_to_do() {
    let mut desk = Desk::new();
    let secret = desk.create("ci", narrow()).await;
    let newer = desk.rotate("ci", DAY, START).await;
    let revoked = desk.create("gone", KeyScope::default()).await;
    revoke(&desk.journal, &"gone".into(), "ann", START).await.unwrap();
    desk.look().await;
    let now = START + HOUR;
    let used = |asking: Asking<'_>| admit(desk.find(&newer, now).unwrap(), &asking).unwrap_err();
    let elsewhere = |peer| Asking { peer: ip(peer), ..from_home(None) };
    let place = |environment| Asking { environment, ..from_home(None) };
    let long = "x".repeat(10_000);
    let mut refusals = vec![
        desk.find("", now).unwrap_err(),
        desk.find("sk-ant-something", now).unwrap_err(),
        desk.find(&secret[..43], now).unwrap_err(),
        desk.find(&secret.repeat(1_000), now).unwrap_err(),
        desk.find(&revoked, now).unwrap_err(),
        desk.find(&newer, START + 30 * DAY).unwrap_err(),
        desk.find(&secret, START + DAY).unwrap_err(),
        used(elsewhere("203.0.113.9")),
        used(elsewhere("::ffff:203.0.113.9")),
        used(place(Some("staging"))),
        used(place(None)),
        used(from_home(Some("claude-opus-5"))),
        used(from_home(Some(&long))),
    ];
    let admitted = admit(desk.find(&newer, now).unwrap(), &from_home(Some("mini"))).unwrap();
    let passes = [admitted.enter(now, 500).unwrap(), admitted.enter(now, 500).unwrap()];
    refusals.push(admitted.enter(now, 1).unwrap_err());
    drop(passes);
    refusals.push(admitted.enter(now, 1).unwrap_err());
    refusals.push(admitted.enter(now + 30 * Duration::from_secs(1), 600).unwrap_err());
    let text: String = refusals.iter().map(shown).collect();
    expect![[r#"
        401 BS6001: there is no key in the request
          hint: send a key as `x-api-key` or `authorization: Bearer`; `backstop keys create` makes one
        401 BS6002: the key is none of this gateway's
          hint: check what the client sends; `backstop keys list` shows how each key begins
        401 BS6002: the key is none of this gateway's
          hint: check what the client sends; `backstop keys list` shows how each key begins
        401 BS6002: the key is none of this gateway's
          hint: check what the client sends; `backstop keys list` shows how each key begins
        401 BS6003: key gone was revoked
          hint: make another one with `backstop keys create`
        401 BS6004: key ci expired at 2026-12-22T12:00:00.000Z
          hint: make another one with `backstop keys create`
        401 BS6005: this secret of key ci was replaced, and was good until 2026-11-23T12:00:00.000Z
          hint: give the client the secret that `backstop keys rotate` printed
        403 BS6006: key ci may not be used from 203.0.113.9
          hint: call from an address the key is for, or make a key with another `--from`
        403 BS6006: key ci may not be used from 203.0.113.9
          hint: call from an address the key is for, or make a key with another `--from`
        403 BS6007: key ci is for prod, this gateway is staging
          hint: use a key of this environment; `keys.environment` in the config names it
        403 BS6007: key ci is for prod, this gateway is of no environment
          hint: use a key of this environment; `keys.environment` in the config names it
        403 BS6008: key ci may not ask for `claude-opus-5`
          hint: ask for a model the key is for, or make a key with another `--model`; it is for claude-haiku-* mini
        403 BS6008: key ci may not ask for `X100`
          hint: ask for a model the key is for, or make a key with another `--model`; it is for claude-haiku-* mini
        429 BS6009, retry after 1s: key ci has used up its 2 calls at the same time
          hint: wait as long as `retry-after` says, or make a key with higher limits
        429 BS6009, retry after 30s: key ci has used up its 2 requests per minute
          hint: wait as long as `retry-after` says, or make a key with higher limits
        429 BS6009, retry after 6s: key ci has used up its 1000 tokens per minute
          hint: wait as long as `retry-after` says, or make a key with higher limits
    "#]].assert_eq(&text.replace(&long[..100], "X100"));
}

#[tokio::test]
async fn what_a_key_is_for_comes_in() {
    let mut desk = Desk::new();
    let secret = desk.create("ci", narrow()).await;
    let free = desk.create("free", KeyScope::default()).await;
    for (secret, peer, environment, model) in [
        (&secret, "10.1.2.3", Some("prod"), Some("mini")),
        (&secret, "::ffff:10.1.2.3", Some("prod"), Some("claude-haiku-4-5")),
        (&secret, "2001:db8::1", Some("prod"), None),
        (&free, "203.0.113.9", None, Some("anything")),
        (&free, "::1", Some("staging"), None),
    ] {
        let asking = Asking { peer: ip(peer), environment, right: KeyRight::Call, model };
        let admitted = admit(desk.find(secret, START).unwrap(), &asking);
        assert!(admitted.is_ok(), "{asking:?}: {admitted:?}");
    }
}

#[tokio::test]
async fn what_a_key_pins_goes_before_what_a_request_asks_for() {
    let mut desk = Desk::new();
    let secret = desk.create("ci", narrow()).await;
    let free = desk.create("free", KeyScope::default()).await;
    let asked = Context {
        task: Some("t1".into()),
        role: Some("owner".into()),
        priority: Priority::Interactive,
        labels: Labels::private(backstop_call::Category::Health),
        ..Context::default()
    };
    let context = |secret: &str| {
        admit(desk.find(secret, START).unwrap(), &from_home(None)).unwrap().context(asked.clone())
    };
    let pinned = Context {
        role: Some("clerk".into()),
        key: Some("ci".into()),
        key_limits: narrow().budget,
        priority: Priority::Batch,
        labels: asked.labels.clone().joined(&Labels::untrusted()),
        ..asked.clone()
    };
    assert_eq!(context(&secret), pinned);
    assert_eq!(context(&free), Context { key: Some("free".into()), ..asked.clone() });
}

#[tokio::test]
async fn both_secrets_are_good_until_the_overlap_is_over() {
    let mut desk = Desk::new();
    let old = desk.create("ci", KeyScope::default()).await;
    let new = desk.rotate("ci", DAY, START).await;
    let almost = START + DAY - Duration::from_nanos(1);
    assert!(desk.find(&old, almost).is_ok() && desk.find(&new, almost).is_ok());
    assert_eq!(
        desk.find(&old, START + DAY).unwrap_err(),
        KeyRefusal::Replaced("ci".into(), START + DAY),
        "not a moment longer"
    );
    let newest = desk.rotate("ci", Duration::ZERO, START + HOUR).await;
    for replaced in [&old, &new] {
        let refused = desk.find(replaced, START + HOUR).unwrap_err();
        assert_eq!(refused, KeyRefusal::Replaced("ci".into(), START + HOUR), "no overlap ends them all");
    }
    assert!(desk.find(&newest, START + HOUR).is_ok());
}

#[tokio::test]
async fn a_revocation_acts_with_the_next_look_and_limits_go_on() {
    let mut desk = Desk::new();
    let secret = desk.create("ci", KeyScope { concurrent: Some(1), ..KeyScope::default() }).await;
    assert!(!desk.look().await, "nothing is new");
    let first = admit(desk.find(&secret, START).unwrap(), &from_home(None)).unwrap();
    let pass = first.enter(START, 10).unwrap();
    desk.create("other", KeyScope::default()).await;
    let again = admit(desk.find(&secret, START).unwrap(), &from_home(None)).unwrap();
    assert!(!Arc::ptr_eq(first.key(), again.key()), "it is another ring");
    assert!(again.enter(START, 10).is_err(), "the call of the old ring still holds its place");
    pass.settle(3);
    assert!(again.enter(START, 10).is_ok());
    // Another process revokes it.
    revoke(&desk.journal.peer(), &"ci".into(), "bob", START).await.unwrap();
    assert!(desk.find(&secret, START).is_ok(), "not seen yet");
    assert!(desk.look().await);
    assert_eq!(desk.find(&secret, START).unwrap_err(), KeyRefusal::Revoked("ci".into()));
}

#[tokio::test]
async fn an_address_is_told_once_whoever_saw_it() {
    let mut desk = Desk::new();
    let secret = desk.create("ci", KeyScope::default()).await;
    let key = desk.find(&secret, START).unwrap();
    let seen = |address: &str| key.first_use(ip(address)).map(|event| event.address.to_string());
    assert_eq!(seen("::ffff:192.0.2.7"), Some("192.0.2.7".to_owned()));
    assert_eq!(seen("192.0.2.7"), None);
    // Another gateway on the same journal saw this one.
    let event = KeyFirstUsedFrom { key: "ci".into(), address: ip("192.0.2.8") };
    append(&desk.journal, event).await;
    assert!(!desk.look().await, "no key changed");
    assert_eq!(seen("192.0.2.8"), None);
    // A process that starts later knows both that were appended.
    append(&desk.journal, KeyFirstUsedFrom { key: "ci".into(), address: ip("192.0.2.7") }).await;
    let later = KeyWatch::open(&desk.journal).await.unwrap();
    let key = later.ring().find(&secret, START).unwrap();
    let new = ["192.0.2.7", "192.0.2.8", "192.0.2.9"].map(|address| key.first_use(ip(address)).is_some());
    assert_eq!(new, [false, false, true]);
}

async fn append(journal: &MemoryStore, event: impl Into<EventBody>) {
    let (stream, events, durability) = (StreamId::Keys, vec![event.into()], Durability::Synced);
    journal.append(Append { stream, epoch: None, events, at: START, durability }).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_and_changes_nothing() {
    let mut desk = Desk::new();
    desk.create("ci", KeyScope::default()).await;
    desk.create("short", KeyScope { expires: Some(START + DAY), ..KeyScope::default() }).await;
    desk.create("gone", KeyScope::default()).await;
    revoke(&desk.journal, &"gone".into(), "ann", START).await.unwrap();
    let before = desk.journal.read(&StreamId::Keys, 0).await.unwrap().len();
    let new = |name: &str, scope| NewKey { name: name.into(), scope, by: "ann".into() };
    let with_model = |model: &str| KeyScope { models: vec![model.into()], ..KeyScope::default() };
    let journal = &desk.journal;
    let late = START + DAY;
    let past = KeyScope { expires: Some(START), ..KeyScope::default() };
    let errors = [
        create(journal, new("ci", KeyScope::default()), START).await.unwrap_err(),
        create(journal, new("gone", KeyScope::default()), START).await.unwrap_err(),
        create(journal, new("new", past), START).await.unwrap_err(),
        create(journal, new("new", with_model("a b")), START).await.unwrap_err(),
        rotate(journal, &"cii".into(), DAY, "ann", START).await.unwrap_err(),
        rotate(journal, &"gone".into(), DAY, "ann", START).await.unwrap_err(),
        rotate(journal, &"short".into(), DAY, "ann", late).await.unwrap_err(),
        revoke(journal, &"shrt".into(), "ann", START).await.unwrap_err(),
    ];
    let told = |error| {
        let Problem { code, message, hint, .. } = Problem::from(error);
        format!("{code}: {message}\n  hint: {hint}\n")
    };
    expect![[r#"
        BS6010: there is a key ci already
          hint: choose another name: a name is never used again
        BS6010: there is a key gone already, and it was revoked
          hint: choose another name: a name is never used again
        BS1011: the key would have expired at 2026-11-22T12:00:00.000Z already
          hint: give a span from now, like 30d, or a date to come
        BS1011: `a b` names no model: a name is one word, where `*` stands for any letters: claude-*, mini, *
          hint: write `--model claude-*`, once for each name
        BS6011: there is no key `cii`
          hint: did you mean `ci`? keys: ci, gone, short
        BS6003: key gone was revoked
          hint: make another one with `backstop keys create`
        BS6004: key short expired at 2026-11-23T12:00:00.000Z
          hint: make another one with `backstop keys create`
        BS6011: there is no key `shrt`
          hint: did you mean `short`? keys: ci, gone, short
    "#]]
    .assert_eq(&errors.into_iter().map(told).collect::<String>());
    assert_eq!(desk.journal.read(&StreamId::Keys, 0).await.unwrap().len(), before);
    let again = revoke(&desk.journal, &"gone".into(), "bob", late).await.unwrap();
    assert_eq!(again.revoked.unwrap().by, "ann", "the first one ended it");
    assert_eq!(desk.journal.read(&StreamId::Keys, 0).await.unwrap().len(), before);
}

/// A journal in which another process makes the key `ci` between our look and our append.
struct Overtaken(MemoryStore);

impl Journal for Overtaken {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Head, JournalError>> {
        let (key, hash) = ("ci".into(), KeyHash::of("theirs"));
        let (prefix, scope, by) = ("bsk_theirs".into(), KeyScope::default(), "bob".into());
        let theirs = vec![KeyCreated { key, hash, prefix, scope, by }.into()];
        drop(self.0.append(Append { events: theirs, ..append.clone() }));
        self.0.append(append)
    }

    fn read(&self, stream: &StreamId, after: Seq) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.0.read(stream, after)
    }

    fn tail(&self, after: Position, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.0.tail(after, limit)
    }

    fn part(
        &self,
        stream: &StreamId,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.0.part(stream, after, limit)
    }

    fn end(&self) -> BoxFuture<'_, Result<Position, JournalError>> {
        self.0.end()
    }

    fn asked_by(&self, approval: &ApprovalId) -> BoxFuture<'_, Result<Option<RunId>, JournalError>> {
        self.0.asked_by(approval)
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<ListedRun>, JournalError>> {
        self.0.list(filter)
    }

    fn runs(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, JournalError>> {
        self.0.runs(filter)
    }

    fn claim(&self, run: &RunId, at: Timestamp) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        self.0.claim(run, at)
    }

    fn release(&self, run: &RunId, epoch: Epoch) -> BoxFuture<'_, Result<(), JournalError>> {
        self.0.release(run, epoch)
    }

    fn erase(&self, erase: Erase) -> BoxFuture<'_, Result<RunErased, JournalError>> {
        self.0.erase(erase)
    }

    fn verify(&self, stream: &StreamId) -> BoxFuture<'_, Result<Head, JournalError>> {
        self.0.verify(stream)
    }
}

#[tokio::test]
async fn whoever_appends_second_is_shown_no_secret() {
    let journal = Overtaken(MemoryStore::new());
    let new = NewKey { name: "ci".into(), scope: KeyScope::default(), by: "ann".into() };
    let error = create(&journal, new, START).await.unwrap_err();
    assert_eq!(error.to_string(), "there is a key ci already");
    let watch = KeyWatch::open(&journal).await.unwrap();
    assert_eq!(watch.ring().find("theirs", START).unwrap().name().as_str(), "ci");
    assert_eq!(watch.keys().get(&"ci".into()).unwrap().created_by, "bob");
}

#[test]
fn names_of_keys() {
    let long = "x".repeat(65);
    for name in ["ci", "CI-2", "0", "a.b_c-d", &long[..64]] {
        assert_eq!(key_name(name), Ok(KeyName::from(name)));
    }
    for name in ["", "-ci", ".ci", "a b", "a/b", "a@b", "\u{fc}", "a\n", &long, "bsk_4f9a2c"] {
        assert!(key_name(name).is_err(), "{name}");
    }
}

#[tokio::test]
async fn old_keys_and_keys_that_end_soon_are_warned_of() {
    let mut desk = Desk::new();
    let soon = |days| KeyScope { expires: Some(START + days * DAY), ..KeyScope::default() };
    desk.create("both", soon(95)).await;
    desk.create("ended", soon(30)).await;
    desk.create("fresh", KeyScope::default()).await;
    desk.create("gone", soon(95)).await;
    desk.create("old", KeyScope::default()).await;
    desk.rotate("fresh", DAY, START + 10 * DAY).await;
    revoke(&desk.journal, &"gone".into(), "ann", START).await.unwrap();
    desk.look().await;
    let told = |days| {
        let all = warnings(desk.watch.keys(), START + days * DAY, &sections::Keys::default());
        all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert_eq!([told(0), told(15)], ["", ""]);
    expect!["key ended: it expires at 2026-12-22T12:00:00.000Z"].assert_eq(&told(16));
    expect![[r#"
        key both: its secret is 91 days old; `backstop keys rotate` makes a new one
        key both: it expires at 2027-02-25T12:00:00.000Z
        key old: its secret is 91 days old; `backstop keys rotate` makes a new one"#]]
    .assert_eq(&told(91));
    assert!(!told(95).contains("both"), "what is over worries nobody");
    assert_eq!(desk.record("fresh").secret_since, START + 10 * DAY);
}

#[test]
fn an_empty_ring_says_so() {
    let ring = KeyRing::new(&Keys::default(), &KeyRing::default());
    assert!(ring.is_empty());
    assert_eq!(ring.find("bsk_x", START).unwrap_err(), KeyRefusal::Unknown);
}
