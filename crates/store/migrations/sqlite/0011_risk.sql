-- What was decided about instances of apps, counted by what was known: one row for all of whom the same was known on one
-- day. Nothing in it tells one instance from another.
CREATE TABLE risk_decisions (
    tenant   TEXT    NOT NULL,
    day      INTEGER NOT NULL,
    hash     BLOB    NOT NULL,
    app      TEXT    NOT NULL,
    version  TEXT    NOT NULL,
    step     TEXT    NOT NULL,
    known    TEXT    NOT NULL,
    action   TEXT    NOT NULL,
    would    TEXT    NOT NULL,
    reasons  TEXT    NOT NULL,
    count    INTEGER NOT NULL,
    PRIMARY KEY (tenant, day, hash)
) STRICT, WITHOUT ROWID;

-- Leave that operators gave single instances, and that they had. jkt is the thumbprint of the instance's key.
CREATE TABLE forced_passes (
    tenant   TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    app      TEXT    NOT NULL,
    jkt      TEXT    NOT NULL,
    made_at  INTEGER NOT NULL,
    made_by  TEXT    NOT NULL,
    reason   TEXT    NOT NULL,
    ends_at  INTEGER NOT NULL,
    ended_at INTEGER,
    ended_by TEXT,
    uses     INTEGER NOT NULL DEFAULT 0,
    used_at  INTEGER,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX forced_passes_of ON forced_passes (tenant, app, jkt, ends_at);
