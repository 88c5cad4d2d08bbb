package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicInteger;
import reactor.core.publisher.Flux;

/** Other clients of a pooler: each runs one short transaction after the other. */
final class Busy implements AutoCloseable {

    private final Sessions sessions;
    private final AtomicInteger transactions = new AtomicInteger();
    private final CompletableFuture<Void> work;
    private volatile boolean stopped;

    Busy(TestServer server, PgBouncer pooler, int clients) {
        sessions = new Sessions(server);
        work = Flux.range(0, clients)
                .map(i -> sessions.open(pooler::through))
                .collectList()
                .flatMapMany(Flux::fromIterable)
                .flatMap(this::run, clients)
                .then()
                .toFuture();
    }

    private Flux<Void> run(PostgresqlConnection client) {
        return Sessions.send(client, "begin;select pg_sleep(0.003);commit")
                .doOnSuccess(done -> transactions.incrementAndGet())
                .repeat(() -> !stopped);
    }

    int transactions() {
        return transactions.get();
    }

    @Override
    public void close() {
        // a cancelled statement of the driver drops its buffers
        stopped = true;
        work.join();
        sessions.close();
    }
}
