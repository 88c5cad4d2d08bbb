package io.r2lock;

import java.util.Objects;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;
import reactor.core.Disposable;
import reactor.core.Disposables;

/**
 * Takes keys in a transaction of its own: passes the gates of this process, borrows a lock connection, and sends BEGIN and the
 * lock as one message.
 *
 * <p>Who holds something already (a {@code requireNew} inside a hold) never queues at a gate and never waits for the pool:
 * two such chains could wait for each other there, unseen. On the server PostgreSQL sees them.
 */
final class TransactionAcquire extends StatementAcquire implements Borrow.Taker {

    /** How the lock's statement treats a busy key. */
    private enum Attempt {
        /** Blocks on the server, with one of the permits for that. */
        WAIT,
        /** {@code noWait}. */
        TRY,
        /** Another hold of this process has the shared lock, so this one is most likely free too. */
        FOLLOW,
        /** {@code polling}, or no permit was left. */
        POLL
    }

    private final GatePass gates;
    private final LockConnections connections;
    private boolean replaced;
    private Attempt attempt = Attempt.WAIT;
    private final Backoff backoff = new Backoff();
    private final Disposable.Swap pause = Disposables.swap();
    private volatile @Nullable Borrow borrow;
    private @Nullable Lease lease;

    TransactionAcquire(DefaultAdvisoryLocks client, LockSpec spec, @Nullable Hold surrounding, Receiver receiver) {
        super(client, spec, surrounding, receiver);
        this.gates = GatePass.forServer(client.gates(), spec.keys(), spec, this::passed);
        this.connections = client.connections();
    }

    @Override
    void begin() {
        LockKey own = surrounding == null ? null : new HoldChain(surrounding).taken(spec);
        if (own != null) {
            fail(
                    QUEUED,
                    new IllegalStateException("No new " + waited.attempt() + ": the same chain holds " + own
                            + ", so waiting for it could only deadlock itself"));
        } else if (!spec.noWait() && surrounding == null) {
            gates.queue();
        } else if (!spec.noWait()) {
            gates.tryEach();
            passed();
        } else if (gates.tryAll()) {
            passed();
        } else {
            fail(QUEUED, waited.busy("by another caller of this process"));
        }
    }

    private void passed() {
        if (gates.waiter(0).inherited instanceof HandOff from) {
            inherit(from);
            return;
        }
        Borrow asked = new Borrow(connections, this);
        borrow = asked;
        if (advance(QUEUED, BORROWING)) {
            ask(asked);
        }
    }

    private void ask(Borrow asked) {
        if (spec.noWait() || surrounding != null) {
            connections.borrowNow(asked);
        } else {
            connections.borrow(asked);
        }
    }

    @Override
    public void taken(Lease taken) {
        lease = taken;
        LockConnection on = taken.connection();
        if (isUnfit(on, taken::giveBack)) {
            return;
        }
        attempt = chooseAttempt();
        if (attempt != Attempt.POLL) {
            taken.settle();
        }
        boolean ask = attempt != Attempt.WAIT;
        String sql = ask ? LockSql.tryLock(spec.keys(), spec.mode(), on.isPooled()) : waitingLock(on);
        if (!ask) {
            // a wait has no deadline of its own: only the heartbeat can tell that nobody is there to answer
            on.closeWhenLost();
        }
        if (!lock(on, sql, ask)) {
            attemptEnded();
            taken.giveBack();
        }
    }

    /** The connection of the one before at the gate, with its permit to wait on the server. */
    private void inherit(HandOff from) {
        if (!advance(QUEUED, BORROWING)) {
            from.refuse();
            return;
        }
        lease = from.lease();
        LockConnection on = from.lease().connection();
        // a wait on the server, for which a permit came along
        attempt = Attempt.WAIT;
        if (!isUnfit(on, from::refuse) && !lock(on, waitingLock(on), false, from)) {
            from.refuse();
        }
    }

    private boolean isUnfit(LockConnection on, Runnable giveBack) {
        String unfit = on.facts().unfitFor(spec.keys());
        if (unfit == null) {
            return false;
        }
        giveBack.run();
        leaveGates();
        fail(BORROWING, new IllegalArgumentException(unfit));
        return true;
    }

