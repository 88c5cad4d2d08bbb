package io.r2lock;

import java.util.Objects;
import java.util.Queue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLongFieldUpdater;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.reactivestreams.Subscription;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.CoreSubscriber;
import reactor.core.Exceptions;
import reactor.core.publisher.Operators;
import reactor.util.concurrent.Queues;
import reactor.util.context.Context;

/**
 * One subscription to a {@link KeyedFlux}: what comes from the source and from the items, and what goes to the subscriber; the items are
 * in the {@link KeyedWindow}.
 *
 * <pre>
 *   OPEN ──source complete, window empty──▶ OVER: completes
 *     └────an error, or a cancel──────────▶ OVER: source cancelled, all items dropped
 * </pre>
 *
 * <p>All is changed by one thread at a time, which has the drain: others leave what has come or ended in {@link #events}. So
 * nothing is told twice at once, and items that end in the thread that starts them make no stack of calls.
 */
final class KeyedStream<R, V> implements CoreSubscriber<R>, Subscription {

    private static final Logger LOG = LoggerFactory.getLogger(KeyedStream.class);

    @SuppressWarnings("rawtypes")
    private static final AtomicLongFieldUpdater<KeyedStream> REQUESTED =
            AtomicLongFieldUpdater.newUpdater(KeyedStream.class, "requested");

    private final DefaultAdvisoryLocks client;
    private final Function<? super R, LockSpec> specOf;
    private final Function<? super R, ? extends Publisher<V>> work;
    private final CoreSubscriber<? super V> actual;

    private final AtomicInteger pending = new AtomicInteger();
    private volatile long requested;
    private volatile boolean cancelled;
    private volatile boolean sourceDone;
    private final AtomicReference<@Nullable Throwable> failure = new AtomicReference<>();
    private final Queue<KeyedItem<R, V>> events =
            Queues.<KeyedItem<R, V>>unboundedMultiproducer().get();

    private @Nullable Subscription source;
    private final KeyedWindow<R, V> window;
    private boolean over;

    KeyedStream(
            DefaultAdvisoryLocks client,
            Function<? super R, LockSpec> specOf,
            Function<? super R, ? extends Publisher<V>> work,
            int concurrency,
            CoreSubscriber<? super V> actual) {
        this.client = client;
        this.specOf = specOf;
        this.work = work;
        this.actual = actual;
        this.window = new KeyedWindow<>(concurrency, mayQueue());
    }

    /** Whether the next item of a key may queue at the gate while the one before it runs. */
    private boolean mayQueue() {
        // from inside a hold nobody queues at a gate; and with a bound to those who wait it might be one too many
        boolean nested = currentContext().hasKey(client);
        boolean bounded = client.options().maxWaiters() != Integer.MAX_VALUE;
        // whose answer for the one before may come after that for the next one, which would go in first
        boolean asks = client.options().ambient() != null;
        return !nested && !bounded && !asks;
    }

    @Override
    public Context currentContext() {
        return actual.currentContext();
    }

    @Override
    public void onSubscribe(Subscription given) {
        if (Operators.validate(source, given)) {
            source = given;
            actual.onSubscribe(this);
            drain();
        }
    }

    private Subscription source() {
        return Objects.requireNonNull(source);
    }

    @Override
    public void onNext(R given) {
        if (sourceDone) {
            Operators.onNextDropped(given, currentContext());
            return;
        }
        KeyedItem<R, V> item;
        try {
            item = new KeyedItem<>(this, given, specOf.apply(given));
        } catch (Throwable thrown) {
            Operators.onDiscard(given, currentContext());
            source().cancel();
            onError(thrown);
            return;
        }
        ended(item);
    }

    @Override
    public void onError(Throwable thrown) {
        fail(thrown);
        sourceDone = true;
        drain();
    }

    @Override
    public void onComplete() {
        sourceDone = true;
        drain();
    }

    @Override
    public void request(long n) {
        if (n > 0) {
            Operators.addCap(REQUESTED, this, n);
        } else {
            fail(new IllegalArgumentException("request must be more than zero (rule 3.9), was " + n));
        }
        drain();
    }

    @Override
    public void cancel() {
        cancelled = true;
        source().cancel();
        drain();
    }

    /** The first one is told. */
    private void fail(Throwable error) {
        if (!failure.compareAndSet(null, error)) {
            LOG.debug("Failed after the stream had", error);
        }
    }

    Publisher<V> work(R given) {
        return work.apply(given);
    }

    Guard<V> guard(KeyedItem<R, V> item, Function<HeldLock, Publisher<V>> guarded) {
        return new Guard<>(client, item.spec, guarded, false, item);
    }

    /** Of an item that has come, or has ended. */
    void tell(KeyedItem<R, V> item) {
        events.offer(item);
    }

    void ended(KeyedItem<R, V> item) {
        tell(item);
        drain();
    }

    void drain() {
        if (pending.getAndIncrement() != 0) {
            return;
        }
        int missed = 1;
        do {
            try {
                step();
            } catch (Throwable thrown) {
                // a subscriber's: it must not leave anything held
                fail(thrown);
                end();
                Operators.onErrorDropped(thrown, currentContext());
            }
            missed = pending.addAndGet(-missed);
        } while (missed != 0);
    }

    private void step() {
        // looked at first: what came before is among the events then
        boolean noMoreComes = sourceDone;
        takeEvents();
        if (over) {
            return;
        }
        if (failure.get() == null && !cancelled) {
            window.start();
        }
        emit();
        Throwable error = failure.get();
        if (cancelled) {
            end();
        } else if (error != null) {
            end();
            actual.onError(error);
        } else if (noMoreComes && window.isEmpty()) {
            end();
            actual.onComplete();
        } else if (!noMoreComes) {
            ask();
        }
    }

    private void takeEvents() {
        for (KeyedItem<R, V> item = events.poll(); item != null; item = events.poll()) {
            if (over) {
                item.drop();
            } else if (!item.known) {
                item.known = true;
                if (!window.come(item)) {
                    fail(Exceptions.failWithOverflow("The source sent more than was asked for"));
                }
            } else {
                Throwable error = window.take(item);
                if (error != null) {
                    fail(error);
                }
            }
        }
    }

    private void emit() {
        long most = requested;
        long told = 0;
        while (told < most && !cancelled && window.hasValue()) {
            actual.onNext(window.nextValue());
            told++;
        }
        if (told > 0 && most != Long.MAX_VALUE) {
            REQUESTED.addAndGet(this, -told);
        }
    }

    private void ask() {
        int more = window.ask();
        if (more > 0) {
            source().request(more);
        }
    }

    private void end() {
        if (over) {
            return;
        }
        over = true;
        source().cancel();
        window.drop();
        takeEvents();
    }
}
