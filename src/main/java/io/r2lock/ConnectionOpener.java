package io.r2lock;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Row;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import reactor.core.Exceptions;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.util.function.Tuple2;

/**
 * Opens connections to the server: connects, sets up in one round trip, and gives up in time.
 *
 * <p>The very first two are used to look at the server ({@link ServerCheck}) before anything is set or locked there; then one
 * becomes the first lock connection and one the heartbeat's. A look that failed is repeated by the next request.
 */
final class ConnectionOpener implements ConnectionSource {

    /** Column of the first setting behind the facts. */
    private static final int FIRST_SETTING = 6;

    /** The first look takes more round trips than one connection: who asked may be told too late, who asks next is not. */
    private static final int LOOKS_LONGER = 4;

    private static final Duration FOREVER = Duration.ofMillis(Long.MAX_VALUE);

    private final PostgresqlConnectionFactory factory;
    private final ClientOptions options;
    private final ConnectionSettings settings;
    private final ConnectionSettings heartbeatSettings;
    private final Mono<SelfCheck> firstLook;
    private final AtomicReference<@Nullable PostgresqlConnection> spareForLocks = new AtomicReference<>();
    private final AtomicReference<@Nullable PostgresqlConnection> spareForHeartbeat = new AtomicReference<>();
    private volatile LockCapacityException.@Nullable Settings lockTable;
    private volatile boolean closed;

    ConnectionOpener(PostgresqlConnectionFactory factory, ClientOptions options) {
        this.factory = factory;
        this.options = options;
        this.settings = options.settings();
        this.heartbeatSettings = settings.forHeartbeat();
        this.firstLook = Opening.inTime(options, options.connectTimeout().multipliedBy(LOOKS_LONGER), this::look)
                .doOnNext(this::keep)
                .map(Look::verdict)
                .cache(verdict -> FOREVER, error -> Duration.ZERO, () -> Duration.ZERO);
    }

    private record Look(SelfCheck verdict, PostgresqlConnection a, PostgresqlConnection b) {}

    /** The heartbeat's is set up here, so that it is ready before anything is held. */
    private Mono<Look> look(Opening<Look> opening) {
        return connectTwo(opening)
                .flatMap(two -> check(two.getT1(), two.getT2(), probeKey())
                        .doOnNext(ConnectionOpener::refuse)
                        .flatMap(verdict -> setUp(two.getT2(), heartbeatSettings, verdict.transactionPooling())
                                .thenReturn(new Look(verdict, two.getT1(), two.getT2()))));
    }

    private Mono<SelfCheck> check(PostgresqlConnection a, PostgresqlConnection b, LockKey probe) {
        return ServerCheck.run(options, a, b, probe).map(verdict -> {
            lockTable = verdict.lockTable();
            return verdict.told();
        });
    }

    @Override
    public LockCapacityException.@Nullable Settings lockTable() {
        return lockTable;
    }

    /** Side by side; the driver's connecting cannot be cancelled, so neither is when the other fails. */
    private Mono<Tuple2<PostgresqlConnection, PostgresqlConnection>> connectTwo(Opening<?> opening) {
        return Mono.zipDelayError(opening.connect(factory), opening.connect(factory))
                .onErrorMap(both -> Exceptions.unwrapMultiple(both).get(0));
    }

    private void keep(Look look) {
        spareForLocks.set(look.a());
        spareForHeartbeat.set(look.b());
        if (closed) {
            closeSpares();
        }
    }

    /** Nobody's: {@code pg_try_advisory_xact_lock} of a key that is in use would tell nothing. */
    private static LockKey probeKey() {
        return LockKey.of(ThreadLocalRandom.current().nextLong());
    }

    private static void refuse(SelfCheck verdict) {
        if (!verdict.isReliable()) {
            throw new IllegalStateException(String.join(" ", verdict.problems()));
        }
    }

    @Override
    public Mono<LockConnection> open(int generation) {
        return Opening.inTime(
                options,
                opening -> firstLook.flatMap(verdict -> forLocks(opening)
                        .flatMap(wire -> setUp(wire, settings, verdict.transactionPooling())
                                .map(facts -> lockConnection(wire, facts, generation)))));
    }

    @Override
    public Mono<SessionWire> openForSession() {
        return Opening.inTime(
                options,
                opening -> firstLook.flatMap(verdict -> {
                    if (verdict.transactionPooling()) {
                        return Mono.error(new IllegalStateException(
                                "session scope does not work behind a transaction-mode pooler, where a session lock would"
                                        + " stay with a backend that others use. Connect to the server itself, or use"
                                        + " inTransaction()."));
                    }
                    return forLocks(opening)
                            .flatMap(wire -> setUp(wire, settings, false).map(facts -> new SessionWire(wire, facts)));
                }));
    }

    @Override
    public Mono<PostgresqlConnection> openForHeartbeat(Scheduler from) {
        return Opening.inTime(
                options,
                opening -> firstLook.flatMap(verdict -> {
                    PostgresqlConnection ready = spareForHeartbeat.getAndSet(null);
                    return ready != null
                            ? Mono.just(ready)
                            : opening.connect(factory, from)
                                    .flatMap(wire -> setUp(wire, heartbeatSettings, verdict.transactionPooling())
                                            .thenReturn(wire));
                }));
    }

