package io.r2lock;

import java.util.List;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;

/**
 * Takes session locks: passes the gates of this process, where it may take over what others of this process hold, and tries the
 * rest on the connections that the keys share.
 *
 * <p>A key that is busy is waited for, while those before it in the canonical order stay held and those behind it are given back;
 * so such requests never wait for each other in a circle. It waits in the server's queue where a connection is free for that, and
 * else tries again after pauses.
 *
 * <p>Who holds something already never queues at a gate, as in {@link TransactionAcquire}; and because PostgreSQL cannot see who
 * holds and who waits in session scope, its wait must have a bound.
 */
final class SessionAcquire extends Acquire {

    private final SessionKeys keys;
    private final GatePass gates;

    private boolean replaced;
    private boolean repeated;
    private final Backoff backoff = new Backoff();
    private volatile @Nullable Disposable pause;

    /** The wait on the server; null while keys are tried. */
    private volatile @Nullable SessionWait wait;

    private int waitedFor;

    SessionAcquire(DefaultAdvisoryLocks client, LockSpec spec, @Nullable Hold surrounding, Receiver receiver) {
        super(client, spec, surrounding, receiver);
        this.gates = GatePass.forSession(client.gates(), spec, surrounding == null && !spec.noWait(), this::passed);
        this.keys = new SessionKeys(client, spec.keys(), gates);
    }

    @Override
    void begin() {
        if (surrounding != null) {
            LockKey own = new HoldChain(surrounding).taken(spec);
            if (own != null) {
                giveUp(
                        QUEUED,
                        new IllegalStateException("No new " + waited.attempt() + ": the same chain holds " + own
                                + ", so waiting for it could only deadlock itself"));
                return;
            }
            gates.tryEach();
            passed();
        } else if (!spec.noWait()) {
            gates.queue();
        } else if (gates.tryEvery()) {
            passed();
        } else {
            giveUp(QUEUED, waited.busy("by another caller of this process"));
        }
    }

    private void passed() {
        keys.inherit();
        if (keys.firstMissing() < keys.count()) {
            proceed(QUEUED);
        } else if (advance(QUEUED, GRANTED)) {
            granted();
        }
    }

    /** Takes the keys that are missing. */
    private void proceed(int from) {
        if (!advance(from, BORROWING)) {
            return;
        }
        for (int i = keys.firstMissing(); i < keys.count(); i++) {
            SessionSlot slot = client.sessions().slot(keys.key(i));
            SessionBackend backend = slot.open();
            if (backend == null) {
                open(slot);
                return;
            }
            String unfit = backend.unfitFor(spec.keys());
            if (unfit != null) {
                giveUp(BORROWING, new IllegalArgumentException(unfit));
                return;
            }
        }
        tryMissing();
    }

    private void open(SessionSlot slot) {
        Mono<SessionBackend> opened = slot.opened();
        opened.subscribe(
                backend -> {
                    // there may be another one to be opened
                    if (advance(BORROWING, PAUSING)) {
                        proceed(PAUSING);
                    }
                },
                error -> giveUp(BORROWING, client.isClosing() ? waited.closed() : failure(error)));
    }

    private void tryMissing() {
        SessionTries tries = new SessionTries(client.sessions(), keys, spec.mode(), this::decide);
        wait = null;
        if (advance(BORROWING, LOCKING)) {
            tries.begin();
        }
    }

    /** The state is LOCKING or, after a stop, STOPPING. */
    private void decide(SessionTries tries) {
        if (tries.isGone() && !replaced) {
            replaced = true;
            tryAgain(LOCKING);
        } else if (tries.hasFailed()) {
            if (advance(LOCKING, UNDOING)) {
                giveUp(tries.error());
            } else {
                undo();
            }
        } else if (tries.isBusy()) {
            busy(tries);
        } else if (advance(LOCKING, GRANTED)) {
            granted();
        } else {
            undo();
        }
    }

