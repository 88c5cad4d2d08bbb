package io.r2lock;

import org.jspecify.annotations.Nullable;

/** The {@link AdvisoryLocks} was closed before or during the call; what the call had held is released. */
public final class LocksClosedException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    LocksClosedException(String message, LockAttempt attempt, @Nullable Failure failure) {
        super(message, attempt, failure, false);
    }
}
