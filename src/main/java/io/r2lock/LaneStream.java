package io.r2lock;

import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Consumer;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Operators;
import reactor.util.context.Context;

/**
 * A stream of the driver, shielded: a subscriber that cancels, or fails, stops being told, and the driver's answers are read
 * to their end all the same, because results that are cancelled half-read block the connection
 * (<a href="https://github.com/pgjdbc/r2dbc-postgresql/issues/661">r2dbc-postgresql #661</a>).
 */
final class LaneStream<T> extends Flux<T> {

    private final LaneTicket ticket;
    private final Function<Reader<T>, Publisher<? extends T>> source;
    private final Consumer<? super T> discard;

    LaneStream(LaneTicket ticket, Function<Reader<T>, Publisher<? extends T>> source, Consumer<? super T> discard) {
        this.ticket = ticket;
        this.source = source;
        this.discard = discard;
    }

    @Override
    public void subscribe(CoreSubscriber<? super T> actual) {
        Reader<T> reader = new Reader<>(this, actual);
        actual.onSubscribe(reader);
        ticket.join(reader);
    }

    /** One subscription; {@code deaf} decides, once, that the subscriber is told nothing more. */
    static final class Reader<T> implements CoreSubscriber<T>, Subscription {

        private final LaneStream<T> stream;
        private final CoreSubscriber<? super T> actual;
        private final Operators.DeferredSubscription driver = new Operators.DeferredSubscription();
        private final AtomicBoolean deaf = new AtomicBoolean();
        private volatile @Nullable Throwable abandoned;

        Reader(LaneStream<T> stream, CoreSubscriber<? super T> actual) {
            this.stream = stream;
            this.actual = actual;
        }

        void start() {
            Throwable why = abandoned;
            if (deaf.get() || why != null) {
                stream.ticket.leave(this);
                if (why != null) {
                    refuse(why);
                }
                return;
            }
            stream.ticket.marksConnection();
            Publisher<? extends T> publisher;
            try {
                publisher = stream.source.apply(this);
            } catch (RuntimeException refusedByDriver) {
                onError(refusedByDriver);
                return;
            }
            publisher.subscribe(this);
        }

        void refuse(Throwable error) {
            if (deaf.compareAndSet(false, true)) {
                actual.onError(error);
            }
        }

        /** Tells the error now, and reads on in silence. */
        void fail(Throwable error) {
            if (deaf.compareAndSet(false, true)) {
                driver.request(Long.MAX_VALUE);
                actual.onError(error);
            }
        }

        /**
         * Reads on in silence, and tells the error when the driver has ended: the work that reads here was most likely
         * cancelled a moment ago, and an operator that is still passing that cancel on would drop an error that comes first.
         */
        void abandon(Throwable error) {
            abandoned = error;
            driver.request(Long.MAX_VALUE);
        }

        boolean isDeaf() {
            return deaf.get() || abandoned != null;
        }

        @Override
        public Context currentContext() {
            return actual.currentContext();
        }

        @Override
        public void onSubscribe(Subscription subscription) {
            driver.set(subscription);
        }

        @Override
        public void onNext(@Nullable T value) {
            if (value == null) {
                return;
            }
            if (isDeaf()) {
                stream.discard.accept(value);
            } else {
                actual.onNext(value);
            }
        }

        @Override
        public void onError(Throwable error) {
            stream.ticket.leave(this);
            Throwable why = abandoned;
            refuse(why != null ? why : error);
        }

        @Override
        public void onComplete() {
            stream.ticket.leave(this);
            Throwable why = abandoned;
            if (why != null) {
                refuse(why);
            } else if (deaf.compareAndSet(false, true)) {
                actual.onComplete();
            }
        }

        @Override
        public void request(long n) {
            driver.request(n);
        }

        @Override
        public void cancel() {
            if (deaf.compareAndSet(false, true)) {
                driver.request(Long.MAX_VALUE);
            }
        }
    }
}
