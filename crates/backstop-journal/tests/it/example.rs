//! One example of each kind of event, every field filled, and a run made of such events: it fails over, writes, dies in
//! the middle of a write, is resumed, has a send in doubt, is parked, decided and done.

use backstop_call::{
    AttemptRecord, Block, CallId, Code, Failure, FailureKind, KeyLimits, Labels, LimitHint, Money, Priority,
    Progress, ReservationId, StopReason, Timestamp, Usage,
};
use backstop_journal::event::{
    AlertAcknowledged, AlertDelivered, AlertFired, AlertLost, AlertQueued, AlertResolved, AlertSilenced,
    AlertUnsilenced, ApprovalDecided, ApprovalDecision, ApprovalRequested, Asked, AttemptFailed,
    BreakerChanged, BudgetWarned, CallFailed, CallFinished, CallStarted, GrantCreated, GrantRevoked,
    GrantScope, GrantUsed, JobDefined, JobDropped, JobPaused, JobResumed, JobSkip, JobSkipped, JobStarted,
    KeyCreated, KeyFirstUsedFrom, KeyHash, KeyRevoked, KeyRight, KeyRotated, KeyScope, LeaseClosed,
    LeaseGranted, MoneyCorrected, MoneyMoved, MoneyReserved, MoneySettled, MoneySuspended, MoneyVoided,
    OnFailure, Origin, Paid, ParkReason, QueueTerms, Rechained, RunClaimed, RunCreated, RunErased,
    RunFinished, RunLimits, RunParked, RunQueued, RunResumed, RunStatus, Severity, Spent, ToolDecision,
    ToolFinished, ToolPlanned, ToolResolved, ToolStarted, ToolUnknown,
};
use backstop_journal::{Blind, Body, Event, EventBody, Hash, Links, Parts, Place, Stored, StreamId, link};
use backstop_label::{Category, Class, ConstraintText, Effect, RightsText};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// 2026-11-22T12:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_795_348_800);
pub(crate) const RUN: &str = "01mh3q8c80000001";

pub(crate) const BLIND: Blind = Blind([7; 32]);
pub(crate) const LINKS: Links = Links { framed: 1, blind: Some(BLIND) };

/// Events as a store has them.
pub(crate) fn stored(events: &[(Event, String)]) -> Vec<Stored<'_>> {
    events.iter().map(|(event, text)| Stored { event, version: event.body.version(), text }).collect()
}

pub(crate) fn run_stream() -> StreamId {
    StreamId::Run(RUN.into())
}

/// Builds events as a store would: numbered, timed and chained.
#[derive(Default)]
pub(crate) struct Recorder {
    events: Vec<(Event, String)>,
    heads: BTreeMap<StreamId, (u64, Hash)>,
    epoch: u64,
}

impl Recorder {
    /// Appends an event that happened so many milliseconds after the start.
    pub(crate) fn at(&mut self, ms: u64, stream: &StreamId, body: impl Into<EventBody>) {
        let body = body.into();
        let at = START + Duration::from_millis(ms);
        if matches!(body, EventBody::RunClaimed(_)) {
            self.epoch += 1;
        }
        let epoch = if matches!(stream, StreamId::Run(_)) { self.epoch } else { 0 };
        let (seq, prev) = self.heads.get(stream).copied().unwrap_or_default();
        let json = body.encode();
        let (kind, version) = (body.kind(), body.version());
        let place = Place { stream, seq: seq + 1, at, epoch, kind, version };
        let hash = link(prev, &place, &json, &Parts::of(stream, kind, &json), &BLIND);
        self.heads.insert(stream.clone(), (seq + 1, hash));
        let position = self.events.len() as u64 + 1;
        let event = Event { position, stream: stream.clone(), seq: seq + 1, at, epoch, body, hash };
        self.events.push((event, json));
    }

    pub(crate) fn finish(self) -> Vec<(Event, String)> {
        self.events
    }
}

pub(crate) fn labels() -> Labels {
    Labels { untrusted: true, private: [Category::Financial].into() }
}

pub(crate) fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage { input_tokens, output_tokens, cache_read_tokens: 200, ..Usage::default() }
}

