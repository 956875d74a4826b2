-- Receipts of App Attest, sealed: of each installation the last one, what it said, and when another is asked for.
CREATE TABLE receipts (
    tenant   TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    instance TEXT    NOT NULL,
    sealed   BLOB    NOT NULL,
    metric   INTEGER,
    next_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX receipts_instance ON receipts (tenant, instance);
CREATE INDEX receipts_next ON receipts (tenant, next_at);
