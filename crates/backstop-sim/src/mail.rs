//! A mail server of a few lines, which takes every mail, keeps it, and refuses recipients that it was told to refuse. It speaks
//! enough SMTP for a client that sends in the clear, to one client at a time, from a thread of its own.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a client may say nothing.
const IDLE: Duration = Duration::from_secs(10);
/// The longest line, in bytes: what SMTP allows with its line end.
const LINE_BYTES_MAX: u64 = 1_000;
/// The largest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// So many mails are kept; further ones are refused.
const MAILS_MAX: usize = 10_000;

/// A mail that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// Whom it is from, by the envelope.
    pub from: String,
    /// Whom it is to, by the envelope.
    pub to: Vec<String>,
    /// Headers and body, with `\n` at the end of each line.
    pub text: String,
}

/// A mail server on this machine. It ends when it is dropped.
#[derive(Debug)]
pub struct MailServer {
    addr: SocketAddr,
    post: Arc<Post>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Post {
    mails: Mutex<Vec<Mail>>,
    refused: Mutex<BTreeSet<String>>,
    over: AtomicBool,
}

impl MailServer {
    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When there is no port, or no thread.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let addr = listener.local_addr()?;
        let post = Arc::new(Post::default());
        let kept = Arc::clone(&post);
        let thread = std::thread::Builder::new().name("mail".into()).spawn(move || {
            for stream in listener.incoming() {
                if kept.over.load(Ordering::Acquire) {
                    return;
                }
                // A client that goes away in the middle is not answered any more.
                drop(stream.and_then(|stream| talk(&stream, &kept)));
            }
        })?;
        Ok(Self { addr, post, thread: Some(thread) })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.addr.port()
    }

    /// Refuses mail to this address from now on: there is no such mailbox (550).
    pub fn refuse(&self, address: &str) {
        lock(&self.post.refused).insert(address.to_owned());
    }

    /// Takes mail to this address again.
    pub fn take(&self, address: &str) {
        lock(&self.post.refused).remove(address);
    }

    /// What was taken so far, in its order.
    pub fn mails(&self) -> Vec<Mail> {
        lock(&self.post.mails).clone()
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        self.post.over.store(true, Ordering::Release);
        // It waits for the next client: this is one. If it cannot be reached, it has ended already.
        if TcpStream::connect(self.addr).is_ok()
            && let Some(thread) = self.thread.take()
        {
            drop(thread.join());
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

fn talk(stream: &TcpStream, post: &Post) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    let mut say = |text: &str| write!(writer, "{text}\r\n");
    let (mut from, mut to) = (String::new(), Vec::new());
    say("220 mail.test is ready")?;
    while let Some(line) = line(&mut reader)? {
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let answer = match verb.as_str() {
            "EHLO" | "HELO" => "250 mail.test",
            "MAIL" => {
                (from, to) = (address(&line), Vec::new());
                "250 go on"
            }
            "RCPT" if lock(&post.refused).contains(&address(&line)) => "550 5.1.1 there is no such mailbox",
            "RCPT" => {
                to.push(address(&line));
                "250 go on"
            }
            "DATA" if to.is_empty() => "503 to whom?",
            "DATA" => {
                say("354 end with a dot")?;
                let text = message(&mut reader)?;
                let mut mails = lock(&post.mails);
                if mails.len() < MAILS_MAX {
                    mails.push(Mail { from: from.clone(), to: std::mem::take(&mut to), text });
                    "250 taken"
                } else {
                    "452 there is no room"
                }
            }
            "QUIT" => return say("221 bye"),
            "RSET" | "NOOP" => "250 fine",
            _ => "502 that is not known here",
        };
        say(answer)?;
    }
    Ok(())
}

/// The address in `MAIL FROM:<…>` and `RCPT TO:<…>`.
fn address(line: &str) -> String {
    let inner = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inner.map_or_else(String::new, |(address, _)| address.to_owned())
}

/// The next line without its end; `None` when the client is gone.
fn line(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    reader.take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
    if bytes.last() != Some(&b'\n') {
        return if bytes.is_empty() { Ok(None) } else { Err(io::ErrorKind::InvalidData.into()) };
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// A message up to its dot, which is doubled where a line begins with one.
fn message(reader: &mut impl BufRead) -> io::Result<String> {
    let mut text = String::new();
    loop {
        let line = line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line == "." {
            return Ok(text);
        }
        text.push_str(line.strip_prefix('.').unwrap_or(&line));
        text.push('\n');
        if text.len() > MESSAGE_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server answers, by the code of each line.
    fn answers(server: &MailServer, says: &str) -> Vec<String> {
        let mut stream = TcpStream::connect(server.addr).unwrap();
        stream.write_all(says.as_bytes()).unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.map(|line| line[..3].to_owned()).collect()
    }

    #[test]
    fn a_mail_is_taken_whole_and_a_refused_one_not() {
        let server = MailServer::start().unwrap();
        server.refuse("bob@example.com");
        let to = |address: &str| {
            format!(
                "EHLO here\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<{address}>\r\nDATA\r\nSubject: x\r\n\r\n..one\r\n.\r\nQUIT\r\n"
            )
        };
        assert_eq!(
            answers(&server, &to("ann@example.com")),
            ["220", "250", "250", "250", "354", "250", "221"]
        );
        let mail = |to: &str| Mail {
            from: "a@example.com".into(),
            to: vec![to.into()],
            text: "Subject: x\n\n.one\n".into(),
        };
        assert_eq!(server.mails(), [mail("ann@example.com")]);
        let refused =
            "EHLO here\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<bob@example.com>\r\nDATA\r\nQUIT\r\n";
        assert_eq!(answers(&server, refused), ["220", "250", "250", "550", "503", "221"]);
        assert_eq!(server.mails().len(), 1);
        server.take("bob@example.com");
        answers(&server, &to("bob@example.com"));
        assert_eq!(server.mails(), [mail("ann@example.com"), mail("bob@example.com")]);
        let long = format!("EHLO {}\r\n", "x".repeat(2_000));
        assert_eq!(answers(&server, &long)[0], "220");
    }
}