pub(crate) fn failed_attempt() -> AttemptRecord {
    AttemptRecord {
        attempt: 1,
        provider: "anthropic".into(),
        model: "claude-sonnet-4-5".into(),
        started: START + Duration::from_secs(1),
        duration: Duration::from_millis(800),
        waited: Duration::ZERO,
        failure: Some(FailureKind::Overloaded),
        progress: Progress::ResponseStarted,
        code: Some(Code::ProviderOverloaded),
        message: "Overloaded".into(),
        cost: Money::ZERO,
        suspense: false,
    }
}

pub(crate) fn good_attempt(attempt: u32, cost: i64) -> AttemptRecord {
    AttemptRecord {
        attempt,
        provider: "openai".into(),
        model: "gpt-5".into(),
        started: START + Duration::from_millis(2_300),
        duration: Duration::from_millis(1_200),
        waited: Duration::from_millis(500),
        failure: None,
        progress: Progress::Committed,
        code: None,
        message: "".into(),
        cost: Money::from_nanos(cost),
        suspense: false,
    }
}

pub(crate) fn created() -> RunCreated {
    RunCreated {
        task: "sort-notes".into(),
        role: "clerk".into(),
        agent: "librarian".into(),
        agent_hash: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262".into(),
        model: "main".into(),
        system: "You sort notes.".into(),
        message: "Sort notes.md by date.".into(),
        max_tokens: Some(2_048),
        tools: vec!["read_file".into(), "write_file".into(), "send_mail".into()],
        workspace: "/srv/notes".into(),
        limits: limits(),
        result_schema: Some(json!({"type": "object", "required": ["files"]})),
        priority: Priority::Interactive,
        labels: labels(),
        dry_run: true,
        applies: Some("01mh3q8c80000000".into()),
        parent: Some("01mh3q8c7zzzzzzz".into()),
        bounds: vec![bounds()],
        on_failure: OnFailure::Rollback,
        queue: None,
        origin: Box::new(Origin {
            key: Some("ci".into()),
            key_limits: KeyLimits {
                day: Some(Money::from_dollars(5)),
                whole: Some(Money::from_dollars(100)),
            },
            request: Some("1c7a".repeat(16)),
            submitter: Some("01mh3q8c7zzzzzzy".into()),
            payers: vec![("01mh3q8c7zzzzzzy".into(), Money::from_dollars(1))],
            depth: 2,
        }),
    }
}

fn terms() -> QueueTerms {
    QueueTerms {
        deadline: Some(START + Duration::from_hours(8)),
        tried: 1,
        tries: 3,
        backoff: Duration::from_secs(30),
        key: Some("notes".into()),
        ..QueueTerms::once(START)
    }
}

pub(crate) fn limits() -> RunLimits {
    RunLimits { cost: Some(Money::from_nanos(250_000_000)), ..RunLimits::default() }
}

pub(crate) fn planned(id: &str, tool: &str, class: Class) -> ToolPlanned {
    ToolPlanned {
        id: id.into(),
        tool: tool.into(),
        args: Body::of(&json!({"path": "notes.md"})),
        args_hash: Some("1c7a".repeat(16)),
        class,
        key: Some(format!("{RUN}/{id}")),
        plan: Body::of(&json!({"before": "9f2b", "after": "77de"})),
        effect: Some(Effect::Write),
        preview: "+ a line".into(),
        undo: Body::of(&json!({"path": "notes.md", "was": "9f2b"})),
        asks: Some("it cannot be taken back".into()),
        undoes: Some("t0".into()),
        labels: Labels::untrusted(),
    }
}

fn asks_for(id: &str, name: &str) -> Body {
    let input = json!({"path": "notes.md"});
    Body::of(&vec![
        Block::text("On it."),
        Block::ToolUse { id: id.into(), name: name.into(), input, cache: None },
    ])
}

