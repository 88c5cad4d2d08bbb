package io.r2lock.bench;

import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.pool.ConnectionPoolConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Connection;
import io.r2lock.AdvisoryLocks;
import io.r2lock.LockKey;
import java.time.Duration;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** One way to lock a key, do nothing, and unlock it, in a transaction. */
interface Contender {

    String name();

    /** One cycle. */
    Mono<Integer> cycle(long key);

    /** How many callers make sense: the bare driver has no queue, so one for each connection. */
    default int callers(int wanted) {
        return wanted;
    }

    void close();

    static Contender r2lock(PostgresqlConnectionFactory factory, int connections) {
        AdvisoryLocks locks =
                AdvisoryLocks.builder(factory).maxConnections(connections).build();
        return new Contender() {
            @Override
            public String name() {
                return "r2lock";
            }

            @Override
            public Mono<Integer> cycle(long key) {
                return locks.withAdvisoryLock(LockKey.of(key), Mono.just(1));
            }

            @Override
            public void close() {
                locks.close().block(Duration.ofSeconds(10));
            }
        };
    }

    /** What people write by hand. */
    static Contender naive(PostgresqlConnectionFactory factory, int connections) {
        ConnectionPool pool = new ConnectionPool(ConnectionPoolConfiguration.builder(factory)
                .initialSize(connections)
                .maxSize(connections)
                .build());
        return new Contender() {
            @Override
            public String name() {
                return "naive";
            }

            @Override
            public Mono<Integer> cycle(long key) {
                return Mono.usingWhen(
                        pool.create(),
                        connection -> Mono.from(connection.beginTransaction())
                                .then(lock(connection, key))
                                .then(Mono.just(1)),
                        connection -> Mono.from(connection.commitTransaction()).then(Mono.from(connection.close())),
                        (connection, error) ->
                                Mono.from(connection.rollbackTransaction()).then(Mono.from(connection.close())),
                        connection ->
                                Mono.from(connection.rollbackTransaction()).then(Mono.from(connection.close())));
            }

            private Mono<Void> lock(Connection connection, long key) {
                return Flux.from(connection
                                .createStatement("SELECT pg_advisory_xact_lock($1)")
                                .bind(0, key)
                                .execute())
                        .flatMap(result -> result.map((row, metadata) -> 1))
                        .then();
            }

            @Override
            public void close() {
                pool.disposeLater().block(Duration.ofSeconds(10));
            }
        };
    }

    /** The floor: two messages on driver connections of one's own, without a pool, a queue or a way to cancel. */
    static Contender bare(PostgresqlConnectionFactory factory, int connections) {
        List<PostgresqlConnection> all = Flux.range(0, connections)
                .concatMap(i -> factory.create())
                .collectList()
                .block(Duration.ofSeconds(30));
        Queue<PostgresqlConnection> free = new ConcurrentLinkedQueue<>(all);
        return new Contender() {
            @Override
            public String name() {
                return "bare";
            }

            @Override
            public int callers(int wanted) {
                return Math.min(wanted, connections);
            }

            @Override
            public Mono<Integer> cycle(long key) {
                return Mono.defer(() -> {
                    PostgresqlConnection connection = free.remove();
                    return connection
                            .createStatement("BEGIN;SELECT pg_advisory_xact_lock(" + key + ")")
                            .fetchSize(0)
                            .execute()
                            .concatMap(result -> result.getRowsUpdated())
                            .then(connection.commitTransaction())
                            .then(Mono.fromSupplier(() -> {
                                free.add(connection);
                                return 1;
                            }));
                });
            }

            @Override
            public void close() {
                Flux.fromIterable(all).flatMap(PostgresqlConnection::close).blockLast(Duration.ofSeconds(10));
            }
        };
    }
}
