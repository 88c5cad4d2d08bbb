package io.r2lock.demo;

import java.time.Instant;
import org.jspecify.annotations.Nullable;

/**
 * One run of a job.
 *
 * @param endedAt null while it runs, and for ever if it was cut off
 */
record JobRun(
        long id,
        String job,
        String instance,
        Instant startedAt,
        @Nullable Instant endedAt) {}
