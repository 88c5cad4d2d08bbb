package io.r2lock;

import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;

/**
 * The settings of the server that every lock connection gets: r2lock's own, which the times of loss detection rely on, and the
 * user's.
 *
 * <p>A server may refuse one of r2lock's own (another operating system, a managed service): that is learned from the first
 * connection, reported, and not tried again. One of the user's that is refused is an error.
 */
final class ConnectionSettings {

    private static final String IDLE = "tcp_keepalives_idle";
    private static final String INTERVAL = "tcp_keepalives_interval";
    private static final String COUNT = "tcp_keepalives_count";
    private static final String USER_TIMEOUT = "tcp_user_timeout";
    private static final String CHECK_INTERVAL = "client_connection_check_interval";

    /** What Linux takes where a setting is 0. */
    private static final Map<String, Long> SYSTEM_MILLIS = Map.of(IDLE, 7_200_000L, INTERVAL, 75_000L, COUNT, 9L);

    /** A hold would end early with another value, or the lock's own statement sets it, or it has an option of its own. */
    static final Set<String> RESERVED = Set.of(
            "application_name",
            "idle_in_transaction_session_timeout",
            "idle_session_timeout",
            "lock_timeout",
            "statement_timeout",
            "transaction_timeout");

    private static final String HEARTBEAT_SUFFIX = " heartbeat";

    /** How far the server must be behind the client when it gives a silent holder up. */
    static final Duration MARGIN = Duration.ofSeconds(1);

    private static final Pattern QUANTITY = Pattern.compile("\\s*(\\d{1,9})\\s*(us|ms|s|min|h|d)?\\s*");
    private static final Map<String, Long> UNIT_MICROS = Map.of(
            "us", 1L, "ms", 1_000L, "s", 1_000_000L, "min", 60_000_000L, "h", 3_600_000_000L, "d", 86_400_000_000L);

    private final Map<String, String> own;
    private final Map<String, String> user;
    private final Set<String> refused;

    /** {@code user} may change those of r2lock's own that are not {@link #RESERVED}. */
    ConnectionSettings(String applicationName, Map<String, String> user) {
        Map<String, String> settings = new LinkedHashMap<>();
        settings.put("idle_in_transaction_session_timeout", "0");
        settings.put("idle_session_timeout", "0");
        // exists from 17 on
        settings.put("transaction_timeout", "0");
        settings.put(IDLE, "5");
        settings.put(INTERVAL, "2");
        settings.put(COUNT, "4");
        settings.put(USER_TIMEOUT, "13000");
        settings.put(CHECK_INTERVAL, "2000");
        settings.put("application_name", applicationName);
        Map<String, String> theirs = new LinkedHashMap<>(user);
        settings.replaceAll((name, value) -> {
            String given = theirs.remove(name);
            return given == null ? value : given;
        });
        this.own = settings;
        this.user = theirs;
        this.refused = new ConcurrentSkipListSet<>();
    }

    String applicationName() {
        return String.valueOf(own.get("application_name"));
    }

    private ConnectionSettings(Map<String, String> own, Map<String, String> user, Set<String> refused) {
        this.own = own;
        this.user = user;
        this.refused = refused;
    }

    /** The same with a name of its own in {@code pg_stat_activity}, and without the user's; what is learned is shared. */
    ConnectionSettings forHeartbeat() {
        Map<String, String> settings = new LinkedHashMap<>(own);
        settings.computeIfPresent("application_name", (name, value) -> shortened(value) + HEARTBEAT_SUFFIX);
        return new ConnectionSettings(settings, Map.of(), refused);
    }

    private static String shortened(String applicationName) {
        // the server keeps 63 bytes
        return applicationName.substring(0, Math.min(applicationName.length(), 63 - HEARTBEAT_SUFFIX.length()));
    }

