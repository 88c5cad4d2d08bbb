package io.r2lock.bench;

import io.r2lock.AdvisoryLocks;
import java.time.Duration;
import reactor.core.publisher.Mono;

/** r2lock itself, in one of its scopes. */
abstract class LibraryContender extends ReactiveContender {

    /** What the server shows of the connections that lock; the heartbeat's has another name. */
    private final String applicationName;

    private final AdvisoryLocks locks;

    LibraryContender(String name, AdvisoryLocks.Builder builder) {
        super(name);
        this.applicationName = "bench " + name;
        this.locks = builder.applicationName(applicationName).build();
    }

    /** Holds the key while the work runs. */
    abstract <T> Mono<T> guard(AdvisoryLocks locks, long key, Mono<T> work);

    final <T> Mono<T> guard(long key, Mono<T> work) {
        return guard(locks, key, work);
    }

    @Override
    final Mono<Integer> cycle(long key) {
        return guard(locks, key, Mono.just(1));
    }

    /** How many connections it has open for locks. They stay open until it is closed, so this is the most it had. */
    final int connections(Server server) {
        return server.connections(applicationName);
    }

    @Override
    public final void close() {
        locks.close().block(Duration.ofSeconds(20));
    }
}
