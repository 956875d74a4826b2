-- Whom the audit log speaks of: by the keyed hash of issuer and subject, the name they have in entries and the key under
-- which what is said of them can be read. With the row goes the way back from the entries to them.
CREATE TABLE audit_subjects (
    tenant     TEXT COLLATE "C" NOT NULL,
    lookup     BYTEA NOT NULL CHECK (length(lookup) = 32),
    id         TEXT COLLATE "C" NOT NULL,
    sealed     BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, lookup)
);
CREATE UNIQUE INDEX audit_subjects_id ON audit_subjects (tenant, id);
