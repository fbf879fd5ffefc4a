//! Jobs over a journal in a file and a clock on the wall that tests set: what is due is in the queue once, whoever looks, and
//! whatever happens to clocks and processes.

use backstop::{Backstop, Erasing, Place, Settings};
use backstop_call::{JobName, RunId, Timestamp};
use backstop_journal::event::{JobPaused, JobResumed, RunFinished};
use backstop_journal::projections::metrics::JobSummary;
use backstop_journal::{
    Append, Body, Durability, EventBody, Journal, Queue, RunStatus, StreamId, TaskFilter,
};
use backstop_server::config::{Config, Surroundings, load};
use backstop_server::jobs::{
    JobBook, JobOutcome, JobRow, JobRun, JobState, JobView, Paused, Scheduler, job, note, submit, task_at,
};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// 2026-11-23T06:00:00Z, a Monday.
const START: Timestamp = Timestamp::from_secs(1_795_413_600);
const LETTER: &str = "letter";

/// A config file that is this text.
struct Text(String);

impl Surroundings for Text {
    fn var(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Ok(self.0.clone().into_bytes())
    }
}

fn config(jobs: &str) -> Config {
    load(Path::new("/c/backstop.toml"), None, &Text(format!("model = \"sim\"\n{jobs}"))).unwrap()
}

/// A job at every full hour, with more that is said of it.
fn hourly(more: &str) -> Config {
    config(&format!("[jobs.{LETTER}]\nschedule = \"@hourly\"\ntask = \"Write.\"\n{more}"))
}

/// A journal, and the clock on the wall.
struct Room {
    dir: TempDir,
    wall: Arc<AtomicU64>,
}

/// A process in the room.
struct Process {
    backstop: Backstop,
    scheduler: Scheduler,
    wall: Arc<AtomicU64>,
}

impl Room {
    fn new() -> Self {
        let wall = Arc::new(AtomicU64::new(START.nanos()));
        Self { dir: tempfile::tempdir().unwrap(), wall }
    }

    async fn process(&self, config: Config) -> Process {
        let store = Place::File(self.dir.path().join("backstop.db"));
        let backstop = Backstop::open(Settings { store, ..Settings::default() }).await.unwrap();
        let wall = Arc::clone(&self.wall);
        let now = Arc::new(move || Timestamp::from_nanos(wall.load(Ordering::Relaxed)));
        let scheduler = Scheduler::new(backstop.clone(), config, now);
        Process { backstop, scheduler, wall: Arc::clone(&self.wall) }
    }

    /// Sets the clock to so many minutes after six.
    fn at(&self, minutes: u64) {
        self.wall.store(minute(minutes).nanos(), Ordering::Relaxed);
    }
}

fn minute(minutes: u64) -> Timestamp {
    START + Duration::from_mins(minutes)
}

impl Process {
    /// Looks once; nothing is in the way.
    async fn look(&mut self) -> Option<Timestamp> {
        let looked = self.scheduler.look().await.unwrap();
        assert!(looked.troubles.is_empty(), "{looked:?}");
        looked.next
    }

    /// What is in the queue, the oldest first.
    async fn tasks(&self) -> Vec<String> {
        let tasks = self.backstop.queue().tasks(TaskFilter::default()).await.unwrap();
        let shown = |task: &backstop_journal::TaskSummary| {
            let state = task.queued().map_or("", |queue| queue.state.as_str());
            format!("{} {state}", task.task.as_str().replace("letter@2026-11-23T", "").replace(":00:00Z", ""))
        };
        tasks.iter().rev().map(shown).collect()
    }

    /// What stands in the stream, in short.
    async fn told(&self) -> Vec<String> {
        let hour = |time: Timestamp| time.rfc3339()[11..13].to_owned();
        let shown = |event: backstop_journal::Event| match event.body {
            EventBody::JobStarted(started) => {
                format!("started {}", started.time.map(hour).unwrap_or_default())
            }
            EventBody::JobSkipped(skip) => {
                format!("{} {}-{} {}", skip.why.as_str(), hour(skip.first), hour(skip.last), skip.times)
            }
            other => other.kind().to_owned(),
        };
        self.backstop.journal().read(&StreamId::Jobs, 0).await.unwrap().into_iter().map(shown).collect()
    }

    /// The run of the task of an hour ends.
    async fn ends(&self, hour: u64, status: RunStatus, result: Option<&str>) {
        let task = task_at(&LETTER.into(), START + Duration::from_hours(hour - 6));
        let filter = TaskFilter { task: Some(task), ..TaskFilter::default() };
        let run = self.backstop.queue().tasks(filter).await.unwrap().pop().unwrap().run.run;
        let epoch = self.backstop.journal().claim(&run, self.backstop.clock().now()).await.unwrap();
        let finished = RunFinished {
            status,
            result: result.map(Body::from),
            code: (status == RunStatus::Failed).then_some(backstop_call::Code::PolicyRefused),
            message: "".into(),
        };
        let append = Append {
            stream: StreamId::Run(run.clone()),
            epoch: Some(epoch),
            events: vec![finished.into()],
            at: self.backstop.clock().now(),
            durability: Durability::Synced,
        };
        self.backstop.journal().append(append).await.unwrap();
        self.backstop.journal().release(&run, epoch).await.unwrap();
    }

