package io.r2lock;

import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Operators;
import reactor.pool.PooledRef;

/**
 * One request for a lock connection.
 *
 * <pre>
 *   NEW ──▶ PENDING ──▶ TAKEN      the taker owns the lease
 *    │         ├────────▶ FAILED     the taker was told why
 *    └─────────┴────────▶ CANCELLED  the taker is told nothing; a connection that comes all the same goes straight back
 * </pre>
 *
 * <p>The pool was asked, and the demand on it counts this one, from {@code PENDING} on.
 */
final class Borrow implements CoreSubscriber<PooledRef<LockConnection>> {

    /** Who asked; told at most one of these. */
    interface Taker {
        void taken(Lease lease);

        /** No connection could be opened. */
        void notTaken(Throwable error);

        /** None was free, and the request was one that does not wait. */
        void exhausted();
    }

    private enum State {
        NEW,
        PENDING,
        TAKEN,
        FAILED,
        CANCELLED
    }

    private final LockConnections owner;
    private final Taker taker;
    private final AtomicReference<State> state = new AtomicReference<>(State.NEW);
    private volatile @Nullable Subscription subscription;

    Borrow(LockConnections owner, Taker taker) {
        this.owner = owner;
        this.taker = taker;
    }

    /** The pool is about to be asked; {@code false} when it need not be any more. */
    boolean asks() {
        return state.compareAndSet(State.NEW, State.PENDING);
    }

    @Override
    public void onSubscribe(Subscription fromPool) {
        subscription = fromPool;
        if (state.get() == State.CANCELLED) {
            fromPool.cancel();
        } else {
            fromPool.request(Long.MAX_VALUE);
        }
    }

    @Override
    public void onNext(PooledRef<LockConnection> slot) {
        if (!take(slot)) {
            slot.release().subscribe();
        }
    }

    @Override
    public void onError(Throwable error) {
        if (state.compareAndSet(State.PENDING, State.FAILED)) {
            owner.ended();
            taker.notTaken(error);
        } else if (state.get() != State.CANCELLED) {
            Operators.onErrorDropped(error, currentContext());
        }
    }

    @Override
    public void onComplete() {
        // the slot came before
    }

    /** Whether the taker still wanted it; then it has it. */
    boolean take(PooledRef<LockConnection> slot) {
        if (!state.compareAndSet(State.PENDING, State.TAKEN) && !state.compareAndSet(State.NEW, State.TAKEN)) {
            return false;
        }
        taker.taken(new Lease(owner, slot));
        return true;
    }

    void exhausted() {
        if (state.compareAndSet(State.NEW, State.FAILED)) {
            taker.exhausted();
        }
    }

    void cancel() {
        if (state.compareAndSet(State.NEW, State.CANCELLED)) {
            return;
        }
        if (state.compareAndSet(State.PENDING, State.CANCELLED)) {
            owner.ended();
            Subscription fromPool = subscription;
            if (fromPool != null) {
                fromPool.cancel();
            }
        }
    }
}
