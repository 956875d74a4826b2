-- Receipts of App Attest, sealed: of each installation the last one, what it said, and when another is asked for.
CREATE TABLE receipts (
    tenant   TEXT COLLATE "C" NOT NULL,
    name     TEXT COLLATE "C" NOT NULL,
    instance TEXT COLLATE "C" NOT NULL,
    sealed   BYTEA NOT NULL,
    metric   BIGINT,
    next_at  BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);
CREATE UNIQUE INDEX receipts_instance ON receipts (tenant, instance);
CREATE INDEX receipts_next ON receipts (tenant, next_at);
