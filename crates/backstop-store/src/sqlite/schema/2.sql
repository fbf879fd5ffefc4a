-- Version 2. The names that people would look for are views (views.sql); what they are made of is called raw.
ALTER TABLE events RENAME TO events_raw;
ALTER TABLE runs RENAME TO runs_raw;

-- What lists of runs are filtered by stands in an index that answers every filter by itself, in the order of the list: a
-- run's row is only looked up to be shown. `message`: the blob that the task's message lies in, if it does.
ALTER TABLE runs_raw ADD COLUMN role TEXT NOT NULL DEFAULT '';
ALTER TABLE runs_raw ADD COLUMN model TEXT NOT NULL DEFAULT '';
ALTER TABLE runs_raw ADD COLUMN message BLOB;
UPDATE runs_raw SET
    role = summary ->> '$.role',
    model = summary ->> '$.model',
    message = (
        SELECT unhex(e.body ->> '$.message.blob.hash') FROM events_raw e
        WHERE e.stream = runs_raw.stream AND e.seq = 1);
DROP INDEX runs_by_created;
CREATE INDEX runs_listed ON runs_raw (created, run, status, agent, role, model);
-- What waits, and what is under way, is looked for again and again.
CREATE INDEX runs_parked ON runs_raw (created, run) WHERE status = 'parked';
CREATE INDEX runs_running ON runs_raw (created, run) WHERE status = 'running';
CREATE INDEX runs_by_message ON runs_raw (message) WHERE message IS NOT NULL;

-- Which run asked a question.
CREATE TABLE questions (
    approval TEXT PRIMARY KEY,
    stream INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO questions (approval, stream)
SELECT body ->> '$.approval', stream FROM events_raw WHERE kind = 'approval.requested' ORDER BY position;

-- What runs are searched by: their task's id and the beginning of what it says. The row's number is the run's stream.
CREATE VIRTUAL TABLE runs_text USING fts5 (
    task, message, columnsize = 0, tokenize = 'unicode61 remove_diacritics 0'
);
-- What is erased leaves no words behind.
INSERT INTO runs_text (runs_text, rank) VALUES ('secure-delete', 1);
INSERT INTO runs_text (rowid, task, message)
SELECT
    r.stream,
    r.summary ->> '$.task',
    substr(coalesce(
        e.body ->> '$.message.inline',
        (SELECT CAST(b.data AS TEXT) ->> '$' FROM blobs b WHERE b.hash = r.message),
        ''), 1, 1000)
FROM runs_raw r JOIN events_raw e ON e.stream = r.stream AND e.seq = 1
ORDER BY r.stream;

-- What is counted, by the values of its labels: a JSON array.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    family TEXT NOT NULL,
    labels TEXT NOT NULL,
    UNIQUE (family, labels)
) STRICT;

-- Projection: what was counted of a series in a stretch of so many seconds (0: for good) that begins at `start`, in seconds
-- since 1970. `took` and `first_token` are spreads of durations: see `projections::numbers`.
CREATE TABLE numbers (
    grain INTEGER NOT NULL,
    start INTEGER NOT NULL,
    series INTEGER NOT NULL,
    count INTEGER NOT NULL,
    retries INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cache_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    level INTEGER,
    took BLOB NOT NULL,
    first_token BLOB NOT NULL,
    PRIMARY KEY (grain, start, series)
) STRICT, WITHOUT ROWID;

-- Up to which event a projection is folded that is not kept in the commit of its events.
CREATE TABLE folded (
    projection TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO folded (projection, position) VALUES ('numbers', 0);

-- Projection: one line per task that workers have to do with, of its newest run. `rank` orders what may be taken, and is
-- NULL where nothing is to be; `owner` is the process that works on it, alive or dead.
CREATE TABLE tasks_raw (
    place INTEGER PRIMARY KEY,
    task TEXT NOT NULL UNIQUE,
    stream INTEGER NOT NULL UNIQUE,
    state TEXT NOT NULL,
    rank INTEGER,
    due INTEGER,
    model TEXT NOT NULL,
    role TEXT NOT NULL,
    key TEXT,
    owner INTEGER
) STRICT;
CREATE INDEX tasks_to_take ON tasks_raw (rank) WHERE rank IS NOT NULL AND owner IS NULL;
CREATE INDEX tasks_taken ON tasks_raw (owner) WHERE owner IS NOT NULL;
CREATE INDEX tasks_by_state ON tasks_raw (state);
