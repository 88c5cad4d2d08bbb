package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * No lock because of the server or the way to it: it could not be reached, refused the login, or answered the lock statement
 * with an error that has no class of its own here.
 *
 * <p>{@link #getCause()} is the error of the driver and {@link #sqlState()} what the server said. Nothing was locked.
 */
public final class LockServerException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    LockServerException(String message, LockAttempt attempt, @Nullable Failure failure) {
        super(message, attempt, failure, true);
    }
}
