package io.r2lock;

/**
 * The pauses between rounds in vain: longer and longer, and one at a time. Belongs to its gate.
 *
 * <p>A grant does not make the next one short, as long as others wait: else the processes that have something would ask more often
 * than those that have nothing.
 */
final class PermitPause {

    private final Backoff backoff = new Backoff();
    private boolean lasts;
    private int number;

    /** Somebody comes who has not waited yet. */
    void forget() {
        lasts = false;
        backoff.reset();
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
        return backoff.nextMillis();
    }

    /** The time of a pause is over; {@code false} if nobody cares any more. */
    boolean end(int which) {
        boolean ends = lasts && which == number;
        lasts &= !ends;
        return ends;
    }
}
