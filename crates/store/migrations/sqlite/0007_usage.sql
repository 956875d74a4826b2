-- What requests cost, added up by hour and by day, and corrected without rewriting what was charged.

ALTER TABLE request_records ADD COLUMN provider_model TEXT;
ALTER TABLE request_records ADD COLUMN service TEXT;
-- A JSON array of texts.
ALTER TABLE request_records ADD COLUMN tags TEXT;
ALTER TABLE request_records ADD COLUMN cache_write_tokens INTEGER;
ALTER TABLE request_records ADD COLUMN reasoning_tokens INTEGER;
ALTER TABLE request_records ADD COLUMN audio_input_tokens INTEGER;
ALTER TABLE request_records ADD COLUMN audio_output_tokens INTEGER;
ALTER TABLE request_records ADD COLUMN audio_ms INTEGER;
ALTER TABLE request_records ADD COLUMN images INTEGER;
-- In nano-USD; NULL: its price was not known.
ALTER TABLE request_records ADD COLUMN cost INTEGER;
-- 1: estimated, 2: clamped, 4: the model is a configured one.
ALTER TABLE request_records ADD COLUMN cost_flags INTEGER NOT NULL DEFAULT 0;
-- The part of the cost that follows from the usage, and how; NULL: it cannot be computed again.
ALTER TABLE request_records ADD COLUMN rated INTEGER;
ALTER TABLE request_records ADD COLUMN basis TEXT;
ALTER TABLE request_records ADD COLUMN price TEXT;

-- Sums over the records of a period (span in seconds: 3600 or 86400; start in milliseconds) that agree in everything it is
-- counted by. A record with tags is counted once without (tag = '') and once under each. Written in the transaction that
-- writes the records.
CREATE TABLE usage_rollups (
    tenant              TEXT    NOT NULL,
    span                INTEGER NOT NULL,
    start               INTEGER NOT NULL,
    -- SHA-256 of what follows up to the tag, and of the period.
    key                 BLOB    NOT NULL CHECK (length(key) = 32),
    issuer              TEXT    NOT NULL,
    client              TEXT    NOT NULL,
    subject             TEXT    NOT NULL,
    api_key             TEXT    NOT NULL,
    model               TEXT    NOT NULL,
    provider            TEXT    NOT NULL,
    policy              TEXT    NOT NULL,
    service             TEXT    NOT NULL,
    tag                 TEXT    NOT NULL,
    requests            INTEGER NOT NULL,
    failed              INTEGER NOT NULL,
    unpriced            INTEGER NOT NULL,
    estimated           INTEGER NOT NULL,
    clamped             INTEGER NOT NULL,
    input_tokens        INTEGER NOT NULL,
    cached_tokens       INTEGER NOT NULL,
    cache_write_tokens  INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    reasoning_tokens    INTEGER NOT NULL,
    audio_input_tokens  INTEGER NOT NULL,
    audio_output_tokens INTEGER NOT NULL,
    audio_ms            INTEGER NOT NULL,
    images              INTEGER NOT NULL,
    duration_ms         INTEGER NOT NULL,
    -- As charged, and what corrections add to that, in nano-USD.
    cost                INTEGER NOT NULL,
    correction          INTEGER NOT NULL,
    PRIMARY KEY (tenant, span, start, key)
) STRICT, WITHOUT ROWID;

-- What the cost of a record was found to be later, each time anew; nothing here is ever changed.
CREATE TABLE usage_corrections (
    tenant      TEXT    NOT NULL,
    record      INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    run         TEXT    NOT NULL,
    request_id  TEXT    NOT NULL,
    at          INTEGER NOT NULL,
    made_at     INTEGER NOT NULL,
    made_by     TEXT    NOT NULL,
    cost_before INTEGER,
    cost_after  INTEGER NOT NULL,
    rated       INTEGER NOT NULL,
    price       TEXT,
    PRIMARY KEY (tenant, record, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_corrections_made ON usage_corrections (tenant, made_at);
