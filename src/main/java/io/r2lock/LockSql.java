package io.r2lock;

import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/**
 * All SQL that r2lock sends, but that of session scope ({@link SessionSql}). Keys go in as numbers, so that no user input is part of a statement but the values of {@link
 * AdvisoryLocks.Builder#connectionSetting}, which are quoted.
 *
 * <p>Each text is one message of the simple protocol, however many statements it has, and so one round trip.
 */
final class LockSql {

    static final String ROLLBACK = "ROLLBACK";

    static final String NEST = "SAVEPOINT r2lock_nested";
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
            List<LockKey> keys, LockMode mode, long limitMillis, ConnectionFacts.Limits limits, boolean withPid) {
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

    /** As {@link #lock}, inside a transaction, behind {@link #NEST}: the savepoint keeps a failure from dooming what surrounds it. */
    static String lockNested(List<LockKey> keys, LockMode mode, long limitMillis) {
        StringBuilder sql = new StringBuilder(512).append(SAVE_LIMITS);
        setLimits(sql, limitMillis);
        take(sql, keys, mode, false);
        return sql.append(RESTORE_LIMITS).append(';').append(KEEP_NESTED).toString();
    }

    /** As {@link #tryLock}, behind {@link #NEST}; {@link #KEEP_NESTED} or {@link #UNDO_NESTED} must follow. */
    static String tryLockNested(List<LockKey> keys, LockMode mode) {
        return attempt(new StringBuilder(160), keys, mode);
    }

    static void setLimits(StringBuilder sql, long lockMillis) {
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

    static StringBuilder number(StringBuilder sql, LockKey key) {
        return key.isPair() ? sql.append(key.high()).append(',').append(key.low()) : sql.append(key.value());
    }
}
