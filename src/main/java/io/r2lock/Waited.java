package io.r2lock;

import io.r2lock.AdvisoryLockException.Failure;
import io.r2lock.AdvisoryLockException.LockAttempt;
import io.r2lock.LockTimeoutException.WaitTimes;
import java.time.Duration;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import reactor.core.scheduler.Scheduler;

/** Where the time of one attempt went, and the errors that tell it. */
final class Waited {

    /** The client's own deadline is the bound; the server's, later, ends the wait of a client that died. */
    private static final long SERVER_GUARD_MILLIS = 1_000;

    private final LockSpec spec;
    private final Scheduler clock;
    private final long startedAt;
    private long lapAt;
    private long atGate;
    private long forConnection;

    Waited(LockSpec spec, Scheduler clock) {
        this.spec = spec;
        this.clock = clock;
        this.startedAt = clock.now(TimeUnit.NANOSECONDS);
        this.lapAt = startedAt;
    }

    void gatePassed() {
        atGate += lap();
    }

    void connectionTaken() {
        forConnection += lap();
    }

    void connectionGivenBack() {
        lap();
    }

    /** Only a timeout tells where the time went. */
    private long lap() {
        if (spec.maxWait() == null) {
            return 0;
        }
        long now = clock.now(TimeUnit.NANOSECONDS);
        long spent = Math.max(0, now - lapAt);
        lapAt = now;
        return spent;
    }

    private long total() {
        return Math.max(0, clock.now(TimeUnit.NANOSECONDS) - startedAt);
    }

    /** What is left of the wait, in milliseconds for the server, where 0 would be for ever. */
    long limitMillis() {
        return spec.maxWait() == null ? 0 : leftMillis() + SERVER_GUARD_MILLIS;
    }

    /** What is left of the wait, in milliseconds. */
    long leftMillis() {
        Duration wait = spec.maxWait();
        return wait == null ? Long.MAX_VALUE : Math.max(0, wait.toMillis() - TimeUnit.NANOSECONDS.toMillis(total()));
    }

    /** How long it had been by then, in nanoseconds. */
    long until(long now) {
        return Math.max(0, now - startedAt);
    }

    LockAttempt attempt() {
        return spec.attempt(Duration.ofNanos(total()));
    }

    AdvisoryLockException timedOut() {
        long onServer = Math.max(0, total() - atGate - forConnection);
        WaitTimes times =
                new WaitTimes(Duration.ofNanos(atGate), Duration.ofNanos(forConnection), Duration.ofNanos(onServer));
        return new LockTimeoutException(attempt(), times, null);
    }

    AdvisoryLockException busy(String by) {
        return new LockNotAvailableException(
                "Busy: no " + attempt() + ", it is held or waited for " + by, attempt(), true);
    }

    AdvisoryLockException noConnection(int maxConnections) {
        return new LockNotAvailableException(
                "No lock connection is free for the " + attempt() + ": all " + maxConnections
                        + " (maxConnections) are in use, and this request does not wait for one",
                attempt(),
                false);
    }

    /** Maps an error of the lock's statement, or of opening a connection. */
    AdvisoryLockException failure(Throwable error, LockCapacityException.@Nullable Settings lockTable) {
        String sqlState = SqlStates.of(error);
        Failure failure = new Failure(error, sqlState);
        if (SqlStates.isDeadlock(sqlState)) {
            return new LockDeadlockException(
                    "Deadlock: PostgreSQL found a cycle of waits and refused the " + attempt()
                            + ". Take keys in one order everywhere, or all in one request.",
                    attempt(),
                    failure);
        }
        if (SqlStates.isLockTimeout(sqlState) && spec.maxWait() != null) {
            return timedOut();
        }
        if (SqlStates.isOutOfLocks(sqlState)) {
            return new LockCapacityException(attempt(), lockTable, failure);
        }
        String state = sqlState == null ? "" : " [SQLSTATE " + sqlState + "]";
        return new LockServerException("No " + attempt() + ": " + error.getMessage() + state, attempt(), failure);
    }

    /** A cycle inside one transaction, which is one backend to PostgreSQL. */
    AdvisoryLockException cycle() {
        return new LockDeadlockException(
                "Deadlock: requests side by side inside one hold wait for each other, and the " + attempt()
                        + " would wait for ever. Take keys in one order everywhere, or all in one request.",
                attempt(),
                null);
    }

    AdvisoryLockException lost(String why) {
        return new LockLostException("Lost the " + attempt() + ": " + why, attempt(), null);
    }

    AdvisoryLockException closed() {
        return new LocksClosedException("The client was closed, which ended the " + attempt(), attempt(), null);
    }
}
