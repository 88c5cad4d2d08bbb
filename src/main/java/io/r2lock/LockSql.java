package io.r2lock;

import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.ToLongFunction;
import java.util.stream.Collectors;

/**
 * All SQL that r2lock sends. Keys go in as numbers, so that no user input is part of a statement but the values of {@link
 * AdvisoryLocks.Builder#connectionSetting}, which are quoted.
 *
 * <p>Each text is one message of the simple protocol, however many statements it has, and so one round trip.
 */
final class LockSql {

    static final String ROLLBACK = "ROLLBACK";

    static final String UNDO_NESTED = "ROLLBACK TO SAVEPOINT r2lock_nested;RELEASE SAVEPOINT r2lock_nested";
    static final String KEEP_NESTED = "RELEASE SAVEPOINT r2lock_nested";

    /**
     * Read committed, whatever the role's default: under repeatable read the snapshot would be taken before the wait, and the
     * holder would not see what the previous holder committed.
     */
    private static final String BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;";

    /**
     * A nested request cannot restore the limits from memory: the transaction around it may have set its own. So the server
     * keeps them meanwhile, in settings that end with the transaction.
     */
    private static final String SAVE_LIMITS =
            "SELECT set_config('r2lock.lock_timeout',current_setting('lock_timeout'),true),"
                    + "set_config('r2lock.statement_timeout',current_setting('statement_timeout'),true);";

    private static final String RESTORE_LIMITS =
            ";SELECT set_config('lock_timeout',current_setting('r2lock.lock_timeout'),true),"
                    + "set_config('statement_timeout',current_setting('r2lock.statement_timeout'),true)";

    /** Everything that DISCARD ALL does, except deallocating the prepared statements that the driver relies on. */
    private static final String CLEAN = "CLOSE ALL;SET SESSION AUTHORIZATION DEFAULT;RESET ROLE;RESET ALL;UNLISTEN *;"
            + "SELECT pg_advisory_unlock_all();DISCARD PLANS;DISCARD TEMP;DISCARD SEQUENCES";

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

    /** After an error on a connection that waited for a session lock: a wait that was cancelled may have been granted all the same. */
    static final String UNLOCK_ALL = "SELECT pg_advisory_unlock_all()";

    private LockSql() {}

    /** What r2lock must know of a new connection; the text of the settings that follow it, if any, comes in further columns. */
    private static final String FACTS = "SELECT pg_backend_pid(),current_setting('server_encoding'),"
            + "current_setting('lock_timeout'),current_setting('statement_timeout'),pg_is_in_recovery(),"
            + "(SELECT " + micros("backend_start") + " FROM pg_stat_get_activity(pg_backend_pid()))";

    /** What {@link ServerCheck} asks first. */
    static final String CHECK_FACTS = "SELECT pg_backend_pid(),pg_is_in_recovery(),current_setting('server_version'),"
            + "current_setting('server_encoding'),current_setting('max_locks_per_transaction')::bigint,"
            + "current_setting('max_connections')::bigint,current_setting('max_prepared_transactions')::bigint";

    /** The backend's pid, and whether it got the key, until the end of the transaction. */
    static String check(LockKey key) {
        return number(new StringBuilder("SELECT pg_backend_pid(),pg_try_advisory_xact_lock("), key)
                .append(')')
                .toString();
    }

    static String checkInTransaction(LockKey key) {
        return "BEGIN;" + check(key);
    }

    /** Reads what r2lock must know of a new connection, and sets it up; one column a setting, in their order. */
    static String setUp(Map<String, String> settings) {
        return settings.isEmpty() ? FACTS : FACTS + "," + applied(settings);
    }

    /** Sets a connection up without reading anything; one column a setting. */
    static String apply(Map<String, String> settings) {
        return "SELECT " + applied(settings);
    }

    /** Removes what user statements may have left in the session, and sets the connection up again. */
    static String clean(Map<String, String> settings) {
        return settings.isEmpty() ? CLEAN : CLEAN + ";SELECT " + applied(settings);
    }

    /** A setting that this server does not know is left out; {@code CASE} keeps {@code set_config} from running for it. */
    private static String applied(Map<String, String> settings) {
        return settings.entrySet().stream()
                .map(setting -> {
                    String name = quoted(setting.getKey());
                    String apply = "set_config(" + name + "," + quoted(setting.getValue()) + ",false)";
                    return isOptional(setting.getKey())
                            ? "CASE WHEN current_setting(" + name + ",true) IS NOT NULL THEN " + apply + " END"
                            : apply;
                })
                .collect(Collectors.joining(","));
    }

    private static String micros(String column) {
        return "(extract(epoch FROM " + column + ")*1000000)::bigint";
    }

    /**
     * One heartbeat: whether the server is a standby, and of each backend that lives when it and its transaction began, as
     * {@code pid:backend_start:xact_start} with nothing for what cannot be seen.
     *
     * <p>A role that {@code ALTER ROLE … SET role} changes at login may not see the times of its own backends; without that role
     * it may. The limits of the role are not for this statement.
     */
    static String heartbeat(Collection<Integer> pids) {
        String list = pids.stream().map(String::valueOf).collect(Collectors.joining(","));
        return "SET LOCAL role=none;SET LOCAL statement_timeout=0;SELECT pg_is_in_recovery(),coalesce(string_agg(pid||':'||"
                + "CASE WHEN state='disabled' THEN ':' ELSE coalesce(" + micros("backend_start")
                + "::text,'')||':'||coalesce("
                + micros("xact_start") + "::text,'') END,','),'') FROM pg_stat_get_activity(NULL) WHERE pid=ANY('{"
                + list
                + "}')";
    }

