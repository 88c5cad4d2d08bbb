-- What a job in SQL does to share a lock with LockKey.hashtextExtended: RecipesIT runs this file, and README shows the region.
-- region sql
BEGIN;
SELECT pg_advisory_xact_lock(hashtextextended('nightly-report', 0));
-- endregion
