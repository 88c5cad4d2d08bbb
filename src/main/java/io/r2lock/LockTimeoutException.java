package io.r2lock;

import java.time.Duration;
import org.jspecify.annotations.Nullable;

/**
 * The lock was not granted within {@link LockRequest#waitAtMost(Duration)}.
 *
 * <p>Says where the time went, because the cures differ: at the gate (another hold of this process), for the pool (more
 * connections, or shorter holds), on the server (another process holds the key). Part of normal control flow, so it carries
 * no stack trace.
 */
public final class LockTimeoutException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    /** Behind other callers of this process. */
    private final Duration atGate;

    /** For a lock connection. */
    private final Duration forConnection;

    /** For the server's lock. */
    private final Duration onServer;

    LockTimeoutException(LockAttempt attempt, WaitTimes times, @Nullable Failure failure) {
        super(message(attempt, times), attempt, failure, false);
        this.atGate = times.atGate();
        this.forConnection = times.forConnection();
        this.onServer = times.onServer();
    }

    private static String message(LockAttempt attempt, WaitTimes times) {
        return "No " + attempt + " after " + attempt.waited().toMillis() + " ms: "
                + times.atGate().toMillis() + " ms behind other callers of this process, "
                + times.forConnection().toMillis() + " ms for a lock connection, "
                + times.onServer().toMillis() + " ms for the server's lock";
    }

    /**
     * Time spent behind other callers of this process that want, or hold, one of the keys.
     *
     * @return the time, never negative
     */
    public Duration atGate() {
        return atGate;
    }

    /**
     * Time spent waiting for a lock connection to come free or to be opened.
     *
     * @return the time, never negative
     */
    public Duration forConnection() {
        return forConnection;
    }

    /**
     * Time spent waiting on the server, for a hold of another process.
     *
     * @return the time, never negative
     */
    public Duration onServer() {
        return onServer;
    }

    /** Where a request has spent its time so far. */
    record WaitTimes(Duration atGate, Duration forConnection, Duration onServer) {}
}
