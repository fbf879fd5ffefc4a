//! Providers in the test's own process: the simulated one, and one that says exactly what a test tells it to.

use super::kit::Place;
use backstop_sim::{Bill, Sim, SimConfig};
use backstop_stack::SystemClock;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;

/// The simulated provider, on a runtime of its own.
pub(crate) struct Simulated {
    runtime: Runtime,
    pub(crate) sim: Sim,
}

impl Simulated {
    pub(crate) fn start(set_up: impl FnOnce(&mut SimConfig)) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut config = SimConfig::new(Arc::new(SystemClock::new()));
        set_up(&mut config);
        let sim = runtime.block_on(Sim::start(config)).unwrap();
        Self { runtime, sim }
    }

    /// A config with this provider as the one model there is, and what else is wanted.
    pub(crate) fn config(&self, place: &Place, more: &str) {
        place.write("backstop.toml", config(&self.sim.base_url("sim"), more));
    }

    /// Ends it, and gives what it billed.
    pub(crate) fn shutdown(self) -> Bill {
        self.runtime.block_on(self.sim.shutdown())
    }
}

/// A config with one provider that speaks Messages, and quick retries.
pub(crate) fn config(url: &str, more: &str) -> String {
    format!(
        "model = \"m\"\n[providers.p]\ndialect = \"messages\"\nbase-url = \"{url}\"\nkey = \"env:P_KEY\"\n\
         [models.m]\nprovider = \"p\"\nid = \"sim\"\nprice = {{ input = 3, output = 15 }}\ncontext-window = 200000\n\
         max-output = 64000\n[retry]\nbase-transient = \"1ms\"\nbase-overloaded = \"1ms\"\nbase-throttled = \"1ms\"\n{more}\n"
    )
}

/// A request as it came in.
pub(crate) struct Asked {
    /// The request line and the headers.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: String,
    /// How many calls of a model came before it.
    pub(crate) nth: usize,
}

/// What is answered: status, content type, body. `None` never answers.
pub(crate) type Answer = Option<(u16, &'static str, String)>;

/// A provider that says what it is told to. It ends with the test's process.
pub(crate) struct Scripted {
    address: SocketAddr,
    asked: Arc<Mutex<usize>>,
}

impl Scripted {
    pub(crate) fn start(script: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (script, asked) = (Arc::new(script), Arc::new(Mutex::new(0)));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, count) = (Arc::clone(&script), Arc::clone(&count));
                // A client that is killed in the middle is what some tests do.
                std::thread::spawn(move || drop(serve(&stream, &*script, &count)));
            }
        });
        Self { address, asked }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often a model was called.
    pub(crate) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

fn serve(
    stream: &TcpStream,
    script: &(dyn Fn(&Asked) -> Answer + Send + Sync),
    count: &Mutex<usize>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        let nth = {
            let mut count = count.lock().unwrap();
            *count += usize::from(head.starts_with("POST"));
            count.saturating_sub(1)
        };
        let asked = Asked { head, body: String::from_utf8(body).unwrap_or_default(), nth };
        let Some((status, kind, body)) = script(&asked) else {
            // Until the client goes away.
            reader.read_exact(&mut [0])?;
            return Ok(());
        };
        let length = body.len();
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nrequest-id: req_{nth}\r\n\r\n{body}"
        )?;
    }
}