    async fn says(&self, event: EventBody) {
        let now = Timestamp::from_nanos(self.wall.load(Ordering::Relaxed));
        note(self.backstop.journal().as_ref(), vec![event], now).await.unwrap();
    }

    fn kept(&self) -> (&dyn Journal, &dyn Queue) {
        (self.backstop.journal().as_ref(), self.backstop.queue().as_ref())
    }
}

#[tokio::test]
async fn at_its_time_there_is_a_task_once_whoever_looks() {
    let room = Room::new();
    let (mut one, mut other) = (room.process(hourly("")).await, room.process(hourly("")).await);
    room.at(1);
    assert_eq!((one.look().await, other.look().await), (Some(minute(60)), Some(minute(60))));
    assert_eq!((one.tasks().await, one.told().await), (vec![], vec!["job.defined".to_owned()]));
    room.at(60);
    assert_eq!((one.look().await, other.look().await), (Some(minute(120)), Some(minute(120))));
    one.look().await;
    assert_eq!(one.tasks().await, ["07 waiting"]);
    assert_eq!(one.told().await, ["job.defined", "started 07"]);
}

/// Between the task and the word on it a process is killed: the task is the same, and the word comes later.
#[tokio::test]
async fn a_process_that_is_killed_in_between_leaves_nothing_to_be_put_right() {
    let room = Room::new();
    let config = hourly("");
    let mut killed = room.process(config.clone()).await;
    killed.look().await;
    let name = JobName::from(LETTER);
    let id = task_at(&name, minute(60));
    let of = (&name, job(&config, &name).unwrap());
    submit(&killed.backstop, &config, of, (id, Duration::ZERO)).await.unwrap();
    drop(killed);
    room.at(61);
    let mut next = room.process(config).await;
    next.look().await;
    assert_eq!(next.tasks().await, ["07 waiting"]);
    assert_eq!(next.told().await, ["job.defined", "started 07"]);
}

#[tokio::test]
async fn what_nobody_was_there_for_is_made_up_for_as_the_config_says() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("catch-up = \"none\"", &[], &["missed 07-09 3"]),
        ("", &["09 waiting"], &["missed 07-08 2", "started 09"]),
        ("catch-up-window = \"10m\"", &[], &["missed 07-09 3"]),
        (
            "catch-up = \"all\"\noverlap = \"queue\"\ncatch-up-window = \"2h\"",
            &["08 waiting", "09 waiting"],
            &["missed 07-07 1", "started 08", "started 09"],
        ),
    ];
    for (more, tasks, told) in rows {
        let room = Room::new();
        room.process(hourly(more)).await.look().await;
        room.at(195);
        let mut process = room.process(hourly(more)).await;
        process.look().await;
        assert_eq!(process.tasks().await, *tasks, "{more}");
        assert_eq!(process.told().await[1..], **told, "{more}");
    }
}

#[tokio::test]
async fn while_one_is_under_way_the_next_is_left_out_waits_or_takes_its_place() {
    let rows: &[(&str, &[&str], &[&str])] = &[
        ("skip", &["07 done", "09 waiting"], &["started 07", "overlap 08-08 1", "started 09"]),
        ("queue", &["07 done", "08 waiting", "09 waiting"], &["started 07", "started 08", "started 09"]),
        (
            "replace",
            &["07 cancelled", "08 cancelled", "09 waiting"],
            &["started 07", "started 08", "started 09"],
        ),
    ];
    for (overlap, tasks, told) in rows {
        let room = Room::new();
        let mut process = room.process(hourly(&format!("overlap = \"{overlap}\""))).await;
        process.look().await;
        for hour in [60, 120] {
            room.at(hour);
            process.look().await;
        }
        if *overlap != "replace" {
            process.ends(7, RunStatus::Done, None).await;
        }
        room.at(180);
        process.look().await;
        assert_eq!(process.tasks().await, *tasks, "{overlap}");
        assert_eq!(process.told().await[1..], **told, "{overlap}");
        let keys = process.backstop.queue().tasks(TaskFilter::default()).await.unwrap();
        let keys: Vec<_> = keys.iter().map(|task| task.queued().unwrap().terms.key.clone()).collect();
        let want = (*overlap == "queue").then(|| "job/letter".to_owned());
        assert!(keys.iter().all(|key| *key == want), "{overlap}: {keys:?}");
    }
}

