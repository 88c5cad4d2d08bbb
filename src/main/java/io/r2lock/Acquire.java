package io.r2lock;

import java.time.Duration;
import java.util.Objects;
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
 *   a stop in QUEUED, PAUSING or BORROWING ──▶ ENDED
 *   a stop in LOCKING or UNDOING ──▶ STOPPING ──▶ ENDED
 * </pre>
 *
 * <p>{@link #state} moves by compare-and-set only, so that of a grant, a cancel, a timeout and a close exactly one wins. Who
 * moves it away from one of the first three withdraws from there. A statement on its way is never abandoned: {@code STOPPING}
 * lasts until the server has answered and all is undone, and only then is anybody told. {@code LOCKING} begins just before the
 * statement is sent; a stop that comes in between leaves the CancelRequest to the sender, which {@link ServerCancel#sent} sees
 * to: the sender must not look at the state again, as the answer may have moved it on already.
 *
 * <p>The two kinds differ in where the connection comes from and in what undoing means: {@link TransactionAcquire} borrows one
 * and opens a transaction, {@link JoinedAcquire} uses that of the surrounding hold.
 */
abstract class Acquire {

    /** Who asked: told one of these, or nothing after a cancel. */
    interface Receiver {
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
        SURROUNDING_ENDED(10);

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
    private volatile @Nullable ServerCancel cancel;
    private volatile @Nullable LockConnection connection;
    private volatile @Nullable Hold hold;

    Acquire(DefaultAdvisoryLocks client, LockSpec spec, @Nullable Hold surrounding, Receiver receiver) {
        this.client = client;
        this.spec = spec;
        this.surrounding = surrounding;
        this.receiver = receiver;
        this.waited = new Waited(spec, client.options().clock());
    }

    /** Begins to queue; called once. */
    abstract void begin();

    /** Leaves the gates and the queue for a connection; called by who ended the attempt there. */
    abstract void withdraw();

    /** The server has granted everything, and the state is GRANTED. */
    abstract void granted();

    /** The state is UNDOING: the key was busy, or {@code error} says what else. Undoes, then fails or starts again. */
    abstract void refused(@Nullable Throwable error);

    /** The state is STOPPING and the connection is quiet: undoes, then calls {@link #stopped}. */
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
            int next = now <= BORROWING ? ENDED : reason.state;
            if (!STATE.compareAndSet(this, now, next)) {
                continue;
            }
            lap(now);
            if (now <= BORROWING) {
                withdraw();
                conclude(reason);
            } else if (now == LOCKING) {
                cancel().begin();
            }
            return;
        }
    }

    /** Sends the lock's statement; {@code false} when a stop came first and nothing was sent. */
    final boolean lock(LockConnection on, String sql, boolean ask) {
        ServerCancel own = new ServerCancel(on, client.options().clock(), this::undo);
        cancel = own;
        connection = on;
        if (ask) {
            // never waits on the server, so that only a dead one takes long; set before a stop can set its own
            on.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, () -> {});
        }
        if (!advance(BORROWING, LOCKING)) {
            on.inTime();
            return false;
        }
        send(on, sql, ask, this::answered);
        own.sent();
        return true;
    }

    /** Sends the lock's statement; {@code ask}: it answers whether the keys were free. */
    void send(LockConnection on, String sql, boolean ask, Exchange.Listener listener) {
        if (ask) {
            on.ask(sql, listener);
        } else {
            on.send(sql, listener);
        }
    }

    private void answered(@Nullable Throwable error, boolean yes) {
        // a connection whose cleaning failed, or that closed meanwhile, has granted nothing
        if (error == null && yes && connection().isUsable()) {
            if (advance(LOCKING, GRANTED)) {
                connection().inTime();
                granted();
                return;
            }
        } else if (advance(LOCKING, UNDOING)) {
            connection().inTime();
            refused(error);
            return;
        }
        cancel().answered();
    }

    private ServerCancel cancel() {
        return Objects.requireNonNull(cancel);
    }

    /** The connection that the lock's statement was sent on. */
    final LockConnection connection() {
        return Objects.requireNonNull(connection);
    }

    /** Moves on; {@code false} when a stop came first. */
    final boolean advance(int from, int to) {
        if (!STATE.compareAndSet(this, from, to)) {
            return false;
        }
        lap(from);
        return true;
    }

    private void lap(int from) {
        switch (from) {
            case QUEUED -> waited.gatePassed();
            case BORROWING -> waited.connectionTaken();
            case UNDOING, PAUSING -> waited.connectionGivenBack();
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

    private void conclude(Stop reason) {
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

    private AdvisoryLockException error(Stop reason) {
        return switch (reason) {
            case TIMED_OUT -> waited.timedOut();
            case SURROUNDING_ENDED -> waited.lost("the surrounding hold ended first");
            case CLOSED, CANCELLED -> waited.closed();
        };
    }

    private void finish() {
        timer.dispose();
        client.notGranted(this);
    }
}
