-- The tables of migrations/sqlite, in this database's words. Texts compare by their bytes, as there.
--
-- Times are milliseconds since the Unix epoch, UTC. Lists are JSON arrays. Hashes are keyed (HMAC-SHA256);
-- sealed columns hold ciphertext of the vault. Nothing here ever holds a prompt, an answer or a readable credential.

CREATE TABLE config_version (
    tenant  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);

CREATE TABLE meta (
    tenant TEXT COLLATE "C" NOT NULL,
    key    TEXT COLLATE "C" NOT NULL,
    value  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, key)
);

CREATE TABLE clients (
    tenant       TEXT COLLATE "C" NOT NULL,
    id           TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    scopes       TEXT COLLATE "C" NOT NULL,
    token_ttl_ms BIGINT,
    disabled     BIGINT NOT NULL CHECK (disabled IN (0, 1)),
    created_at   BIGINT NOT NULL,
    created_by   TEXT COLLATE "C" NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, name)
);

CREATE TABLE client_secrets (
    tenant     TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    client_id  TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL CHECK (length(hash) = 32),
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    PRIMARY KEY (tenant, id),
    FOREIGN KEY (tenant, client_id) REFERENCES clients (tenant, id) ON DELETE CASCADE
);
CREATE INDEX client_secrets_client ON client_secrets (tenant, client_id);

CREATE TABLE api_keys (
    tenant       TEXT COLLATE "C" NOT NULL,
    id           TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    hash         BYTEA NOT NULL CHECK (length(hash) = 32),
    hint         TEXT COLLATE "C" NOT NULL,
    client       TEXT COLLATE "C",
    subject      TEXT COLLATE "C" NOT NULL,
    scopes       TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    created_by   TEXT COLLATE "C" NOT NULL,
    expires_at   BIGINT,
    revoked_at   BIGINT,
    last_used_at BIGINT,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, hash)
);
-- A revoked key leaves its name to the next.
CREATE UNIQUE INDEX api_keys_name ON api_keys (tenant, name) WHERE revoked_at IS NULL;

-- The last version outlives the secret, so that a deleted secret's old ciphertext never fits a new one's label.
CREATE TABLE secrets (
    tenant       TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    last_version BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE secret_versions (
    tenant      TEXT COLLATE "C" NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    version     BIGINT NOT NULL,
    sealed      BYTEA NOT NULL,
    origin      TEXT COLLATE "C",
    fingerprint TEXT COLLATE "C" NOT NULL,
    hint        TEXT COLLATE "C",
    created_at  BIGINT NOT NULL,
    created_by  TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, name, version),
    FOREIGN KEY (tenant, name) REFERENCES secrets (tenant, name)
);

CREATE TABLE signing_keys (
    tenant       TEXT COLLATE "C" NOT NULL,
    kid          TEXT COLLATE "C" NOT NULL,
    alg          TEXT COLLATE "C" NOT NULL,
    state        TEXT COLLATE "C" NOT NULL CHECK (state IN ('next', 'active', 'retiring', 'gone')),
    public_jwk   TEXT COLLATE "C" NOT NULL,
    sealed       BYTEA,
    not_before   BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    activated_at BIGINT,
    expires_at   BIGINT,
    PRIMARY KEY (tenant, kid),
    CHECK ((state = 'gone') = (sealed IS NULL))
);
CREATE UNIQUE INDEX signing_keys_active ON signing_keys (tenant, alg) WHERE state = 'active';

CREATE TABLE request_records (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant         TEXT COLLATE "C" NOT NULL,
    at             BIGINT NOT NULL,
    request_id     TEXT COLLATE "C" NOT NULL,
    endpoint       TEXT COLLATE "C" NOT NULL,
    policy         TEXT COLLATE "C",
    issuer         TEXT COLLATE "C",
    client         TEXT COLLATE "C",
    subject        TEXT COLLATE "C",
    api_key        TEXT COLLATE "C",
    model          TEXT COLLATE "C",
    provider       TEXT COLLATE "C",
    status         BIGINT NOT NULL,
    error          TEXT COLLATE "C",
    input_tokens   BIGINT,
    output_tokens  BIGINT,
    cached_tokens  BIGINT,
    duration_ms    BIGINT NOT NULL,
    ttft_ms        BIGINT,
    stream         BIGINT NOT NULL CHECK (stream IN (0, 1)),
    request_bytes  BIGINT NOT NULL,
    response_bytes BIGINT NOT NULL
);
CREATE INDEX request_records_at ON request_records (tenant, at);

CREATE TABLE resources (
    tenant     TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    body       TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, kind, name)
);

CREATE TABLE jwks_last_good (
    tenant     TEXT COLLATE "C" NOT NULL,
    issuer     TEXT COLLATE "C" NOT NULL,
    url        TEXT COLLATE "C" NOT NULL,
    body       BYTEA NOT NULL,
    fetched_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, issuer)
);

CREATE TABLE stored_objects (
    tenant     TEXT COLLATE "C" NOT NULL,
    provider   TEXT COLLATE "C" NOT NULL,
    object     TEXT COLLATE "C" NOT NULL,
    issuer     TEXT COLLATE "C" NOT NULL,
    subject    TEXT COLLATE "C" NOT NULL,
    client     TEXT COLLATE "C",
    created_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, provider, object)
);
CREATE INDEX stored_objects_created ON stored_objects (tenant, created_at);

CREATE TABLE admin_tokens (
    tenant     TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    role       TEXT COLLATE "C" NOT NULL CHECK (role IN ('owner', 'operator', 'auditor', 'viewer')),
    hash       BYTEA NOT NULL CHECK (length(hash) = 32),
    created_at BIGINT NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, hash)
);
CREATE UNIQUE INDEX admin_tokens_name ON admin_tokens (tenant, name) WHERE revoked_at IS NULL;

-- A row without an answer is a request still under way.
CREATE TABLE idempotency (
    tenant       TEXT COLLATE "C" NOT NULL,
    principal    TEXT COLLATE "C" NOT NULL,
    key          TEXT COLLATE "C" NOT NULL,
    request_hash BYTEA NOT NULL CHECK (length(request_hash) = 32),
    attempt      TEXT COLLATE "C" NOT NULL,
    status       BIGINT,
    answer       BYTEA,
    expires_at   BIGINT NOT NULL,
    PRIMARY KEY (tenant, principal, key),
    CHECK ((status IS NULL) = (answer IS NULL))
);
CREATE INDEX idempotency_expires ON idempotency (tenant, expires_at);
