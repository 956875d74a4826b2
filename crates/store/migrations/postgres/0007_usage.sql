-- What requests cost, added up by hour and by day, and corrected without rewriting what was charged.

ALTER TABLE request_records ADD COLUMN provider_model TEXT COLLATE "C";
ALTER TABLE request_records ADD COLUMN service TEXT COLLATE "C";
-- A JSON array of texts.
ALTER TABLE request_records ADD COLUMN tags TEXT COLLATE "C";
ALTER TABLE request_records ADD COLUMN cache_write_tokens BIGINT;
ALTER TABLE request_records ADD COLUMN reasoning_tokens BIGINT;
ALTER TABLE request_records ADD COLUMN audio_input_tokens BIGINT;
ALTER TABLE request_records ADD COLUMN audio_output_tokens BIGINT;
ALTER TABLE request_records ADD COLUMN audio_ms BIGINT;
ALTER TABLE request_records ADD COLUMN images BIGINT;
-- In nano-USD; NULL: its price was not known.
ALTER TABLE request_records ADD COLUMN cost BIGINT;
-- 1: estimated, 2: clamped, 4: the model is a configured one.
ALTER TABLE request_records ADD COLUMN cost_flags BIGINT NOT NULL DEFAULT 0;
-- The part of the cost that follows from the usage, and how; NULL: it cannot be computed again.
ALTER TABLE request_records ADD COLUMN rated BIGINT;
ALTER TABLE request_records ADD COLUMN basis TEXT COLLATE "C";
ALTER TABLE request_records ADD COLUMN price TEXT COLLATE "C";

-- Sums over the records of a period (span in seconds: 3600 or 86400; start in milliseconds) that agree in everything it is
-- counted by. A record with tags is counted once without (tag = '') and once under each. Written in the transaction that
-- writes the records.
CREATE TABLE usage_rollups (
    tenant              TEXT COLLATE "C" NOT NULL,
    span                BIGINT NOT NULL,
    start               BIGINT NOT NULL,
    -- SHA-256 of what follows up to the tag, and of the period.
    key                 BYTEA NOT NULL CHECK (length(key) = 32),
    issuer              TEXT COLLATE "C" NOT NULL,
    client              TEXT COLLATE "C" NOT NULL,
    subject             TEXT COLLATE "C" NOT NULL,
    api_key             TEXT COLLATE "C" NOT NULL,
    model               TEXT COLLATE "C" NOT NULL,
    provider            TEXT COLLATE "C" NOT NULL,
    policy              TEXT COLLATE "C" NOT NULL,
    service             TEXT COLLATE "C" NOT NULL,
    tag                 TEXT COLLATE "C" NOT NULL,
    requests            BIGINT NOT NULL,
    failed              BIGINT NOT NULL,
    unpriced            BIGINT NOT NULL,
    estimated           BIGINT NOT NULL,
    clamped             BIGINT NOT NULL,
    input_tokens        BIGINT NOT NULL,
    cached_tokens       BIGINT NOT NULL,
    cache_write_tokens  BIGINT NOT NULL,
    output_tokens       BIGINT NOT NULL,
    reasoning_tokens    BIGINT NOT NULL,
    audio_input_tokens  BIGINT NOT NULL,
    audio_output_tokens BIGINT NOT NULL,
    audio_ms            BIGINT NOT NULL,
    images              BIGINT NOT NULL,
    duration_ms         BIGINT NOT NULL,
    -- As charged, and what corrections add to that, in nano-USD.
    cost                BIGINT NOT NULL,
    correction          BIGINT NOT NULL,
    PRIMARY KEY (tenant, span, start, key)
);

-- What the cost of a record was found to be later, each time anew; nothing here is ever changed.
CREATE TABLE usage_corrections (
    tenant      TEXT COLLATE "C" NOT NULL,
    record      BIGINT NOT NULL,
    number      BIGINT NOT NULL,
    run         TEXT COLLATE "C" NOT NULL,
    request_id  TEXT COLLATE "C" NOT NULL,
    at          BIGINT NOT NULL,
    made_at     BIGINT NOT NULL,
    made_by     TEXT COLLATE "C" NOT NULL,
    cost_before BIGINT,
    cost_after  BIGINT NOT NULL,
    rated       BIGINT NOT NULL,
    price       TEXT COLLATE "C",
    PRIMARY KEY (tenant, record, number)
);
CREATE INDEX usage_corrections_made ON usage_corrections (tenant, made_at);
