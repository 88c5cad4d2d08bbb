package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import io.r2dbc.spi.Connection;
import io.r2lock.AdvisoryLockException.Failure;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;

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
 * gates pass on; the outcome is told. A connection that is not surely clean is closed instead. Where the next waiter of this
 * process can use the connection, both pass on to it as soon as COMMIT or ROLLBACK is sent ({@link HandOff}).
 *
 * <p>A loss is an end by {@code ROLLING_BACK} without a word to the server: the connection is closed first, because the server
 * may not answer, and the work is cancelled before the gates pass on. In {@code COMMITTING} a loss that is told comes too late: the COMMIT's own result wins.
 */
final class TransactionHold extends SqlHold implements LockConnection.Holder {

    private enum State {
        HELD,
        COMMITTING,
        ROLLING_BACK
    }

    private final TransactionAcquire own;
    private final Lease lease;
    private final LockConnection connection;
    private final Lane lane = new Lane();
    private final HeldConnection view;
    private final AtomicReference<State> state = new AtomicReference<>(State.HELD);
    private volatile boolean lockGone;

    /** Whether lease and place were passed on; null where the end was not sent. */
    private volatile @Nullable HandOff handOff;

    /** What nested requests took: it stays locked until this transaction ends, whenever their own holds do. */
    private final Set<LockKey> nestedKeys = ConcurrentHashMap.newKeySet();

    /** Their places at the gates of this process. */
    private final Queue<GatePass> nestedPlaces = new ConcurrentLinkedQueue<>();

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

    @Override
    public int backendPid() {
        return connection.pid();
    }

    LockConnection lockConnection() {
        return connection;
    }

    @Override
    Lane lane() {
        return lane;
    }

    @Override
    PostgresqlConnection wire() {
        return connection.wire();
    }

    @Override
    boolean isUsable() {
        return connection.isUsable();
    }

    @Override
    void marksConnection() {
        connection.forUser();
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
        return state.get() == State.COMMITTING;
    }

    void keepUntilEnd(List<LockKey> keys, GatePass places) {
        nestedKeys.addAll(keys);
        nestedPlaces.add(places);
    }

    Set<LockKey> nestedKeys() {
        return nestedKeys;
    }

    @Override
    boolean hasTaken(LockKey key) {
        return spec.keys().contains(key) || nestedKeys.contains(key);
    }

    @Override
    Mono<FencingToken> askToken() {
        // BEGIN and the lock stand in one message, so that no id can have been assigned before the grant
        return TokenStatement.ask(this, this, spec.keys(), 0);
    }

    @Override
    boolean end(boolean commit) {
        if (!state.compareAndSet(State.HELD, commit ? State.COMMITTING : State.ROLLING_BACK)) {
            return false;
        }
        endChildren();
        if (commit) {
            lane.close(connection, this::sendCommit);
        } else {
            lane.cancelAndClose(connection, client.options().clock(), this::sendRollback);
        }
        return true;
    }

    @Override
    public boolean inTransaction() {
        return true;
    }

    @Override
    public void lose(String why) {
        lose(why, null);
    }

    @Override
    void lose(String why, @Nullable Throwable cause) {
        LockLostException lost = lost(why, cause);
        if (!isOpen() || !endsBecause(lost)) {
            return;
        }
        if (!state.compareAndSet(State.HELD, State.ROLLING_BACK)) {
            // a commit or a release that came first has the last word
            endedOtherwise(lost);
            return;
        }
        // before the work is told, whose own code may block
        connection.close();
        client.reports().lost(this, why);
        tellWorker(lost);
        endChildren();
        lane.cancelAndClose(connection, client.options().clock(), this::sendRollback);
    }

    private void sendCommit() {
        if (!connection.isUsable()) {
            connection.close();
            finishLost("its connection closed, or a statement of the work was left unread, before COMMIT; nothing was"
                    + " committed");
        } else if (!connection.isInTransaction()) {
            connection.rollback((error, yes) -> {
                if (error != null) {
                    connection.close();
                }
                finishLost("a statement of the work itself ended the lock's transaction, and with it the lock");
            });
        } else {
            sendAndPassOn(cleaned -> connection.commit(
                    () -> LockSql.mustBeHeld(spec.keys(), spec.mode()),
                    (error, yes) -> lockGone = error != null && SqlStates.isLockGone(SqlStates.of(error)),
                    (error, yes) -> committed(error),
                    cleaned));
        }
    }

    /** It is decided before the end is sent, whose answer may come at once, and told behind it. */
    private void sendAndPassOn(Consumer<Runnable> end) {
        HandOff next = new HandOff(client, own.gates().waiter(0), lease, since());
        Waiter heir = next.pass(spec);
        handOff = next;
        try {
            end.accept(next::answered);
        } finally {
            KeyGates.tell(heir);
        }
    }

    private void committed(@Nullable Throwable error) {
        if (error == null) {
            finish(null);
        } else if (!connection.isUsable() || connection.isInTransaction()) {
            finish(outcomeUnknown(error));
        } else if (lockGone) {
            finishLost(
                    "a statement of the work itself freed the lock, by COMMIT AND CHAIN say; what it wrote since was rolled"
                            + " back");
        } else {
            // the server has answered, so its error is the caller's
            finish(error);
        }
    }

    private void finishLost(String why) {
        client.reports().lost(this, why);
        finish(lost(why, null));
    }

    private Throwable outcomeUnknown(Throwable error) {
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
        sendAndPassOn(cleaned -> connection.rollback(
                (error, yes) -> {
                    if (error != null) {
                        connection.close();
                    }
                    finish(error);
                },
                cleaned));
    }

    private void finish(@Nullable Throwable error) {
        HandOff next = handOff;
        if (next == null) {
            lease.giveBack();
            own.leaveGates();
        } else if (next.isPassed()) {
            next.answered();
        } else {
            lease.giveBack();
            next.leave(own::leaveGates);
        }
        for (GatePass places = nestedPlaces.poll(); places != null; places = nestedPlaces.poll()) {
            places.leave();
        }
        lane.ended();
        ended(error);
    }
}