    private Mono<PostgresqlConnection> forLocks(Opening<?> opening) {
        PostgresqlConnection spare = spareForLocks.getAndSet(null);
        if (spare == null) {
            return opening.connect(factory);
        }
        opening.owns(spare);
        return Mono.just(spare);
    }

    private LockConnection lockConnection(PostgresqlConnection wire, ConnectionFacts facts, int generation) {
        Supplier<String> clean = facts.pooled() ? () -> "" : () -> LockSql.clean(settings.all());
        return new LockConnection(wire, facts, clean, options.warnings(), generation);
    }

    private Mono<ConnectionFacts> setUp(PostgresqlConnection wire, ConnectionSettings wanted, boolean pooled) {
        // behind a pooler another client would inherit what is set on the session
        Map<String, String> all = pooled ? Map.of() : wanted.all();
        List<String> names = List.copyOf(all.keySet());
        Mono<ConnectionFacts> together = ServerCheck.ask(wire, LockSql.setUp(all), row -> facts(row, pooled, names));
        return pooled ? together : together.onErrorResume(SqlStates::isRefusal, refused -> setUpSingly(wire, wanted));
    }

    /** Finds out which settings the server refuses. The user's are an error then. */
    private Mono<ConnectionFacts> setUpSingly(PostgresqlConnection wire, ConnectionSettings wanted) {
        Mono<Void> own = Flux.fromIterable(wanted.own().entrySet())
                .concatMap(setting -> apply(wire, Map.ofEntries(setting))
                        .onErrorResume(SqlStates::isRefusal, refused -> {
                            report(settings.refuse(setting.getKey()), setting.getKey());
                            return Mono.empty();
                        }))
                .then();
        Mono<Void> users = wanted.user().isEmpty() ? Mono.empty() : apply(wire, wanted.user());
        return own.then(users)
                .then(ServerCheck.ask(wire, LockSql.setUp(Map.of()), row -> facts(row, false, List.of())));
    }

    private static Mono<Void> apply(PostgresqlConnection wire, Map<String, String> some) {
        return ServerCheck.ask(wire, LockSql.apply(some), row -> true).then();
    }

    private ConnectionFacts facts(Row row, boolean pooled, List<String> names) {
        if (ServerCheck.column(row, 4, Boolean.class)) {
            throw new IllegalStateException(
                    "the server is a standby, where locks exclude nobody elsewhere; connect to the primary");
        }
        for (int i = 0; i < names.size(); i++) {
            String name = names.get(i);
            report(settings.learn(name, row.get(FIRST_SETTING + i, String.class)), name);
        }
        Long backendStart = row.get(5, Long.class);
        return new ConnectionFacts(
                ServerCheck.column(row, 0, Integer.class),
                pooled || backendStart == null ? 0 : backendStart,
                ServerCheck.column(row, 1, String.class),
                new ConnectionFacts.Limits(
                        ServerCheck.column(row, 2, String.class), ServerCheck.column(row, 3, String.class)),
                pooled);
    }

    private void report(boolean news, String name) {
        if (news) {
            options.warnings()
                    .warn("The server did not take the setting " + name + ". On a silent network it may keep the"
                            + " locks of a dead client for longer, or give them up earlier, than the README says.");
        }
    }

    @Override
    public Mono<SelfCheck> selfCheck(LockKey probe) {
        return Opening.inTime(
                options,
                opening -> connectTwo(opening).flatMap(two -> {
                    PostgresqlConnection a = two.getT1();
                    PostgresqlConnection b = two.getT2();
                    return check(a, b, probe)
                            .flatMap(verdict -> verdict.transactionPooling() || verdict.standby()
                                    ? Mono.just(verdict)
                                    : setUp(a, settings, false).thenReturn(withSettings(verdict)))
                            .flatMap(verdict -> close(a, b).thenReturn(verdict));
                }));
    }

    /** Asks a standby, too, and behind a pooler whichever backend it gets: all show the same. */
    @Override
    public Mono<ServerLocks> locks() {
        return Opening.inTime(
                options,
                opening -> opening.connect(factory)
                        .flatMap(wire -> ServerLocks.ask(wire, options.connectTimeout())
                                .flatMap(found -> close(wire).thenReturn(found))));
    }

    private SelfCheck withSettings(SelfCheck verdict) {
        return new SelfCheck(
                verdict.excludes(),
                verdict.transactionPooling(),
                verdict.standby(),
                verdict.serverVersion(),
                verdict.serverEncoding(),
                verdict.lockCapacity(),
                List.copyOf(settings.refused()));
    }

    private static Mono<Void> close(PostgresqlConnection... some) {
        return Flux.fromArray(some)
                .concatMap(connection -> connection.close().onErrorComplete())
                .then();
    }

    @Override
    public void close() {
        closed = true;
        closeSpares();
    }

    private void closeSpares() {
        for (AtomicReference<@Nullable PostgresqlConnection> spares : List.of(spareForLocks, spareForHeartbeat)) {
            PostgresqlConnection spare = spares.getAndSet(null);
            if (spare != null) {
                close(spare).subscribe();
            }
        }
    }
}
