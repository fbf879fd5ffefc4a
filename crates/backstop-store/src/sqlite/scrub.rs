//! Overwrites copies of what was erased. SQLite overwrites a row that goes (`secure_delete`), but not what it left behind when
//! it moved the row to another page because a neighbour grew: that lies in unused space of a page until something else is
//! written there. And the log has whole pages as they were.
//!
//! So after an erasure the file is looked through for unused space that is not empty, and the log is cut off. It costs a look
//! at every page, once for all that was erased meanwhile.

use rusqlite::{Connection, TransactionBehavior, params};
use std::ops::Range;

/// In a file of so many pages (128 GiB) a page that holds the rest of a long row may begin as one of a tree does: with the high
/// byte of a page's number.
const PAGES_MAX: i64 = 0x0200_0000;

/// Does what is left to do. `scrubbed` is the last erasure that the file was looked through for. Whether all is done: not while
/// somebody reads what is older.
pub(crate) fn finish(db: &mut Connection, scrubbed: &mut i64) -> bool {
    let due = db.query_row("SELECT max(id) FROM scrubs", [], |row| row.get::<_, Option<i64>>(0));
    let Ok(Some(last)) = due else { return due.is_ok() };
    if last > *scrubbed && scrub(db).is_ok() {
        *scrubbed = last;
    }
    let all = cut_off(db) && last <= *scrubbed;
    all && db.execute("DELETE FROM scrubs WHERE id <= ?1", [last]).is_ok()
}

/// Empties the unused space of every page, where pages of trees are known by how they begin.
fn scrub(db: &mut Connection) -> rusqlite::Result<()> {
    if !is_plain(db)? {
        return Ok(());
    }
    let mut dirty = Vec::new();
    let mut pages = db.prepare("SELECT pgno, data FROM sqlite_dbpage")?;
    let mut rows = pages.query([])?;
    while let Some(row) = rows.next()? {
        let (number, page) = (row.get(0)?, row.get_ref(1)?.as_blob().unwrap_or_default());
        if unused(number, page).is_some_and(|unused| page[unused].iter().any(|byte| *byte != 0)) {
            dirty.push(number);
        }
    }
    drop(rows);
    drop(pages);
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if !is_plain(&tx)? {
        return Ok(());
    }
    for number in dirty {
        let page = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";
        let mut page: Vec<u8> = tx.query_row(page, [number], |row| row.get(0))?;
        if let Some(unused) = unused(number, &page) {
            page[unused].fill(0);
            tx.execute("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1", params![number, page])?;
        }
    }
    tx.commit()
}

/// Whether no other page begins as those of trees do: ours are made without the pages that `auto_vacuum` needs, which would.
fn is_plain(db: &Connection) -> rusqlite::Result<bool> {
    let pragma = |name| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    Ok(pragma("auto_vacuum")? == 0 && pragma("page_count")? < PAGES_MAX)
}

/// The unused space of a page of a tree, between the pointers to its cells and the cells: chapter 1.6 of SQLite's "Database File
/// Format". `None` for other pages, which have none.
fn unused(number: u32, page: &[u8]) -> Option<Range<usize>> {
    let header = if number == 1 { 100 } else { 0 };
    let pointers = match page.get(header)? {
        2 | 5 => header + 12,
        10 | 13 => header + 8,
        _ => return None,
    };
    let two = |at: usize| Some(usize::from(u16::from_be_bytes([*page.get(at)?, *page.get(at + 1)?])));
    let (from, to) = (pointers + 2 * two(header + 3)?, two(header + 5)?);
    (from <= to && to <= page.len()).then_some(from..to)
}

/// TRUNCATE: copies all of the log, and makes its file empty. Whether it did.
fn cut_off(db: &Connection) -> bool {
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0)).is_ok_and(|busy| !busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row that grows moves its neighbours to another page. SQLite leaves a copy of one of them in the first.
    #[test]
    fn a_copy_of_a_row_that_was_moved_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.db");
        let mut db = Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON;
             CREATE TABLE scrubs (id INTEGER PRIMARY KEY AUTOINCREMENT) STRICT;
             CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;",
        )
        .unwrap();
        let is_left = |text: &str| {
            let files = [path.clone(), dir.path().join("j.db-wal")];
            files.iter().any(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).contains(text))
        };
        let text = |id: i64, round: i64| {
            let more = usize::try_from((id * 131 + round * 977) % 900).unwrap();
            format!("text number {id} {}", "x".repeat(more))
        };
        db.execute_batch("BEGIN").unwrap();
        for id in 0..200_i64 {
            db.execute("INSERT INTO texts (id, text) VALUES (?1, ?2)", params![id, text(id, 0)]).unwrap();
        }
        for (round, id) in (1..6_i64).flat_map(|round| (0..200_i64).map(move |id| (round, id * 37 % 200))) {
            db.execute("UPDATE texts SET text = ?2 WHERE id = ?1", params![id, text(id, round)]).unwrap();
        }
        db.execute("UPDATE texts SET text = replace(text, 'number', '------')", []).unwrap();
        db.execute_batch("COMMIT").unwrap();
        assert!(cut_off(&db));
        assert!(is_left("number"), "there is something to do");
        db.execute("INSERT INTO scrubs DEFAULT VALUES", []).unwrap();
        let mut scrubbed = 0;
        assert!(finish(&mut db, &mut scrubbed));
        assert!(!is_left("number"));
        assert_eq!(db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(), "ok");
        assert_eq!(db.query_row("SELECT count(*) FROM texts", [], |row| row.get::<_, i64>(0)).unwrap(), 200);
        assert!(finish(&mut db, &mut scrubbed), "there is nothing more to do");
        assert_eq!(scrubbed, 1);
    }

    #[test]
    fn a_file_with_other_pages_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("other.db");
        let mut db = Connection::open(&path).unwrap();
        db.execute_batch(
            "PRAGMA auto_vacuum = FULL; CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL);
             INSERT INTO texts (text) SELECT hex(randomblob(100)) FROM json_each('[1, 2, 3, 4, 5, 6, 7, 8, 9]')
                 a, json_each('[1, 2, 3, 4, 5, 6, 7, 8, 9]') b, json_each('[1, 2, 3, 4, 5, 6, 7, 8, 9]') c;",
        )
        .unwrap();
        let before = std::fs::read(&path).unwrap();
        scrub(&mut db).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(db.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0)).unwrap(), "ok");
    }

    #[test]
    fn unused_space_lies_between_pointers_and_cells() {
        let page = |kind: u8, cells: u8, content: u16| {
            let mut page = vec![0xEE; 512];
            page[..8].copy_from_slice(&[kind, 0, 0, 0, cells, 0, 0, 0]);
            page[5..7].copy_from_slice(&content.to_be_bytes());
            page
        };
        let rows = [
            (page(13, 3, 400), Some(14..400)),
            (page(10, 0, 512), Some(8..512)),
            (page(5, 3, 400), Some(18..400)),
            (page(2, 3, 18), Some(18..18)),
            (page(13, 3, 13), None),
            (page(13, 3, 513), None),
            (page(0, 3, 400), None),
            (vec![13, 0], None),
            (Vec::new(), None),
        ];
        for (page, want) in rows {
            assert_eq!(unused(2, &page), want, "{:?}", page.get(..8));
        }
        let mut first = vec![0; 100];
        first.extend(page(13, 1, 300));
        assert_eq!(unused(1, &first), Some(110..300));
    }
}