/// A call that was answered at the second attempt, after a failover.
pub(crate) fn answered(call: &str, turn: u32, content: Body) -> CallFinished {
    CallFinished {
        call: call.into(),
        turn,
        provider: "openai".into(),
        model: "gpt-5".into(),
        content,
        stop: StopReason::ToolUse,
        usage: usage(1_000, 50),
        cost: Money::from_nanos(4_200_000),
        duration: Duration::from_millis(2_500),
        first_token: Some(Duration::from_millis(420)),
        request_id: Some("req_7f3a".into()),
        attempts: vec![failed_attempt(), good_attempt(2, 4_200_000)].into(),
        labels: Labels::untrusted(),
        asked: None,
        status: None,
    }
}

/// What the gateway knows of a call when it ends.
pub(crate) fn asked() -> Asked {
    Asked {
        model: "main".into(),
        input_tokens: 980,
        task: Some("t1".into()),
        role: Some("clerk".into()),
        key: Some("laptop".into()),
        dialect: Some(backstop_call::Dialect::Messages),
    }
}

fn plainly_answered(call: &str, turn: u32, content: Body) -> CallFinished {
    let attempt = AttemptRecord { waited: Duration::ZERO, ..good_attempt(1, 1_000_001) };
    let attempts = vec![attempt].into();
    let usage = usage(1_500, 20);
    CallFinished { attempts, usage, cost: Money::from_nanos(1_000_001), ..answered(call, turn, content) }
        .brief()
}

fn started(call: &str, turn: u32) -> CallStarted {
    CallStarted {
        call: call.into(),
        model: "main".into(),
        turn,
        input_tokens: 980,
        task: None,
        role: None,
        key: None,
        labels: labels(),
    }
}

pub(crate) fn call_failure() -> Failure {
    let mut failure = Failure::new(FailureKind::Throttled, Progress::ResponseStarted, "rate limit reached")
        .with_retry_after(Some(Duration::from_secs(30)));
    let detail = &mut failure.detail;
    detail.provider = Some("anthropic".into());
    detail.status = Some(429);
    detail.provider_code = Some("rate_limit_error".into());
    detail.request_id = Some("req_11".into());
    detail.usage = Some(usage(10, 1));
    detail.produced_chars = 3;
    detail.unbilled = true;
    detail.limits = LimitHint { requests_remaining: Some(0), tokens_remaining: Some(12) };
    detail.attempts = vec![AttemptRecord { failure: Some(FailureKind::Throttled), ..failed_attempt() }];
    failure
}

fn finished_tool(id: &str, is_error: bool, probed: bool) -> ToolFinished {
    ToolFinished {
        id: id.into(),
        is_error,
        result: "done".into(),
        whole: Body::of(&[Block::text("done at length")]),
        labels: Labels::untrusted(),
        duration: Duration::from_millis(3),
        probed,
        spent: Some(Spent { cost: Money::from_nanos(1_250), usage: usage(700, 40) }),
    }
}

pub(crate) fn reservation() -> ReservationId {
    ReservationId::of(&CallId::from("c1"), 2)
}

/// One event of every kind, every field filled with something else than its default.
pub(crate) fn every_kind() -> Vec<EventBody> {
    let mut kinds = run_kinds();
    kinds.extend(call_and_tool_kinds());
    kinds.extend(approval_kinds());
    kinds.extend(money_kinds());
    kinds.extend(key_kinds());
    kinds.extend(alert_kinds());
    kinds.extend(job_kinds());
    kinds
}

fn job_kinds() -> Vec<EventBody> {
    let job = || "letter".into();
    vec![
        JobDefined { job: job(), schedule: "0 7 * * mon-fri".into(), timezone: "Europe/Berlin".into() }
            .into(),
        JobDropped { job: job() }.into(),
        JobStarted {
            job: job(),
            task: "letter@2026-11-23T06:00:00Z".into(),
            run: RUN.into(),
            time: Some(START),
            by: Some("owner".into()),
        }
        .into(),
        JobSkipped {
            job: job(),
            first: START,
            last: START + Duration::from_hours(24),
            times: 2,
            why: JobSkip::Overlap,
        }
        .into(),
        JobPaused { job: job(), by: "owner".into(), reason: "nobody reads it in summer".into() }.into(),
        JobResumed { job: job(), by: "owner".into() }.into(),
    ]
}

