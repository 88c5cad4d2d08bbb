package io.r2lock;

/**
 * The work was not done within {@link LockRequest#holdAtMost(java.time.Duration)}: it was cancelled, and what it wrote through the
 * lock's connection was rolled back.
 *
 * <p>Unlike {@link LockLostException} this is no sign of trouble with the server: the lock was held to the end of its bound and
 * then given up. For a nested request its keys stay locked until the surrounding hold ends.
 */
public final class LockHoldExpiredException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    LockHoldExpiredException(String message, LockAttempt attempt) {
        super(message, attempt, null, true);
    }
}
