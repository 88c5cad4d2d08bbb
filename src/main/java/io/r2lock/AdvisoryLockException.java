package io.r2lock;

import java.time.Duration;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The family of everything that can go wrong with a lock; errors of the guarded work itself are never wrapped in it.
 *
 * <p>Each leaf is one case that a caller may want to treat on its own: {@link LockNotAvailableException} (busy),
 * {@link LockTimeoutException} (waited in vain), {@link LockDeadlockException}, {@link LockLostException},
 * {@link LockHoldExpiredException}, {@link LockCapacityException} (the server has no room),
 * {@link CommitOutcomeUnknownException}, {@link LockServerException} and {@link LocksClosedException}. What it carries about the
 * request does not survive Java serialization.
 */
public abstract sealed class AdvisoryLockException extends RuntimeException
        permits LockNotAvailableException,
                LockTimeoutException,
                LockDeadlockException,
                LockLostException,
                LockHoldExpiredException,
                LockCapacityException,
                LockServerException,
                CommitOutcomeUnknownException,
                LocksClosedException {

    private static final long serialVersionUID = 1L;

    private final transient LockAttempt attempt;

    /** The server's answer. */
    private final @Nullable String sqlState;

    AdvisoryLockException(String message, LockAttempt attempt, @Nullable Failure failure, boolean stackTrace) {
        super(message, failure == null ? null : failure.cause(), true, stackTrace);
        this.attempt = attempt;
        this.sqlState = failure == null ? null : failure.sqlState();
    }

    /**
     * The keys of the request that failed.
     *
     * @return the keys in canonical order, never empty
     */
    public List<LockKey> keys() {
        return attempt.keys();
    }

    /**
     * The mode of the request that failed.
     *
     * @return the mode
     */
    public LockMode mode() {
        return attempt.mode();
    }

    /**
     * How long the request had waited for its lock when it failed, or was granted.
     *
     * @return the time from subscription on, never negative
     */
    public Duration waited() {
        return attempt.waited();
    }

    /**
     * What the server answered, where it did.
     *
     * @return the five characters of the SQLSTATE, or {@code null} where the failure did not come from the server
     */
    public @Nullable String sqlState() {
        return sqlState;
    }

    /** What a failed request asked for, and how long it had waited. */
    record LockAttempt(List<LockKey> keys, int permits, LockMode mode, Duration waited) {

        LockAttempt(List<LockKey> keys, LockMode mode, Duration waited) {
            this(keys, 0, mode, waited);
        }

        /** Reads well in the middle of a sentence: {@code exclusive lock on order/42 (bigint 7)}. */
        @Override
        public String toString() {
            if (permits > 0) {
                return "permit (one of " + permits + ") of " + keys.get(0);
            }
            String what = mode == LockMode.EXCLUSIVE ? "exclusive" : "shared";
            return keys.size() == 1
                    ? what + " lock on " + keys.get(0)
                    : what + " lock on " + keys.size() + " keys " + keys.subList(0, Math.min(keys.size(), 5))
                            + (keys.size() > 5 ? " …" : "");
        }
    }

    /** An error of the driver with the SQLSTATE that it carried. */
    record Failure(Throwable cause, @Nullable String sqlState) {}
}
