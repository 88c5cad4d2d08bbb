package io.r2lock;

import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.pool.ConnectionPoolConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Connection;
import io.zonky.test.db.postgres.embedded.EmbeddedPostgres;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.LongAdder;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/**
 * The wire of session scope alone: cycles of lock and unlock on one connection, against the naive loop over r2dbc-pool in the
 * same run, rounds interleaved. In the library's package, because nothing of the wire is public.
 *
 * <p>Arguments: {@code rounds=7 seconds=3 warm=10}.
 */
public final class SessionWire {

    private static final Duration PATIENCE = Duration.ofSeconds(30);

    private final Map<String, Integer> settings = new LinkedHashMap<>();

    private SessionWire(String... arguments) {
        settings.put("rounds", 7);
        settings.put("seconds", 3);
        settings.put("warm", 10);
        for (String argument : arguments) {
            String[] parts = argument.split("=", 2);
            if (parts.length != 2 || settings.replace(parts[0], Integer.valueOf(parts[1])) == null) {
                throw new IllegalArgumentException("unknown argument " + argument + "; known: " + settings);
            }
        }
    }

    /**
     * Measures and prints.
     *
     * @param arguments {@code name=value}, each with a default
     * @throws Exception where no server starts
     */
    public static void main(String[] arguments) throws Exception {
        new SessionWire(arguments).run();
    }

    private void run() throws Exception {
        try (EmbeddedPostgres server = EmbeddedPostgres.builder()
                .setServerConfig("max_connections", "200")
                .start()) {
            PostgresqlConnectionFactory factory =
                    new PostgresqlConnectionFactory(PostgresqlConnectionConfiguration.builder()
                            .host("127.0.0.1")
                            .port(server.getPort())
                            .username("postgres")
                            .database("postgres")
                            .build());
            System.out.printf(
                    "java %s, %d processors, %s%n",
                    Runtime.version(), Runtime.getRuntime().availableProcessors(), settings);
            measure(factory);
        }
    }

    private void measure(PostgresqlConnectionFactory factory) throws InterruptedException {
        PostgresqlConnection wire = Objects.requireNonNull(factory.create().block(PATIENCE));
        SessionConnection session =
                new SessionConnection(wire, 0, Schedulers.parallel(), new SessionConnection.Listener() {
                    @Override
                    public void lost(LockKey key, LockMode mode) {
                        throw new IllegalStateException("lost " + key);
                    }

                    @Override
                    public void ended(Throwable why) {}
                });
        ConnectionPool pool = new ConnectionPool(ConnectionPoolConfiguration.builder(factory)
                .initialSize(10)
                .maxSize(10)
                .build());
        int[] callers = {1, 64, 256, 1_024};
        session(session, 256, settings.get("warm"));
        naive(pool, 64, settings.get("warm"));
        List<Double> naive = new ArrayList<>();
        Map<Integer, List<Double>> rates = new LinkedHashMap<>();
        for (int round = 0; round < settings.get("rounds"); round++) {
            for (int count : callers) {
                rates.computeIfAbsent(count, key -> new ArrayList<>())
                        .add(session(session, count, settings.get("seconds")));
            }
            naive.add(naive(pool, 256, settings.get("seconds")));
        }
        print("naive r2dbc-pool, 256 callers, 10 connections", naive);
        rates.forEach((count, values) -> print("session wire, " + count + " callers, 1 connection", values));
        session.close();
        session.closed().block(PATIENCE);
        pool.disposeLater().block(PATIENCE);
    }

    private static double session(SessionConnection session, int callers, double seconds) throws InterruptedException {
        LongAdder cycles = new LongAdder();
        CountDownLatch done = new CountDownLatch(callers);
        long start = System.nanoTime();
        long end = start + (long) (seconds * 1e9);
        for (int i = 0; i < callers; i++) {
            new Caller(session, cycles, done, end).lock();
        }
        done.await();
        return cycles.sum() / ((System.nanoTime() - start) / 1e9);
    }

    /** Locks, unlocks, and again. */
    private static final class Caller {

        private final SessionConnection session;
        private final LongAdder cycles;
        private final CountDownLatch done;
        private final long end;
        private LockKey key = LockKey.of(0);

        Caller(SessionConnection session, LongAdder cycles, CountDownLatch done, long end) {
            this.session = session;
            this.cycles = cycles;
            this.done = done;
            this.end = end;
        }

        void lock() {
            key = LockKey.of(ThreadLocalRandom.current().nextLong(1L << 40));
            session.lock(key, LockMode.EXCLUSIVE, (answer, error) -> {
                if (answer != SessionCall.Answer.GRANTED) {
                    throw new IllegalStateException(answer + " for " + key, error);
                }
                session.unlock(key, LockMode.EXCLUSIVE, (unlockAnswer, unlockError) -> unlocked(unlockAnswer));
            });
        }

        private void unlocked(SessionCall.Answer answer) {
            if (answer != SessionCall.Answer.RELEASED) {
                throw new IllegalStateException(answer + " for " + key);
            }
            cycles.increment();
            if (System.nanoTime() < end) {
                lock();
            } else {
                done.countDown();
            }
        }
    }

    private static double naive(ConnectionPool pool, int callers, double seconds) {
        LongAdder cycles = new LongAdder();
        long start = System.nanoTime();
        long end = start + (long) (seconds * 1e9);
        Flux.range(0, callers)
                .flatMap(
                        caller -> Mono.defer(() ->
                                        cycle(pool, ThreadLocalRandom.current().nextLong(1L << 40)))
                                .doOnNext(one -> cycles.increment())
                                .repeat(() -> System.nanoTime() < end),
                        callers)
                .blockLast();
        return cycles.sum() / ((System.nanoTime() - start) / 1e9);
    }

    private static Mono<Integer> cycle(ConnectionPool pool, long key) {
        return Mono.usingWhen(
                pool.create(),
                connection -> call(connection, "SELECT pg_advisory_lock($1)", key)
                        .then(call(connection, "SELECT pg_advisory_unlock($1)", key))
                        .thenReturn(1),
                Connection::close);
    }

    private static Mono<Void> call(Connection connection, String sql, long key) {
        return Flux.from(connection.createStatement(sql).bind(0, key).execute())
                .flatMap(result -> result.map((row, metadata) -> 1))
                .then();
    }

    private static void print(String what, List<Double> rates) {
        double[] sorted =
                rates.stream().mapToDouble(Double::doubleValue).sorted().toArray();
        System.out.printf(
                "%-50s median %,10.0f cycles/s (%,.0f to %,.0f)%n",
                what, sorted[sorted.length / 2], sorted[0], sorted[sorted.length - 1]);
        assert Arrays.stream(sorted).allMatch(rate -> rate > 0);
    }
}