    /** Whether this transaction's backend still holds the keys: one row, {@code true} or {@code false}. */
    static String isHeld(Collection<LockKey> keys, LockMode mode) {
        return "SELECT " + countHeld(keys, mode) + "=" + keys.size();
    }

    /** Fails with {@link SqlStates#isLockGone} unless this transaction's backend still holds the keys. */
    static String mustBeHeld(Collection<LockKey> keys, LockMode mode) {
        return "SELECT 1/(" + countHeld(keys, mode) + "=" + keys.size() + ")::int";
    }

    private static String countHeld(Collection<LockKey> keys, LockMode mode) {
        StringBuilder sql = new StringBuilder(320)
                .append(
                        "(SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype='advisory' AND pid=pg_backend_pid() AND granted AND mode='")
                .append(mode == LockMode.EXCLUSIVE ? "ExclusiveLock" : "ShareLock")
                .append("' AND (classid::bigint,objid::bigint,objsubid) IN (");
        String separator = "";
        for (LockKey key : keys) {
            long value = key.value();
            sql.append(separator).append('(');
            sql.append((value >>> 32) & 0xffffffffL).append(',').append(value & 0xffffffffL);
            sql.append(',').append(key.isPair() ? 2 : 1).append(')');
            separator = ",";
        }
        return sql.append("))").toString();
    }

    /** Newer than the oldest server that is supported. */
    private static boolean isOptional(String setting) {
        return setting.equals("transaction_timeout");
    }

    private static String quoted(String text) {
        return text.indexOf('\\') < 0
                ? "'" + text.replace("'", "''") + "'"
                : "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'";
    }

    /**
     * BEGIN and the locks; waits on the server at most {@code limitMillis} for each key, 0 for ever. {@code withPid}: the rows
     * begin with that of the backend.
     */
    static String lock(
            List<LockKey> keys, LockMode mode, long limitMillis, LockConnection.Limits limits, boolean withPid) {
        StringBuilder sql = new StringBuilder(160).append(BEGIN);
        boolean limited = limitMillis != 0 || !limits.areOff();
        if (limited) {
            setLimits(sql, limitMillis);
        }
        take(sql, keys, mode, withPid);
        if (limited) {
            sql.append(";SET LOCAL lock_timeout=").append(quoted(limits.lockTimeout()));
            sql.append(";SET LOCAL statement_timeout=").append(quoted(limits.statementTimeout()));
        }
        return sql.toString();
    }

    /** BEGIN and one row that says for each key whether it was free. */
    static String tryLock(List<LockKey> keys, LockMode mode, boolean withPid) {
        String sql = attempt(new StringBuilder(160).append(BEGIN), keys, mode);
        return withPid ? sql + ";SELECT pg_backend_pid()" : sql;
    }

    /** As {@link #lock}, inside a transaction: the savepoint keeps a failure from dooming what surrounds it. */
    static String lockNested(List<LockKey> keys, LockMode mode, long limitMillis) {
        StringBuilder sql =
                new StringBuilder(512).append("SAVEPOINT r2lock_nested;").append(SAVE_LIMITS);
        setLimits(sql, limitMillis);
        take(sql, keys, mode, false);
        return sql.append(RESTORE_LIMITS).append(';').append(KEEP_NESTED).toString();
    }

    /** As {@link #tryLock}, inside a transaction; {@link #KEEP_NESTED} or {@link #UNDO_NESTED} must follow. */
    static String tryLockNested(List<LockKey> keys, LockMode mode) {
        return attempt(new StringBuilder(160).append("SAVEPOINT r2lock_nested;"), keys, mode);
    }

    /** Waits for one session lock; the limits end with this message, which is one implicit transaction. */
    static String sessionLock(LockKey key, LockMode mode, long limitMillis) {
        StringBuilder sql = new StringBuilder(128);
        setLimits(sql, limitMillis);
        sql.append("SELECT ").append(mode == LockMode.EXCLUSIVE ? "pg_advisory_lock(" : "pg_advisory_lock_shared(");
        return number(sql, key).append(')').toString();
    }

    static String sessionUnlock(LockKey key, LockMode mode) {
        String call = mode == LockMode.EXCLUSIVE ? "SELECT pg_advisory_unlock(" : "SELECT pg_advisory_unlock_shared(";
        return number(new StringBuilder(call), key).append(')').toString();
    }

    private static void setLimits(StringBuilder sql, long lockMillis) {
        sql.append("SET LOCAL lock_timeout=").append(lockMillis).append(";SET LOCAL statement_timeout=0;");
    }

    private static void take(StringBuilder sql, List<LockKey> keys, LockMode mode, boolean withPid) {
        String call = (withPid ? "SELECT pg_backend_pid()," : "SELECT ")
                + (mode == LockMode.EXCLUSIVE ? "pg_advisory_xact_lock(" : "pg_advisory_xact_lock_shared(");
        for (int i = 0; i < keys.size(); i++) {
            sql.append(i == 0 ? "" : ";").append(call);
            number(sql, keys.get(i)).append(')');
        }
    }

    private static String attempt(StringBuilder sql, List<LockKey> keys, LockMode mode) {
        String call = mode == LockMode.EXCLUSIVE ? "pg_try_advisory_xact_lock(" : "pg_try_advisory_xact_lock_shared(";
        for (int i = 0; i < keys.size(); i++) {
            sql.append(i == 0 ? "SELECT " : " AND ").append(call);
            number(sql, keys.get(i)).append(')');
        }
        return sql.toString();
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

    private static StringBuilder number(StringBuilder sql, LockKey key) {
        return key.isPair() ? sql.append(key.high()).append(',').append(key.low()) : sql.append(key.value());
    }
}