    private String waitingLock(LockConnection on) {
        return LockSql.lock(spec.keys(), spec.mode(), waited.limitMillis(), on.limits(), on.isPooled());
    }

    private Attempt chooseAttempt() {
        if (spec.noWait()) {
            return Attempt.TRY;
        }
        if (surrounding == null && gates.isFollower()) {
            return Attempt.FOLLOW;
        }
        return !spec.polls() && connections.mayWaitOnServer() ? Attempt.WAIT : Attempt.POLL;
    }

    private void attemptEnded() {
        if (attempt == Attempt.WAIT) {
            connections.waitedOnServer();
        }
    }

    @Override
    public void notTaken(Throwable error) {
        leaveGates();
        fail(BORROWING, client.isClosing() ? waited.closed() : failure(error));
    }

    @Override
    public void exhausted() {
        leaveGates();
        fail(BORROWING, waited.noConnection(connections.maxConnections()));
    }

    @Override
    void send(LockConnection on, String sql, boolean ask, Exchange.Listener listener) {
        if (on.isPooled()) {
            on.askWithPid(sql, listener);
        } else {
            super.send(on, sql, ask, listener);
        }
    }

    @Override
    void granted() {
        attemptEnded();
        lease().settle();
        gates.prove();
        TransactionHold hold = new TransactionHold(this, lease());
        connection().heldBy(hold);
        deliver(hold);
    }

    @Override
    void refused(@Nullable Throwable error) {
        LockConnection on = connection();
        if (!on.isUsable() || (error != null && SqlStates.isConnectionGone(SqlStates.of(error)))) {
            on.close();
            attemptEnded();
            lease().giveBack();
            dead(error);
            return;
        }
        on.rollback((rollbackError, yes) -> {
            if (rollbackError != null) {
                on.close();
            }
            if (error == null) {
                busy();
            } else {
                attemptEnded();
                lease().giveBack();
                leaveGates();
                fail(UNDOING, failure(error));
            }
        });
    }

    /** The connection had died before anything was granted on it: replaced once, by a freshly opened one. */
    private void dead(@Nullable Throwable error) {
        if (replaced) {
            leaveGates();
            fail(UNDOING, failure(error != null ? error : new IllegalStateException("the connection was closed")));
            return;
        }
        replaced = true;
        connections.distrustIdle();
        borrowAgain();
    }

    private void borrowAgain() {
        Borrow asked = new Borrow(connections, this);
        borrow = asked;
        if (advance(UNDOING, BORROWING)) {
            ask(asked);
        } else {
            stoppedMeanwhile();
        }
    }

    private void busy() {
        switch (attempt) {
            case POLL -> {
                lease().giveBack();
                poll();
            }
            case FOLLOW -> {
                lease().giveBack();
                if (advance(UNDOING, QUEUED)) {
                    gates.refuse();
                } else {
                    stoppedMeanwhile();
                }
            }
            case TRY, WAIT -> {
                lease().giveBack();
                leaveGates();
                fail(UNDOING, waited.busy("by another process, or by another hold on the server"));
            }
        }
    }

    private void poll() {
        if (!advance(UNDOING, PAUSING)) {
            stoppedMeanwhile();
            return;
        }
        pause.update(client.options().clock().schedule(this::pollAgain, backoff.nextMillis(), TimeUnit.MILLISECONDS));
    }

    private void pollAgain() {
        Borrow asked = new Borrow(connections, this);
        borrow = asked;
        if (advance(PAUSING, BORROWING)) {
            ask(asked);
        }
    }

    private void stoppedMeanwhile() {
        leaveGates();
        stopped();
    }

    @Override
    void withdraw() {
        pause.dispose();
        Borrow asked = borrow;
        if (asked != null) {
            asked.cancel();
        }
        leaveGates();
    }

    @Override
    void undo() {
        LockConnection on = connection();
        if (!on.isUsable()) {
            undone();
            return;
        }
        on.rollback((error, yes) -> {
            if (error != null) {
                on.close();
            }
            undone();
        });
    }

    private void undone() {
        attemptEnded();
        lease().giveBack();
        leaveGates();
        stopped();
    }

    /** Also called by the hold when it has ended. */
    void leaveGates() {
        gates.leave();
    }

    @Override
    GatePass gates() {
        return gates;
    }

    private Lease lease() {
        return Objects.requireNonNull(lease);
    }
}