fn alert_kinds() -> Vec<EventBody> {
    let (alert, notice, silence) = ("5f1c9a", "n-77de", "s-1");
    vec![
        AlertFired {
            alert: alert.into(),
            rule: "budget-80".into(),
            severity: Severity::Warning,
            labels: [("budget".to_owned(), "total".to_owned())].into(),
            summary: "total is at 83 % of $5.00".into(),
        }
        .into(),
        AlertResolved { alert: alert.into() }.into(),
        AlertQueued {
            notice: notice.into(),
            receiver: "ops".into(),
            group: "budget-80".into(),
            firing: vec![alert.into()],
            resolved: vec!["77aa01".into()],
        }
        .into(),
        AlertDelivered { notice: notice.into(), attempts: 2 }.into(),
        AlertLost { notice: notice.into(), attempts: 12, reason: "it answered 500".into() }.into(),
        AlertSilenced {
            silence: silence.into(),
            matchers: [("rule".to_owned(), "budget-80".to_owned())].into(),
            until: START + Duration::from_hours(2),
            by: "owner".into(),
            reason: "a known job".into(),
        }
        .into(),
        AlertUnsilenced { silence: silence.into(), by: "owner".into() }.into(),
        AlertAcknowledged { alert: alert.into(), by: "owner".into() }.into(),
    ]
}

fn run_kinds() -> Vec<EventBody> {
    vec![
        RunCreated { queue: Some(terms()), ..created() }.into(),
        RunClaimed { owner: "host-1:4711".into() }.into(),
        RunParked { reason: ParkReason::Wait, until: Some(START + Duration::from_mins(5)) }.into(),
        RunQueued { terms: QueueTerms::once(START) }.into(),
        RunResumed { limits: RunLimits { turns: 80, ..limits() } }.into(),
        RunFinished {
            status: RunStatus::Stopped,
            result: Some(Body::of(&json!({"files": ["notes.md"]}))),
            code: Some(Code::TurnLimit),
            message: "50 of 50 turns are used".into(),
        }
        .into(),
        RunErased {
            by: "retention".into(),
            reason: "older than 30d".into(),
            bodies: 9,
            bytes: 4_096,
            rechained: Some(Rechained { was: Hash([1; 32]), now: Hash([2; 32]) }),
        }
        .into(),
    ]
}

fn call_and_tool_kinds() -> Vec<EventBody> {
    let outside = CallStarted {
        task: Some("t1".into()),
        role: Some("clerk".into()),
        key: Some("ci".into()),
        ..started("c1", 1)
    };
    vec![
        outside.into(),
        AttemptFailed { call: "c1".into(), attempt: AttemptRecord { suspense: true, ..failed_attempt() } }
            .into(),
        CallFinished {
            asked: Some(asked()),
            status: Some(200),
            ..answered("c1", 1, asks_for("t1", "write_file"))
        }
        .into(),
        CallFailed {
            call: "c1".into(),
            turn: 1,
            failure: call_failure(),
            cost: Money::from_nanos(17),
            duration: Duration::from_millis(900),
            labels: labels(),
            asked: Some(asked()),
            status: Some(429),
        }
        .into(),
        BreakerChanged {
            provider: "anthropic".into(),
            model: "claude-sonnet-4-5".into(),
            from: "closed".into(),
            to: "open".into(),
            reason: "5 failures in a row".into(),
        }
        .into(),
        planned("t1", "write_file", Class::Write).into(),
        ToolStarted { id: "t1".into(), attempt: 2, approval: Some("01mh3q8c80000009".into()) }.into(),
        finished_tool("t1", true, true).into(),
        ToolUnknown { id: "t1".into(), reason: "the process died while it ran".into() }.into(),
        ToolResolved {
            id: "t1".into(),
            decision: ToolDecision::Happened,
            by: "owner".into(),
            result: Some("sent".into()),
        }
        .into(),
    ]
}

