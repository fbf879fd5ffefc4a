//! Allowances: whatever is limited. Dollars are spent in two phases after TigerBeetle's transfers ([`Book`],
//! [`Ledger`]); requests and tokens per minute by GCRA with settlement ([`Gcra`]).
//!
//! Pure: every function takes the time as an argument. The invariant of a book, under any order of its operations:
//! **settled + suspense + reserved ≤ allowed**, but for overruns, which are reported.

mod account;
mod book;
mod gcra;
mod ledger;

pub use account::{Account, Scope, Window, account_in_words, message_in_words};
pub use book::{Balance, Book, Denied, Hold, Places, Resolution, Settled};
pub use gcra::{Gcra, Rate};
pub use ledger::{Budget, Ledger, LedgerError, Per, Reserve, accounts_for};
