package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * PostgreSQL found a cycle of waits and chose this request as the one to give way (SQLSTATE 40P01).
 *
 * <p>The transaction that the request ran in is rolled back, or, for a nested request, as far as the request itself. Trying
 * again from the start of the outermost transaction is safe; the lasting cure is to take keys in one order everywhere, or
 * all in one request.
 */
public final class LockDeadlockException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    LockDeadlockException(String message, LockAttempt attempt, @Nullable Failure failure) {
        super(message, attempt, failure, true);
    }
}
