-- Installations of apps that proved what they are. No identifier of a device: device is a keyed hash, if there is one.
CREATE TABLE instances (
    tenant       TEXT COLLATE "C" NOT NULL,
    id           TEXT COLLATE "C" NOT NULL,
    app          TEXT COLLATE "C" NOT NULL,
    platform     TEXT COLLATE "C" NOT NULL,
    evidence     TEXT COLLATE "C" NOT NULL,
    evidence_key BYTEA NOT NULL,
    attested_key BYTEA,
    jkt          TEXT COLLATE "C" NOT NULL,
    jwk          TEXT COLLATE "C" NOT NULL,
    counter      BIGINT NOT NULL DEFAULT 0,
    level        TEXT COLLATE "C" NOT NULL,
    environment  TEXT COLLATE "C",
    category     BIGINT,
    version      TEXT COLLATE "C",
    serials      TEXT COLLATE "C" NOT NULL,
    flags        TEXT COLLATE "C" NOT NULL,
    annotations  TEXT COLLATE "C" NOT NULL,
    device       TEXT COLLATE "C",
    arc          TEXT COLLATE "C" NOT NULL,
    created_at   BIGINT NOT NULL,
    attested_at  BIGINT NOT NULL,
    reattest_at  BIGINT NOT NULL,
    seen_at      BIGINT NOT NULL,
    status       TEXT COLLATE "C" NOT NULL CHECK (status IN ('active', 'quarantined', 'revoked')),
    status_at    BIGINT NOT NULL,
    status_by    TEXT COLLATE "C" NOT NULL,
    status_why   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE UNIQUE INDEX instances_key ON instances (tenant, app, jkt);
CREATE UNIQUE INDEX instances_evidence ON instances (tenant, evidence, evidence_key);
CREATE INDEX instances_arc ON instances (tenant, arc);
CREATE INDEX instances_seen ON instances (tenant, seen_at);

-- Why installations were refused, by the code they were told instead.
CREATE TABLE attest_refusals (
    tenant   TEXT COLLATE "C" NOT NULL,
    arc      TEXT COLLATE "C" NOT NULL,
    at       BIGINT NOT NULL,
    app      TEXT COLLATE "C",
    instance TEXT COLLATE "C",
    step     TEXT COLLATE "C" NOT NULL,
    action   TEXT COLLATE "C" NOT NULL,
    reasons  TEXT COLLATE "C" NOT NULL,
    detail   TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, arc)
);
CREATE INDEX attest_refusals_at ON attest_refusals (tenant, at);
