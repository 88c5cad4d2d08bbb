package io.r2lock;

import java.util.function.Function;
import org.reactivestreams.Publisher;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Flux;

/** Runs work under a lock for each item of a source: see {@link AdvisoryLocks#flatMapLocked}. */
final class KeyedFlux<R, V> extends Flux<V> {

    static final int MOST_CONCURRENCY = 65_536;

    /** Of the window: how many items for each work that may run at once. */
    static final int LOOK_AHEAD = 4;

    private final DefaultAdvisoryLocks client;
    private final Publisher<R> source;
    private final Function<? super R, LockRequest> lockOf;
    private final Function<? super R, ? extends Publisher<V>> work;
    private final int concurrency;

    KeyedFlux(
            DefaultAdvisoryLocks client,
            Publisher<R> source,
            Function<? super R, LockRequest> lockOf,
            Function<? super R, ? extends Publisher<V>> work,
            int concurrency) {
        this.client = client;
        this.source = Arguments.notNull("source", source);
        this.lockOf = Arguments.notNull("lockOf", lockOf);
        this.work = Arguments.notNull("work", work);
        this.concurrency = Arguments.inRange("concurrency", concurrency, 1, MOST_CONCURRENCY);
    }

    @Override
    public void subscribe(CoreSubscriber<? super V> actual) {
        source.subscribe(new KeyedStream<>(client, this::specOf, work, concurrency, actual));
    }

    private LockSpec specOf(R item) {
        LockRequest request = lockOf.apply(item);
        if (request instanceof DefaultLockRequest own && own.isOf(client)) {
            return own.complete();
        }
        throw new IllegalArgumentException(
                "lockOf must return a request of the client that it is given to, was " + request);
    }
}
