package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * No lock because of the server or the way to it: it could not be reached, refused the login, or answered the lock statement
 * with an error that has no class of its own here; or no fencing token, because the server answered with an error.
 *
 * <p>{@link #getCause()} is the error of the driver and {@link #sqlState()} what the server said. A request that fails with it has locked nothing.
 */
public final class LockServerException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    LockServerException(String message, LockAttempt attempt, @Nullable Failure failure) {
        super(message, attempt, failure, true);
    }
}
