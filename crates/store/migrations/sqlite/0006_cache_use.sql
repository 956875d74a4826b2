-- What the cache of answers did for a request (hit, semantic, miss, bypass), and how alike the questions were, in thousandths.
ALTER TABLE request_records ADD COLUMN cache TEXT;
ALTER TABLE request_records ADD COLUMN cache_similarity INTEGER;
-- With which of a provider's keys it was made, where the provider has several: no other key finds it.
ALTER TABLE stored_objects ADD COLUMN provider_key TEXT;
