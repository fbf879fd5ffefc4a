//! What every journal and every ledger does, in memory as in a file.

use super::sample::{
    append, at, created, erase, nanos, over, own, reserve, returned, spoken, started, stream, text, total,
};
use backstop_allowance::{Balance, Ledger, LedgerError, Resolution, Settled};
use backstop_call::{BoxFuture, Money, RunId, Timestamp};
use backstop_journal::event::{ApprovalRequested, RunCreated, RunErased, RunStatus, ToolFinished};
use backstop_journal::projections::numbers::{By, Family, Grain, Kept, OVERFLOW, SERIES_MAX, Slice, Window};
use backstop_journal::{
    Append, BlobHash, Body, Durability, EventBody, Journal, JournalError, RunFilter, StreamId, Tally,
};
use backstop_store::{LedgerMode, MemoryLedger, MemoryStore, Observer, SqliteStore, StoreOptions};
use std::sync::{Arc, Mutex};

/// A store with the means to look at it from outside.
struct World {
    journal: Arc<dyn Journal>,
    ledger: Arc<dyn Ledger>,
    tally: Arc<dyn Tally>,
    /// The same store as another process sees it.
    peer: Box<dyn Fn() -> Arc<dyn Journal>>,
    erase: Box<dyn Fn(BlobHash) -> BoxFuture<'static, bool>>,
    observe: Box<dyn Fn(Observer)>,
    _dir: Option<tempfile::TempDir>,
}

fn memory() -> World {
    let store = MemoryStore::new();
    let (other, eraser, told, tally) = (store.clone(), store.clone(), store.clone(), store.clone());
    World {
        journal: Arc::new(store),
        ledger: Arc::new(MemoryLedger::new()),
        tally: Arc::new(tally),
        peer: Box::new(move || Arc::new(other.peer())),
        erase: Box::new(move |hash| Box::pin(std::future::ready(eraser.erase_blob(&hash)))),
        observe: Box::new(move |observer| told.observe(observer)),
        _dir: None,
    }
}

async fn sqlite() -> World {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("j.db");
    let store = SqliteStore::open(&path, StoreOptions::default()).unwrap();
    let (ledger, _) = store.ledger(LedgerMode::Written, at(1)).await.unwrap();
    let (eraser, told, tally) = (store.clone(), store.clone(), store.clone());
    World {
        journal: Arc::new(store),
        ledger: Arc::new(ledger),
        tally: Arc::new(tally),
        peer: Box::new(move || Arc::new(SqliteStore::open(&path, StoreOptions::default()).unwrap())),
        erase: Box::new(move |hash| {
            let store = eraser.clone();
            Box::pin(async move { store.erase_blob(hash).await.unwrap() })
        }),
        observe: Box::new(move |observer| told.observe(observer)),
        _dir: Some(dir),
    }
}

