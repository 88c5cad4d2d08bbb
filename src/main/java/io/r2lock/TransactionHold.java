package io.r2lock;

import io.r2dbc.spi.Connection;
import io.r2lock.AdvisoryLockException.Failure;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;

/**
 * A hold that is a transaction.
 *
 * <pre>
 *   HELD ──▶ COMMITTING   ──▶ outcome: committed, refused, unknown or lost
 *     └────▶ ROLLING_BACK ──▶ outcome: released
 * </pre>
 *
 * <p>Whoever moves it away from {@code HELD} ends it, in this order: what runs inside it is ended; the connection's lane is
 * entered alone, so that nothing of it is on the wire any more; COMMIT or ROLLBACK; the connection goes back to the pool; the
 * gates pass on; the outcome is told. A connection that is not surely clean is closed instead.
 */
final class TransactionHold extends Hold {

    private enum State {
        HELD,
        COMMITTING,
        ROLLING_BACK
    }

    private final TransactionAcquire own;
    private final Lease lease;
    private final LockConnection connection;
    private final Lane lane = new Lane(this);
    private final HeldConnection view;
    private final AtomicReference<State> state = new AtomicReference<>(State.HELD);

    /** Places at the gates of this process for keys that nested requests took: they end with this transaction. */
    private final Queue<Waiter> nestedPlaces = new ConcurrentLinkedQueue<>();

    TransactionHold(TransactionAcquire acquire, Lease lease) {
        super(acquire);
        this.own = acquire;
        this.lease = lease;
        this.connection = lease.connection();
        this.view = new HeldConnection(this);
    }

    @Override
    TransactionHold root() {
        return this;
    }

    @Override
    public Connection connection() {
        return view;
    }

    LockConnection lockConnection() {
        return connection;
    }

    Lane lane() {
        return lane;
    }

    @Override
    boolean isLive() {
        return isHeld();
    }

    @Override
    boolean isHeld() {
        return state.get() == State.HELD;
    }

    @Override
    boolean isCommit() {
        return state.get() == State.COMMITTING;
    }

    void keepUntilEnd(List<Waiter> places) {
        nestedPlaces.addAll(places);
    }

    @Override
    boolean end(boolean commit) {
        if (!state.compareAndSet(State.HELD, commit ? State.COMMITTING : State.ROLLING_BACK)) {
            return false;
        }
        endChildren();
        if (commit) {
            lane.close(this::sendCommit);
        } else {
            lane.cancelAndClose(this::sendRollback);
        }
        return true;
    }

    private void sendCommit() {
        if (!connection.isUsable()) {
            connection.close();
            finish(lost("its connection closed, or a statement of the work was left unread, before COMMIT; nothing was"
                    + " committed"));
        } else if (!connection.isInTransaction()) {
            connection.rollback((error, yes) ->
                    finish(lost("a statement of the work itself ended the lock's transaction, and with it the lock")));
        } else {
            connection.commit((error, yes) -> finish(error == null ? null : commitFailure(error)));
        }
    }

    /** Where the server has answered, its error is the caller's; the transaction status says whether it has. */
    private Throwable commitFailure(Throwable error) {
        if (connection.isUsable() && !connection.isInTransaction()) {
            return error;
        }
        connection.close();
        return new CommitOutcomeUnknownException(
                "Unknown whether COMMIT succeeded: the connection broke, or the deadline of "
                        + LockConnection.COMMIT_DEADLINE_SECONDS + " s passed, before the answer came. It ended the "
                        + attempt() + " after " + heldMillis() + " ms. Look for what the work wrote.",
                attempt(),
                new Failure(error, SqlStates.of(error)));
    }

    private void sendRollback() {
        if (!connection.isUsable()) {
            connection.close();
            finish(null);
            return;
        }
        connection.rollback((error, yes) -> {
            if (error != null) {
                connection.close();
            }
            finish(error);
        });
    }

    private void finish(@Nullable Throwable error) {
        lease.giveBack();
        own.leaveGates();
        for (Waiter place = nestedPlaces.poll(); place != null; place = nestedPlaces.poll()) {
            client.gates().leave(place);
        }
        ended(error);
    }
}
