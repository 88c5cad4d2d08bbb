package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlException;
import io.r2dbc.spi.R2dbcException;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * What r2lock knows about SQLSTATEs, in one place. The class of a driver's exception and its text decide nothing: the driver
 * maps 55P03, 57014, 57P01 and 25P02 to one class.
 *
 * @see <a href="https://www.postgresql.org/docs/current/errcodes-appendix.html">PostgreSQL error codes</a>
 */
final class SqlStates {

    private static final String LOCK_NOT_AVAILABLE = "55P03";
    private static final String NO_ACTIVE_TRANSACTION = "25P01";
    private static final String DEADLOCK_DETECTED = "40P01";

    /** How {@link LockSql#mustBeHeld} fails on purpose. */
    private static final String DIVISION_BY_ZERO = "22012";

    /** Of the lock table: the shared memory that a server sets aside for locks is used up. */
    private static final String OUT_OF_MEMORY = "53200";

    /** idle_in_transaction_session_timeout and transaction_timeout. */
    private static final Set<String> ENDS_SESSION = Set.of("25P03", "25P04");

    private static final Set<String> ENDS_CONNECTION = Set.of("FATAL", "PANIC");

    private SqlStates() {}

    static @Nullable String of(Throwable error) {
        return error instanceof R2dbcException fromDriver ? fromDriver.getSqlState() : null;
    }

    static boolean isDeadlock(@Nullable String state) {
        return DEADLOCK_DETECTED.equals(state);
    }

    static boolean isNoTransaction(@Nullable String state) {
        return NO_ACTIVE_TRANSACTION.equals(state);
    }

    static boolean isLockTimeout(@Nullable String state) {
        return LOCK_NOT_AVAILABLE.equals(state);
    }

    static boolean isOutOfLocks(@Nullable String state) {
        return OUT_OF_MEMORY.equals(state);
    }

    /**
     * An error of a user's statement that is one of the connection. Code in the server may raise any SQLSTATE, a foreign server's
     * 08006 say; what ends the connection it calls fatal. An error of the driver's own has no severity.
     */
    static boolean endsConnection(Throwable error) {
        String state = of(error);
        if (state == null) {
            return false;
        }
        String severity = error instanceof PostgresqlException reported
                ? reported.getErrorDetails().getSeverityNonLocalized()
                : null;
        return severity == null ? isConnectionGone(state) : ENDS_CONNECTION.contains(severity);
    }

    /** The server has answered that it will not, and goes on to serve the connection. */
    static boolean isRefusal(Throwable error) {
        return !isConnectionGone(of(error));
    }

    static boolean isLockGone(@Nullable String state) {
        return DIVISION_BY_ZERO.equals(state);
    }

    /**
     * The connection, or its backend, is gone: class 08, and the operator interventions that end a backend (57P01
     * admin_shutdown, 57P02 crash_shutdown, 57P03 cannot_connect_now, 57P05 idle_session_timeout) or 25P. An error without a
     * state did not come from the server, so nothing is known about the connection, and it counts as gone.
     */
    static boolean isConnectionGone(@Nullable String state) {
        return state == null || state.startsWith("08") || state.startsWith("57P") || ENDS_SESSION.contains(state);
    }
}
