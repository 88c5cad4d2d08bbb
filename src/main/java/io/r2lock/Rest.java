package io.r2lock;

import java.time.Duration;

/**
 * For how long a process leaves a lock alone that its callers have passed on to each other as often as they may: others who poll for
 * it cannot see that it is free, and so it is free for a part of the time for which they were kept out.
 */
final class Rest {

    private static final int PART = 8;

    /** As long as the longest pause of those who poll. */
    private static final long LONGEST_NANOS =
            Duration.ofMillis(Backoff.LONGEST_MILLIS).toNanos();

    private Rest() {}

    /**
     * What is left of it.
     *
     * @param since when the lock was granted
     * @param given when it was given back: what has passed since counts
     */
    static long nanos(long since, long given, long now) {
        return Math.min(LONGEST_NANOS, (given - since) / PART) - (now - given);
    }
}
