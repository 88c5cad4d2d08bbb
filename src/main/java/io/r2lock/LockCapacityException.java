package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * The server has no room for another lock (SQLSTATE 53200): its lock table, which all sessions and all kinds of locks share, is
 * full. It has {@code max_locks_per_transaction × (max_connections + max_prepared_transactions)} places, and some in reserve.
 *
 * <p>Nothing was locked by this request; locks that are held stay held. While the table is full the server lets no new
 * connection in either.
 */
public final class LockCapacityException extends AdvisoryLockException {

    private static final long serialVersionUID = 1L;

    /** The settings of the server that the size of its lock table comes from. */
    record Settings(long maxLocksPerTransaction, long maxConnections, long maxPreparedTransactions) {

        long places() {
            return maxLocksPerTransaction * (maxConnections + maxPreparedTransactions);
        }

        @Override
        public String toString() {
            return "here " + maxLocksPerTransaction + " × (" + maxConnections + " + " + maxPreparedTransactions + ") = "
                    + places() + ", ";
        }
    }

    /** Without {@code settings} where they were not read. */
    LockCapacityException(LockAttempt attempt, @Nullable Settings settings, Failure failure) {
        super(
                "Full: no room for the " + attempt
                        + " in the server's lock table. It has about max_locks_per_transaction ×"
                        + " (max_connections + max_prepared_transactions) places, " + (settings == null ? "" : settings)
                        + "for the locks of all sessions together. Hold fewer locks at a time, or raise"
                        + " max_locks_per_transaction, which takes a restart.",
                attempt,
                failure,
                true);
    }
}
