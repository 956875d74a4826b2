-- What several nodes on one database agree by.

-- Each grows by one with a change of its kind, in the transaction that makes it. Whoever changes such a thing holds its row
-- until the commit, so numbers are committed in their order and a node that has seen one has seen all below it. Tenant '*':
-- one counter over all tenants.
CREATE TABLE counters (
    tenant TEXT COLLATE "C" NOT NULL,
    name   TEXT COLLATE "C" NOT NULL,
    value  BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);
INSERT INTO counters (tenant, name, value) SELECT '*', 'configuration', COALESCE(MAX(version), 0) FROM config_version;
INSERT INTO counters (tenant, name, value) VALUES ('*', 'revocations', 0), ('*', 'lifted', 0);
DROP TABLE config_version;

-- Which node does what one node is to do, until when unless it says so again.
CREATE TABLE leases (
    tenant TEXT COLLATE "C" NOT NULL,
    name   TEXT COLLATE "C" NOT NULL,
    node   TEXT COLLATE "C" NOT NULL,
    until  BIGINT NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- Which nodes there are: each notes that it lives.
CREATE TABLE nodes (
    tenant     TEXT COLLATE "C" NOT NULL,
    node       TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    seen_at    BIGINT NOT NULL,
    PRIMARY KEY (tenant, node)
);

-- Proofs that have been shown, where several nodes may be shown one. A row stands until nobody would accept its proof.
CREATE TABLE shown (
    tenant     TEXT COLLATE "C" NOT NULL,
    hash       BYTEA NOT NULL CHECK (length(hash) = 32),
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, hash)
);
CREATE INDEX shown_expires ON shown (tenant, expires_at);
