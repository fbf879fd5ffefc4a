//! The world of the runs that are killed: servers, files and repositories that outlive a killed process, count what was
//! done to them, and can kill the process at the moment it asks, or right after they did what it asked for.

use crate::web;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// When a server kills whoever asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// It was asked, and does nothing.
    Asked,
    /// It did what it was asked for, and tells nobody.
    Done,
}

/// What servers did, by the name of the run that asked.
#[derive(Default)]
struct Tally {
    done: BTreeMap<String, Vec<String>>,
    victims: BTreeMap<String, (Moment, u32)>,
}

/// The servers. They end with this.
pub(crate) struct World {
    tally: Arc<Mutex<Tally>>,
    pub(crate) http: u16,
    pub(crate) smtp: u16,
    web: web::Server,
    mail_open: Arc<AtomicUsize>,
    _mail: JoinSet<()>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let tally: Arc<Mutex<Tally>> = Arc::default();
        let kept = Arc::clone(&tally);
        let web = web::Server::start(move |request| {
            if hears(&kept, request) { web::ok("text/plain", "done") } else { web::Reply::Bytes(Vec::new()) }
        })
        .await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let smtp = listener.local_addr().unwrap().port();
        let kept = Arc::clone(&tally);
        let mail_open = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&mail_open);
        let mut mail = JoinSet::new();
        mail.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let kept = Arc::clone(&kept);
                count.fetch_add(1, Ordering::SeqCst);
                let count = Arc::clone(&count);
                connections.spawn(async move {
                    // Whoever hangs up is not answered any more.
                    let _ = talk(BufStream::new(stream), &kept).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { tally, http: web.port(), smtp, web, mail_open, _mail: mail }
    }

    /// Waits until the servers have heard everything that was sent to them. Connections are taken in their order, so that
    /// those of a killed process were taken before these.
    pub(crate) fn settle(&self) {
        for port in [self.http, self.smtp] {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(b"GET /nobody HTTP/1.1\r\n\r\n").unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }
        while !self.web.is_idle() || self.mail_open.load(Ordering::SeqCst) > 0 {
            std::thread::yield_now();
        }
    }

    /// What was done for a run: the key of each request, the id of each message.
    pub(crate) fn done(&self, run: &str) -> Vec<String> {
        self.tally.lock().unwrap().done.get(run).cloned().unwrap_or_default()
    }

    /// Starts a process that is killed when it asks for something in the name of this run.
    pub(crate) fn start_victim(&self, run: &str, moment: Moment, command: &mut Command) -> Child {
        let mut tally = self.tally.lock().unwrap();
        let child = command.spawn().unwrap();
        tally.victims.insert(run.to_owned(), (moment, child.id()));
        child
    }
}

/// Kills whoever asked, if this is the moment to.
fn kills(tally: &mut Tally, run: &str, moment: Moment) -> bool {
    let Some((_, pid)) = tally.victims.get(run).filter(|(when, _)| *when == moment) else { return false };
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    tally.victims.remove(run);
    true
}

/// Does what somebody asks for, unless a key says that it was done before. Whether they are still there to be told.
fn does(tally: &Mutex<Tally>, run: &str, name: String, is_keyed: bool) -> bool {
    let mut tally = tally.lock().unwrap();
    if kills(&mut tally, run, Moment::Asked) {
        return false;
    }
    let done = tally.done.entry(run.to_owned()).or_default();
    if !is_keyed || !done.contains(&name) {
        done.push(name);
    }
    !kills(&mut tally, run, Moment::Done)
}

/// A request: its path is the name of its run.
fn hears(tally: &Mutex<Tally>, request: &str) -> bool {
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let run = path.trim_start_matches('/');
    let key = request.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
    match (method, key) {
        ("GET", _) => {
            let mut tally = tally.lock().unwrap();
            !kills(&mut tally, run, Moment::Asked) && !kills(&mut tally, run, Moment::Done)
        }
        (_, Some(key)) => does(tally, run, key.to_owned(), true),
        (_, None) => does(tally, run, request.rsplit("\r\n\r\n").next().unwrap().to_owned(), false),
    }
}

/// The talk with somebody who sends a message: its subject is the name of its run.
async fn talk(mut stream: BufStream<TcpStream>, tally: &Mutex<Tally>) -> std::io::Result<()> {
    let mut answer = "220 hello\r\n";
    let mut message: Option<BTreeMap<String, String>> = None;
    loop {
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        answer = match (&mut message, line.trim_end()) {
            (Some(headers), ".") => {
                let taken = does(tally, &headers["Subject"], headers["Message-ID"].clone(), false);
                message = None;
                if !taken {
                    return Ok(());
                }
                "250 taken\r\n"
            }
            (Some(headers), line) => {
                if let Some((name, value)) = line.split_once(": ") {
                    headers.entry(name.to_owned()).or_insert_with(|| value.to_owned());
                }
                ""
            }
            (None, "DATA") => {
                message = Some(BTreeMap::new());
                "354 go on\r\n"
            }
            (None, "QUIT") => "221 bye\r\n",
            (None, _) => "250 fine\r\n",
        };
    }
}
