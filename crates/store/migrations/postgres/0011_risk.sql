-- What was decided about instances of apps, counted by what was known: one row for all of whom the same was known on one
-- day. Nothing in it tells one instance from another.
CREATE TABLE risk_decisions (
    tenant   TEXT COLLATE "C" NOT NULL,
    day      BIGINT NOT NULL,
    hash     BYTEA NOT NULL,
    app      TEXT COLLATE "C" NOT NULL,
    version  TEXT COLLATE "C" NOT NULL,
    step     TEXT COLLATE "C" NOT NULL,
    known    TEXT COLLATE "C" NOT NULL,
    action   TEXT COLLATE "C" NOT NULL,
    would    TEXT COLLATE "C" NOT NULL,
    reasons  TEXT COLLATE "C" NOT NULL,
    count    BIGINT NOT NULL,
    PRIMARY KEY (tenant, day, hash)
);

-- Leave that operators gave single instances, and that they had. jkt is the thumbprint of the instance's key.
CREATE TABLE forced_passes (
    tenant   TEXT COLLATE "C" NOT NULL,
    id       TEXT COLLATE "C" NOT NULL,
    app      TEXT COLLATE "C" NOT NULL,
    jkt      TEXT COLLATE "C" NOT NULL,
    made_at  BIGINT NOT NULL,
    made_by  TEXT COLLATE "C" NOT NULL,
    reason   TEXT COLLATE "C" NOT NULL,
    ends_at  BIGINT NOT NULL,
    ended_at BIGINT,
    ended_by TEXT COLLATE "C",
    uses     BIGINT NOT NULL DEFAULT 0,
    used_at  BIGINT,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX forced_passes_of ON forced_passes (tenant, app, jkt, ends_at);
