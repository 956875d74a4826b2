-- Secrets that apps use at run time. A version is in force from not_before until not_after; its value is forgotten when sealed
-- is NULL. delivered: whether it may be given to devices.
CREATE TABLE runtime_secrets (
    tenant       TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    last_version BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE runtime_secret_versions (
    tenant      TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    sealed      BYTEA,
    origin      TEXT COLLATE "C",
    delivered   BIGINT NOT NULL CHECK (delivered IN (0, 1)),
    fingerprint TEXT COLLATE "C" NOT NULL,
    hint        TEXT COLLATE "C",
    not_before  BIGINT NOT NULL,
    not_after   BIGINT,
    created_at  BIGINT NOT NULL,
    created_by  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, name, version),
    FOREIGN KEY (tenant, name) REFERENCES runtime_secrets (tenant, name)
);

-- How often each version was used, and when last.
CREATE TABLE runtime_secret_uses (
    tenant       TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    version      BIGINT NOT NULL,
    app          TEXT COLLATE "C" NOT NULL,
    how          TEXT COLLATE "C" NOT NULL CHECK (how IN ('substituted', 'delivered', 'held')),
    uses         BIGINT NOT NULL,
    last_used_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, name, version, app, how)
);
