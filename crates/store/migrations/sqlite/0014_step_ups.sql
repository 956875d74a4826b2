-- What instances of apps last showed besides their evidence, and when. jkt is the thumbprint of the instance's key.
CREATE TABLE step_ups (
    tenant   TEXT    NOT NULL,
    app      TEXT    NOT NULL,
    jkt      TEXT    NOT NULL,
    what     TEXT    NOT NULL,
    shown_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, app, jkt, what)
) STRICT, WITHOUT ROWID;
CREATE INDEX step_ups_shown ON step_ups (tenant, shown_at);
