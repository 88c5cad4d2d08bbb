package io.r2lock;

import java.util.concurrent.ThreadLocalRandom;

/** The pauses of one who asks for a busy key again and again: longer each time up to a limit, and never in step with others. */
final class Backoff {

    private static final long FIRST_MILLIS = 10;
    static final long LONGEST_MILLIS = 250;

    private long millis = FIRST_MILLIS;

    /** The next pause is a short one again. */
    void reset() {
        millis = FIRST_MILLIS;
    }

    long nextMillis() {
        long delay = millis / 2 + ThreadLocalRandom.current().nextLong(millis);
        millis = Math.min(2 * millis, LONGEST_MILLIS);
        return delay;
    }
}
