-- What the token service remembers. Times are milliseconds since the Unix epoch, UTC. Credentials are here only as
-- keyed hashes, or sealed by the vault.

-- Grants, authentication, redirect URIs and requirements of a client, as JSON.
ALTER TABLE clients ADD COLUMN settings TEXT NOT NULL DEFAULT '{}';

-- What may be used once and has been. A row stands at least until what was used has expired.
CREATE TABLE used_once (
    tenant     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX used_once_expires ON used_once (tenant, expires_at);

-- Appended to. A row changes only by being lifted, and goes only past its time, or when the transmitter of security
-- events that caused it causes another that covers it.
CREATE TABLE revocations (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    issuer     TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    not_before INTEGER NOT NULL,
    expires_at INTEGER,
    at         INTEGER NOT NULL,
    by         TEXT    NOT NULL,
    reason     TEXT    NOT NULL,
    lifted_at  INTEGER,
    lifted_by  TEXT
) STRICT;
CREATE INDEX revocations_subject ON revocations (tenant, kind, issuer, value);
CREATE INDEX revocations_expires ON revocations (tenant, expires_at) WHERE expires_at IS NOT NULL;

-- A family: all refresh tokens that follow from one sign-in.
CREATE TABLE refresh_families (
    tenant       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    client       TEXT    NOT NULL,
    subject      TEXT    NOT NULL,
    scopes       TEXT    NOT NULL,
    jkt          BLOB CHECK (jkt IS NULL OR length(jkt) = 32),
    x5t          BLOB CHECK (x5t IS NULL OR length(x5t) = 32),
    sid          TEXT,
    upstream_sid TEXT,
    device       TEXT,
    auth_time    INTEGER,
    details      TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    absolute_end INTEGER NOT NULL,
    revoked_at   INTEGER,
    revoked_why  TEXT,
    PRIMARY KEY (tenant, id)
) STRICT;
CREATE INDEX refresh_families_client ON refresh_families (tenant, client);
CREATE INDEX refresh_families_subject ON refresh_families (tenant, subject);
CREATE INDEX refresh_families_sid ON refresh_families (tenant, sid);
CREATE INDEX refresh_families_upstream_sid ON refresh_families (tenant, upstream_sid) WHERE upstream_sid IS NOT NULL;
CREATE INDEX refresh_families_device ON refresh_families (tenant, device) WHERE device IS NOT NULL;
CREATE INDEX refresh_families_end ON refresh_families (tenant, absolute_end);

-- A rotated token stays as long as its family, so that its reuse is noticed.
CREATE TABLE refresh_tokens (
    tenant     TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    family     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    rotated_at INTEGER,
    successor  BLOB,
    PRIMARY KEY (tenant, hash),
    FOREIGN KEY (tenant, family) REFERENCES refresh_families (tenant, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_family ON refresh_tokens (tenant, family);
CREATE INDEX refresh_tokens_rotated ON refresh_tokens (tenant, rotated_at) WHERE successor IS NOT NULL;

-- One-time credentials of the token service and what they stand for. A used row stays until it expires, so that a
-- second use is told from an unknown one.
CREATE TABLE grants_pending (
    tenant     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    body       BLOB    NOT NULL,
    revision   INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER,
    PRIMARY KEY (tenant, kind, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX grants_pending_expires ON grants_pending (tenant, expires_at);
