//! Where a run is killed, and a model that says what it is to say. The tool and the journal around which a process may die are
//! those of the agent's own tests.

use crate::ground::Ground;
use crate::shared::{Fate, Watched, die};
use backstop_call::{
    Block, BoxFuture, Call, Clock, Failure, LimitHint, Model, Reply, Sink, Speaker, StopReason, Timestamp,
    Usage,
};
use backstop_store::{SqliteStore, StoreOptions};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// Where a process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Place {
    Nowhere,
    BeforeAppend(usize),
    AfterAppend(usize),
    BeforeEffect(usize),
    /// So many microseconds after the effect began.
    During(usize, u64),
    AfterEffect(usize),
    /// By the world, when it is asked.
    Asked,
    /// By the world, when it has done it.
    Done,
    /// Not killed: held before this append until the test lets it go on.
    Held(usize),
}

/// Where this process kills itself, and how long its effects took.
pub(crate) struct Kill {
    place: Place,
    effects: AtomicUsize,
    pub(crate) took: Mutex<Vec<Duration>>,
}

impl Kill {
    pub(crate) fn at(place: Place) -> Arc<Self> {
        Arc::new(Self { place, effects: AtomicUsize::new(0), took: Mutex::default() })
    }

    fn reach(&self, place: Place) {
        if self.place == place {
            die();
        }
    }
}

impl Fate for Kill {
    fn begins(&self) -> usize {
        let number = self.effects.fetch_add(1, Ordering::SeqCst) + 1;
        self.reach(Place::BeforeEffect(number));
        number
    }

    fn during(&self, number: usize) -> Option<JoinHandle<()>> {
        let Place::During(of, micros) = self.place else { return None };
        (of == number).then(|| {
            std::thread::spawn(move || {
                let (_nobody, never) = mpsc::channel::<()>();
                let _ = never.recv_timeout(Duration::from_micros(micros));
                die();
            })
        })
    }

    fn ended(&self, number: usize, took: Duration) {
        self.took.lock().unwrap().push(took);
        self.reach(Place::AfterEffect(number));
    }
}

/// The journal of a ground, around whose appends the process may die.
pub(crate) fn watched(ground: &Ground, kill: &Arc<Kill>) -> Watched {
    let store = SqliteStore::open(ground.path("journal.db"), StoreOptions::default()).unwrap();
    let (before, after) = (Arc::clone(kill), Arc::clone(kill));
    let hold = ground.path("work/hold");
    let mut watched = Watched::new(Arc::new(store));
    watched.before = Box::new(move |number, _| {
        before.reach(Place::BeforeAppend(number));
        if before.place == Place::Held(number) {
            std::fs::read(&hold).unwrap();
        }
        None
    });
    watched.after = Arc::new(move |number| after.reach(Place::AfterAppend(number)));
    watched
}

/// The time of day.
pub(crate) struct Wall;

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH + SystemTime::UNIX_EPOCH.elapsed().unwrap()
    }
}

/// A model that calls the tool of the case, and finishes.
pub(crate) struct Script(pub(crate) Vec<Block>);

impl Model for Script {
    fn call<'a>(&'a self, call: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        let spoken = call.request.messages.iter().filter(|it| it.speaker == Speaker::Assistant).count();
        let content = vec![self.0[spoken].clone()];
        Box::pin(async move {
            Ok(Reply {
                id: "m".into(),
                model: "scripted".into(),
                content,
                stop: StopReason::ToolUse,
                usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
                first_token: None,
                request_id: None,
                limits: LimitHint::default(),
                attempts: Vec::new(),
                other: serde_json::Map::new(),
                told: None,
                lost: Vec::new(),
            })
        })
    }
}

pub(crate) fn use_of(id: &str, name: &str, input: Value) -> Block {
    Block::ToolUse { id: id.into(), name: name.into(), input, cache: None }
}
