//! The command `backstop`: it parses, calls and prints. Everything that decides lives in the crates below it.

mod args;
mod ask;
mod card;
mod commands;
mod complaint;
mod engine;
mod helper;
mod home;
mod narrate;
mod outcome;
mod pages;
mod plan;
mod progress;
mod prompt;
mod signals;
mod story;
mod toolset;
mod ui;
mod warnings;

/// What a call makes on one thread the writer's thread lets go of: an allocator that is good at that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whether the kernel may give this process memory by two megabytes at once. It has some small heaps, one for each thread, which
/// took two to three times the memory that way, and no less time on the CPU (docs/benchmarks.md).
fn huge_pages(may: bool) {
    // A kernel that knows of no such pages gives none.
    let _ = rustix::thread::disable_transparent_huge_pages(!may);
}

fn main() -> std::process::ExitCode {
    // Before anything else is done: a helper must be the only thing that its process is.
    helper::enter().unwrap_or_else(|| {
        huge_pages(false);
        args::main()
    })
}
