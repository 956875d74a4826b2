-- Installations of apps that proved what they are. No identifier of a device: device is a keyed hash, if there is one.
CREATE TABLE instances (
    tenant       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    app          TEXT    NOT NULL,
    platform     TEXT    NOT NULL,
    evidence     TEXT    NOT NULL,
    evidence_key BLOB NOT NULL,
    attested_key BLOB,
    jkt          TEXT    NOT NULL,
    jwk          TEXT    NOT NULL,
    counter      INTEGER NOT NULL DEFAULT 0,
    level        TEXT    NOT NULL,
    environment  TEXT,
    category     INTEGER,
    version      TEXT,
    serials      TEXT    NOT NULL,
    flags        TEXT    NOT NULL,
    annotations  TEXT    NOT NULL,
    device       TEXT,
    arc          TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    attested_at  INTEGER NOT NULL,
    reattest_at  INTEGER NOT NULL,
    seen_at      INTEGER NOT NULL,
    status       TEXT NOT NULL CHECK (status IN ('active', 'quarantined', 'revoked')),
    status_at    INTEGER NOT NULL,
    status_by    TEXT    NOT NULL,
    status_why   TEXT    NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX instances_key ON instances (tenant, app, jkt);
CREATE UNIQUE INDEX instances_evidence ON instances (tenant, evidence, evidence_key);
CREATE INDEX instances_arc ON instances (tenant, arc);
CREATE INDEX instances_seen ON instances (tenant, seen_at);

-- Why installations were refused, by the code they were told instead.
CREATE TABLE attest_refusals (
    tenant   TEXT    NOT NULL,
    arc      TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    app      TEXT,
    instance TEXT,
    step     TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    reasons  TEXT    NOT NULL,
    detail   TEXT    NOT NULL,
    PRIMARY KEY (tenant, arc)
) STRICT, WITHOUT ROWID;
CREATE INDEX attest_refusals_at ON attest_refusals (tenant, at);
