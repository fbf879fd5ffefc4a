-- The format of the database, version 1. It is what it was: what changed since is in the files that follow.

-- Ids of streams, so that an event names its stream in a byte or two.
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- What happened. Rows are appended at the end of the table and never changed.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    v INTEGER NOT NULL,
    kind TEXT NOT NULL,
    hash BLOB NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_by_stream ON events (stream, seq);

-- Large bodies by the BLAKE3 of their text. Rows may be erased.
CREATE TABLE blobs (
    hash BLOB NOT NULL UNIQUE,
    data BLOB NOT NULL
) STRICT;

-- Projection: one line per run, folded up to event `seq`. Kept in the commit of every event that changes the state of
-- the run; the few events after `seq` are folded in when it is read.
CREATE TABLE runs (
    stream INTEGER PRIMARY KEY,
    run TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    agent TEXT NOT NULL,
    created INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    summary TEXT NOT NULL
) STRICT;
CREATE INDEX runs_by_created ON runs (created);

-- Processes that claim runs or lease money. `ended`: NULL, 'clean' or 'recovered'.
CREATE TABLE owners (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    boot TEXT NOT NULL,
    mode TEXT,
    ended TEXT
) STRICT;

-- Who works on a run. The epoch only grows; owner NULL: nobody.
CREATE TABLE claims (
    stream INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    owner INTEGER
) STRICT;

-- Projections of the ledger's events; `limit_seen` and `warned` are kept for warnings.
CREATE TABLE accounts (
    account TEXT PRIMARY KEY,
    limit_seen INTEGER NOT NULL DEFAULT 0,
    warned INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0,
    suspense INTEGER NOT NULL DEFAULT 0,
    reserved INTEGER NOT NULL DEFAULT 0,
    leased INTEGER NOT NULL DEFAULT 0,
    overrun INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE leases (
    owner TEXT NOT NULL,
    account TEXT NOT NULL,
    amount INTEGER NOT NULL,
    PRIMARY KEY (owner, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE holds (
    reservation TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    amount INTEGER NOT NULL,
    accounts TEXT NOT NULL,
    suspended TEXT
) STRICT, WITHOUT ROWID;
