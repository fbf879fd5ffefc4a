//! SQLite databases of the workspace.
//!
//! - `sqlite_query` reads by one statement. A read.
//! - `sqlite_execute` changes by statements in one transaction. A write, with a preview of the rows, a probe, and an undo
//!   where the rows could be kept. Not made unless the grant says `write`.
//! - `sqlite_undo` takes a call of it back. No model sees it.
//!
//! **Which files.** The grant has patterns of paths; they are compared with where the file really lies, not with how the
//! model spelled it. The file must be there, be a regular file and have no second name, and so must what SQLite keeps beside
//! it (`-journal`, `-wal`, `-shm`). All work is done on a thread that Landlock confines to the file's directory, because
//! SQLite opens its files by name; without Landlock (Linux before 5.13, or turned off) databases are refused. What this does
//! not cover: another file of the same directory that is put in the database's place between the look and the open is
//! opened, as it would be a moment later; and another tool of this process that opens and closes the database file itself
//! while a call is under way (`read_file` on it) lets go of SQLite's lock on it, by the rules of POSIX locks.
//!
//! **A query only reads.** The file is opened read-only, `query_only` is set, and an authorizer refuses all but reading:
//! also ATTACH, transactions, extensions, and pragmas that set something. A database in WAL mode may get its `-wal` and `-shm`
//! files by being read. Time and memory are limited, and so are the rows and
//! bytes that are given. (The memory is that of the process since the call began: what else grows meanwhile counts too.)
//!
//! **What a change would do** is found out by doing it in a transaction that is rolled back, while a second connection still
//! sees the state before: so the preview shows rows and not guesses, with what triggers and cascades do. Where all of it are
//! rows of tables with a primary key, and not too many, these rows are the plan. The call makes exactly them (so `random()`
//! and `datetime('now')` give what was shown), refuses when one of them was changed in between, and reads them back before it
//! commits. The undo is the same with before and after exchanged. After a crash the rows tell whether it happened: all as
//! after, all as before, or unsure.
//!
//! **What cannot be undone:** changes of the schema or by pragma, of virtual tables and their own tables, of tables without a
//! primary key or with a NULL in it, of texts that are no UTF-8, of more rows than the grant allows to keep or compare. Such
//! statements are run as they are, if they change as many rows of the same schema as was shown. `sqlite_sequence` is not
//! put back by an undo: a number that was given out is not given out again.
//!
//! **Destructive** counts: DROP, ALTER, CREATE TRIGGER, CREATE VIRTUAL TABLE, a pragma that sets something, DELETE and UPDATE
//! without WHERE, whatever changes or deletes every row of a table, and every change or deletion that cannot be undone.
//! VACUUM, ATTACH and transactions of the model's own are refused.

mod cell;
mod change;
mod execute;
mod grant;
mod guard;
mod limits;
mod preview;
mod query;
mod session;
mod statement;
mod table;
mod undo;

pub use grant::{SqliteGrant, SqliteGrantError};

use backstop_agent::Tool;
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
use execute::SqliteExecute;
use grant::Granted;
use query::SqliteQuery;
use std::sync::Arc;

/// The tools that a grant gives: `sqlite_query`, and `sqlite_execute` if it allows writing.
pub fn sqlite_tools(grant: &SqliteGrant) -> Result<Vec<Arc<dyn Tool>>, SqliteGrantError> {
    let granted = Arc::new(Granted::check(grant)?);
    let mut tools: Vec<Arc<dyn Tool>> = Vec::new();
    if !grant.files.is_empty() {
        tools.push(Arc::new(SqliteQuery::new(Arc::clone(&granted), grant.trusted)));
        if grant.write {
            tools.push(Arc::new(SqliteExecute::new(granted, grant.trusted)));
        }
    }
    Ok(tools)
}

fn declaration(class: Class, effect: Effect, args: &[(&str, ArgRole)], trusted: bool) -> Declaration {
    Declaration {
        class,
        effect,
        args: args.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect(),
        integrity: if trusted { Integrity::Trusted } else { Integrity::Untrusted },
        confidentiality: Confidentiality::Public,
    }
}
