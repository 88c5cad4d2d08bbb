package io.r2lock.demo;

import io.r2dbc.spi.Connection;
import io.r2dbc.spi.Result;
import io.r2lock.AdvisoryLocks;
import io.r2lock.LockKey;
import java.time.Duration;
import org.springframework.beans.factory.InitializingBean;
import org.springframework.stereotype.Component;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/**
 * Makes the tables before the first request is served.
 *
 * <p>Under a lock, because {@code create table if not exists} fails when two instances run it at once; in the lock's own
 * transaction, so that the next instance sees all of the tables.
 */
@Component
final class Schema implements InitializingBean {

    private static final Duration PATIENCE = Duration.ofSeconds(30);

    private static final String TABLES = """
            create table if not exists webhook_deliveries (
                id text primary key,
                instance text not null,
                processed_at timestamptz not null default clock_timestamp()
            );
            create table if not exists job_runs (
                id bigint generated always as identity primary key,
                job text not null,
                instance text not null,
                started_at timestamptz not null default clock_timestamp(),
                ended_at timestamptz -- null: still runs, or was cut off
            )""";

    private final AdvisoryLocks locks;

    Schema(AdvisoryLocks locks) {
        this.locks = locks;
    }

    /** Blocks: this is the thread that starts the application. */
    @Override
    public void afterPropertiesSet() {
        locks.exclusive(LockKey.named("schema", "demo"))
                .waitAtMost(PATIENCE)
                .guard(hold -> create(hold.connection()))
                .block();
    }

    private static Mono<Void> create(Connection connection) {
        return Flux.from(connection.createStatement(TABLES).execute())
                .flatMap(Result::getRowsUpdated)
                .then();
    }
}
