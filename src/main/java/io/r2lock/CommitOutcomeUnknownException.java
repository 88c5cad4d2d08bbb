package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * The connection broke, or a deadline passed, while COMMIT was on its way: the work is either committed or rolled back, and
 * from here nobody can tell.
 *
 * <p>Neither success nor loss. To find out, look for something that the work wrote; to be able to, let it write a row with an
 * id of its own. The lock is no longer held.
 */
public final class CommitOutcomeUnknownException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    CommitOutcomeUnknownException(String message, LockAttempt attempt, @Nullable Failure failure) {
        super(message, attempt, failure, true);
    }
}
