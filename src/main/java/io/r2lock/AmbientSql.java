package io.r2lock;

import java.util.List;

/**
 * The SQL for a transaction that is somebody else's, whose own statements may come behind it at any moment. So each text is one
 * message that leaves the transaction as usable as it was, whatever it meets: the lock is taken in a block of PL/pgSQL, which undoes
 * itself and catches its error. A savepoint that another message goes back to would undo, or be in the way of, what the owner sent
 * in between.
 */
final class AmbientSql {

    /** What {@link #lock} answers where the lock is held. */
    static final String GRANTED = "granted";

    /** The transaction's isolation follows. */
    static final String ISOLATION = "isolation";

    static final String STANDBY = "standby";

    /** The server's encoding follows. */
    static final String ENCODING = "encoding";

    /** A statement that fails with {@link SqlStates#isNoTransaction} outside of a transaction, and changes nothing inside one. */
    private static final String MUST_BE_TRANSACTION = "SAVEPOINT r2lock_ambient;RELEASE SAVEPOINT r2lock_ambient;";

    private static final String SAVE = "SELECT set_config('r2lock.lock_timeout',current_setting('lock_timeout'),true),"
            + "set_config('r2lock.statement_timeout',current_setting('statement_timeout'),true),"
            + outcome("''") + ";SET LOCAL statement_timeout=0;";

    private static final String RESTORE =
            ";SELECT set_config('statement_timeout',current_setting('r2lock.statement_timeout'),true);"
                    + "SELECT pg_backend_pid()||' '||(pg_current_xact_id_if_assigned() IS NOT NULL)::int||' '||"
                    + "current_setting('r2lock.outcome')";

    /** For longer than this a wait must go on to be looked at for a deadlock. */
    private static final String DEADLOCK_MILLIS =
            "(extract(epoch FROM current_setting('deadlock_timeout')::interval)*1000)::bigint+250";

    private static final long FOR_EVER = Integer.MAX_VALUE;

    private AmbientSql() {}

    /**
     * Takes all keys or none. The last statement answers, parted by spaces, the backend's pid, whether the transaction had an id then
     * ({@link LockSql#HAS_ID}), one of the words above or an SQLSTATE, and what that is about.
     *
     * @param waits else busy keys fail at once
     * @param sliceMillis how long it waits at least, if there is so much time left
     * @param leftMillis how long it waits at most
     */
    static String lock(List<LockKey> keys, LockMode mode, boolean waits, long sliceMillis, long leftMillis) {
        StringBuilder sql = new StringBuilder(1200)
                .append(MUST_BE_TRANSACTION)
                .append(SAVE)
                .append("DO $r2lock$DECLARE r_began timestamptz:=clock_timestamp();r_most bigint:=least(")
                .append(Math.max(1, Math.min(FOR_EVER, leftMillis)))
                .append(",greatest(")
                .append(sliceMillis)
                .append(',')
                .append(DEADLOCK_MILLIS)
                .append("));BEGIN ");
        refuse(sql, "current_setting('transaction_isolation') NOT LIKE 'read %'", ISOLATION, "transaction_isolation");
        refuse(sql, "pg_is_in_recovery()", STANDBY, "server_version");
        if (keys.stream().anyMatch(LockKey::needsUtf8Server)) {
            refuse(sql, "current_setting('server_encoding')<>'UTF8'", ENCODING, "server_encoding");
        }
        sql.append("BEGIN ");
        if (waits) {
            take(sql, keys, mode);
        } else {
            attempt(sql, keys, mode);
        }
        return sql.append("PERFORM ")
                .append(outcome("'" + GRANTED + "'"))
                .append(";EXCEPTION WHEN query_canceled OR OTHERS THEN PERFORM ")
                .append(outcome("SQLSTATE||' '||SQLERRM"))
                .append(";END;END$r2lock$")
                .append(RESTORE)
                .toString();
    }

    private static String outcome(String text) {
        return "set_config('r2lock.outcome'," + text + ",true)";
    }

    private static void refuse(StringBuilder sql, String condition, String word, String setting) {
        sql.append("IF ").append(condition).append(" THEN PERFORM ");
        sql.append(outcome("'" + word + " '||current_setting('" + setting + "')"))
                .append(";RETURN;END IF;");
    }

    private static void take(StringBuilder sql, List<LockKey> keys, LockMode mode) {
        String call = mode == LockMode.EXCLUSIVE ? "pg_advisory_xact_lock(" : "pg_advisory_xact_lock_shared(";
        for (LockKey key : keys) {
            sql.append(
                    "PERFORM set_config('lock_timeout',greatest(1,r_most-(extract(epoch FROM clock_timestamp()-r_began)"
                            + "*1000)::bigint)::text,true);PERFORM ");
            LockSql.number(sql.append(call), key).append(");");
        }
        sql.append("PERFORM set_config('lock_timeout',current_setting('r2lock.lock_timeout'),true);");
    }

    private static void attempt(StringBuilder sql, List<LockKey> keys, LockMode mode) {
        String call = mode == LockMode.EXCLUSIVE ? "pg_try_advisory_xact_lock(" : "pg_try_advisory_xact_lock_shared(";
        String separator = "IF NOT (";
        for (LockKey key : keys) {
            LockSql.number(sql.append(separator).append(call), key).append(')');
            separator = " AND ";
        }
        sql.append(") THEN RAISE lock_not_available;END IF;");
    }
}
