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

    /** Whether it is the key that is busy; where a limit of this process is the reason, {@code skipIfBusy} must not hide it. */
    boolean isKeyBusy() {
        return keyBusy;
    }
}
