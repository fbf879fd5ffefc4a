//! The loop guard: notices that a model does the same again and again. Counts only; what follows is decided elsewhere.
//!
//! A call repeats when its tool and its arguments are the same. The third in a row, or the fifth among the last twenty,
//! is answered with a warning; one more after the warning stops the run. Reading again after something was changed
//! is no repetition, so a successful effect makes the guard forget the reads before it.

use std::collections::{BTreeSet, VecDeque};

/// So many times in a row are too many.
const IN_A_ROW_MAX: usize = 3;
/// So many times among [`WINDOW`] calls are too many.
const IN_WINDOW_MAX: usize = 5;
/// The calls that are looked at, the present one included.
const WINDOW: usize = 20;

/// What the guard says to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Nothing.
    Fine,
    /// Run it, and warn the model.
    Warn,
    /// The model was warned and does it again.
    Stop,
}

/// What was called lately.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoopGuard {
    recent: VecDeque<Seen>,
    warned: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    call: String,
    is_read: bool,
}

impl LoopGuard {
    /// What is said to this call, were it the next. `call` is the tool with the hash of its arguments.
    pub fn judge(&self, call: &str) -> Repeat {
        let in_a_row = self.recent.iter().rev().take_while(|seen| seen.call == call).count() + 1;
        let in_window =
            self.recent.iter().rev().take(WINDOW - 1).filter(|seen| seen.call == call).count() + 1;
        if in_a_row < IN_A_ROW_MAX && in_window < IN_WINDOW_MAX {
            Repeat::Fine
        } else if self.warned.contains(call) {
            Repeat::Stop
        } else {
            Repeat::Warn
        }
    }

    /// Takes note of a call, and says what [`LoopGuard::judge`] said to it.
    pub fn record(&mut self, call: &str, is_read: bool) -> Repeat {
        let said = self.judge(call);
        if said != Repeat::Fine {
            self.warned.insert(call.to_owned());
        }
        self.recent.push_back(Seen { call: call.to_owned(), is_read });
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        said
    }

    /// Something was changed: what was read before may look different now.
    pub fn changed(&mut self) {
        for read in self.recent.iter().filter(|seen| seen.is_read) {
            self.warned.remove(&read.call);
        }
        self.recent.retain(|seen| !seen.is_read);
    }

    /// Begins anew: a person let the run go on.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Repeat::{Fine, Stop, Warn};

    fn reads(calls: &str) -> Vec<Repeat> {
        let mut guard = LoopGuard::default();
        calls.chars().map(|call| guard.record(&call.to_string(), true)).collect()
    }

    #[test]
    fn warns_then_stops() {
        let rows: [(&str, &[Repeat]); 4] = [
            ("aaaa", &[Fine, Fine, Warn, Stop]),
            ("aabaab", &[Fine, Fine, Fine, Fine, Fine, Fine]),
            ("aaaba", &[Fine, Fine, Warn, Fine, Fine]),
            ("abcabcabcabcabca", &[Fine; 12]),
        ];
        for (calls, want) in rows {
            assert_eq!(reads(calls)[..want.len()], *want, "{calls}");
        }
        let slow = reads("abcdabcdabcdabcdabcdabcd");
        assert_eq!(slow[16..20], [Warn; 4], "the fifth among twenty");
        assert_eq!(slow[20], Stop, "a cycle as long as the window cannot hide behind it");
    }

    #[test]
    fn reading_again_after_a_change_is_no_loop() {
        let mut guard = LoopGuard::default();
        for turn in 0..10 {
            assert_eq!(guard.record("read a", true), Fine, "{turn}");
            assert_eq!(guard.record(&format!("edit {turn}"), false), Fine);
            guard.changed();
        }
        for want in [Fine, Fine, Warn, Stop] {
            assert_eq!(guard.record("write the same", false), want);
            guard.changed();
        }
    }
}
