-- What nodes see of installations of apps, counted together for an hour. id and place are keyed hashes.
CREATE TABLE sightings (
    tenant  TEXT COLLATE "C" NOT NULL,
    id      BYTEA   NOT NULL,
    place   TEXT COLLATE "C" NOT NULL,
    total   BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX sightings_ends ON sightings (tenant, ends_at);
