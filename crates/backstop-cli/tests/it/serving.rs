//! A gateway as a process of its own, and a client that speaks to it by hand.

use super::kit::{Done, Place, signal, until};
use rustix::process::Signal;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A gateway that serves on a free port.
pub(crate) struct Serving {
    child: Child,
    pub(crate) addr: SocketAddr,
    said: Arc<Mutex<String>>,
    reading: JoinHandle<()>,
}

impl Serving {
    /// Starts it in this place, with the config that is there.
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_with(place, &[])
    }

    /// The same, with more arguments.
    pub(crate) fn start_with(place: &Place, args: &[&str]) -> Self {
        Self::of(place.command(&[&["serve", "--listen", "127.0.0.1:0"], args].concat()))
    }

    /// Starts it with so few open files allowed at first.
    pub(crate) fn start_with_open_files(place: &Place, files: u32) -> Self {
        let mut command = place.command(&[]);
        let script = format!("ulimit -Sn {files} && exec \"$0\" serve --listen 127.0.0.1:0");
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_backstop")]).current_dir(place.path()).env_clear();
        for (name, value) in command.get_envs() {
            shell.env(name, value.unwrap_or_default());
        }
        command = shell;
        command.stdin(Stdio::null());
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        let mut child =
            command.env("P_KEY", "any-key").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let reading = std::thread::spawn({
            let (said, stderr) = (Arc::clone(&said), child.stderr.take().unwrap());
            move || listen(stderr, &said)
        });
        let addr = until("the address of the gateway", || {
            let said = said.lock().unwrap();
            assert!(!said.contains("error["), "it did not start: {said}");
            let rest = said.split("listens on http://").nth(1)?;
            rest.split_once(';')?.0.parse().ok()
        });
        Self { child, addr, said, reading }
    }

    /// What it has said on stderr so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has said this.
    pub(crate) fn says(&self, text: &str) {
        until(text, || self.said().contains(text).then_some(()));
    }

    pub(crate) fn signal(&self, which: Signal) {
        signal(&self.child, which);
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let resident = self.status("VmRSS").unwrap();
        resident.strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// What the kernel says of the process, by its name for it.
    pub(crate) fn status(&self, name: &str) -> Option<String> {
        line_of(&std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap(), name)
    }

    /// Waits for its end.
    pub(crate) fn ended(mut self, place: &Place) -> Done {
        let status = self.child.wait().unwrap();
        self.reading.join().unwrap();
        let err = place.clean(self.said.lock().unwrap().as_bytes());
        Done { code: status.code().unwrap_or(-1), out: String::new(), err }
    }

    /// Ends it as an operator does.
    pub(crate) fn stop(self, place: &Place) -> Done {
        self.signal(Signal::TERM);
        self.ended(place)
    }
}

fn listen(stderr: ChildStderr, said: &Mutex<String>) {
    for line in BufReader::new(stderr).lines() {
        let line = line.unwrap();
        let mut said = said.lock().unwrap();
        said.push_str(&line);
        said.push('\n');
    }
}

/// A connection to the gateway.
pub(crate) struct Caller(BufReader<TcpStream>);

/// The value of a line of `/proc/PID/status`.
pub(crate) fn line_of(status: &str, name: &str) -> Option<String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
}

/// A small request.
pub(crate) fn body(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":60,"stream":{stream},"messages":[{{"role":"user","content":"Say hello."}}]}}"#
    )
}

impl Caller {
    /// A connection; `None` when nobody listens.
    pub(crate) fn connect(addr: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(addr).ok()?;
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        Some(Self(BufReader::new(stream)))
    }

    pub(crate) fn send(&mut self, body: &str) -> std::io::Result<()> {
        let head = format!("POST /v1/messages HTTP/1.1\r\nhost: g\r\ncontent-length: {}\r\n\r\n", body.len());
        self.0.get_mut().write_all([head.as_bytes(), body.as_bytes()].concat().as_slice())
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = self.0.read_line(&mut line).ok()?;
        (read > 0).then_some(line)
    }

    /// The status of the next response and whether its body is chunked, or else its length.
    pub(crate) fn head(&mut self) -> Option<(u16, Option<usize>)> {
        let status = self.line()?.split(' ').nth(1)?.parse().ok()?;
        let mut length = Some(0);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line == "\r\n" {
                return Some((status, length));
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            } else if line.starts_with("transfer-encoding:") {
                length = None;
            }
        }
    }

    /// The next chunk; empty at the end of the body, `None` when it breaks off.
    pub(crate) fn chunk(&mut self) -> Option<String> {
        let length = usize::from_str_radix(self.line()?.trim(), 16).ok()?;
        let mut bytes = vec![0; length + 2];
        self.0.read_exact(&mut bytes).ok()?;
        bytes.truncate(length);
        String::from_utf8(bytes).ok()
    }

    /// The next whole response: its status and body; `None` when the connection breaks before its end.
    pub(crate) fn answer(&mut self) -> Option<(u16, String)> {
        let (status, length) = self.head()?;
        let mut text = String::new();
        match length {
            Some(length) => {
                let mut bytes = vec![0; length];
                self.0.read_exact(&mut bytes).ok()?;
                text = String::from_utf8(bytes).ok()?;
            }
            None => loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                text.push_str(&chunk);
            },
        }
        Some((status, text))
    }

    /// Gets what lies at a path.
    pub(crate) fn get(&mut self, path: &str) -> Option<(u16, String)> {
        let head = format!("GET {path} HTTP/1.1\r\nhost: g\r\n\r\n");
        self.0.get_mut().write_all(head.as_bytes()).ok()?;
        self.answer()
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&mut self, body: &str) -> Option<(u16, String)> {
        self.send(body).ok()?;
        self.answer()
    }
}

/// One request on a connection of its own.
pub(crate) fn ask(addr: SocketAddr, body: &str) -> (u16, String) {
    Caller::connect(addr).unwrap().ask(body).unwrap()
}
