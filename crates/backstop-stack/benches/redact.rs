//! How fast clean text passes the redactor, with ten secrets loaded, and the same for text full of near misses.
//! Run with `cargo bench -p backstop-stack --bench redact`.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

use backstop_call::{Secret, Seed};
use backstop_stack::Redactor;
use backstop_stack::layers::redact::Config;
use std::hint::black_box;
use tokio::time::Instant;

const ROUNDS: usize = 40;

fn main() {
    let seed = Seed::new(7);
    let secrets: Vec<Secret> =
        (0..10).map(|_| Secret::new(format!("{:016x}{:016x}", seed.next_u64(), seed.next_u64()))).collect();
    let redactor = Redactor::new(&secrets, Config::default());
    let prose = "The quick brown fox jumps over the lazy dog while the committee reviews its budget. ";
    let code = "fn main() { let task = disk.risk(0xdead_beef); println!(\"{}\", task.key[3]); }\n";
    let near =
        "sk-not a key, ghp_ neither; eyJ.no xoxb-1 AKIA2 Bearer of news, a task-list for the disk-cache ";
    for (name, text) in [("prose", prose), ("code", code), ("near misses", near)] {
        let text = text.repeat(1_000_000 / text.len());
        let began = Instant::now();
        for _ in 0..ROUNDS {
            black_box(redactor.text(black_box(&text)));
        }
        let bytes = f64::from(u32::try_from(text.len() * ROUNDS).expect("40 MB fit"));
        println!("{name:12} {:7.0} MB/s", bytes / 1e6 / began.elapsed().as_secs_f64());
    }
}
