-- Times are milliseconds since the Unix epoch, UTC. Lists are JSON arrays. Hashes are keyed (HMAC-SHA256);
-- sealed columns hold ciphertext of the vault. Nothing here ever holds a prompt, an answer or a readable credential.

CREATE TABLE config_version (
    tenant  TEXT    NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    tenant TEXT NOT NULL,
    key    TEXT NOT NULL,
    value  TEXT NOT NULL,
    PRIMARY KEY (tenant, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE clients (
    tenant       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    scopes       TEXT    NOT NULL,
    token_ttl_ms INTEGER,
    disabled     INTEGER NOT NULL CHECK (disabled IN (0, 1)),
    created_at   INTEGER NOT NULL,
    created_by   TEXT    NOT NULL,
    updated_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, name)
) STRICT;

CREATE TABLE client_secrets (
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    client_id  TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, client_id) REFERENCES clients (tenant, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX client_secrets_client ON client_secrets (tenant, client_id);

CREATE TABLE api_keys (
    tenant       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    hash         BLOB    NOT NULL CHECK (length(hash) = 32),
    hint         TEXT    NOT NULL,
    client       TEXT,
    subject      TEXT    NOT NULL,
    scopes       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    created_by   TEXT    NOT NULL,
    expires_at   INTEGER,
    revoked_at   INTEGER,
    last_used_at INTEGER,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, hash)
) STRICT;
-- A revoked key leaves its name to the next.
CREATE UNIQUE INDEX api_keys_name ON api_keys (tenant, name) WHERE revoked_at IS NULL;

-- The last version outlives the secret, so that a deleted secret's old ciphertext never fits a new one's label.
CREATE TABLE secrets (
    tenant       TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    last_version INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE secret_versions (
    tenant      TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    sealed      BLOB    NOT NULL,
    origin      TEXT,
    fingerprint TEXT    NOT NULL,
    hint        TEXT,
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    PRIMARY KEY (tenant, name, version),
    FOREIGN KEY (tenant, name) REFERENCES secrets (tenant, name)
) STRICT;

CREATE TABLE signing_keys (
    tenant       TEXT    NOT NULL,
    kid          TEXT    NOT NULL,
    alg          TEXT    NOT NULL,
    state        TEXT    NOT NULL CHECK (state IN ('next', 'active', 'retiring', 'gone')),
    public_jwk   TEXT    NOT NULL,
    sealed       BLOB,
    not_before   INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    activated_at INTEGER,
    expires_at   INTEGER,
    PRIMARY KEY (tenant, kid),
    CHECK ((state = 'gone') = (sealed IS NULL))
) STRICT;
CREATE UNIQUE INDEX signing_keys_active ON signing_keys (tenant, alg) WHERE state = 'active';

CREATE TABLE request_records (
    seq            INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant         TEXT    NOT NULL,
    at             INTEGER NOT NULL,
    request_id     TEXT    NOT NULL,
    endpoint       TEXT    NOT NULL,
    policy         TEXT,
    issuer         TEXT,
    client         TEXT,
    subject        TEXT,
    api_key        TEXT,
    model          TEXT,
    provider       TEXT,
    status         INTEGER NOT NULL,
    error          TEXT,
    input_tokens   INTEGER,
    output_tokens  INTEGER,
    cached_tokens  INTEGER,
    duration_ms    INTEGER NOT NULL,
    ttft_ms        INTEGER,
    stream         INTEGER NOT NULL CHECK (stream IN (0, 1)),
    request_bytes  INTEGER NOT NULL,
    response_bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX request_records_at ON request_records (tenant, at);

CREATE TABLE resources (
    tenant     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    body       TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT    NOT NULL,
    PRIMARY KEY (tenant, kind, name)
) STRICT;

CREATE TABLE jwks_last_good (
    tenant     TEXT    NOT NULL,
    issuer     TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    body       BLOB    NOT NULL,
    fetched_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, issuer)
) STRICT;

CREATE TABLE stored_objects (
    tenant     TEXT    NOT NULL,
    provider   TEXT    NOT NULL,
    object     TEXT    NOT NULL,
    issuer     TEXT    NOT NULL,
    subject    TEXT    NOT NULL,
    client     TEXT,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, provider, object)
) STRICT, WITHOUT ROWID;
CREATE INDEX stored_objects_created ON stored_objects (tenant, created_at);

CREATE TABLE admin_tokens (
    tenant     TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    role       TEXT    NOT NULL CHECK (role IN ('owner', 'operator', 'auditor', 'viewer')),
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    created_by TEXT    NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, hash)
) STRICT;
CREATE UNIQUE INDEX admin_tokens_name ON admin_tokens (tenant, name) WHERE revoked_at IS NULL;

-- A row without an answer is a request still under way.
CREATE TABLE idempotency (
    tenant       TEXT    NOT NULL,
    principal    TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    request_hash BLOB    NOT NULL CHECK (length(request_hash) = 32),
    attempt      TEXT    NOT NULL,
    status       INTEGER,
    answer       BLOB,
    expires_at   INTEGER NOT NULL,
    PRIMARY KEY (tenant, principal, key),
    CHECK ((status IS NULL) = (answer IS NULL))
) STRICT;
CREATE INDEX idempotency_expires ON idempotency (tenant, expires_at);
