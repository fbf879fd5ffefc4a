-- Version 3. What a run said can be erased, and its chain still verifies.

-- `framed`: the first event whose link goes over its frame and digests; the links before it go over whole texts, as they did
-- until now. `blind`: what the digests of a run are keyed with, from the first thing that it says to the moment it is erased.
ALTER TABLE streams ADD COLUMN framed INTEGER NOT NULL DEFAULT 1;
ALTER TABLE streams ADD COLUMN blind BLOB;
UPDATE streams SET framed = 1 + (SELECT coalesce(max(e.seq), 0) FROM events_raw e WHERE e.stream = streams.id);

-- Another name for the same, so that a program of the version before, which may have the file open, can append no more: its
-- links would not fit on.
ALTER TABLE events_raw RENAME COLUMN hash TO link;

-- Which streams refer to a large body. It is there for them, and goes with the last of them.
CREATE TABLE blob_uses (
    hash BLOB NOT NULL,
    stream INTEGER NOT NULL,
    PRIMARY KEY (hash, stream)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO blob_uses (hash, stream)
SELECT unhex(e.body ->> p.value), e.stream
FROM events_raw e JOIN json_each('["$.system.blob.hash", "$.message.blob.hash", "$.result.blob.hash", "$.whole.blob.hash",
    "$.content.blob.hash", "$.args.blob.hash", "$.plan.blob.hash", "$.preview.blob.hash", "$.undo.blob.hash",
    "$.decision.args.blob.hash"]') p
WHERE instr(e.body, '"blob":{"hash":"') > 0 AND e.body ->> p.value IS NOT NULL;

-- Erasures of which copies may still lie in unused space of the file, or in the log. They are overwritten after the commit, and
-- the row goes; what a process leaves over, the next one does.
CREATE TABLE scrubs (
    id INTEGER PRIMARY KEY AUTOINCREMENT
) STRICT;
