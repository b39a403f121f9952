CREATE TABLE log (
	id              INTEGER PRIMARY KEY,
	epoch           INTEGER NOT NULL,
	revision        INTEGER NOT NULL,
	sub             INTEGER NOT NULL,
	kind            INTEGER NOT NULL,
	key             BLOB    NOT NULL,
	value           BLOB    NOT NULL,
	create_revision INTEGER NOT NULL,
	prev_revision   INTEGER NOT NULL,
	version         INTEGER NOT NULL,
	lease           INTEGER NOT NULL,
	written_at      INTEGER NOT NULL
) STRICT;

CREATE TABLE meta (
	name  TEXT PRIMARY KEY,
	value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