#[tokio::test]
async fn what_comes_while_a_job_is_paused_or_off_is_not_made_up_for() {
    let room = Room::new();
    let mut process = room.process(hourly("")).await;
    process.look().await;
    let by = || "ann".to_owned();
    process.says(JobPaused { job: LETTER.into(), by: by(), reason: String::new() }.into()).await;
    room.at(70);
    assert_eq!(process.look().await, None);
    process.says(JobResumed { job: LETTER.into(), by: by() }.into()).await;
    assert_eq!(process.look().await, Some(minute(120)));
    // The config has it off for two hours, and another schedule then.
    process.scheduler.change(hourly("off = true"));
    assert_eq!(process.look().await, None);
    room.at(190);
    process.scheduler.change(hourly(""));
    assert_eq!(process.look().await, Some(minute(240)));
    process.scheduler.change(config(""));
    process.look().await;
    assert_eq!(process.tasks().await, Vec::<String>::new());
    let told = ["job.defined", "job.paused", "job.resumed", "job.dropped", "job.defined", "job.dropped"];
    assert_eq!(process.told().await, told);
}

/// A clock that runs ahead, is set right, and passes the same hours again.
#[tokio::test]
async fn a_clock_that_jumps_does_nothing_twice_and_stops_nothing() {
    let room = Room::new();
    let mut process = room.process(hourly("overlap = \"queue\"")).await;
    process.look().await;
    room.at(60);
    process.look().await;
    // A week ahead, and back to before the last time.
    room.at(60 + 7 * 24 * 60);
    process.look().await;
    let ahead = process.tasks().await;
    assert_eq!(ahead, ["07 waiting", "letter@2026-11-30T07 waiting"]);
    room.at(30);
    assert_eq!(process.look().await, Some(minute(60)));
    room.at(60);
    process.look().await;
    assert_eq!(process.tasks().await, ahead, "seven o'clock has its task");
    room.at(120);
    process.look().await;
    assert_eq!(process.tasks().await[2..], ["08 waiting"], "eight o'clock was not there yet");
}

#[tokio::test]
async fn a_task_of_a_job_has_the_terms_of_the_job() {
    let room = Room::new();
    let more = "priority = \"batch\"\nwithin = \"2h\"\ntries = 3\nkey = \"site\"\njitter = \"10m\"\nworkspace = \"site\"";
    let mut process = room.process(hourly(more)).await;
    process.look().await;
    room.at(60);
    let before = process.backstop.clock().now();
    process.look().await;
    let after = process.backstop.clock().now();
    let task = process.backstop.queue().tasks(TaskFilter::default()).await.unwrap().pop().unwrap();
    let queued = task.queued().unwrap();
    let of = (queued.priority, queued.terms.tries, queued.terms.key.as_deref());
    assert_eq!(of, (backstop_call::Priority::Batch, 3, Some("site")));
    // Terms go by the clock of the engine, which may be another one.
    let deadline = queued.terms.deadline.unwrap();
    let hours = Duration::from_hours(2);
    assert!(deadline >= before + hours && deadline <= after + hours, "{deadline}");
    let due = queued.terms.due;
    assert!(
        due > after && due < after + Duration::from_mins(10),
        "{due} is not later by some of ten minutes"
    );
    let events = process.backstop.journal().read(&StreamId::Run(task.run.run.clone()), 0).await.unwrap();
    let EventBody::RunCreated(created) = &events[0].body else { panic!("{:?}", events[0]) };
    assert_eq!((created.workspace.as_str(), &created.message), ("/c/site", &Body::from("Write.")));
}