fn approval_kinds() -> Vec<EventBody> {
    vec![
        ApprovalRequested {
            approval: "01mh3q8c80000009".into(),
            id: "t1".into(),
            args_hash: "1c7a".repeat(16),
            preview_hash: "77de".repeat(16),
            why: "it cannot be taken back".into(),
            expires: START + Duration::from_hours(24),
        }
        .into(),
        ApprovalDecided {
            approval: "01mh3q8c80000009".into(),
            id: "t1".into(),
            decision: ApprovalDecision::Edit {
                args: Body::of(&json!({"path": "other.md"})),
                args_hash: "2d8b".repeat(16),
                preview_hash: "88ef".repeat(16),
                reason: "not that file".into(),
            },
            by: "owner".into(),
            channel: "terminal".into(),
            grant: Some("01mh3q8c8000000g".into()),
        }
        .into(),
        GrantCreated {
            grant: "01mh3q8c8000000g".into(),
            scope: GrantScope::Run(RUN.into()),
            tool: "send_mail".into(),
            constraint: ConstraintText {
                args: [("to".to_owned(), vec!["*@one.example".to_owned()])].into(),
                when: Some("size(args.to) <= 2".into()),
            },
            uses: 10,
            until: START + Duration::from_hours(1),
            by: "owner".into(),
            channel: "terminal".into(),
        }
        .into(),
        GrantUsed { grant: "01mh3q8c8000000g".into(), run: RUN.into(), approval: "01mh3q8c80000009".into() }
            .into(),
        GrantRevoked { grant: "01mh3q8c8000000g".into(), by: "owner".into(), channel: "page".into() }.into(),
    ]
}

/// The rights that a run was given when it was created.
pub(crate) fn bounds() -> RightsText {
    let constraint =
        ConstraintText { args: [("path".to_owned(), vec!["docs/**".to_owned()])].into(), when: None };
    RightsText([("write_file".to_owned(), constraint)].into())
}

fn money_kinds() -> Vec<EventBody> {
    let shares = vec![("total@20779".to_owned(), Money::from_dollars(1))];
    let owner = "host-1:4711".to_owned();
    vec![
        LeaseGranted { owner: owner.clone(), shares: shares.clone() }.into(),
        LeaseClosed { owner: owner.clone(), shares, recovered: true }.into(),
        MoneyReserved {
            reservation: reservation(),
            owner,
            amount: Money::from_nanos(9_000_000),
            accounts: vec!["total@20779".into(), format!("run/{RUN}")],
        }
        .into(),
        MoneySettled {
            reservation: reservation(),
            cost: Money::from_nanos(4_200_000),
            overrun: Money::from_nanos(7),
        }
        .into(),
        MoneyMoved {
            owner: "host-1:4711".into(),
            paid: vec![Paid {
                accounts: vec!["total@20779".into(), "role/clerk@20779".into()],
                settled: vec![(reservation(), Money::from_nanos(4_200_000))],
                voided: vec![ReservationId::of(&CallId::from("c2"), 1)],
            }],
        }
        .into(),
        MoneyVoided { reservation: reservation() }.into(),
        MoneySuspended {
            reservation: reservation(),
            amount: Money::from_nanos(9_000_000),
            reason: "the stream was cut".into(),
        }
        .into(),
        MoneyCorrected { reservation: reservation(), cost: Money::from_nanos(1) }.into(),
        BudgetWarned {
            account: "total@20779".into(),
            percent: 80,
            spent: Money::from_dollars(4),
            limit: Money::from_dollars(5),
            run: Some(RUN.into()),
            call: Some("c1".into()),
            provider: Some("openai".into()),
        }
        .into(),
    ]
}

fn key_kinds() -> Vec<EventBody> {
    let scope = KeyScope {
        right: KeyRight::Call,
        role: Some("clerk".into()),
        models: vec!["main".into(), "claude-*".into()],
        agents: vec!["librarian".into()],
        budget: KeyLimits { day: Some(Money::from_dollars(5)), whole: Some(Money::from_dollars(100)) },
        requests_per_minute: Some(60),
        tokens_per_minute: Some(100_000),
        concurrent: Some(4),
        from: vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        environment: Some("prod".into()),
        priority: Some(Priority::Interactive),
        labels: labels(),
        expires: Some(START + Duration::from_hours(720)),
    };
    vec![
        KeyCreated {
            key: "ci".into(),
            hash: KeyHash::of("first"),
            prefix: "bsk_4f9a2c".into(),
            scope,
            by: "owner".into(),
        }
        .into(),
        KeyRotated {
            key: "ci".into(),
            hash: KeyHash::of("second"),
            prefix: "bsk_7d1e0b".into(),
            old_until: START + Duration::from_hours(24),
            by: "owner".into(),
        }
        .into(),
        KeyRevoked { key: "ci".into(), by: "owner".into() }.into(),
        KeyFirstUsedFrom { key: "ci".into(), address: "192.0.2.7".parse().unwrap() }.into(),
    ]
}

