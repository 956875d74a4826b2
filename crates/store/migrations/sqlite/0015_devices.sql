-- By which a device that enrols again is recognised.
CREATE INDEX instances_device ON instances (tenant, app, device) WHERE device IS NOT NULL;
