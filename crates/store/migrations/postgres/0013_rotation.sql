-- A secret has a current value, and for a while a next or an old one. retire_at: when the old one is forgotten.
ALTER TABLE secrets ADD COLUMN current_version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE secret_versions ADD COLUMN activated_at BIGINT;
ALTER TABLE secret_versions ADD COLUMN retire_at BIGINT;
-- The value before the current one was kept, and used by nobody: it does not become one that is used.
DELETE FROM secret_versions WHERE version <
    (SELECT s.last_version FROM secrets s WHERE s.tenant = secret_versions.tenant AND s.name = secret_versions.name);
UPDATE secrets SET current_version = last_version;
UPDATE secret_versions SET activated_at = created_at;

-- Since when keys are known that name no moment themselves, such as those in files and in the environment: by a keyed hash.
CREATE TABLE known_keys (
    tenant     TEXT COLLATE "C" NOT NULL,
    kind       TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    hash       BYTEA  NOT NULL,
    since      BIGINT NOT NULL,
    PRIMARY KEY (tenant, kind, name)
);
