-- Messages for webhooks: each until it is taken or given up, then for a while, so that the same one is not sent again.
-- due_at is when it is to be sent next; done when that is NULL.
CREATE TABLE webhook_messages (
    tenant   TEXT COLLATE "C" NOT NULL,
    endpoint TEXT COLLATE "C" NOT NULL,
    id       TEXT COLLATE "C" NOT NULL,
    event    TEXT COLLATE "C" NOT NULL,
    body     TEXT COLLATE "C" NOT NULL,
    made_at  BIGINT NOT NULL,
    due_at   BIGINT,
    attempts BIGINT NOT NULL DEFAULT 0,
    error    TEXT COLLATE "C",
    PRIMARY KEY (tenant, endpoint, id)
);
CREATE INDEX webhook_messages_due ON webhook_messages (tenant, due_at);
CREATE INDEX webhook_messages_made ON webhook_messages (tenant, made_at);

-- Callers that are throttled or suspended because they behaved quite unlike themselves, and those that were.
CREATE TABLE anomaly_stops (
    id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant      TEXT COLLATE "C" NOT NULL,
    whom        TEXT COLLATE "C" NOT NULL,
    action      TEXT COLLATE "C" NOT NULL CHECK (action IN ('observe', 'throttle', 'suspend')),
    per_minute  BIGINT,
    why         TEXT COLLATE "C" NOT NULL,
    made_at     BIGINT NOT NULL,
    ends_at     BIGINT,
    restored_at BIGINT,
    restored_by TEXT COLLATE "C"
);
CREATE INDEX anomaly_stops_of ON anomaly_stops (tenant, whom);

-- What callers did before, as each node saw it.
CREATE TABLE anomaly_habits (
    tenant  TEXT COLLATE "C" NOT NULL,
    node    TEXT COLLATE "C" NOT NULL,
    whom    TEXT COLLATE "C" NOT NULL,
    habit   TEXT COLLATE "C" NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, whom, node)
);
CREATE INDEX anomaly_habits_seen ON anomaly_habits (tenant, seen_at);
