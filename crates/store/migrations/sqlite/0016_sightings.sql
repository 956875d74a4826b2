-- What nodes see of installations of apps, counted together for an hour. id and place are keyed hashes.
CREATE TABLE sightings (
    tenant  TEXT    NOT NULL,
    id      BLOB    NOT NULL,
    place   TEXT    NOT NULL,
    total   INTEGER NOT NULL,
    ends_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX sightings_ends ON sightings (tenant, ends_at);