/// A whole run over 60 seconds, with what the ledger and the node wrote meanwhile.
pub(crate) fn example_run() -> Vec<(Event, String)> {
    let mut journal = Recorder::default();
    first_life(&mut journal);
    second_life(&mut journal);
    journal.finish()
}

/// The events of the example run itself.
pub(crate) fn run_events() -> Vec<Event> {
    let stored = example_run().into_iter();
    stored.map(|(event, _)| event).filter(|event| event.stream == run_stream()).collect()
}

/// Fails over, plans a write and dies while it runs; another call is cut off with it.
fn first_life(journal: &mut Recorder) {
    let run = run_stream();
    let defined = RunCreated { dry_run: false, ..created() };
    journal.at(0, &run, defined);
    journal.at(1, &run, RunClaimed { owner: "host-1:4711".into() });
    journal.at(900, &run, started("c1", 1));
    journal.at(1_800, &run, AttemptFailed { call: "c1".into(), attempt: failed_attempt() });
    let reserved = MoneyReserved {
        reservation: reservation(),
        owner: "host-1:4711".into(),
        amount: Money::from_nanos(9_000_000),
        accounts: vec![format!("run/{RUN}")],
    };
    journal.at(2_300, &StreamId::Ledger, reserved);
    let settled =
        MoneySettled { reservation: reservation(), cost: Money::from_nanos(4_200_000), overrun: Money::ZERO };
    journal.at(3_400, &StreamId::Ledger, settled);
    journal.at(3_400, &run, answered("c1", 1, asks_for("t1", "write_file")));
    journal.at(3_400, &run, planned("t1", "write_file", Class::Write));
    journal.at(3_400, &run, ToolStarted { id: "t1".into(), attempt: 1, approval: None });
    journal.at(3_403, &run, finished_tool("t1", false, false));
    journal.at(3_404, &run, started("c2", 2));
}

/// Is taken over, asks again, cannot know whether a mail was sent, waits for a person and ends.
fn second_life(journal: &mut Recorder) {
    let run = run_stream();
    journal.at(10_000, &run, RunClaimed { owner: "host-2:99".into() });
    journal.at(10_001, &run, started("c3", 2));
    journal.at(12_501, &run, plainly_answered("c3", 2, asks_for("t2", "send_mail")));
    journal.at(12_501, &run, planned("t2", "send_mail", Class::Irreversible));
    journal.at(12_501, &run, ToolStarted { id: "t2".into(), attempt: 1, approval: None });
    journal.at(20_000, &run, RunClaimed { owner: "host-2:100".into() });
    journal.at(20_001, &run, ToolUnknown { id: "t2".into(), reason: "the process died while it ran".into() });
    journal.at(20_002, &run, RunParked { reason: ParkReason::InDoubt, until: None });
    let resolved = ToolResolved {
        id: "t2".into(),
        decision: ToolDecision::Happened,
        by: "owner".into(),
        result: Some("sent".into()),
    };
    journal.at(50_000, &run, resolved);
    journal.at(50_001, &run, RunResumed { limits: limits() });
    journal.at(50_002, &run, RunClaimed { owner: "host-2:101".into() });
    journal.at(50_003, &run, started("c4", 3));
    let last = CallFinished {
        stop: StopReason::End,
        ..plainly_answered("c4", 3, Body::of(&[Block::text("Sorted.")]))
    };
    journal.at(52_503, &run, last);
    let finished = RunFinished {
        status: RunStatus::Done,
        result: Some(Body::of(&json!({"files": ["notes.md"]}))),
        code: None,
        message: "".into(),
    };
    journal.at(52_504, &run, finished);
}
