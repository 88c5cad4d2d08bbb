package io.r2lock.bench;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2lock.AdvisoryLocks;
import io.r2lock.LockKey;
import reactor.core.publisher.Mono;

/** r2lock in session scope, on one connection. */
final class SessionContender extends LibraryContender {

    static final String NAME = "r2lock session";

    SessionContender(PostgresqlConnectionFactory factory) {
        super(NAME, builder(factory));
    }

    private static AdvisoryLocks.Builder builder(PostgresqlConnectionFactory factory) {
        return AdvisoryLocks.builder(factory).sessionConnections(1).maxConnections(10);
    }

    @Override
    <T> Mono<T> guard(AdvisoryLocks locks, long key, Mono<T> work) {
        return locks.exclusive(LockKey.of(key)).inSession().guard(work);
    }
}
