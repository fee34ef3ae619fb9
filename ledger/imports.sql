-- Which positions came by imports: what ended elsewhere owes no callbacks here. A mark beside the log, not a part of it:
-- a restored export keeps its tree root.

CREATE TABLE imports (
    first INTEGER PRIMARY KEY,
    last  INTEGER NOT NULL CHECK (last >= first)
) STRICT;

CREATE TRIGGER imports_are_never_replaced BEFORE INSERT ON imports
WHEN EXISTS (SELECT 1 FROM imports WHERE last >= NEW.first)
BEGIN SELECT raise(ABORT, 'imports are append-only'); END;
CREATE TRIGGER imports_are_never_changed BEFORE UPDATE ON imports
BEGIN SELECT raise(ABORT, 'imports are append-only'); END;
CREATE TRIGGER imports_are_never_deleted BEFORE DELETE ON imports
BEGIN SELECT raise(ABORT, 'imports are append-only'); END;
