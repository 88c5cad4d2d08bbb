package io.r2lock.bench;

import io.r2dbc.pool.ConnectionPool;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.time.Duration;
import reactor.core.publisher.Mono;

/** What people write by hand in session scope: borrow, lock, unlock, give back. */
final class NaiveSessionContender extends ReactiveContender {

    private final ConnectionPool pool;

    NaiveSessionContender(PostgresqlConnectionFactory factory, int connections) {
        super("naive session");
        this.pool = pool(factory, connections);
    }

    @Override
    Mono<Integer> cycle(long key) {
        return Mono.usingWhen(
                pool.create(),
                connection -> call(connection, "SELECT pg_advisory_lock($1)", key)
                        .then(call(connection, "SELECT pg_advisory_unlock($1)", key))
                        .then(Mono.just(1)),
                connection -> Mono.from(connection.close()));
    }

    @Override
    public void close() {
        pool.disposeLater().block(Duration.ofSeconds(10));
    }
}
