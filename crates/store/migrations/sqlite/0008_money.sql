-- Messages for webhooks: each until it is taken or given up, then for a while, so that the same one is not sent again.
-- due_at is when it is to be sent next; done when that is NULL.
CREATE TABLE webhook_messages (
    tenant   TEXT    NOT NULL,
    endpoint TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    event    TEXT    NOT NULL,
    body     TEXT    NOT NULL,
    made_at  INTEGER NOT NULL,
    due_at   INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    error    TEXT,
    PRIMARY KEY (tenant, endpoint, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_messages_due ON webhook_messages (tenant, due_at);
CREATE INDEX webhook_messages_made ON webhook_messages (tenant, made_at);

-- Callers that are throttled or suspended because they behaved quite unlike themselves, and those that were.
CREATE TABLE anomaly_stops (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant      TEXT    NOT NULL,
    whom        TEXT    NOT NULL,
    action      TEXT    NOT NULL CHECK (action IN ('observe', 'throttle', 'suspend')),
    per_minute  INTEGER,
    why         TEXT    NOT NULL,
    made_at     INTEGER NOT NULL,
    ends_at     INTEGER,
    restored_at INTEGER,
    restored_by TEXT
) STRICT;
CREATE INDEX anomaly_stops_of ON anomaly_stops (tenant, whom);

-- What callers did before, as each node saw it.
CREATE TABLE anomaly_habits (
    tenant  TEXT    NOT NULL,
    node    TEXT    NOT NULL,
    whom    TEXT    NOT NULL,
    habit   TEXT    NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, whom, node)
) STRICT, WITHOUT ROWID;
CREATE INDEX anomaly_habits_seen ON anomaly_habits (tenant, seen_at);
