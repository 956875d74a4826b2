-- What apps are told over the air, and the keys that sign it.

-- Configuration keys. sealed: PKCS#8, sealed under the kid; NULL once the key is gone. delegation: what a root key says of it;
-- absent while it waits for one.
CREATE TABLE config_keys (
    tenant          TEXT    NOT NULL,
    kid             TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('next', 'active', 'gone')),
    public_jwk      TEXT    NOT NULL,
    sealed          BLOB,
    delegation      TEXT,
    delegated_at    INTEGER,
    delegated_until INTEGER,
    created_at      INTEGER NOT NULL,
    activated_at    INTEGER,
    PRIMARY KEY (tenant, kid)
) STRICT, WITHOUT ROWID;

-- Every configuration that was published; of each app the one with the highest seq is in force. Older ones are kept as long
-- as apps may still go by them.
CREATE TABLE app_configs (
    tenant     TEXT    NOT NULL,
    app        TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    payload    TEXT    NOT NULL,
    jws        TEXT    NOT NULL,
    issued_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    made_by    TEXT    NOT NULL,
    PRIMARY KEY (tenant, app, seq)
) STRICT;
CREATE INDEX app_configs_ends ON app_configs (tenant, expires_at);
