package io.r2lock;

import java.util.concurrent.ThreadLocalRandom;

/**
 * The pauses between rounds in vain: longer and longer, and one at a time. Belongs to its gate.
 *
 * <p>A grant does not make the next one short, as long as others wait: else the processes that have something would ask more often
 * than those that have nothing.
 */
final class PermitPause {

    private long backoffMillis = SessionAcquire.FIRST_BACKOFF_MILLIS;
    private boolean lasts;
    private int number;

    /** Somebody comes who has not waited yet. */
    void forget() {
        lasts = false;
        backoffMillis = SessionAcquire.FIRST_BACKOFF_MILLIS;
    }

    boolean lasts() {
        return lasts;
    }

    /** The answer is its number. */
    int begin() {
        lasts = true;
        return ++number;
    }

    /** Called once after {@link #begin}. */
    long millis() {
        long delay = backoffMillis / 2 + ThreadLocalRandom.current().nextLong(backoffMillis);
        backoffMillis = Math.min(2 * backoffMillis, SessionAcquire.LONGEST_BACKOFF_MILLIS);
        return delay;
    }

    /** The time of a pause is over; {@code false} if nobody cares any more. */
    boolean end(int which) {
        boolean ends = lasts && which == number;
        lasts &= !ends;
        return ends;
    }
}
