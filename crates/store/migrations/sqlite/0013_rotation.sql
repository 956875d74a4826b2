-- A secret has a current value, and for a while a next or an old one. retire_at: when the old one is forgotten.
ALTER TABLE secrets ADD COLUMN current_version INTEGER NOT NULL DEFAULT 0;
ALTER TABLE secret_versions ADD COLUMN activated_at INTEGER;
ALTER TABLE secret_versions ADD COLUMN retire_at INTEGER;
-- The value before the current one was kept, and used by nobody: it does not become one that is used.
DELETE FROM secret_versions WHERE version <
    (SELECT s.last_version FROM secrets s WHERE s.tenant = secret_versions.tenant AND s.name = secret_versions.name);
UPDATE secrets SET current_version = last_version;
UPDATE secret_versions SET activated_at = created_at;

-- Since when keys are known that name no moment themselves, such as those in files and in the environment: by a keyed hash.
CREATE TABLE known_keys (
    tenant     TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL,
    since      INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, name)
) STRICT, WITHOUT ROWID;
