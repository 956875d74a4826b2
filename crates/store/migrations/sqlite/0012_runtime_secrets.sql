-- Secrets that apps use at run time. A version is in force from not_before until not_after; its value is forgotten when sealed
-- is NULL. delivered: whether it may be given to devices.
CREATE TABLE runtime_secrets (
    tenant       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    last_version INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE runtime_secret_versions (
    tenant      TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    sealed      BLOB,
    origin      TEXT,
    delivered   INTEGER NOT NULL CHECK (delivered IN (0, 1)),
    fingerprint TEXT    NOT NULL,
    hint        TEXT,
    not_before  INTEGER NOT NULL,
    not_after   INTEGER,
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    PRIMARY KEY (tenant, name, version),
    FOREIGN KEY (tenant, name) REFERENCES runtime_secrets (tenant, name)
) STRICT;

-- How often each version was used, and when last.
CREATE TABLE runtime_secret_uses (
    tenant       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    version      INTEGER NOT NULL,
    app          TEXT    NOT NULL,
    how          TEXT    NOT NULL CHECK (how IN ('substituted', 'delivered', 'held')),
    uses         INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, name, version, app, how)
) STRICT, WITHOUT ROWID;
