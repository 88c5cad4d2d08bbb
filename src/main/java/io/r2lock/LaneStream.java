package io.r2lock;

import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Operators;
import reactor.core.publisher.Sinks;
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
    private final boolean lazy;

    LaneStream(LaneTicket ticket, Function<Reader<T>, Publisher<? extends T>> source, Consumer<? super T> discard) {
        this(ticket, source, discard, false);
    }

    private LaneStream(
            LaneTicket ticket,
            Function<Reader<T>, Publisher<? extends T>> source,
            Consumer<? super T> discard,
            boolean lazy) {
        this.ticket = ticket;
        this.source = source;
        this.discard = discard;
        this.lazy = lazy;
    }

    /**
     * The results of a statement with bindings. The driver sends each when its result is read, and the stream never ends if
     * one is not, or fails: so it must be cancelled, and can be, as what is on the wire belongs to the streams of the results.
     */
    static <T> LaneStream<T> lazy(LaneTicket ticket, Function<Reader<T>, Publisher<? extends T>> source) {
        return new LaneStream<>(ticket, source, unread -> {}, true);
    }

    @Override
    public void subscribe(CoreSubscriber<? super T> actual) {
        Reader<T> reader = new Reader<>(this, actual);
        actual.onSubscribe(reader);
        ticket.join(reader);
    }

    /**
     * One subscription.
     *
     * <pre>
     *   TELLING ──▶ DEAF    cancelled, or told the last signal
     *      └──▶ MUTED ──▶ DEAF    the hold ends: told of it when that is over, unless cancelled before
     * </pre>
     *
     * <p>Muted and not failed at once, because the hold ends mostly for a cancel of the work, which may still be on its way to
     * this subscriber: operators hand a cancel over to the thread that is just subscribing.
     */
    static final class Reader<T> implements CoreSubscriber<T>, Subscription {

        private enum State {
            TELLING,
            MUTED,
            DEAF
        }

        private final LaneStream<T> stream;
        private final CoreSubscriber<? super T> actual;
        private final Operators.DeferredSubscription driver = new Operators.DeferredSubscription();
        private final AtomicReference<State> state = new AtomicReference<>(State.TELLING);
        private final Sinks.Empty<Void> silence = Sinks.empty();

        Reader(LaneStream<T> stream, CoreSubscriber<? super T> actual) {
            this.stream = stream;
            this.actual = actual;
        }

        void start() {
            if (isDeaf()) {
                stream.ticket.leave(this);
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
            if (becomesDeaf()) {
                actual.onError(error);
            }
        }

        /** Tells the error now, and reads on in silence. */
        void fail(Throwable error) {
            if (becomesDeaf()) {
                letGo();
                actual.onError(error);
            }
        }

        boolean isDeaf() {
            return state.get() != State.TELLING;
        }

        private boolean becomesDeaf() {
            if (!state.compareAndSet(State.TELLING, State.DEAF)) {
                return false;
            }
            silence.emitEmpty(Sinks.EmitFailureHandler.FAIL_FAST);
            return true;
        }

        /** The hold begins to end; {@link #lost} follows. */
        void mute() {
            if (state.compareAndSet(State.TELLING, State.MUTED)) {
                silence.emitEmpty(Sinks.EmitFailureHandler.FAIL_FAST);
                letGo();
            }
        }

        /** The hold has ended. */
        void lost(Throwable error) {
            if (state.compareAndSet(State.MUTED, State.DEAF)) {
                try {
                    actual.onError(error);
                } catch (Throwable thrown) {
                    Operators.onErrorDropped(thrown, actual.currentContext());
                }
            }
        }

        private void letGo() {
            if (stream.lazy) {
                driver.cancel();
                stream.ticket.leave(this);
            } else {
                driver.request(Long.MAX_VALUE);
            }
        }

        /** Completes when the subscriber is told nothing more: what runs for its sake alone ends then. */
        Mono<Void> silence() {
            return silence.asMono();
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
            if (SqlStates.endsConnection(error)) {
                // first, so that the work is told of the loss and not of what came of it
                stream.ticket.connectionGone(error);
            }
            stream.ticket.leave(this);
            refuse(error);
        }

        @Override
        public void onComplete() {
            stream.ticket.leave(this);
            if (becomesDeaf()) {
                actual.onComplete();
            }
        }

        @Override
        public void request(long n) {
            if (Operators.validate(n)) {
                driver.request(n);
            }
        }

        @Override
        public void cancel() {
            if (becomesDeaf()) {
                letGo();
            } else {
                state.set(State.DEAF);
            }
        }
    }
}
