-- Whom the audit log speaks of: by the keyed hash of issuer and subject, the name they have in entries and the key under
-- which what is said of them can be read. With the row goes the way back from the entries to them.
CREATE TABLE audit_subjects (
    tenant     TEXT    NOT NULL,
    lookup     BLOB    NOT NULL CHECK (length(lookup) = 32),
    id         TEXT    NOT NULL,
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, lookup)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX audit_subjects_id ON audit_subjects (tenant, id);
