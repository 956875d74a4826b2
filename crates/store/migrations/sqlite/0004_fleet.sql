-- What several nodes on one database agree by. SQLite has one node, and the same tables.

-- Each grows by one with a change of its kind, in the transaction that makes it. Whoever changes such a thing holds its row
-- until the commit, so numbers are committed in their order and a node that has seen one has seen all below it. Tenant '*':
-- one counter over all tenants.
CREATE TABLE counters (
    tenant TEXT    NOT NULL,
    name   TEXT    NOT NULL,
    value  INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
INSERT INTO counters (tenant, name, value) SELECT '*', 'configuration', COALESCE(MAX(version), 0) FROM config_version;
INSERT INTO counters (tenant, name, value) VALUES ('*', 'revocations', 0), ('*', 'lifted', 0);
DROP TABLE config_version;

-- Which node does what one node is to do, until when unless it says so again.
CREATE TABLE leases (
    tenant TEXT    NOT NULL,
    name   TEXT    NOT NULL,
    node   TEXT    NOT NULL,
    until  INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;

-- Which nodes there are: each notes that it lives.
CREATE TABLE nodes (
    tenant     TEXT    NOT NULL,
    node       TEXT    NOT NULL,
    started_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL,
    PRIMARY KEY (tenant, node)
) STRICT, WITHOUT ROWID;

-- Proofs that have been shown, where several nodes may be shown one. A row stands until nobody would accept its proof.
CREATE TABLE shown (
    tenant     TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32),
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX shown_expires ON shown (tenant, expires_at);
