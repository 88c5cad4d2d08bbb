package io.r2lock;

import io.r2dbc.spi.Connection;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;

/**
 * A hold of session locks. Commit and release are the same: there is no transaction.
 *
 * <pre>
 *   HELD ──▶ COMMITTED ──┬──▶ handed over, or given back and answered ──▶ outcome: ended, or lost
 *     ├────▶ RELEASED ───┴──▶ before holdAtLeast ──▶ outcome: ended ──▶ tail ──▶ handed over, or given back
 *     └────▶ LOST ──▶ what is not lost is given back ──▶ outcome: lost
 * </pre>
 *
 * <p>Whoever moves it away from {@code HELD} ends it: what runs inside it is ended first, then the locks go, and only then the
 * outcome is told, and the turn of whoever takes over comes. In its {@link HoldTail} it is not live: nothing joins it, and of a loss
 * nobody is told, as nothing runs that could be ended. Its locks, and its places at the gates, last until the tail is over.
 */
final class SessionHold extends Hold {

    private enum State {
        HELD,
        COMMITTED,
        RELEASED,
        LOST
    }

    /** What gives the locks back, or hands them over; called once. */
    @FunctionalInterface
    interface Release {
        /** {@code done} is told why one of them was lost, or null. */
        void begin(Consumer<@Nullable String> done);
    }

    private final Release release;
    private final List<SessionLock> locks;
    private final AtomicReference<State> state = new AtomicReference<>(State.HELD);

    private volatile boolean lasts;
    private volatile @Nullable HoldTail tail;

    SessionHold(Acquire acquire, List<SessionLock> locks, Release release) {
        super(acquire);
        this.release = release;
        this.locks = locks;
    }

    /** From now on it is told of losses, which may be at once. */
    void watch() {
        for (SessionLock lock : locks) {
            lock.usedBy(this);
        }
    }

    /** It is held as long as its holder lives: no warning. */
    void mayLast() {
        lasts = true;
    }

    @Override
    void warnIfLong(long now) {
        if (!lasts) {
            super.warnIfLong(now);
        }
    }

    @Override
    Hold root() {
        return this;
    }

    @Override
    public int backendPid() {
        return locks.get(0).pid();
    }

    List<SessionLock> locks() {
        return locks;
    }

    /** A key that was waited for is held where the waiting was; for tests that end backends. */
    List<Integer> backendPids() {
        return locks.stream().map(SessionLock::pid).distinct().toList();
    }

    @Override
    public Connection connection() {
        throw new UnsupportedOperationException("A hold in session scope has no connection of its own: its " + attempt()
                + " shares one with other holds. Ask for the lock with inTransaction() to write in its transaction.");
    }

    @Override
    Mono<FencingToken> askToken() {
        if (spec.permits() > 0) {
            return Mono.error(
                    new IllegalStateException(
                            "No fencing token for the " + attempt()
                                    + ": permits are held side by side, so that a smaller token does not mean that its hold has ended"));
        }
        return SessionToken.ask(this, locks);
    }

    @Override
    boolean isLive() {
        return isOpen();
    }

    @Override
    boolean isOpen() {
        return state.get() == State.HELD;
    }

    @Override
    boolean isCommit() {
        return state.get() == State.COMMITTED;
    }

    @Override
    boolean end(boolean commit) {
        return end(commit, spec.minHold());
    }

    @Override
    void drop() {
        end(false, null);
    }

    private boolean end(boolean commit, @Nullable Duration atLeast) {
        if (!state.compareAndSet(State.HELD, commit ? State.COMMITTED : State.RELEASED)) {
            return false;
        }
        endChildren();
        long left = atLeast == null ? 0 : since() + atLeast.toNanos() - client.now();
        if (left > 0 && locks.stream().allMatch(SessionLock::isGood)) {
            keepFor(left);
        } else {
            KeyGates.turnsAfter(() -> release(null));
        }
        return true;
    }

    /** What is told need not wait for the tail, nor may it hold that up, as whoever is told may block. */
    private void keepFor(long nanos) {
        HoldTail kept = new HoldTail(client.options().clock(), nanos, () -> KeyGates.turnsAfter(this::releaseUntold));
        tail = kept;
        // whoever closes may have looked for it before it was there
        if (client.isClosing()) {
            kept.end();
        }
        tell(null);
    }

    void endTail() {
        HoldTail kept = tail;
        if (kept != null) {
            kept.end();
        }
    }

    /** One of its locks is gone; may be told more than once, and from any thread that the work may block. */
    void lose(String why) {
        LockLostException lost = lost(why, null);
        if (!isOpen() || !endsBecause(lost)) {
            return;
        }
        if (!state.compareAndSet(State.HELD, State.LOST)) {
            endedOtherwise(lost);
            return;
        }
        client.reports().lost(this, why);
        tellWorker(lost);
        endChildren();
        KeyGates.turnsAfter(() -> release(lost));
    }

    private void releaseUntold() {
        unwatch();
        release.begin(why -> client.ended(acquire));
    }

    private void unwatch() {
        for (SessionLock lock : locks) {
            lock.unusedBy(this);
        }
    }

    private void release(@Nullable LockLostException known) {
        unwatch();
        release.begin(why -> {
            if (known != null || why == null) {
                ended(known);
            } else {
                client.reports().lost(this, why);
                ended(lost(why, null));
            }
        });
    }
}