#[tokio::test]
async fn how_a_job_stands_and_what_came_of_it() {
    let room = Room::new();
    let config = hourly("timezone = \"Europe/Berlin\"");
    let mut process = room.process(config.clone()).await;
    process.look().await;
    for (hour, status, result) in [
        (7, RunStatus::Done, Some("It is written.")),
        (8, RunStatus::Failed, None),
        (9, RunStatus::Failed, None),
    ] {
        room.at((hour - 6) * 60);
        process.look().await;
        process.ends(hour, status, result).await;
    }
    for minutes in [240, 300] {
        room.at(minutes);
        process.look().await;
    }
    let paused = JobPaused { job: LETTER.into(), by: "ann".into(), reason: "summer".into() };
    let run = |rows: &[JobRow], place: usize| match &rows[place] {
        JobRow::Run(run) => run.clone(),
        JobRow::Skipped { .. } => panic!("{rows:?}"),
    };
    let book = JobBook::of(&config);
    let rows = book.history(&LETTER.into(), process.kept(), 10).await.unwrap();
    let shown: Vec<_> = rows
        .iter()
        .map(|row| match row {
            JobRow::Run(JobRun { time, outcome, code, summary, .. }) => {
                format!("{} {} {code:?} {summary}", time.unwrap().rfc3339(), outcome.as_str())
            }
            JobRow::Skipped { first, last, times, why } => format!("{first} {last} {times} {}", why.as_str()),
        })
        .collect();
    let want = [
        "2026-11-23T11:00:00.000Z 2026-11-23T11:00:00.000Z 1 overlap",
        "2026-11-23T10:00:00.000Z waiting None ",
        "2026-11-23T09:00:00.000Z failed Some(PolicyRefused) ",
        "2026-11-23T08:00:00.000Z failed Some(PolicyRefused) ",
        "2026-11-23T07:00:00.000Z done None It is written.",
    ];
    assert_eq!(shown, want);
    assert_eq!(book.history(&LETTER.into(), process.kept(), 2).await.unwrap(), rows[..2]);
    let done = run(&rows, 4).run;
    let at = process.backstop.clock().now();
    let erasing = Erasing { by: "ann", reason: "", at, age: Duration::ZERO };
    process.backstop.erase(&done, &erasing).await.unwrap();
    let now = book.history(&LETTER.into(), process.kept(), 10).await.unwrap();
    assert_eq!(run(&now, 4).summary, "(erased)", "no copy of it is kept");
    let last = JobRun { summary: String::new(), ..run(&rows, 1) };
    let (id, began) = (task_at(&LETTER.into(), minute(240)), minute(240));
    assert_eq!((&last.task, last.began, last.outcome), (&id, began, JobOutcome::Waiting));
    let want = JobView {
        name: LETTER.into(),
        schedule: "@hourly".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        agent: None,
        overlap: "skip",
        state: JobState::UnderWay,
        paused: None,
        next: Some(minute(360)),
        next_local: Some("2026-11-23 13:00 CET".to_owned()),
        last: Some(last.clone()),
        failures_in_a_row: 2,
    };
    let views = || async { book.view(process.kept(), minute(301)).await.unwrap() };
    assert_eq!(views().await, std::slice::from_ref(&want));
    let done = run(&rows, 4).ended;
    assert!(done.is_some());
    let summary = |next| vec![JobSummary { job: LETTER.into(), next, done, failures: 2 }];
    let summaries = || async { book.summaries(process.kept(), minute(301)).await.unwrap() };
    assert_eq!(summaries().await, summary(Some(minute(360))));
    process.says(paused.into()).await;
    assert_eq!(summaries().await, summary(None));
    let paused = Paused { since: minute(300), by: "ann".into(), reason: "summer".into() };
    let want =
        JobView { state: JobState::Paused, paused: Some(paused), next: None, next_local: None, ..want };
    assert_eq!(views().await, [want]);
    let json = serde_json::to_value(views().await).unwrap();
    assert_eq!(
        (&json[0]["paused"]["since"], &json[0]["last"]["time"], &json[0]["next"]),
        (&"2026-11-23T11:00:00.000Z".into(), &"2026-11-23T10:00:00.000Z".into(), &serde_json::Value::Null)
    );
    assert_eq!(serde_json::to_value(&rows).unwrap()[0]["kind"], "skipped");
}

/// Another process works on what is to be replaced, and is not told to stop.
#[tokio::test]
async fn what_is_in_the_way_of_one_job_holds_up_no_other_and_is_tried_again() {
    let room = Room::new();
    let both = config(
        "[jobs.letter]\nschedule = \"@hourly\"\ntask = \"Write.\"\noverlap = \"replace\"
         [jobs.tidy]\nschedule = \"@hourly\"\ntask = \"Tidy.\"",
    );
    let mut process = room.process(both.clone()).await;
    process.look().await;
    room.at(60);
    process.look().await;
    let filter = TaskFilter { task: Some(task_at(&LETTER.into(), minute(60))), ..TaskFilter::default() };
    let run: RunId = process.backstop.queue().tasks(filter).await.unwrap().pop().unwrap().run.run;
    let worker = room.process(both).await;
    let epoch = worker.backstop.journal().claim(&run, worker.backstop.clock().now()).await.unwrap();
    room.at(120);
    let looked = process.scheduler.look().await.unwrap();
    let troubles: Vec<_> = looked.troubles.iter().map(|(job, why)| format!("{job}: {why}")).collect();
    assert!(
        troubles.len() == 1 && troubles[0].starts_with(&format!("letter: run {run} belongs to ")),
        "{troubles:?}"
    );
    let told = ["job.defined", "job.defined", "started 07", "started 07", "overlap 08-08 1"];
    assert_eq!(process.told().await, told);
    worker.backstop.journal().release(&run, epoch).await.unwrap();
    room.at(121);
    process.look().await;
    assert_eq!(process.told().await[told.len()..], ["started 08"]);
    assert_eq!(process.tasks().await, ["07 cancelled", "tidy@2026-11-23T07 waiting", "08 waiting"]);
}
