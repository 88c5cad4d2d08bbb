package io.r2lock;

import java.util.concurrent.ThreadLocalRandom;

/** The pauses of one who asks for a busy key again and again: longer each time up to a limit, and never in step with others. */
final class Backoff {

    private static final long FIRST_MILLIS = 10;
    static final long LONGEST_MILLIS = 250;

    private final long first;
    private final long longest;
    private long millis;

    Backoff() {
        this(FIRST_MILLIS, LONGEST_MILLIS);
    }

    Backoff(long first, long longest) {
        this.first = first;
        this.longest = longest;
        this.millis = first;
    }

    /** The next pause is a short one again. */
    void reset() {
        millis = first;
    }

    long nextMillis() {
        long delay = millis / 2 + ThreadLocalRandom.current().nextLong(millis);
        millis = Math.min(2 * millis, longest);
        return delay;
    }
}
