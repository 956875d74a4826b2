-- What apps are told over the air, and the keys that sign it.

-- Configuration keys. sealed: PKCS#8, sealed under the kid; NULL once the key is gone. delegation: what a root key says of it;
-- absent while it waits for one.
CREATE TABLE config_keys (
    tenant          TEXT COLLATE "C" NOT NULL,
    kid             TEXT COLLATE "C" NOT NULL,
    state           TEXT COLLATE "C" NOT NULL CHECK (state IN ('next', 'active', 'gone')),
    public_jwk      TEXT COLLATE "C" NOT NULL,
    sealed          BYTEA,
    delegation      TEXT COLLATE "C",
    delegated_at    BIGINT,
    delegated_until BIGINT,
    created_at      BIGINT NOT NULL,
    activated_at    BIGINT,
    PRIMARY KEY (tenant, kid)
);

-- Every configuration that was published; of each app the one with the highest seq is in force. Older ones are kept as long
-- as apps may still go by them.
CREATE TABLE app_configs (
    tenant     TEXT COLLATE "C" NOT NULL,
    app        TEXT COLLATE "C" NOT NULL,
    seq        BIGINT NOT NULL,
    payload    TEXT COLLATE "C" NOT NULL,
    jws        TEXT COLLATE "C" NOT NULL,
    issued_at  BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    made_by    TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, app, seq)
);
CREATE INDEX app_configs_ends ON app_configs (tenant, expires_at);
