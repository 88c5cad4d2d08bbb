package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * The hold ended and nobody had released it: its backend or its connection is gone, a statement of the work ended the
 * transaction, or the surrounding hold ended first.
 *
 * <p>A hold's own transaction was not committed by r2lock, and another process may hold the lock already. For a nested request
 * whose surrounding hold ended first, the outcome of the surrounding one decides what became of its writes.
 */
public final class LockLostException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    LockLostException(String message, LockAttempt attempt, @Nullable Failure failure) {
        super(message, attempt, failure, true);
    }
}
