-- Version 2. The names that people would look for are views (views.sql); what they are made of is called raw.
ALTER TABLE events RENAME TO events_raw;
ALTER TABLE runs RENAME TO runs_raw;

-- What is counted, by the values of its labels: a JSON array.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    family TEXT NOT NULL,
    labels TEXT NOT NULL,
    UNIQUE (family, labels)
) STRICT;

-- Projection: what was counted of a series in a stretch of so many seconds (0: for good) that begins at `start`, in seconds
-- since 1970. `sums` is JSON.
CREATE TABLE numbers (
    grain INTEGER NOT NULL,
    start INTEGER NOT NULL,
    series INTEGER NOT NULL,
    sums TEXT NOT NULL,
    PRIMARY KEY (grain, start, series)
) STRICT, WITHOUT ROWID;

-- Up to which event a projection is folded that is not kept in the commit of its events.
CREATE TABLE folded (
    projection TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO folded (projection, position) VALUES ('numbers', 0);
