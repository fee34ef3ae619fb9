-- Erasure, the one guarded door. Data and salt of a stream's events are overwritten in place with as many zero bytes;
-- their digests come here, so that no leaf changes, and the stream's later `….erased` event says who did it and why.
-- A row that shrank or grew would move its neighbours between pages, and SQLite leaves copies of what it moves.

CREATE TABLE erasures (
    position INTEGER PRIMARY KEY,
    digest   TEXT NOT NULL CHECK (length(digest) = 64)  -- hex SHA-256(salt + data)
) STRICT;

-- The last erasure, and the last that is out of the write-ahead log, too (positions of erased events): what a killed
-- process left there is seen by the next one.
CREATE TABLE scrub (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    wanted INTEGER NOT NULL,
    done   INTEGER NOT NULL
) STRICT;
INSERT INTO scrub (one, wanted, done) VALUES (1, 0, 0);

CREATE TRIGGER erasures_need_a_witness BEFORE INSERT ON erasures
WHEN EXISTS (SELECT 1 FROM erasures WHERE position = NEW.position) OR NOT EXISTS (
    SELECT 1 FROM events AS told JOIN events AS witness ON witness.stream = told.stream
    WHERE told.position = NEW.position AND witness.version > told.version AND witness.type LIKE '%.erased'
)
BEGIN SELECT raise(ABORT, 'only a later erased event of the stream lets data be erased'); END;
CREATE TRIGGER erasures_are_never_changed BEFORE UPDATE ON erasures
BEGIN SELECT raise(ABORT, 'erasures are append-only'); END;
CREATE TRIGGER erasures_are_never_deleted BEFORE DELETE ON erasures
BEGIN SELECT raise(ABORT, 'erasures are append-only'); END;
CREATE TRIGGER scrub_only_grows BEFORE UPDATE ON scrub
WHEN NEW.wanted < OLD.wanted OR NEW.done < OLD.done
BEGIN SELECT raise(ABORT, 'what is scrubbed only grows'); END;
CREATE TRIGGER scrub_is_never_deleted BEFORE DELETE ON scrub
BEGIN SELECT raise(ABORT, 'what is scrubbed only grows'); END;

DROP TRIGGER events_are_never_changed;
CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
WHEN NOT (
    NEW.data IS zeroblob(length(OLD.data)) AND NEW.salt IS zeroblob(length(OLD.salt)) AND NEW.digest IS NULL
    AND OLD.digest IS NULL
    AND NEW.position IS OLD.position AND NEW.stream IS OLD.stream AND NEW.version IS OLD.version
    AND NEW.type IS OLD.type AND NEW.schema IS OLD.schema AND NEW.time IS OLD.time
    AND NEW.recorded IS OLD.recorded AND NEW.actor IS OLD.actor AND NEW.key IS OLD.key
    AND NEW.correlation IS OLD.correlation AND NEW.leaf IS OLD.leaf
    AND EXISTS (SELECT 1 FROM erasures WHERE position = OLD.position)
)
BEGIN SELECT raise(ABORT, 'events are append-only: none is ever changed'); END;
