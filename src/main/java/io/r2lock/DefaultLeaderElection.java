package io.r2lock;

import java.util.function.Function;
import org.reactivestreams.Publisher;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

final class DefaultLeaderElection implements LeaderElection {

    private final DefaultAdvisoryLocks client;
    private final LockKey key;
    private final Function<HeldLock, Mono<FencingToken>> tokens;
    private final LeadershipEvents events;

    DefaultLeaderElection(DefaultAdvisoryLocks client, LockKey key, Function<HeldLock, Mono<FencingToken>> tokens) {
        this.client = client;
        this.key = key;
        this.tokens = tokens;
        this.events = new LeadershipEvents(key, client.options().clock());
    }

    @Override
    public <T> Flux<T> lead(Function<? super Leadership, ? extends Publisher<T>> work) {
        Arguments.notNull("work", work);
        return Flux.defer(() -> new Candidate<T>(client, key, tokens, events, work).lead());
    }

    @Override
    public Flux<LeadershipEvent> events() {
        return events.flux();
    }

    @Override
    public String toString() {
        return "LeaderElection[" + key + "]";
    }
}
