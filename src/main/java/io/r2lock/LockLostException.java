package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * The hold ended and nobody had released it: its backend or its connection is gone, a statement of the work ended the
 * transaction, or the surrounding hold ended first.
 *
 * <p>The transaction of the hold was not committed by r2lock. Another process may hold the lock already.
 */
public final class LockLostException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    LockLostException(String message, LockAttempt attempt, @Nullable Failure failure) {
        super(message, attempt, failure, true);
    }
}
