package io.r2lock.bench;

import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import io.r2lock.AdvisoryLocks;
import io.r2lock.LockKey;
import reactor.core.publisher.Mono;

/** r2lock in transaction scope. */
final class TransactionContender extends LibraryContender {

    TransactionContender(PostgresqlConnectionFactory factory, int connections) {
        super("r2lock", AdvisoryLocks.builder(factory).maxConnections(connections));
    }

    @Override
    <T> Mono<T> guard(AdvisoryLocks locks, long key, Mono<T> work) {
        return locks.withAdvisoryLock(LockKey.of(key), work);
    }
}
