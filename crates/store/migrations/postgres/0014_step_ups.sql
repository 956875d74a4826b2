-- What instances of apps last showed besides their evidence, and when. jkt is the thumbprint of the instance's key.
CREATE TABLE step_ups (
    tenant   TEXT COLLATE "C" NOT NULL,
    app      TEXT COLLATE "C" NOT NULL,
    jkt      TEXT COLLATE "C" NOT NULL,
    what     TEXT COLLATE "C" NOT NULL,
    shown_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, app, jkt, what)
);
CREATE INDEX step_ups_shown ON step_ups (tenant, shown_at);
