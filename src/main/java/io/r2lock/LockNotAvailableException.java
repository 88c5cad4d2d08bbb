package io.r2lock;

/**
 * Busy: somebody else holds the key, or no lock connection was free, and the request had said that it does not wait.
 *
 * <p>Part of normal control flow, so it carries no stack trace. The message says which of the two it was.
 */
public final class LockNotAvailableException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    /** Not a limit of this process. */
    private final boolean keyBusy;

    LockNotAvailableException(String message, LockAttempt attempt, boolean keyBusy) {
        super(message, attempt, null, false);
        this.keyBusy = keyBusy;
    }

    /**
     * Tells a busy key from a limit of this process. Only the first is what {@link LockRequest#skipIfBusy()} skips: a full
     * queue, or a pool without a free connection, says nothing about whether somebody else does the work.
     *
     * @return {@code true} when somebody holds, or waits for, one of the keys; {@code false} when no lock connection was free
     *     ({@code maxConnections}) or the queue was full ({@code maxWaiters})
     */
    public boolean isKeyBusy() {
        return keyBusy;
    }
}
