-- Version 2. The names that people would look for are views (views.sql); what they are made of is called raw.
ALTER TABLE events RENAME TO events_raw;
ALTER TABLE runs RENAME TO runs_raw;

-- Runs are listed by how they stand, and by agent, newest first.
CREATE INDEX runs_by_status ON runs_raw (status, created, run);
CREATE INDEX runs_by_agent ON runs_raw (agent, created, run);

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
