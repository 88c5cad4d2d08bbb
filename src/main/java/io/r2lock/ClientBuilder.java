package io.r2lock;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.spi.ConnectionFactory;
import io.r2dbc.spi.Wrapped;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Pattern;
import org.jspecify.annotations.Nullable;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

final class ClientBuilder implements AdvisoryLocks.Builder {

    private static final Pattern SETTING_NAME = Pattern.compile("[A-Za-z_][A-Za-z0-9_]*(\\.[A-Za-z_][A-Za-z0-9_]*)*");
    private static final Pattern APPLICATION_NAME = Pattern.compile("[\\x20-\\x7e]{1,63}");

    private final PostgresqlConnectionFactory connectionFactory;
    private final Map<String, String> userSettings = new LinkedHashMap<>();
    private Scheduler clock = Schedulers.parallel();
    private int maxConnections = DEFAULT_MAX_CONNECTIONS;
    private int sessionConnections = DEFAULT_SESSION_CONNECTIONS;
    private int waitingConnections = DEFAULT_WAITING_CONNECTIONS;
    private int handOffLimit = DEFAULT_HAND_OFF_LIMIT;
    private @Nullable Duration defaultWait;
    private Duration connectTimeout = DEFAULT_CONNECT_TIMEOUT;
    private Duration closeGrace = DEFAULT_CLOSE_GRACE;
    private Duration heartbeat = DEFAULT_HEARTBEAT;
    private Duration heartbeatDeadline = DEFAULT_HEARTBEAT_DEADLINE;
    private Duration holdWarning = DEFAULT_HOLD_WARNING;
    private int maxWaiters = Integer.MAX_VALUE;
    private String applicationName = DEFAULT_APPLICATION_NAME;
    private @Nullable Scheduler workScheduler;
    private LockListener listener = new LockListener() {};
    private @Nullable AmbientTransaction ambient;

    ClientBuilder(@Nullable ConnectionFactory connectionFactory) {
        this.connectionFactory = driverFactory(Arguments.notNull("connectionFactory", connectionFactory));
    }

    private static PostgresqlConnectionFactory driverFactory(ConnectionFactory given) {
        Object factory = given;
        while (factory != null) {
            if (factory instanceof PostgresqlConnectionFactory driver) {
                return driver;
            }
            factory = factory instanceof Wrapped<?> wrapper ? wrapper.unwrap() : null;
        }
        throw new IllegalArgumentException(
                "connectionFactory must be one of r2dbc-postgresql, or a wrapper that unwraps to"
                        + " one, was " + given.getClass().getName() + " for "
                        + given.getMetadata().getName());
    }

    /** For tests in virtual time; the heartbeat stays in real time. */
    ClientBuilder clock(Scheduler clock) {
        this.clock = clock;
        return this;
    }

    @Override
    public ClientBuilder maxConnections(int maxConnections) {
        this.maxConnections = Arguments.inRange("maxConnections", maxConnections, 1, 10_000);
        return this;
    }

    @Override
    public ClientBuilder sessionConnections(int sessionConnections) {
        this.sessionConnections = Arguments.inRange("sessionConnections", sessionConnections, 1, 1_000);
        return this;
    }

    @Override
    public ClientBuilder waitingConnections(int waitingConnections) {
        this.waitingConnections = Arguments.inRange("waitingConnections", waitingConnections, 1, 10_000);
        return this;
    }

    @Override
    public ClientBuilder handOffLimit(int handOffLimit) {
        this.handOffLimit = Arguments.inRange("handOffLimit", handOffLimit, 1, Integer.MAX_VALUE);
        return this;
    }

    @Override
    public ClientBuilder defaultWait(Duration wait) {
        this.defaultWait = Arguments.wait("defaultWait", wait);
        return this;
    }

    @Override
    public ClientBuilder connectTimeout(Duration timeout) {
        this.connectTimeout = Arguments.inRange("connectTimeout", timeout, Duration.ofMillis(1), Duration.ofHours(1));
        return this;
    }

    @Override
    public ClientBuilder closeGrace(Duration grace) {
        this.closeGrace = Arguments.inRange("closeGrace", grace, Duration.ZERO, Arguments.LONGEST);
        return this;
    }

    @Override
    public ClientBuilder heartbeat(Duration period) {
        this.heartbeat = Arguments.inRange("heartbeat", period, Duration.ofMillis(10), Duration.ofHours(1));
        return this;
    }

    @Override
    public ClientBuilder heartbeatDeadline(Duration deadline) {
        this.heartbeatDeadline =
                Arguments.inRange("heartbeatDeadline", deadline, Duration.ofMillis(10), Duration.ofHours(1));
        return this;
    }

    @Override
    public ClientBuilder holdWarning(Duration age) {
        this.holdWarning = Arguments.inRange("holdWarning", age, Duration.ZERO, Arguments.LONGEST);
        return this;
    }

    @Override
    public ClientBuilder maxWaiters(int maxWaiters) {
        this.maxWaiters = Arguments.inRange("maxWaiters", maxWaiters, 1, Integer.MAX_VALUE);
        return this;
    }

    @Override
    public ClientBuilder applicationName(String name) {
        if (!APPLICATION_NAME
                .matcher(Arguments.notNull("applicationName", name))
                .matches()) {
            throw new IllegalArgumentException(
                    "applicationName must be 1 to 63 printable ASCII characters, was " + name);
        }
        this.applicationName = name;
        return this;
    }

    @Override
    public ClientBuilder connectionSetting(String name, String value) {
        if (!SETTING_NAME
                .matcher(Arguments.notNull("connectionSetting name", name))
                .matches()) {
            throw new IllegalArgumentException("connectionSetting name must be that of a setting, was " + name);
        }
        String lower = name.toLowerCase(java.util.Locale.ROOT);
        if (ConnectionSettings.RESERVED.contains(lower)) {
            throw new IllegalArgumentException(
                    "connectionSetting name must not be " + name + ": r2lock needs it, see the README's options");
        }
        if (Arguments.notNull("connectionSetting value", value).indexOf('\0') >= 0) {
            throw new IllegalArgumentException("connectionSetting value of " + name + " must not contain NUL");
        }
        userSettings.put(lower, value);
        return this;
    }

    @Override
    public ClientBuilder workScheduler(Scheduler scheduler) {
        this.workScheduler = Arguments.notNull("workScheduler", scheduler);
        return this;
    }

    @Override
    public ClientBuilder listener(LockListener listener) {
        this.listener = Arguments.notNull("listener", listener);
        return this;
    }

    @Override
    public ClientBuilder ambientTransaction(AmbientTransaction ambient) {
        this.ambient = Arguments.notNull("ambientTransaction", ambient);
        return this;
    }

    @Override
    public AdvisoryLocks build() {
        ConnectionSettings settings = new ConnectionSettings(applicationName, userSettings);
        settings.check(heartbeat, heartbeatDeadline);
        ClientOptions options = new ClientOptions(
                clock,
                maxConnections,
                sessionConnections,
                waitingConnections,
                handOffLimit,
                defaultWait,
                connectTimeout,
                closeGrace,
                holdWarning,
                maxWaiters,
                settings,
                heartbeat,
                heartbeatDeadline,
                null,
                new Warnings(clock),
                workScheduler,
                listener,
                ambient);
        return new DefaultAdvisoryLocks(new ConnectionOpener(connectionFactory, options), options);
    }
}
