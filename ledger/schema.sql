-- ledger.db: the log, its tree and its checkpoints (and imports.sql, erasures.sql); nothing here is ever changed but
-- `head`, and by an erasure data and salt of its events.

CREATE TABLE ledger (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    name    TEXT NOT NULL,     -- origin of checkpoints, source of CloudEvents
    created INTEGER NOT NULL   -- microseconds since 1970 UTC
) STRICT;

CREATE TABLE events (
    position    INTEGER PRIMARY KEY,
    stream      TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    type        TEXT    NOT NULL,
    schema      INTEGER NOT NULL,
    time        INTEGER NOT NULL,  -- when it happened, microseconds since 1970 UTC
    recorded    INTEGER NOT NULL,  -- when it was appended; never decreases
    actor       TEXT    NOT NULL,
    key         TEXT,
    correlation TEXT,
    data        BLOB,              -- compact UTF-8 JSON; zero bytes once erased, null where an export restored that
    salt        BLOB,              -- 16 random bytes; likewise
    digest      TEXT,              -- hex SHA-256(salt + data) where an export restored these as erased
    leaf        BLOB    NOT NULL   -- RFC 9162 leaf hash
) STRICT;
CREATE UNIQUE INDEX events_by_stream ON events (stream, version);
CREATE UNIQUE INDEX events_by_key ON events (key) WHERE key IS NOT NULL;
CREATE INDEX events_of_access ON events (position) WHERE type IN ('access.granted', 'access.revoked');

-- The end of the log and the frontier of its tree (roots of complete subtrees, largest first), moved by every append.
CREATE TABLE head (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    size     INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    frontier BLOB    NOT NULL
) STRICT;

-- Roots of complete subtrees of 256, 65,536, … leaves: what proofs need beside at most 255 leaves of a level.
CREATE TABLE tree (
    level INTEGER NOT NULL,
    idx   INTEGER NOT NULL,
    hash  BLOB    NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE checkpoints (
    size INTEGER PRIMARY KEY,
    made INTEGER NOT NULL,
    note TEXT    NOT NULL
) STRICT;

-- Besides gaps this refuses INSERT OR REPLACE, which would delete the row that it conflicts with and never ask the
-- trigger on DELETE.
CREATE TRIGGER events_only_follow BEFORE INSERT ON events
WHEN NEW.position IS NOT (SELECT ifnull(max(position), 0) + 1 FROM events)
    OR EXISTS (SELECT 1 FROM events WHERE stream = NEW.stream AND version = NEW.version)
    OR (NEW.key IS NOT NULL AND EXISTS (SELECT 1 FROM events WHERE key = NEW.key))
BEGIN SELECT raise(ABORT, 'events are append-only: each follows the last, with a version and key of its own'); END;

CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
BEGIN SELECT raise(ABORT, 'events are append-only: none is ever deleted'); END;

-- The one guarded door is erasure; since format 3 another stands in its place (erasures.sql). What an export restores
-- as erased has null for data and salt, and its digest in the row.
CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
WHEN NOT (
    NEW.data IS NULL AND NEW.salt IS NULL AND OLD.digest IS NULL AND length(NEW.digest) IS 64
    AND NEW.position IS OLD.position AND NEW.stream IS OLD.stream AND NEW.version IS OLD.version
    AND NEW.type IS OLD.type AND NEW.schema IS OLD.schema AND NEW.time IS OLD.time
    AND NEW.recorded IS OLD.recorded AND NEW.actor IS OLD.actor AND NEW.key IS OLD.key
    AND NEW.correlation IS OLD.correlation AND NEW.leaf IS OLD.leaf
    AND EXISTS (
        SELECT 1 FROM events AS witness
        WHERE witness.stream = OLD.stream AND witness.version > OLD.version AND witness.type LIKE '%.erased'
    )
)
BEGIN SELECT raise(ABORT, 'events are append-only: none is ever changed'); END;

CREATE TRIGGER tree_is_never_replaced BEFORE INSERT ON tree
WHEN EXISTS (SELECT 1 FROM tree WHERE level = NEW.level AND idx = NEW.idx)
BEGIN SELECT raise(ABORT, 'the tree is append-only'); END;
CREATE TRIGGER checkpoints_are_never_replaced BEFORE INSERT ON checkpoints
WHEN EXISTS (SELECT 1 FROM checkpoints WHERE size = NEW.size)
BEGIN SELECT raise(ABORT, 'checkpoints are append-only'); END;
CREATE TRIGGER tree_is_never_changed BEFORE UPDATE ON tree
BEGIN SELECT raise(ABORT, 'the tree is append-only'); END;
CREATE TRIGGER tree_is_never_deleted BEFORE DELETE ON tree
BEGIN SELECT raise(ABORT, 'the tree is append-only'); END;
CREATE TRIGGER checkpoints_are_never_changed BEFORE UPDATE ON checkpoints
BEGIN SELECT raise(ABORT, 'checkpoints are append-only'); END;
CREATE TRIGGER checkpoints_are_never_deleted BEFORE DELETE ON checkpoints
BEGIN SELECT raise(ABORT, 'checkpoints are append-only'); END;
CREATE TRIGGER ledger_is_never_changed BEFORE UPDATE ON ledger
BEGIN SELECT raise(ABORT, 'the name of a ledger is for ever'); END;
CREATE TRIGGER ledger_is_never_deleted BEFORE DELETE ON ledger
BEGIN SELECT raise(ABORT, 'the name of a ledger is for ever'); END;
CREATE TRIGGER head_only_grows BEFORE UPDATE ON head
WHEN NEW.size < OLD.size OR NEW.recorded < OLD.recorded
BEGIN SELECT raise(ABORT, 'the head only grows'); END;
CREATE TRIGGER head_is_never_deleted BEFORE DELETE ON head
BEGIN SELECT raise(ABORT, 'the head is never deleted'); END;
