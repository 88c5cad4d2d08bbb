package io.r2lock;

import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Operators;

/** Emits a hold and gives it away with that. */
final class AcquireMono extends Mono<HeldLock> {

    private final DefaultAdvisoryLocks client;
    private final LockSpec spec;

    AcquireMono(DefaultAdvisoryLocks client, LockSpec spec) {
        this.client = client;
        this.spec = spec;
    }

    @Override
    public void subscribe(CoreSubscriber<? super HeldLock> actual) {
        Giver giver = new Giver(client, spec, actual);
        actual.onSubscribe(giver);
    }

    /**
     * One subscription: {@code IDLE ──request──▶ ACQUIRING ──granted──▶ GIVEN}, or {@code CANCELLED} before that. The lock is
     * not taken before somebody asks for the hold, so a granted hold can be emitted at once.
     */
    private static final class Giver implements Subscription, Acquire.Receiver {

        private enum State {
            IDLE,
            ACQUIRING,
            GIVEN,
            CANCELLED
        }

        private final DefaultAdvisoryLocks client;
        private final LockSpec spec;
        private final CoreSubscriber<? super HeldLock> actual;
        private final AtomicReference<State> state = new AtomicReference<>(State.IDLE);
        private volatile @Nullable Acquire acquire;

        Giver(DefaultAdvisoryLocks client, LockSpec spec, CoreSubscriber<? super HeldLock> actual) {
            this.client = client;
            this.spec = spec;
            this.actual = actual;
        }

        @Override
        public void request(long n) {
            if (!Operators.validate(n) || !state.compareAndSet(State.IDLE, State.ACQUIRING)) {
                return;
            }
            client.attempt(spec, actual.currentContext(), this);
        }

        @Override
        public void admitted(Acquire created) {
            acquire = created;
            if (state.get() == State.CANCELLED) {
                created.stop(Acquire.Stop.CANCELLED);
            }
            client.begin(created);
        }

        @Override
        public void granted(Hold hold) {
            if (state.compareAndSet(State.ACQUIRING, State.GIVEN)) {
                actual.onNext(hold);
                actual.onComplete();
            } else {
                hold.drop();
            }
        }

        @Override
        public void failed(Throwable error) {
            if (!state.compareAndSet(State.ACQUIRING, State.GIVEN)) {
                return;
            }
            if (spec.skips(error)) {
                actual.onComplete();
            } else {
                actual.onError(error);
            }
        }

        @Override
        public void cancel() {
            if (state.getAndUpdate(now -> now == State.GIVEN ? now : State.CANCELLED) == State.ACQUIRING) {
                Acquire waiting = acquire;
                if (waiting != null) {
                    waiting.stop(Acquire.Stop.CANCELLED);
                }
            }
        }
    }
}