macro_rules! over_every_store {
    ($($name:ident)*) => {
        mod in_memory { $(#[tokio::test] async fn $name() { super::$name(super::memory()).await } )* }
        mod in_sqlite { $(#[tokio::test] async fn $name() { super::$name(super::sqlite().await).await } )* }
    };
}

over_every_store! {
    observers_are_told_what_was_committed_in_its_order_and_nothing_else
    appends_in_order
    an_append_is_all_or_nothing
    a_dropped_append_is_made
    reads_and_tails
    fences_off_old_epochs
    claims
    large_bodies_can_be_erased
    lists_runs
    finds_runs
    pages_through_runs
    an_erased_task_is_not_found
    erases_what_a_run_said
    erases_no_run_that_may_go_on
    a_large_body_goes_with_the_last_run_that_has_it
    what_comes_after_an_erasure_is_erased_by_the_next
    knows_who_asked
    one_failure_is_alone
    reserves_in_all_or_none
    ends_a_reservation_once
    suspense_counts_until_corrected
    a_dropped_reservation_holds_nothing
    counts_every_event_once
    forgets_what_is_kept_no_longer
    counts_what_is_too_much_together
}

async fn appends_in_order(world: World) {
    let journal = &world.journal;
    let durability = [Durability::Queued, Durability::Written, Durability::Synced];
    let appends: Vec<_> = (0..30)
        .map(|n| {
            let events = vec![started(&format!("{n}.a")), started(&format!("{n}.b"))];
            let append = append("r", None, events);
            journal.append(Append { durability: durability[n % 3], ..append })
        })
        .collect();
    // Awaited backwards: the order is that of the calls.
    for (n, append) in appends.into_iter().enumerate().rev() {
        assert_eq!(append.await.unwrap().seq, n as u64 * 2 + 2);
    }
    let events = journal.read(&stream("r"), 0).await.unwrap();
    let ids: Vec<_> = events.iter().map(|event| event.body.clone()).collect();
    let want: Vec<_> =
        (0..30).flat_map(|n| [started(&format!("{n}.a")), started(&format!("{n}.b"))]).collect();
    assert_eq!(ids, want);
    assert!(events.iter().zip(1..).all(|(event, seq)| event.seq == seq));
    assert!(events.windows(2).all(|pair| pair[0].position < pair[1].position));
    let head = journal.verify(&stream("r")).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!((head.seq, head.hash, head.position), (last.seq, last.hash, last.position));
    assert_eq!(journal.verify(&stream("none")).await.unwrap().seq, 0);
}

async fn an_append_is_all_or_nothing(world: World) {
    world.journal.append(append("r", None, vec![created("a")])).await.unwrap();
    let refused = world.journal.append(append("r", Some(7), vec![started("1"), started("2")])).await;
    assert!(matches!(refused, Err(JournalError::Owned { .. })), "{refused:?}");
    assert_eq!(world.journal.read(&stream("r"), 0).await.unwrap().len(), 1);
}

async fn a_dropped_append_is_made(world: World) {
    drop(
        world
            .journal
            .append(Append { durability: Durability::Queued, ..append("r", None, vec![started("1")]) }),
    );
    let head = world.journal.append(append("r", None, vec![started("2")])).await.unwrap();
    assert_eq!(head.seq, 2);
}

async fn reads_and_tails(world: World) {
    let journal = &world.journal;
    let calls = Append { stream: StreamId::Calls, ..append("", None, vec![started("c")]) };
    journal.append(append("r", None, vec![created("a"), started("1")])).await.unwrap();
    let middle = journal.append(calls).await.unwrap();
    journal.append(append("r", None, vec![returned("1", "done")])).await.unwrap();
    let read = journal.read(&stream("r"), 1).await.unwrap();
    assert_eq!(read.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(read[0].at, at(100));
    assert_eq!(journal.read(&stream("nobody"), 0).await.unwrap(), []);
    let all = journal.tail(0, 100).await.unwrap();
    let streams: Vec<_> = all.iter().map(|event| event.stream.to_string()).collect();
    assert_eq!(streams, ["run/r", "run/r", "calls", "run/r"]);
    assert_eq!(journal.tail(middle.position, 100).await.unwrap(), all[3..]);
    assert_eq!(journal.tail(0, 2).await.unwrap(), all[..2]);
    assert_eq!(journal.tail(u64::MAX >> 1, 2).await.unwrap(), []);
}

async fn fences_off_old_epochs(world: World) {
    let journal = &world.journal;
    journal.append(append("r", None, vec![created("a")])).await.unwrap();
    let old = journal.claim(&"r".into(), at(2)).await.unwrap();
    journal.append(append("r", Some(old), vec![started("1")])).await.unwrap();
    // The same process takes it again: whatever worked on it before is a zombie now.
    let new = journal.claim(&"r".into(), at(3)).await.unwrap();
    assert_eq!((old, new), (1, 2));
    for epoch in [0, old, new + 1] {
        let refused = journal.append(append("r", Some(epoch), vec![started("2")])).await;
        assert!(matches!(refused, Err(JournalError::Owned { .. })), "{epoch}: {refused:?}");
    }
    journal.append(append("r", Some(new), vec![started("3")])).await.unwrap();
    let events = journal.read(&stream("r"), 0).await.unwrap();
    assert_eq!(events.iter().map(|event| event.epoch).collect::<Vec<_>>(), [0, 1, 1, 2, 2]);
}

async fn claims(world: World) {
    let (ours, peer) = (&world.journal, (world.peer)());
    let missing = ours.claim(&"r".into(), at(2)).await;
    assert_eq!(missing, Err(JournalError::NotFound("r".into())));
    ours.append(append("r", None, vec![created("a")])).await.unwrap();
    let first = peer.claim(&"r".into(), at(2)).await.unwrap();
    let refused = ours.claim(&"r".into(), at(3)).await;
    let Err(JournalError::Owned { owner, .. }) = refused else { panic!("{refused:?}") };
    let events = ours.read(&stream("r"), 1).await.unwrap();
    let EventBody::RunClaimed(claimed) = &events[0].body else { panic!("{events:?}") };
    assert_eq!(claimed.owner, owner);
    // Let go.
    peer.release(&"r".into(), first).await.unwrap();
    let second = ours.claim(&"r".into(), at(4)).await.unwrap();
    ours.release(&"r".into(), first).await.unwrap();
    let stale = peer.claim(&"r".into(), at(5)).await;
    assert!(matches!(stale, Err(JournalError::Owned { .. })), "a stale release changes nothing: {stale:?}");
    // Gone.
    ours.release(&"r".into(), second).await.unwrap();
    peer.claim(&"r".into(), at(6)).await.unwrap();
    drop(peer);
    assert_eq!(ours.claim(&"r".into(), at(7)).await, Ok(4));
}

async fn large_bodies_can_be_erased(world: World) {
    let journal = &world.journal;
    let large = text(1, 50_000);
    journal.append(append("r", None, vec![created("a"), returned("1", &large), started("2")])).await.unwrap();
    let result = |event: &EventBody| match event {
        EventBody::ToolFinished(event) => event.result.clone(),
        other => panic!("{other:?}"),
    };
    let events = journal.read(&stream("r"), 0).await.unwrap();
    assert_eq!(result(&events[1].body), Body::from(large.as_str()));
    let before = journal.verify(&stream("r")).await.unwrap();
    let hash = BlobHash::of(serde_json::json!(large).to_string().as_bytes());
    assert!((world.erase)(hash.clone()).await);
    assert!(!(world.erase)(hash.clone()).await);
    let events = journal.read(&stream("r"), 0).await.unwrap();
    assert_eq!(result(&events[1].body), Body::Blob { hash, bytes: 50_002 });
    assert_eq!(journal.verify(&stream("r")).await, Ok(before));
}

async fn lists_runs(world: World) {
    let journal = &world.journal;
    let new = |run: &str, secs: u64, agent: &str| {
        journal.append(Append { at: at(secs), ..append(run, None, vec![created(agent)]) })
    };
    new("a1", 10, "x").await.unwrap();
    new("a2", 30, "y").await.unwrap();
    new("b1", 20, "x").await.unwrap();
    let last = vec![returned("1", "ok"), over(RunStatus::Done)];
    journal.append(Append { at: at(40), ..append("a1", None, last) }).await.unwrap();
    let check = async |filter: RunFilter, want: &[&str]| {
        let runs = journal.runs(filter.clone()).await.unwrap();
        assert_eq!(runs.iter().map(|run| run.run.as_str()).collect::<Vec<_>>(), want, "{filter:?}");
    };
    check(RunFilter::default(), &["a2", "b1", "a1"]).await;
    check(RunFilter { limit: Some(1), ..RunFilter::default() }, &["a2"]).await;
    check(RunFilter { status: vec![RunStatus::Done], ..RunFilter::default() }, &["a1"]).await;
    let both = vec![RunStatus::Done, RunStatus::Running];
    check(RunFilter { status: both, agent: Some("x".into()), ..RunFilter::default() }, &["b1", "a1"]).await;
    check(RunFilter { id_prefix: Some("a".into()), ..RunFilter::default() }, &["a2", "a1"]).await;
    check(RunFilter { id_prefix: Some("%".into()), ..RunFilter::default() }, &[]).await;
    let done =
        journal.runs(RunFilter { status: vec![RunStatus::Done], ..RunFilter::default() }).await.unwrap();
    assert_eq!((done[0].tool_calls, done[0].created, done[0].updated), (1, at(10), at(40)));
    // The projection is the fold of the events, nothing else.
    let events = journal.read(&stream("a1"), 0).await.unwrap();
    let mut folded =
        backstop_journal::projections::history::RunSummary::start(&"a1".into(), &events[0]).unwrap();
    events[1..].iter().for_each(|event| folded.apply(event));
    assert_eq!(done, [folded]);
}

/// A run of a task; what it says is in its message.
fn created_for(task: &str, message: &str, change: impl FnOnce(&mut RunCreated)) -> EventBody {
    let EventBody::RunCreated(mut event) = created("a") else { unreachable!() };
    event.task = task.into();
    event.message = Body::from(message);
    change(&mut event);
    event.into()
}

async fn finds_runs(world: World) {
    let journal = &world.journal;
    let new = |run: &str, secs: u64, event: EventBody| {
        journal.append(Append { at: at(secs), ..append(run, None, vec![event]) })
    };
    let long = format!("Translate everything. {}", text(1, 20_000));
    new("qza1", 10, created_for("bill-7", "Sum up the invoices of March.", |_| ())).await.unwrap();
    new("qzb1", 20, created_for("notes", "Write to März & \"Sons\"", |event| event.role = "reviewer".into()))
        .await
        .unwrap();
    new("xza1", 30, created_for("big", &long, |event| event.model = "mini".into())).await.unwrap();
    let last = vec![over(RunStatus::Done)];
    journal.append(Append { at: at(40), ..append("xza1", None, last) }).await.unwrap();
    let all = RunFilter::default;
    let search = |text: &str| RunFilter { search: Some(text.to_owned()), ..all() };
    let rows: &[(RunFilter, &[&str])] = &[
        (search("invoice"), &["qza1"]),
        (search("MARCH sum"), &["qza1"]),
        (search("bill-7"), &["qza1"]),
        (search("bill-8"), &[]),
        (search("märz"), &["qzb1"]),
        (search("translate"), &["xza1"]),
        (search("qza1"), &["qza1"]),
        (search("qz"), &[]),
        (search("xza1"), &["xza1"]),
        (search("\" OR a*"), &[]),
        (search("%"), &[]),
        (search(""), &[]),
        (RunFilter { role: Some("reviewer".into()), ..all() }, &["qzb1"]),
        (RunFilter { model: Some("mini".into()), ..all() }, &["xza1"]),
        (RunFilter { from: Some(at(20)), ..all() }, &["xza1", "qzb1"]),
        (RunFilter { from: Some(Timestamp::FAR), ..all() }, &[]),
        (RunFilter { until: Some(Timestamp::FAR), ..all() }, &["xza1", "qzb1", "qza1"]),
        (RunFilter { until: Some(at(20)), ..all() }, &["qza1"]),
        (RunFilter { from: Some(at(20)), until: Some(at(30)), ..all() }, &["qzb1"]),
        (RunFilter { model: Some("mini".into()), status: vec![RunStatus::Running], ..all() }, &[]),
        (RunFilter { status: vec![RunStatus::Done], ..search("everything") }, &["xza1"]),
        (RunFilter { id_prefix: Some("qz".into()), ..search("up") }, &["qza1"]),
    ];
    for (filter, want) in rows {
        let listed = journal.list(filter.clone()).await.unwrap();
        let found: Vec<_> = listed.iter().map(|run| run.summary.run.as_str()).collect();
        assert_eq!(found, *want, "{filter:?}");
        let summaries: Vec<_> = listed.into_iter().map(|run| run.summary).collect();
        assert_eq!(summaries, journal.runs(filter.clone()).await.unwrap(), "{filter:?}");
    }
    let listed = journal.list(all()).await.unwrap();
    let texts: Vec<_> = listed.iter().map(|run| run.text.chars().take(10).collect::<String>()).collect();
    assert_eq!(texts, ["Translate ", "Write to M", "Sum up the"]);
    for run in listed {
        assert_eq!(run.head, journal.verify(&stream(run.summary.run.as_str())).await.unwrap());
    }
}

async fn pages_through_runs(world: World) {
    let journal = &world.journal;
    for n in 0..23_u64 {
        // Some at the same moment: then their ids decide.
        let append =
            append(&format!("r{n:02}"), None, vec![created(if n % 2 == 0 { "even" } else { "odd" })]);
        journal.append(Append { at: at(n / 3), ..append }).await.unwrap();
    }
    let words = Some("write".to_owned());
    for (agent, search) in [(None, None), (Some("odd"), None), (None, words.clone()), (Some("odd"), words)] {
        let all = RunFilter { agent: agent.map(Into::into), search, ..RunFilter::default() };
        let whole = journal.list(all.clone()).await.unwrap();
        let mut paged = Vec::new();
        let mut before = None;
        loop {
            let page = journal.list(RunFilter { limit: Some(4), before, ..all.clone() }).await.unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.cursor());
            paged.extend(page);
        }
        assert_eq!(paged, whole);
        assert_eq!(whole.len(), if agent.is_some() { 11 } else { 23 });
    }
    let (end, part) = (journal.end().await.unwrap(), journal.part(&stream("r05"), 0, 1).await.unwrap());
    assert_eq!((end, part.len()), (journal.tail(0, 1000).await.unwrap().last().unwrap().position, 1));
    journal.append(append("r05", None, vec![started("1"), started("2"), started("3")])).await.unwrap();
    let part = journal.part(&stream("r05"), 1, 2).await.unwrap();
    assert_eq!(part.iter().map(|event| event.seq).collect::<Vec<_>>(), [2, 3]);
    assert!(journal.part(&stream("r05"), 4, 2).await.unwrap().is_empty());
}

async fn knows_who_asked(world: World) {
    let journal = &world.journal;
    let asks = |approval: &str| {
        let (approval, id) = (approval.into(), "1".to_owned());
        let hash = String::new;
        let (args_hash, preview_hash, why, expires) = (hash(), hash(), hash(), at(9));
        ApprovalRequested { approval, id, args_hash, preview_hash, why: why.into(), expires }.into()
    };
    journal.append(append("a", None, vec![created("x"), asks("q1"), asks("q2")])).await.unwrap();
    journal.append(append("b", None, vec![created("x"), asks("q3"), asks("q1")])).await.unwrap();
    for (question, want) in [("q1", Some("a")), ("q2", Some("a")), ("q3", Some("b")), ("q", None), ("", None)]
    {
        let run = journal.asked_by(&question.into()).await.unwrap();
        assert_eq!(run.as_ref().map(RunId::as_str), want, "{question}");
    }
}

async fn an_erased_task_is_not_found(world: World) {
    let journal = &world.journal;
    let long = format!("Confidential {}", text(2, 20_000));
    journal.append(append("r", None, vec![created_for("t", &long, |_| ())])).await.unwrap();
    let search = RunFilter { search: Some("confidential".to_owned()), ..RunFilter::default() };
    assert_eq!(journal.list(search.clone()).await.unwrap().len(), 1);
    assert!((world.erase)(BlobHash::of(serde_json::json!(long).to_string().as_bytes())).await);
    assert_eq!(journal.list(search).await.unwrap(), []);
    let listed = journal.list(RunFilter::default()).await.unwrap();
    assert_eq!((listed.len(), listed[0].text.as_str()), (1, ""));
}

async fn one_failure_is_alone(world: World) {
    let journal = &world.journal;
    let appends: Vec<_> = (0..20)
        .map(|n| {
            // Every third one claims to be under an epoch that never was.
            let epoch = (n % 3 == 0).then_some(9);
            journal.append(append(&format!("r{n}"), epoch, vec![created("a"), started("1")]))
        })
        .collect();
    for (n, append) in appends.into_iter().enumerate() {
        assert_eq!(append.await.is_ok(), n % 3 != 0, "{n}");
    }
    for n in 0..20 {
        let run = stream(&format!("r{n}"));
        assert_eq!(journal.verify(&run).await.unwrap().seq, if n % 3 == 0 { 0 } else { 2 });
    }
    assert_eq!(journal.runs(RunFilter::default()).await.unwrap().len(), 13);
}

async fn erases_what_a_run_said(world: World) {
    let journal = &world.journal;
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let (events, words) = spoken("r", 30);
    journal.append(append("r", None, events)).await.unwrap();
    journal.append(append("other", None, vec![created("a"), returned("1", "kept")])).await.unwrap();
    let before = journal.verify(&stream("r")).await.unwrap();
    let stood = journal.read(&stream("r"), 0).await.unwrap();
    (world.observe)(Arc::new(move |events| heard.lock().unwrap().extend(events.iter().cloned())));

    let erased = journal.erase(erase("r", before.seq)).await.unwrap();
    let RunErased { by, reason, bodies, bytes, rechained } = erased.clone();
    assert_eq!((by.as_str(), reason.as_str(), rechained), ("me", "asked for", None));
    assert_eq!(bodies, words.len() as u64);
    assert_eq!(bytes, bodies * 50, "each is a string of 48 letters");
    let after = journal.verify(&stream("r")).await.unwrap();
    assert_eq!(after.seq, before.seq + 1);
    let read = journal.read(&stream("r"), 0).await.unwrap();
    let shown = format!("{read:?}");
    assert!(words.iter().all(|word| !shown.contains(word.as_str())), "{shown}");
    assert_eq!(
        read[..stood.len()].iter().map(|event| event.hash).collect::<Vec<_>>(),
        stood.iter().map(|event| event.hash).collect::<Vec<_>>()
    );
    let last = read.last().unwrap();
    assert_eq!((last.seq, last.at, &last.body), (after.seq, at(200), &EventBody::from(erased.clone())));
    assert_eq!(*told.lock().unwrap(), std::slice::from_ref(last));
    let mut created = read[0].body.clone();
    for body in created.bodies_mut() {
        assert!(matches!(body, Body::Erased { bytes: 50.., .. }), "{body:?}");
    }
    assert_eq!(journal.part(&stream("r"), 0, 99).await.unwrap(), read);
    let tail = journal.tail(0, 99).await.unwrap();
    assert_eq!(tail.into_iter().filter(|event| event.stream == stream("r")).collect::<Vec<_>>(), read);

    let mut listed =
        journal.list(RunFilter { id_prefix: Some("r".to_owned()), ..RunFilter::default() }).await.unwrap();
    let listed = listed.pop().unwrap();
    assert_eq!(
        (listed.summary.erased, listed.summary.message.as_str(), listed.text.as_str()),
        (Some(at(200)), "(erased)", "")
    );
    assert_eq!(listed.head, after);
    let search = RunFilter { search: Some(words[1].clone()), ..RunFilter::default() };
    assert_eq!(journal.list(search).await.unwrap(), []);

    // Twice is no error, and nothing new.
    let again = journal.erase(erase("r", after.seq)).await.unwrap();
    assert_eq!((again.bodies, again.bytes), (0, 0));
    assert_eq!(journal.verify(&stream("r")).await.unwrap(), after);
    let other = journal.read(&stream("other"), 1).await.unwrap();
    assert_eq!(other[0].body, returned("1", "kept"));
}

async fn erases_no_run_that_may_go_on(world: World) {
    let (ours, peer) = (&world.journal, (world.peer)());
    assert_eq!(ours.erase(erase("r", 0)).await, Err(JournalError::NotFound("r".into())));
    ours.append(append("r", None, vec![created("a"), returned("1", "kept")])).await.unwrap();
    for owner in [ours, &peer] {
        let epoch = owner.claim(&"r".into(), at(2)).await.unwrap();
        let head = ours.verify(&stream("r")).await.unwrap();
        let refused = ours.erase(erase("r", head.seq)).await;
        assert!(matches!(refused, Err(JournalError::Owned { .. })), "{refused:?}");
        owner.release(&"r".into(), epoch).await.unwrap();
    }
    let head = ours.verify(&stream("r")).await.unwrap();
    for seq in [0, head.seq - 1, head.seq + 1] {
        assert_eq!(ours.erase(erase("r", seq)).await, Err(JournalError::Moved("r".into())));
    }
    assert_eq!(ours.verify(&stream("r")).await.unwrap(), head, "nothing was done");
    let events = ours.read(&stream("r"), 1).await.unwrap();
    assert_eq!(events[0].body, returned("1", "kept"));
    // Whoever had it is dead.
    peer.claim(&"r".into(), at(3)).await.unwrap();
    drop(peer);
    assert_eq!(ours.erase(erase("r", head.seq + 1)).await.unwrap().bodies, 3);
}

async fn a_large_body_goes_with_the_last_run_that_has_it(world: World) {
    let journal = &world.journal;
    let large = text(1, 50_000);
    let (large_one, gone) = (
        returned("1", &large),
        EventBody::from(ToolFinished {
            result: Body::Blob {
                hash: BlobHash::of(serde_json::json!(large).to_string().as_bytes()),
                bytes: 50_002,
            },
            ..match returned("1", &large) {
                EventBody::ToolFinished(event) => event,
                other => panic!("{other:?}"),
            }
        }),
    );
    for run in ["a", "b"] {
        journal.append(append(run, None, vec![created("a"), large_one.clone()])).await.unwrap();
    }
    let body = async |run: &str| journal.read(&stream(run), 1).await.unwrap()[0].body.clone();
    let erased = journal.erase(erase("a", 2)).await.unwrap();
    assert_eq!((erased.bodies, erased.bytes), (3, 50_002 + 12 + 8));
    assert_eq!(
        (body("a").await, body("b").await),
        (gone.clone(), large_one.clone()),
        "the other one has it still"
    );
    journal.verify(&stream("a")).await.unwrap();
    journal.erase(erase("b", 2)).await.unwrap();
    assert_eq!(body("b").await, gone);
    // It is kept anew for who says it anew, and for nobody else.
    journal.append(append("c", None, vec![created("a"), large_one.clone()])).await.unwrap();
    assert_eq!((body("a").await, body("b").await, body("c").await), (gone.clone(), gone, large_one));
}

async fn what_comes_after_an_erasure_is_erased_by_the_next(world: World) {
    let (ours, peer) = (&world.journal, (world.peer)());
    // Both know the end of the stream, and what its digests are keyed with.
    ours.append(append("r", None, vec![created("a")])).await.unwrap();
    let head = peer.append(append("r", None, vec![returned("1", "one")])).await.unwrap();
    ours.erase(erase("r", head.seq)).await.unwrap();
    for (n, journal) in [&peer, ours, ours, &peer].into_iter().enumerate() {
        let head =
            journal.append(append("r", None, vec![returned("2", &format!("late {n}"))])).await.unwrap();
        assert_eq!(ours.verify(&stream("r")).await.unwrap(), head);
        let erased = journal.erase(erase("r", head.seq)).await.unwrap();
        assert_eq!((erased.bodies, erased.bytes), (1, 8));
        let read = peer.read(&stream("r"), 0).await.unwrap();
        assert!(!format!("{read:?}").contains("late"), "{read:?}");
    }
    let head = ours.verify(&stream("r")).await.unwrap();
    assert_eq!((head.seq, ours.runs(RunFilter::default()).await.unwrap().len()), (11, 1));
}

async fn balance(world: &World, account: backstop_allowance::Account) -> [i64; 5] {
    let Balance { allowed, settled, suspense, reserved, overrun } =
        world.ledger.balance(account).await.unwrap();
    [allowed, settled, suspense, reserved, overrun].map(Money::nanos)
}

async fn reserves_in_all_or_none(world: World) {
    let ledger = &world.ledger;
    let both = [(total(), 1_000), (own("r"), 100)];
    ledger.reserve(reserve("a.1", 60, &both)).await.unwrap();
    ledger.reserve(reserve("a.1", 60, &both)).await.unwrap();
    let denied = ledger.reserve(reserve("b.1", 41, &both)).await.unwrap_err();
    let LedgerError::Denied(denied) = denied else { panic!("{denied:?}") };
    assert_eq!((denied.account, denied.available, denied.asked), (own("r"), nanos(40), nanos(41)));
    ledger.reserve(reserve("c.1", 40, &both)).await.unwrap();
    ledger.reserve(reserve("d.1", 900, &[(total(), 1_000)])).await.unwrap();
    assert!(ledger.reserve(reserve("e.1", 1, &[(total(), 1_000)])).await.is_err());
    assert_eq!(balance(&world, total()).await, [1_000, 0, 0, 1_000, 0]);
    assert_eq!(balance(&world, own("r")).await, [100, 0, 0, 100, 0]);
    assert_eq!(balance(&world, own("nobody")).await, [0; 5]);
}

async fn ends_a_reservation_once(world: World) {
    let ledger = &world.ledger;
    let from = [(total(), 1_000)];
    for id in ["a.1", "b.1", "c.1"] {
        ledger.reserve(reserve(id, 10, &from)).await.unwrap();
    }
    let settle = |id: &str, cost| ledger.resolve(&id.into(), Resolution::Settle(nanos(cost)), at(101));
    assert_eq!(settle("a.1", 4), Some(Settled { spent: nanos(4), overrun: Money::ZERO }));
    assert_eq!(settle("a.1", 9), None);
    assert_eq!(settle("b.1", 12), Some(Settled { spent: nanos(12), overrun: nanos(2) }));
    assert_eq!(ledger.resolve(&"c.1".into(), Resolution::Void, at(101)), Some(Settled::default()));
    assert_eq!(settle("never.1", 1), None);
    assert_eq!(balance(&world, total()).await, [1_000, 16, 0, 0, 2]);
    assert!(ledger.reserve(reserve("d.1", 985, &from)).await.is_err());
    ledger.reserve(reserve("e.1", 984, &from)).await.unwrap();
}

async fn suspense_counts_until_corrected(world: World) {
    let ledger = &world.ledger;
    let from = [(total(), 100)];
    for (id, amount) in [("a.1", 50), ("b.1", 30)] {
        ledger.reserve(reserve(id, amount, &from)).await.unwrap();
        ledger.resolve(&id.into(), Resolution::Suspend(Money::MAX), at(101)).unwrap();
    }
    assert!(ledger.reserve(reserve("c.1", 21, &from)).await.is_err());
    let listed = ledger.suspense().await.unwrap();
    assert_eq!(listed, [("a.1".into(), nanos(50)), ("b.1".into(), nanos(30))]);
    let corrected = ledger.correct("a.1".into(), nanos(5), at(102)).await.unwrap();
    assert_eq!(corrected, Some(Settled { spent: nanos(5), overrun: Money::ZERO }));
    assert_eq!(ledger.correct("a.1".into(), nanos(1), at(103)).await.unwrap(), None);
    assert_eq!(balance(&world, total()).await, [100, 5, 30, 0, 0]);
    assert!(ledger.reserve(reserve("d.1", 66, &from)).await.is_err());
    ledger.reserve(reserve("e.1", 65, &from)).await.unwrap();
    let overran = ledger.correct("b.1".into(), nanos(33), at(104)).await.unwrap();
    assert_eq!(overran, Some(Settled { spent: nanos(33), overrun: nanos(3) }));
    assert_eq!(balance(&world, total()).await, [100, 38, 0, 65, 3]);
}

async fn a_dropped_reservation_holds_nothing(world: World) {
    let ledger = &world.ledger;
    let from = [(total(), 100)];
    for n in 0..20 {
        let id = format!("a{n}.1");
        let mut reserving = ledger.reserve(reserve(&id, 60, &from));
        // Polled so many times, then dropped: at every point where it can be.
        let mut done = false;
        for _ in 0..n % 4 {
            let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(reserving.as_mut().poll(cx))).await;
            if let std::task::Poll::Ready(result) = polled {
                done = result.is_ok();
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(reserving);
        if done {
            ledger.resolve(&id.as_str().into(), Resolution::Void, at(101)).unwrap();
        }
    }
    // Whatever was under way for a dropped one is over before this is answered.
    balance(&world, total()).await;
    ledger.reserve(reserve("last.1", 100, &from)).await.unwrap();
    assert_eq!(balance(&world, total()).await, [100, 0, 0, 100, 0]);
}

async fn observers_are_told_what_was_committed_in_its_order_and_nothing_else(world: World) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    (world.observe)(Arc::new(move |events| heard.lock().unwrap().extend(events.iter().cloned())));
    let run = stream("r1");
    let synced = |events| append("r1", None, events);
    world.journal.append(synced(vec![created("writer")])).await.unwrap();
    // A stale epoch: refused, and nobody hears of it.
    let stale = Append { epoch: Some(9), ..synced(vec![started("t1")]) };
    world.journal.append(stale).await.unwrap_err();
    world.journal.append(synced(vec![started("t2"), started("t3")])).await.unwrap();
    let kept = world.journal.read(&run, 0).await.unwrap();
    let told = told.lock().unwrap();
    let heard: Vec<_> = told.iter().filter(|event| event.stream == run).cloned().collect();
    assert_eq!(heard, kept);
}

fn all_of(grain: Grain) -> Vec<Slice> {
    vec![Slice { grain, since: Timestamp::EPOCH, until: at(10_000_000), families: Family::ALL }]
}

async fn counts_every_event_once(world: World) {
    let run = |name: &str| Append {
        at: at(7_205),
        ..append(name, None, vec![created("a"), started("t"), returned("t", "x"), over(RunStatus::Done)])
    };
    let (mut position, mut runs) = (0, 0);
    for name in ["r1", "r2", "r3"] {
        // The end of a run is counted after its beginning was: what the beginning said is recalled.
        let mut events = run(name).events;
        let end = events.split_off(2);
        world.journal.append(Append { events, ..run(name) }).await.unwrap();
        world.tally.catch_up(at(7_206), Kept::default()).await.unwrap();
        let head = world.journal.append(Append { events: end, ..run(name) }).await.unwrap();
        let reached = world.tally.catch_up(at(7_206), Kept::default()).await.unwrap();
        assert_eq!((reached, reached > position), (head.position, true));
        position = world.tally.catch_up(at(7_206), Kept::default()).await.unwrap();
        assert_eq!(position, reached, "there is nothing to count twice");
        runs += 1;
        for grain in Grain::ALL {
            let cells = world.tally.cells(all_of(grain)).await.unwrap();
            assert!(cells.iter().all(|cell| cell.start == grain.start(at(7_205))), "{cells:?}");
            let window = Window::of(By::Agent, (at(0), at(9_000)), &cells);
            assert_eq!(window.rows.len(), 1, "{window:?}");
            let figures = &window.rows[0].figures;
            let found = (figures.runs_created, figures.ended("done"), figures.tools_ok);
            assert_eq!((window.rows[0].name.as_str(), found), ("a", (runs, runs, runs)), "{grain:?}");
        }
    }
    let slice = Slice { until: at(7_200), ..all_of(Grain::Hour).remove(0) };
    assert_eq!(world.tally.cells(vec![slice]).await.unwrap(), []);
    let runs = Slice { families: &[Family::Runs], ..all_of(Grain::Hour).remove(0) };
    let cells = world.tally.cells(vec![runs]).await.unwrap();
    let labels: Vec<_> = cells.iter().map(|cell| cell.series.labels[2].as_str()).collect();
    assert_eq!(labels, ["created", "done"]);
}

async fn forgets_what_is_kept_no_longer(world: World) {
    let day = 86_400;
    for secs in [0, 60 * day, 98 * day, 100 * day] {
        world.journal.append(Append { at: at(secs), ..append("r", None, vec![created("a")]) }).await.unwrap();
        world.tally.catch_up(at(secs), Kept::default()).await.unwrap();
    }
    let runs = |grain| all_of(grain).into_iter().map(|slice| Slice { families: &[Family::Runs], ..slice });
    for (grain, want) in [(Grain::Minute, 2), (Grain::Hour, 3), (Grain::Day, 4), (Grain::Whole, 1)] {
        let cells = world.tally.cells(runs(grain).collect()).await.unwrap();
        assert_eq!(cells.len(), want, "{grain:?}: {cells:?}");
    }
}

async fn counts_what_is_too_much_together(world: World) {
    let agents = SERIES_MAX + 5;
    for number in 0..agents {
        let durability = if number + 1 == agents { Durability::Written } else { Durability::Queued };
        let events = vec![created(&format!("agent-{number:04}"))];
        let append = Append { durability, ..append(&format!("r{number}"), None, events) };
        let appended = world.journal.append(append);
        if durability == Durability::Written {
            appended.await.unwrap();
        }
    }
    world.tally.catch_up(at(100), Kept::default()).await.unwrap();
    let cells = world.tally.cells(all_of(Grain::Whole)).await.unwrap();
    let window = Window::of(By::Agent, (at(0), at(101)), &cells);
    let found = |name: &str| {
        let row = window.rows.iter().find(|row| row.name == name);
        row.map(|row| row.figures.runs_created)
    };
    assert_eq!(
        (window.rows.len(), found("agent-0999"), found("agent-1000")),
        (SERIES_MAX + 1, Some(1), None)
    );
    assert_eq!(found(OVERFLOW), Some(5));
}
