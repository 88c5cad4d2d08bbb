package io.r2lock.bench;

import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.time.Duration;
import reactor.core.publisher.Mono;

/** What people write by hand in transaction scope: borrow, begin, lock, commit, give back. */
final class NaiveContender extends ReactiveContender {

    private final ConnectionPool pool;

    NaiveContender(PostgresqlConnectionFactory factory, int connections) {
        super("naive");
        this.pool = pool(factory, connections);
    }

    @Override
    Mono<Integer> cycle(long key) {
        return Mono.usingWhen(
                pool.create(),
                connection -> Mono.from(connection.beginTransaction())
                        .then(call(connection, "SELECT pg_advisory_xact_lock($1)", key))
                        .then(Mono.just(1)),
                connection -> Mono.from(connection.commitTransaction()).then(Mono.from(connection.close())),
                (connection, error) ->
                        Mono.from(connection.rollbackTransaction()).then(Mono.from(connection.close())),
                connection -> Mono.from(connection.rollbackTransaction()).then(Mono.from(connection.close())));
    }

    @Override
    public void close() {
        pool.disposeLater().block(Duration.ofSeconds(10));
    }
}
