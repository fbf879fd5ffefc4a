//! The floor: the commits that a scenario cannot be done without (SQLite in WAL mode, `synchronous=FULL`, what queues up
//! while one commit is on its way goes into the next) and nothing else. Two commits a step: the model's answer is durable
//! before the tool acts, what the tool did before the model is asked again.

use super::world::payload;
use super::{Options, per_second, spread};
use crate::Stop;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::time::Instant;

/// Commits that are grouped at most.
const BATCH_MAX: usize = 256;

enum Op {
    Enqueue(i64),
    Claim(i64),
    Record(i64, String),
    Done(i64),
}

type Job = (Vec<Op>, SyncSender<()>);

/// The way to the thread that writes.
#[derive(Clone)]
struct Writer(Sender<Job>);

fn failed(error: impl std::fmt::Display) -> Stop {
    Stop::failed(format!("the floor: {error}"))
}

fn open(dir: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(dir.join("floor.db"))?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         CREATE TABLE IF NOT EXISTS task (id INTEGER PRIMARY KEY, state INTEGER NOT NULL);
         CREATE TABLE IF NOT EXISTS journal (id INTEGER PRIMARY KEY, data TEXT NOT NULL);",
    )?;
    Ok(db)
}

fn apply(db: &Connection, op: &Op) -> rusqlite::Result<usize> {
    match op {
        Op::Enqueue(task) => db.prepare_cached("INSERT INTO task VALUES (?1, 0)")?.execute([task]),
        Op::Claim(task) => db.prepare_cached("UPDATE task SET state = 1 WHERE id = ?1")?.execute([task]),
        Op::Record(id, data) => {
            db.prepare_cached("INSERT INTO journal VALUES (?1, ?2)")?.execute(params![id, data])
        }
        Op::Done(task) => db.prepare_cached("UPDATE task SET state = 2 WHERE id = ?1")?.execute([task]),
    }
}

/// What fails here ends the thread, and with it everybody who waits.
fn write(db: &Connection, jobs: &Receiver<Job>) -> rusqlite::Result<()> {
    while let Ok(first) = jobs.recv() {
        let mut batch = vec![first];
        while let Some(more) = (batch.len() < BATCH_MAX).then(|| jobs.try_recv().ok()).flatten() {
            batch.push(more);
        }
        db.execute_batch("BEGIN IMMEDIATE")?;
        for op in batch.iter().flat_map(|(ops, _)| ops) {
            apply(db, op)?;
        }
        db.execute_batch("COMMIT")?;
        for (_, done) in batch {
            let _ = done.send(());
        }
    }
    Ok(())
}

impl Writer {
    fn start(dir: &Path) -> Result<(Self, JoinHandle<rusqlite::Result<()>>), Stop> {
        let db = open(dir).map_err(failed)?;
        let (sender, jobs) = channel();
        Ok((Self(sender), thread::spawn(move || write(&db, &jobs))))
    }

    fn commit(&self, ops: Vec<Op>) -> Result<(), Stop> {
        let (done, wait) = sync_channel(1);
        self.0.send((ops, done)).map_err(failed)?;
        wait.recv().map_err(failed)
    }

    /// The steps of one task; the end of the task rides on its last record.
    fn steps(&self, task: usize, options: &Options, mut each: impl FnMut(Duration)) -> Result<(), Stop> {
        let number = i64::try_from(task).unwrap_or(0);
        for step in 0..options.steps {
            let begun = Instant::now();
            let id = number * 1_000_000 + 2 * i64::try_from(step).unwrap_or(0);
            let seed = u64::try_from(task * 1_000 + step).unwrap_or(0);
            self.commit(vec![Op::Record(id, payload(options.payload, seed))])?;
            let mut ops = vec![Op::Record(id + 1, payload(options.payload, seed + 500))];
            if step + 1 == options.steps {
                ops.push(Op::Done(number));
            }
            self.commit(ops)?;
            each(begun.elapsed());
        }
        Ok(())
    }
}

