package io.r2lock;

import io.r2dbc.postgresql.api.Notification;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.postgresql.api.PostgresqlResult;
import io.r2dbc.postgresql.api.PostgresqlStatement;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.Proxy;
import java.time.Duration;
import java.util.Map;
import java.util.function.Function;
import java.util.function.IntFunction;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/** Lock connections without a server: the test answers, when and on which thread it likes. */
final class FakeConnection {

    private static final ConnectionFacts FACTS =
            new ConnectionFacts(1, 0, "UTF8", new ConnectionFacts.Limits("0", "0"), false);

    /** What the other end does. */
    interface Server {

        /** {@code true} or {@code false} is its one row, empty is none. */
        Mono<Boolean> message(String sql);

        /** Ends when it has been delivered. */
        Mono<Void> cancelRequest();

        default Mono<Void> commit() {
            return Mono.empty();
        }

        /** Ends when the connection does. */
        default Flux<Notification> notifications() {
            return Flux.never();
        }

        default Mono<Void> close() {
            return Mono.empty();
        }
    }

    private final Scheduler clock;
    private final Server server;

    /** As a server would say it; wrong after a message that fails, which no test here looks at. */
    private volatile boolean inTransaction;

    private FakeConnection(Scheduler clock, Server server) {
        this.clock = clock;
        this.server = server;
    }

    static LockConnection open(Scheduler clock, Server server) {
        return new FakeConnection(clock, server).connection();
    }

    /**
     * A connection that asks {@code answer} at each message: {@code true} or {@code false} is its one row, empty is none.
     *
     * @param cancelRequest called at each CancelRequest, ends when that has been delivered
     */
    static LockConnection open(
            Scheduler clock, Function<String, Mono<Boolean>> answer, Supplier<Mono<Void>> cancelRequest) {
        return open(clock, new Server() {
            @Override
            public Mono<Boolean> message(String sql) {
                return answer.apply(sql);
            }

            @Override
            public Mono<Void> cancelRequest() {
                return cancelRequest.get();
            }
        });
    }

    /** One that grants everything at once. */
    static LockConnection granting() {
        return open(Schedulers.parallel(), sql -> Mono.just(true), Mono::empty);
    }

    /** One that grants everything, soon, on a thread of its own. */
    static LockConnection grantingLater() {
        return open(Schedulers.parallel(), sql -> Mono.just(true).subscribeOn(Schedulers.single()), Mono::empty);
    }

    /** A client over such connections. */
    static DefaultAdvisoryLocks client(IntFunction<Mono<LockConnection>> opener, int maxConnections) {
        return new DefaultAdvisoryLocks(source(opener), options(Schedulers.parallel(), maxConnections));
    }

    /** Lock connections only: heartbeats find no server, and nothing lasts so long here that it matters. */
    static ConnectionSource source(IntFunction<Mono<LockConnection>> opener) {
        return source(opener, () -> Mono.error(new IllegalStateException("no server")));
    }

    /** Lock connections, and wires for session scope. */
    static ConnectionSource source(
            IntFunction<Mono<LockConnection>> opener, Supplier<Mono<PostgresqlConnection>> sessions) {
        return new ConnectionSource() {
            @Override
            public Mono<LockConnection> open(int generation) {
                return opener.apply(generation);
            }

            @Override
            public Mono<SessionWire> openForSession() {
                return sessions.get().map(wire -> new SessionWire(wire, FACTS));
            }

            @Override
            public LockCapacityException.@Nullable Settings lockTable() {
                return null;
            }

            @Override
            public Mono<PostgresqlConnection> openForHeartbeat(Scheduler from) {
                return Mono.error(new IllegalStateException("no server"));
            }

            @Override
            public Mono<SelfCheck> selfCheck(LockKey probe) {
                return Mono.error(new IllegalStateException("no server"));
            }

            @Override
            public Mono<ServerLocks> locks() {
                return Mono.error(new IllegalStateException("no server"));
            }

            @Override
            public void close() {
                // nothing is kept
            }
        };
    }

    static ClientOptions options(Scheduler clock, int maxConnections) {
        return options(clock, clock, maxConnections, 1);
    }

    static ClientOptions options(
            Scheduler clock, Scheduler heartbeatClock, int maxConnections, int sessionConnections) {
        return options(clock, heartbeatClock, maxConnections, sessionConnections, new LockListener() {});
    }

    static ClientOptions options(
            Scheduler clock,
            Scheduler heartbeatClock,
            int maxConnections,
            int sessionConnections,
            LockListener listener) {
        return new ClientOptions(
                clock,
                maxConnections,
                sessionConnections,
                1,
                64,
                null,
                Duration.ofSeconds(5),
                Duration.ofSeconds(1),
                Duration.ZERO,
                Integer.MAX_VALUE,
                new ConnectionSettings("test", Map.of()),
                Duration.ofSeconds(2),
                Duration.ofSeconds(3),
                heartbeatClock,
                new Warnings(clock),
                null,
                listener,
                null);
    }

    /** The same with another scheduler for the work, and with transactions of somebody else's. */
    static ClientOptions with(
            ClientOptions given, @Nullable Scheduler workScheduler, @Nullable AmbientTransaction ambient) {
        return new ClientOptions(
                given.clock(),
                given.maxConnections(),
                given.sessionConnections(),
                given.waitingConnections(),
                given.handOffLimit(),
                given.defaultWait(),
                given.connectTimeout(),
                given.closeGrace(),
                given.holdWarning(),
                given.maxWaiters(),
                given.settings(),
                given.heartbeat(),
                given.heartbeatDeadline(),
                given.heartbeatClock(),
                given.warnings(),
                workScheduler,
                given.listener(),
                ambient);
    }

    private LockConnection connection() {
        PostgresqlConnection wire =
                proxy(PostgresqlConnection.class, (self, method, arguments) -> switch (method.getName()) {
                    case "getNotifications" -> server.notifications();
                    case "createStatement" -> statement((String) arguments[0]);
                    case "cancelRequest" -> server.cancelRequest();
                    case "close" -> server.close();
                    case "commitTransaction" ->
                        server.commit()
                                .doOnSuccess(done -> inTransaction = false)
                                .doOnError(error -> inTransaction &= SqlStates.isConnectionGone(SqlStates.of(error)));
                    case "isAutoCommit" -> !inTransaction;
                    default -> throw new UnsupportedOperationException(method.toString());
                });
        return new LockConnection(wire, FACTS, () -> "clean", new Warnings(clock), 0);
    }

    private PostgresqlStatement statement(String sql) {
        return proxy(PostgresqlStatement.class, (self, method, arguments) -> switch (method.getName()) {
            case "fetchSize" -> self;
            case "execute" ->
                Flux.defer(() -> server.message(sql).doOnTerminate(() -> answered(sql)))
                        .map(FakeConnection::result);
            default -> throw new UnsupportedOperationException(method.toString());
        });
    }

    private void answered(String sql) {
        if (sql.startsWith("BEGIN")) {
            inTransaction = true;
        } else if (sql.equals(LockSql.ROLLBACK)) {
            inTransaction = false;
        }
    }

    private static PostgresqlResult result(Boolean row) {
        return proxy(PostgresqlResult.class, (self, method, arguments) -> switch (method.getName()) {
            case "map" -> Flux.just(row);
            case "getRowsUpdated" -> Mono.empty();
            default -> throw new UnsupportedOperationException(method.toString());
        });
    }

    private static <T> T proxy(Class<T> type, InvocationHandler handler) {
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, handler));
    }
}
