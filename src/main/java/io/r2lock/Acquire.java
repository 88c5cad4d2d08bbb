package io.r2lock;

import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicIntegerFieldUpdater;
import org.jspecify.annotations.Nullable;
import reactor.core.Disposable;
import reactor.core.Disposables;
import reactor.core.publisher.Operators;
import reactor.util.context.Context;

/**
 * One attempt to take the keys of one request, from the gate to the server's answer.
 *
 * <pre>
 *   QUEUED ──▶ BORROWING ──▶ LOCKING ──▶ GRANTED     the receiver has the hold
 *     ▲          ▲ ▲            │
 *     │          │ │            │  busy or failed
 *     │          │ │            ▼
 *     └──────────┼─┴── again ── UNDOING ──▶ ENDED       the receiver has an error
 *                └── PAUSING ◀──┘
 *
 *   in session scope also LOCKING ──▶ PAUSING or BORROWING, to try or to wait again with what is held already
 *
 *   a stop in QUEUED, PAUSING or BORROWING ──▶ ENDED, or STOPPING where something may be held already
 *   a stop in LOCKING or UNDOING ──▶ STOPPING ──▶ ENDED
 * </pre>
 *
 * <p>{@link #state} moves by compare-and-set only, so that of a grant, a cancel, a timeout and a close exactly one wins. Who
 * moves it away from one of the first three withdraws from there. A statement on its way is never abandoned: {@code STOPPING}
 * lasts until the server has answered and all is undone, and only then is anybody told.
 *
 * <p>The kinds differ in where the connection comes from and in what undoing means: {@link TransactionAcquire} borrows one and
 * opens a transaction, {@link JoinedAcquire} uses that of the surrounding hold, and {@link SessionAcquire} takes session locks on
 * connections that are shared, as does {@link PermitAcquire} for one of several locks.
 */
abstract class Acquire {

    /** Who asked: told the attempt, which it begins, and then one of the others, or nothing after a cancel; or else only a failure. */
    interface Receiver {
        /** Called at most once, on the subscriber's thread, or later where an {@link AmbientTransaction} was looked for. */
        void admitted(Acquire attempt);

        void granted(Hold hold);

        void failed(Throwable error);
    }

    static final int QUEUED = 0;
    static final int PAUSING = 1;
    static final int BORROWING = 2;
    static final int LOCKING = 3;
    static final int UNDOING = 4;
    static final int GRANTED = 5;
    static final int ENDED = 6;

    /** Why an attempt ends before its grant: a state STOPPING of its own each, so that the first reason stays. */
    enum Stop {
        CANCELLED(7),
        TIMED_OUT(8),
        CLOSED(9),
        SURROUNDING_ENDED(10),
        TRANSACTION_ENDED(11);

        final int state;

        Stop(int state) {
            this.state = state;
        }

        static Stop of(int state) {
            for (Stop stop : values()) {
                if (stop.state == state) {
                    return stop;
                }
            }
            throw new IllegalStateException("not stopping: " + state);
        }
    }

    private static final AtomicIntegerFieldUpdater<Acquire> STATE =
            AtomicIntegerFieldUpdater.newUpdater(Acquire.class, "state");

    final DefaultAdvisoryLocks client;
    final LockSpec spec;
    final @Nullable Hold surrounding;
    private final Receiver receiver;

    volatile int state = QUEUED;

    final Waited waited;
    private final Disposable.Swap timer = Disposables.swap();
    private volatile @Nullable Hold hold;

    /** The ambient transaction that was there already when it was asked for, if it is known; set before it begins. */
    @Nullable
    AmbientScope within;

    Acquire(DefaultAdvisoryLocks client, LockSpec spec, @Nullable Hold surrounding, Receiver receiver) {
        this.client = client;
        this.spec = spec;
        this.surrounding = surrounding;
        this.receiver = receiver;
        this.waited = new Waited(spec, client.options().clock());
    }

    /** One that joins nothing. */
    static Acquire fresh(DefaultAdvisoryLocks client, LockSpec spec, @Nullable Hold surrounding, Receiver receiver) {
        if (!spec.inSession()) {
            return new TransactionAcquire(client, spec, surrounding, receiver);
        }
        return spec.permits() > 0
                ? new PermitAcquire(client, spec, surrounding, receiver)
                : new SessionAcquire(client, spec, surrounding, receiver);
    }

    /** Begins to queue; called once. */
    abstract void begin();

    /**
     * Whether a stop in one of the first three states leaves nothing to be undone on the server: then the state is ENDED after it,
     * else STOPPING.
     */
    abstract boolean endsAtOnce();

    /** A stop found it in one of the first three states. */
    abstract void stoppedEarly(Stop reason);

    /** A stop found it LOCKING. */
    abstract void interrupt();

    /** The state is STOPPING and nothing is on its way to the server: undoes, then calls {@link #stopped}. */
    abstract void undo();