pub(super) fn w1(options: &Options) -> Result<Value, Stop> {
    let (writer, thread) = Writer::start(&options.dir)?;
    writer.commit(vec![Op::Enqueue(0)])?;
    let mut times = Vec::with_capacity(options.steps);
    let begun = Instant::now();
    writer.steps(0, options, |time| times.push(time))?;
    let seconds = begun.elapsed();
    end(writer, thread)?;
    Ok(json!({
        "steps": options.steps,
        "seconds": seconds.as_secs_f64(),
        "steps_per_s": per_second(options.steps, seconds),
        "step_ms": spread(times),
    }))
}

fn end(writer: Writer, thread: JoinHandle<rusqlite::Result<()>>) -> Result<(), Stop> {
    drop(writer);
    thread.join().map_err(|_| failed("the writer panicked"))?.map_err(failed)
}

type Todo = (usize, Instant);

/// Workers that wait for tasks; each gives the times from enqueue to done.
fn workers(
    writer: &Writer,
    todo: Receiver<Todo>,
    options: &Options,
) -> Vec<JoinHandle<Result<Vec<Duration>, Stop>>> {
    let todo = Arc::new(Mutex::new(todo));
    let work = |_| {
        let (writer, todo, options) = (writer.clone(), Arc::clone(&todo), options.clone());
        thread::spawn(move || {
            let mut times = Vec::new();
            loop {
                let next = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok((task, begun)) = next else { return Ok(times) };
                writer.commit(vec![Op::Claim(i64::try_from(task).unwrap_or(0))])?;
                writer.steps(task, &options, |_| ())?;
                times.push(begun.elapsed());
            }
        })
    };
    (0..options.concurrency).map(work).collect()
}

fn joined<T>(threads: Vec<JoinHandle<Result<T, Stop>>>) -> Result<Vec<T>, Stop> {
    threads.into_iter().map(|thread| thread.join().map_err(|_| failed("a thread panicked"))?).collect()
}

pub(super) fn w2(options: &Options) -> Result<Value, Stop> {
    let (writer, thread) = Writer::start(&options.dir)?;
    let (sender, todo) = channel();
    let working = workers(&writer, todo, options);
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let submit = |_| {
        let (writer, sender, next, tasks) =
            (writer.clone(), sender.clone(), Arc::clone(&next), options.tasks);
        thread::spawn(move || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= tasks {
                    return Ok(());
                }
                let begun = Instant::now();
                writer.commit(vec![Op::Enqueue(i64::try_from(number).unwrap_or(0))])?;
                sender.send((number, begun)).map_err(failed)?;
            }
        })
    };
    joined((0..options.concurrency).map(submit).collect())?;
    let enqueued = begun.elapsed();
    drop(sender);
    let times: Vec<_> = joined(working)?.into_iter().flatten().collect();
    let seconds = begun.elapsed();
    end(writer, thread)?;
    Ok(json!({
        "tasks": options.tasks,
        "seconds": seconds.as_secs_f64(),
        "enqueue_s": enqueued.as_secs_f64(),
        "tasks_per_s": per_second(options.tasks, seconds),
        "latency_ms": spread(times),
    }))
}

pub(super) fn w2lat(options: &Options) -> Result<Value, Stop> {
    let options = Options { steps: 1, ..options.clone() };
    let (writer, thread) = Writer::start(&options.dir)?;
    let mut times = Vec::with_capacity(options.tasks);
    let (sender, todo) = channel::<Todo>();
    let (done, ended) = channel();
    let (working, of) = (writer.clone(), options.clone());
    let worker = thread::spawn(move || {
        while let Ok((task, begun)) = todo.recv() {
            working.commit(vec![Op::Claim(i64::try_from(task).unwrap_or(0))])?;
            working.steps(task, &of, |_| ())?;
            done.send(begun.elapsed()).map_err(failed)?;
        }
        Ok(())
    });
    for number in 0..options.tasks {
        let begun = Instant::now();
        writer.commit(vec![Op::Enqueue(i64::try_from(number).unwrap_or(0))])?;
        sender.send((number, begun)).map_err(failed)?;
        times.push(ended.recv().map_err(failed)?);
    }
    drop(sender);
    joined(vec![worker])?;
    end(writer, thread)?;
    Ok(json!({ "tasks": options.tasks, "latency_ms": spread(times) }))
}