    private void busy(SessionTries tries) {
        int index = tries.busyAt();
        if (tries.isClaimed() && !repeated) {
            repeated = true;
            tryAgain(LOCKING);
        } else if (!spec.noWait() || tries.isClaimed()) {
            // readers of this process have the key, and may have passed it on for long: the server's queue decides
            keys.releaseBehind(index, () -> waitFor(index));
        } else if (advance(LOCKING, UNDOING)) {
            refuse();
        } else {
            undo();
        }
    }

    /** The state is UNDOING. */
    void refuse() {
        keys.release(lost -> fail(UNDOING, waited.busy("by another process, or by another hold on the server")));
    }

    private void tryAgain(int from) {
        if (advance(from, PAUSING)) {
            proceed(PAUSING);
        } else {
            undo();
        }
    }

    private void waitFor(int index) {
        waitedFor = index;
        if (spec.polls() && !spec.noWait()) {
            if (!poll(LOCKING)) {
                undo();
            }
            return;
        }
        SessionWait next = new SessionWait(this, keys.key(index));
        wait = next;
        if (advance(LOCKING, BORROWING)) {
            next.begin();
        } else {
            undo();
        }
    }

    private boolean poll(int from) {
        wait = null;
        if (!advance(from, PAUSING)) {
            return false;
        }
        pause = client.options().clock().schedule(() -> proceed(PAUSING), backoff.nextMillis(), TimeUnit.MILLISECONDS);
        return true;
    }

    /** No connection is free to wait on; who stopped it meanwhile has undone it. */
    void cannotWait() {
        if (!spec.noWait()) {
            poll(BORROWING);
        } else if (advance(BORROWING, UNDOING)) {
            refuse();
        }
    }

    /** The wait is about to be sent; {@code false} when a stop came first. */
    boolean waits() {
        return advance(BORROWING, LOCKING);
    }

    /** {@code false} when a stop came first. */
    boolean waitGranted(SessionLock lock) {
        keys.put(waitedFor, lock);
        boolean last = keys.firstMissing() == keys.count();
        if (!advance(LOCKING, last ? GRANTED : PAUSING)) {
            keys.put(waitedFor, null);
            return false;
        }
        if (last) {
            granted();
        } else {
            proceed(PAUSING);
        }
        return true;
    }

    /** {@code false} when a stop came first. */
    boolean waitRefused() {
        return advance(LOCKING, UNDOING);
    }

    /** The state is UNDOING, and the connection that was waited on is clean or gone. */
    void waitFailed(@Nullable Throwable error, boolean gone) {
        if (gone && !replaced) {
            replaced = true;
            tryAgain(UNDOING);
        } else {
            giveUp(error == null ? new IllegalStateException("the connection was closed") : error);
        }
    }

    private void giveUp(Throwable error) {
        keys.release(lost -> fail(UNDOING, failure(error)));
    }

    private void giveUp(int from, RuntimeException error) {
        if (advance(from, UNDOING)) {
            keys.release(lost -> fail(UNDOING, error));
        }
    }

    private void granted() {
        KeyGates.turnsAfter(() -> {
            SessionHold hold = new SessionHold(this, keys.settle(), keys::release);
            hold.watch();
            deliver(hold);
        });
    }

    @Override
    GatePass gates() {
        return gates;
    }

    /** Behind the gates it waits for one key at a time, while it has those before it. */
    @Override
    List<LockKey> awaited() {
        if (state == QUEUED) {
            return super.awaited();
        }
        int missing = keys.firstMissing();
        return missing < keys.count() ? List.of(keys.key(missing)) : List.of();
    }

    @Override
    boolean endsAtOnce() {
        return false;
    }

    @Override
    void stoppedEarly(Stop reason) {
        Disposable timer = pause;
        if (timer != null) {
            timer.dispose();
        }
        SessionWait waiting = wait;
        if (waiting != null) {
            waiting.withdraw();
        }
        undo();
    }

    /** A try is answered soon; a wait is not. */
    @Override
    void interrupt() {
        SessionWait waiting = wait;
        if (waiting != null) {
            waiting.stop();
        }
    }

    @Override
    void undo() {
        KeyGates.turnsAfter(() -> keys.release(lost -> stopped()));
    }

    @Override
    public String toString() {
        return "in session " + Objects.toString(spec);
    }
}