    final void start() {
        Duration wait = spec.maxWait();
        if (wait != null) {
            timer.update(client.options()
                    .clock()
                    .schedule(() -> stop(Stop.TIMED_OUT), Math.max(1, wait.toMillis()), TimeUnit.MILLISECONDS));
        }
        begin();
    }

    /** Ends the attempt if it is not granted yet. */
    final void stop(Stop reason) {
        for (int now = state; now < GRANTED; now = state) {
            int next = now <= BORROWING && endsAtOnce() ? ENDED : reason.state;
            if (!STATE.compareAndSet(this, now, next)) {
                continue;
            }
            lap(now);
            if (now <= BORROWING) {
                stoppedEarly(reason);
            } else if (now == LOCKING) {
                interrupt();
            }
            return;
        }
    }

    /** Moves on; {@code false} when a stop came first. */
    final boolean advance(int from, int to) {
        if (!STATE.compareAndSet(this, from, to)) {
            return false;
        }
        if (to != GRANTED) {
            lap(from);
        }
        return true;
    }

    private void lap(int from) {
        switch (from) {
            case QUEUED -> waited.gatePassed();
            case BORROWING -> waited.connectionTaken();
            case LOCKING, UNDOING, PAUSING -> waited.connectionGivenBack();
            default -> {}
        }
    }

    /** Ended before its grant. */
    final boolean isEnded() {
        return state == ENDED;
    }

    final boolean isStopping() {
        return state > ENDED;
    }

    /** What a stop had interrupted is undone, and the gates are left. */
    final void stopped() {
        int before = STATE.getAndSet(this, ENDED);
        conclude(Stop.of(before));
    }

    /** The state is GRANTED. */
    final void deliver(Hold granted) {
        timer.dispose();
        hold = granted;
        granted.startToExpire();
        client.granted(this);
        try {
            receiver.granted(granted);
        } catch (Throwable thrown) {
            Operators.onErrorDropped(thrown, Context.empty());
            granted.end(false);
        }
        // whoever ends all holds may have looked for this one before it was there
        if (client.endsHolds()) {
            endHold(Stop.CLOSED);
        }
    }

    /** Ends a granted attempt's hold from outside its own chain. */
    final void endHold(Stop reason) {
        Hold granted = hold;
        if (granted != null) {
            granted.abort(error(reason));
        }
    }

    /** Ends what its hold keeps beyond its work. */
    final void endTail() {
        if (hold instanceof SessionHold kept) {
            kept.endTail();
        }
    }

    /** It waits, and the server knows nothing of it. */
    final boolean isWaitingHere() {
        return state <= BORROWING;
    }

    /** Where it is QUEUED; null where that is no gate of the process. */
    @Nullable
    GatePass gates() {
        return null;
    }

    /** What it waits for while {@link #isWaitingHere}, behind the gates for all together; a look from outside, which it may overtake. */
    List<LockKey> awaited() {
        GatePass queue = state == QUEUED ? gates() : null;
        return queue == null ? spec.keys() : queue.queued(spec.keys());
    }

    /** For tests that count what a cancel met. */
    final String phase() {
        return switch (state) {
            case QUEUED -> "QUEUED";
            case PAUSING -> "PAUSING";
            case BORROWING -> "BORROWING";
            case LOCKING -> "LOCKING";
            case UNDOING -> "UNDOING";
            case GRANTED -> "GRANTED";
            case ENDED -> "ENDED";
            default -> "STOPPING";
        };
    }

    final @Nullable Hold hold() {
        return hold;
    }

    /** Ends the attempt with an error, all being undone, unless a stop came first. */
    final void fail(int from, Throwable error) {
        if (advance(from, ENDED)) {
            finish();
            tell(error);
        } else if (isStopping()) {
            stopped();
        }
    }

    final void conclude(Stop reason) {
        finish();
        if (reason != Stop.CANCELLED) {
            tell(error(reason));
        }
    }

    /** What a subscriber throws must not keep others from being told, or from being undone. */
    private void tell(Throwable error) {
        try {
            receiver.failed(error);
        } catch (Throwable thrown) {
            Operators.onErrorDropped(thrown, Context.empty());
        }
    }

    /** The error that a failed statement, or a connection that could not be opened, is to the caller. */
    final AdvisoryLockException failure(Throwable error) {
        return waited.failure(error, client.lockTable());
    }

    private AdvisoryLockException error(Stop reason) {
        return switch (reason) {
            case TIMED_OUT -> waited.timedOut();
            case SURROUNDING_ENDED -> waited.lost("the surrounding hold ended first");
            case TRANSACTION_ENDED -> waited.lost(AmbientScope.COMPLETED);
            case CLOSED, CANCELLED -> waited.closed();
        };
    }

    private void finish() {
        timer.dispose();
        client.notGranted(this);
    }
}
