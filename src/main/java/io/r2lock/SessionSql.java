package io.r2lock;

import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.ToLongFunction;

/** The SQL of session scope; else as {@link LockSql}. */
final class SessionSql {

    /**
     * The advisory locks of this session in one text, as {@code 1x-5,2s17}: the key space (1 bigint, 2 pair), the mode, and the
     * number as {@link LockKey#value}. A session is in one database, so the process id alone tells which locks are its own;
     * and a look at {@code pg_database}, which is shared, would need room in the lock table, which may be full.
     */
    static final String SESSION_LOCKS =
            "SELECT string_agg(concat(objsubid,CASE mode WHEN 'ExclusiveLock' THEN 'x' ELSE 's' END,"
                    + "(classid::int8<<32)|objid::int8),',') FROM pg_catalog.pg_locks"
                    + " WHERE locktype='advisory' AND granted AND pid=pg_backend_pid()";

    /** Is the connection alive? */
    static final String PROBE = "SELECT ''";

    /**
     * As {@link LockSql#TOKEN}, with a record of the id in the log, which is flushed before the answer comes: after a crash the server
     * assigns larger ones. Without the record there is nothing to flush, and the counter may go back.
     */
    static final String DURABLE_TOKEN = "SET LOCAL synchronous_commit=on;"
            + "SELECT pg_logical_emit_message(true,'r2lock','')::text;" + LockSql.TOKEN;

    /** After an error on a connection that waited for a session lock: a wait that was cancelled may have been granted all the same. */
    static final String UNLOCK_ALL = "SELECT pg_advisory_unlock_all()";

    private SessionSql() {}

    /** Waits for one session lock; the limits end with this message, which is one implicit transaction. */
    static String sessionLock(LockKey key, LockMode mode, long limitMillis) {
        StringBuilder sql = new StringBuilder(128);
        LockSql.setLimits(sql, limitMillis);
        sql.append("SELECT ").append(mode == LockMode.EXCLUSIVE ? "pg_advisory_lock(" : "pg_advisory_lock_shared(");
        return LockSql.comment(LockSql.number(sql, key).append(')'), key).toString();
    }

    static String sessionTryLock(LockKey key, LockMode mode) {
        String call =
                mode == LockMode.EXCLUSIVE ? "SELECT pg_try_advisory_lock(" : "SELECT pg_try_advisory_lock_shared(";
        StringBuilder sql = LockSql.number(new StringBuilder(call), key).append(')');
        return LockSql.comment(sql, key).toString();
    }

    static String sessionUnlock(LockKey key, LockMode mode) {
        String call = mode == LockMode.EXCLUSIVE ? "SELECT pg_advisory_unlock(" : "SELECT pg_advisory_unlock_shared(";
        return LockSql.number(new StringBuilder(call), key).append(')').toString();
    }

    /**
     * One statement for the {@code count} calls of this kind: one text with 1 or 0 for each, in order. The numbers go in as the
     * text of an array, which the server parses faster than a list.
     */
    static void sessionCalls(StringBuilder sql, CallKind kind, List<SessionCall> calls, int count) {
        if (!sql.isEmpty()) {
            sql.append(';');
        }
        String function = function(kind);
        if (count == 1) {
            sql.append("SELECT CASE WHEN ").append(function).append("('");
            numbers(sql, kind, calls, "','");
            sql.append("') THEN '1' ELSE '0' END");
        } else if (kind.isPair()) {
            sql.append("SELECT string_agg(CASE WHEN ").append(function);
            sql.append("(a,b) THEN '1' ELSE '0' END,'' ORDER BY o) FROM unnest('{");
            numbers(sql, kind, calls, "}'::int4[],'{");
            sql.append("}'::int4[]) WITH ORDINALITY t(a,b,o)");
        } else {
            sql.append("SELECT string_agg(CASE WHEN ").append(function);
            sql.append("(k) THEN '1' ELSE '0' END,'' ORDER BY o) FROM unnest('{");
            numbers(sql, kind, calls, "");
            sql.append("}'::int8[]) WITH ORDINALITY t(k,o)");
        }
    }

    private static String function(CallKind kind) {
        return switch (kind) {
            case UNLOCK, UNLOCK_PAIR -> "pg_advisory_unlock";
            case UNLOCK_SHARED, UNLOCK_PAIR_SHARED -> "pg_advisory_unlock_shared";
            case LOCK, LOCK_PAIR -> "pg_try_advisory_lock";
            case LOCK_SHARED, LOCK_PAIR_SHARED -> "pg_try_advisory_lock_shared";
        };
    }

    /** The numbers, or the first ones of the pairs, {@code between}, and the second ones. */
    private static void numbers(StringBuilder sql, CallKind kind, List<SessionCall> calls, String between) {
        if (!kind.isPair()) {
            list(sql, kind, calls, LockKey::value);
            return;
        }
        list(sql, kind, calls, LockKey::high);
        list(sql.append(between), kind, calls, LockKey::low);
    }

    private static void list(
            StringBuilder sql, CallKind kind, List<SessionCall> calls, ToLongFunction<LockKey> number) {
        int start = sql.length();
        for (int i = 0; i < calls.size(); i++) {
            SessionCall call = calls.get(i);
            if (call.kind == kind) {
                if (sql.length() > start) {
                    sql.append(',');
                }
                sql.append(number.applyAsLong(call.key));
            }
        }
    }

    /** Reads the answer to {@link #SESSION_LOCKS}. */
    static Set<SessionClaims.Held> readSessionLocks(String text) {
        Set<SessionClaims.Held> held = new HashSet<>();
        for (int at = 0; at < text.length(); ) {
            int comma = text.indexOf(',', at);
            int end = comma < 0 ? text.length() : comma;
            long number = Long.parseLong(text, at + 2, end, 10);
            LockKey key = text.charAt(at) == '1'
                    ? LockKey.of(number)
                    : LockKey.of((int) (number >>> Integer.SIZE), (int) number);
            held.add(new SessionClaims.Held(key, text.charAt(at + 1) == 'x' ? LockMode.EXCLUSIVE : LockMode.SHARED));
            at = end + 1;
        }
        return held;
    }
}