    /** Refuses settings with which the server would free a holder's lock before the holder has noticed a silent network. */
    void check(Duration heartbeat, Duration deadline) {
        long idle = millis(IDLE);
        long interval = millis(INTERVAL);
        long count = amount(COUNT);
        long userTimeout = millis(USER_TIMEOUT);
        amount(CHECK_INTERVAL);
        // once tcp_user_timeout is set the kernel goes by it and no longer by the count (tcp(7))
        long byCount = interval > Long.MAX_VALUE / count ? Long.MAX_VALUE : interval * count;
        long server = userTimeout == 0 ? byCount : Math.min(byCount, userTimeout - idle);
        long client = heartbeat.plus(deadline).plus(MARGIN).toMillis();
        if (server < client) {
            throw new IllegalArgumentException(
                    "The server could give a lock to another process before its holder has noticed"
                            + " that the network is cut: min(tcp_keepalives_interval × tcp_keepalives_count, tcp_user_timeout −"
                            + " tcp_keepalives_idle) must be at least heartbeat + heartbeatDeadline + 1 s, but min("
                            + interval + " ms × " + count + ", "
                            + (userTimeout == 0 ? "none" : userTimeout + " ms − " + idle + " ms") + ") = " + server
                            + " ms is less than "
                            + heartbeat.toMillis() + " ms + " + deadline.toMillis() + " ms + " + MARGIN.toMillis()
                            + " ms = " + client
                            + " ms");
        }
    }

    private long millis(String name) {
        Long system = SYSTEM_MILLIS.get(name);
        long micros = micros(name, own.get(name));
        return micros == 0 && system != null ? system : micros / 1_000;
    }

    private long amount(String name) {
        long micros = micros(name, own.get(name));
        Long system = SYSTEM_MILLIS.get(name);
        return micros == 0 && system != null ? system : micros / baseMicros(name);
    }

    private static long micros(String name, @Nullable String value) {
        Matcher quantity = QUANTITY.matcher(value == null ? "" : value);
        boolean isGiven = quantity.matches();
        String unit = isGiven ? quantity.group(2) : null;
        if (!isGiven || (unit != null && name.equals(COUNT))) {
            throw badValue(name, value);
        }
        long amount = Long.parseLong(quantity.group(1));
        long each = unit == null ? baseMicros(name) : UNIT_MICROS.getOrDefault(unit, 1L);
        // the server keeps 32 bits
        if (amount > Integer.MAX_VALUE * baseMicros(name) / each) {
            throw badValue(name, value);
        }
        return amount * each;
    }

    private static IllegalArgumentException badValue(String name, @Nullable String value) {
        return new IllegalArgumentException("connectionSetting value of " + name
                + " must be a whole number that the server takes, with a unit or without, was " + value);
    }

    /** The unit of a number without one. */
    private static long baseMicros(String name) {
        return switch (name) {
            case IDLE, INTERVAL -> 1_000_000L;
            case COUNT -> 1L;
            default -> 1_000L;
        };
    }

    /** Those of r2lock's own that no server has refused so far. */
    Map<String, String> own() {
        Map<String, String> left = new LinkedHashMap<>(own);
        left.keySet().removeAll(refused);
        return left;
    }

    Map<String, String> user() {
        return user;
    }

    /** Those of both kinds that no server has refused so far. */
    Map<String, String> all() {
        Map<String, String> all = own();
        all.putAll(user);
        return all;
    }

    /** Learns from what the server answered; {@code true} when this is news. */
    boolean learn(String name, @Nullable String answer) {
        String asked = own.get(name);
        if (asked == null || answer == null || name.equals("application_name") || isSame(name, asked, answer)) {
            return false;
        }
        return refused.add(name);
    }

    private static boolean isSame(String name, String asked, String answer) {
        if (!QUANTITY.matcher(answer).matches()) {
            return false;
        }
        // asked for the system's own value, the server answers with that
        boolean isSystems = SYSTEM_MILLIS.containsKey(name) && micros(name, asked) == 0;
        return isSystems || micros(name, asked) == micros(name, answer);
    }

    boolean refuse(String name) {
        return refused.add(name);
    }

    /** What the server refused, in alphabetical order. */
    Set<String> refused() {
        return new TreeSet<>(refused);
    }
}
