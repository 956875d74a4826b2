-- What the token service remembers. Times are milliseconds since the Unix epoch, UTC. Credentials are here only as
-- keyed hashes, or sealed by the vault.

-- Grants, authentication, redirect URIs and requirements of a client, as JSON.
ALTER TABLE clients ADD COLUMN settings TEXT COLLATE "C" NOT NULL DEFAULT '{}';

-- What may be used once and has been. A row stands at least until what was used has expired.
CREATE TABLE used_once (
    tenant     TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL CHECK (length(hash) = 32),
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind, hash)
);
CREATE INDEX used_once_expires ON used_once (tenant, expires_at);

-- Appended to. A row changes only by being lifted, and goes only past its time, or when the transmitter of security
-- events that caused it causes another that covers it.
CREATE TABLE revocations (
    seq            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    issuer     TEXT COLLATE "C" NOT NULL,
    value      TEXT COLLATE "C" NOT NULL,
    not_before BIGINT NOT NULL,
    expires_at BIGINT,
    at         BIGINT NOT NULL,
    by         TEXT COLLATE "C" NOT NULL,
    reason     TEXT COLLATE "C" NOT NULL,
    lifted_at  BIGINT,
    lifted_by  TEXT COLLATE "C"
);
CREATE INDEX revocations_subject ON revocations (tenant, kind, issuer, value);
CREATE INDEX revocations_expires ON revocations (tenant, expires_at) WHERE expires_at IS NOT NULL;

-- A family: all refresh tokens that follow from one sign-in.
CREATE TABLE refresh_families (
    tenant       TEXT COLLATE "C" NOT NULL,
    id           TEXT COLLATE "C" NOT NULL,
    client       TEXT COLLATE "C" NOT NULL,
    subject      TEXT COLLATE "C" NOT NULL,
    scopes       TEXT COLLATE "C" NOT NULL,
    jkt          BYTEA CHECK (jkt IS NULL OR length(jkt) = 32),
    x5t          BYTEA CHECK (x5t IS NULL OR length(x5t) = 32),
    sid          TEXT COLLATE "C",
    upstream_sid TEXT COLLATE "C",
    device       TEXT COLLATE "C",
    auth_time    BIGINT,
    details      TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    absolute_end BIGINT NOT NULL,
    revoked_at   BIGINT,
    revoked_why  TEXT COLLATE "C",
    PRIMARY KEY (tenant, id)
);
CREATE INDEX refresh_families_client ON refresh_families (tenant, client);
CREATE INDEX refresh_families_subject ON refresh_families (tenant, subject);
CREATE INDEX refresh_families_sid ON refresh_families (tenant, sid);
CREATE INDEX refresh_families_upstream_sid ON refresh_families (tenant, upstream_sid) WHERE upstream_sid IS NOT NULL;
CREATE INDEX refresh_families_device ON refresh_families (tenant, device) WHERE device IS NOT NULL;
CREATE INDEX refresh_families_end ON refresh_families (tenant, absolute_end);

-- A rotated token stays as long as its family, so that its reuse is noticed.
CREATE TABLE refresh_tokens (
    tenant     TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL CHECK (length(hash) = 32),
    family     TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    rotated_at BIGINT,
    successor  BYTEA,
    PRIMARY KEY (tenant, hash),
    FOREIGN KEY (tenant, family) REFERENCES refresh_families (tenant, id) ON DELETE CASCADE
);
CREATE INDEX refresh_tokens_family ON refresh_tokens (tenant, family);
CREATE INDEX refresh_tokens_rotated ON refresh_tokens (tenant, rotated_at) WHERE successor IS NOT NULL;

-- One-time credentials of the token service and what they stand for. A used row stays until it expires, so that a
-- second use is told from an unknown one.
CREATE TABLE grants_pending (
    tenant     TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL CHECK (length(hash) = 32),
    body       BYTEA NOT NULL,
    revision   BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT,
    PRIMARY KEY (tenant, kind, hash)
);
CREATE INDEX grants_pending_expires ON grants_pending (tenant, expires_at);
