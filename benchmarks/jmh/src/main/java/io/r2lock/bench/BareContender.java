package io.r2lock.bench;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.postgresql.api.PostgresqlResult;
import java.time.Duration;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** The floor: two messages on driver connections of one's own, without a pool, a queue or a way to cancel. */
final class BareContender extends ReactiveContender {

    private final List<PostgresqlConnection> all;
    private final Queue<PostgresqlConnection> free;

    BareContender(PostgresqlConnectionFactory factory, int connections) {
        super("bare");
        this.all = Flux.range(0, connections)
                .concatMap(i -> factory.create())
                .collectList()
                .block(Duration.ofSeconds(30));
        this.free = new ConcurrentLinkedQueue<>(all);
    }

    /** It has no queue, so one for each connection. */
    @Override
    public int callers(int wanted) {
        return Math.min(wanted, all.size());
    }

    @Override
    Mono<Integer> cycle(long key) {
        return Mono.defer(() -> {
            PostgresqlConnection connection = free.remove();
            return connection
                    .createStatement("BEGIN;SELECT pg_advisory_xact_lock(" + key + ")")
                    .fetchSize(0)
                    .execute()
                    .concatMap(PostgresqlResult::getRowsUpdated)
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
}
