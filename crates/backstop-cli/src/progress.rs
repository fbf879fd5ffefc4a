//! What a person sees on standard error while something runs: lines that stay, and one line at the end that moves. Where
//! nobody watches live, only the lines that stay are written.

use crate::narrate::{Line, Narrator};
use crate::ui::{Look, Tone, shortened, tell};
use crate::warnings::Warnings;
use backstop_call::RunId;
use backstop_journal::{Journal, Seq, StreamId};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The longest line where nobody's terminal sets the limit, in characters.
const LINE_CHARS_MAX: usize = 240;
/// How often the moving line is drawn.
const TICK: Duration = Duration::from_millis(100);

/// The lower end of a terminal.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    look: Look,
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Screen {
    /// A screen on standard error. `quiet` shows nothing at all.
    pub(crate) fn new(quiet: bool) -> Self {
        let look = Look::of_stderr();
        let bar = (look.live && !quiet).then(|| {
            let ticks = if look.symbols { "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ " } else { "-\\|/ " };
            let style = ProgressStyle::with_template("{spinner} {wide_msg}")
                .expect("the template is fixed")
                .tick_chars(ticks);
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { look, bar, quiet }
    }

    /// Whether nothing is to be shown.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// What the screen can show.
    pub(crate) fn look(&self) -> Look {
        self.look
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.println(text),
            None => tell(text),
        }
    }

    /// A line of a run that stays, under a name when several are told.
    pub(crate) fn narrated(&self, name: Option<&str>, line: &Line) {
        let before = 4 + name.map_or(0, |_| 17);
        let text = shortened(&line.text, self.look.room(before, LINE_CHARS_MAX));
        let name =
            name.map_or_else(String::new, |name| self.look.paint(Tone::Dim, format_args!("{name:<16} ")));
        self.line(&format!("  {name}{} {}", self.look.mark(line.mark), self.look.paint(line.tone, text)));
    }

    /// The moving line.
    pub(crate) fn now(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }

    /// Does something that needs the terminal for itself.
    pub(crate) fn suspended<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(work),
            None => work(),
        }
    }

    /// Takes the moving line away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// What is told.
pub(crate) struct Told {
    /// The run.
    pub(crate) run: RunId,
    /// What happened up to here is taken in and not told.
    pub(crate) after: Seq,
    /// What this process has to warn about.
    pub(crate) warnings: Warnings,
}

/// Tells one run until `over` says that nobody works on it any more. It reads the journal, so it tells what was committed
/// and nothing else.
pub(crate) async fn tell_run(
    journal: Arc<dyn Journal>,
    told: Told,
    screen: Screen,
    mut over: oneshot::Receiver<()>,
) {
    let Told { run, after, warnings } = told;
    let stream = StreamId::Run(run);
    let mut narrator = Narrator::default();
    let mut seen = 0;
    loop {
        let last = tokio::select! {
            _ = &mut over => true,
            () = tokio::time::sleep(TICK) => false,
        };
        // A journal that cannot be read is told by who works on the run.
        let events = journal.read(&stream, seen).await.unwrap_or_default();
        for event in &events {
            seen = event.seq;
            if let Some(line) = narrator.push(event).filter(|_| event.seq > after) {
                screen.narrated(None, &line);
            }
        }
        warnings.tell(&screen);
        screen.now(narrator.now());
        if last {
            return;
        }
    }
}
