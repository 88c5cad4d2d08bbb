package io.r2lock;

import io.r2dbc.spi.Connection;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;

/**
 * A hold that uses what those around it have: their keys, or the transaction of one. Its end gives up its turn among its siblings;
 * what it locked in a transaction stays locked until that ends, and so its commit and its release are the same, but for one thing: SQL of the work may have freed the
 * lock, by rolling back to a savepoint that is older, and then the end is no success.
 *
 * <pre>
 *   HELD ──▶ COMMITTED ── a statement may have freed it ──▶ asks the server ──▶ ended, or lost
 *     └────▶ RELEASED ──▶ ended
 * </pre>
 */
final class JoinedHold extends Hold {

    private enum State {
        HELD,
        COMMITTED,
        RELEASED
    }

    private final JoinedAcquire own;
    private final Hold parent;
    private final @Nullable TransactionHold transaction;
    private final int freeingBefore;
    private final AtomicReference<State> state = new AtomicReference<>(State.HELD);

    JoinedHold(JoinedAcquire acquire, Hold parent) {
        super(acquire);
        this.own = acquire;
        this.parent = parent;
        this.transaction = acquire.transaction();
        this.freeingBefore = transaction == null ? 0 : transaction.lane().freeing();
    }

    @Override
    Hold root() {
        return parent.root();
    }

    @Override
    public Connection connection() {
        return transaction == null ? parent.connection() : transaction.connection();
    }

    @Override
    Mono<FencingToken> askToken() {
        return JoinedToken.ask(this, own);
    }

    @Override
    public int backendPid() {
        return own.holder().backendPid();
    }

    @Override
    boolean isLive() {
        return isOpen() && own.isAnchored();
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
        if (!state.compareAndSet(State.HELD, commit ? State.COMMITTED : State.RELEASED)) {
            return false;
        }
        endChildren();
        if (commit && !own.missing().isEmpty() && taken().lane().freeing() != freeingBefore) {
            verify();
        } else {
            conclude(null);
        }
        return true;
    }

    /** The keys that it has locked itself, beside what surrounds it. */
    List<LockKey> locked() {
        return own.missing();
    }

    /** Where the keys that it has locked itself are. */
    TransactionHold taken() {
        return Objects.requireNonNull(transaction);
    }

    /** What {@link Lane#freeing} was when it had its keys. */
    int freeingBefore() {
        return freeingBefore;
    }

    private void verify() {
        Lane lane = taken().lane();
        Waiter alone = lane.place(LockMode.EXCLUSIVE, this::ask);
        lane.section(alone, () -> ask(alone));
    }

    private void ask(Waiter alone) {
        LockConnection on = taken().lockConnection();
        // the lane's rule: entered first, the hold looked at after
        if (!taken().isLive() || !on.isUsable()) {
            taken().lane().leave(alone);
            conclude(lost("the surrounding hold ended first", null));
            return;
        }
        long limit = on.mustEndWithin(LockConnection.STOP_DEADLINE_SECONDS, () -> {});
        on.ask(LockSql.isHeld(own.missing(), mode()), (error, yes) -> {
            on.inTime(limit);
            taken().lane().leave(alone);
            conclude(yes && error == null ? null : failure(error));
        });
    }

    /** A transaction that has failed before is for the surrounding hold to tell: its COMMIT will be refused. */
    private @Nullable Throwable failure(@Nullable Throwable error) {
        if (error == null) {
            return lost("a statement of the work itself freed it, by rolling back to an older savepoint say", null);
        }
        return SqlStates.isConnectionGone(SqlStates.of(error))
                ? lost("the connection of the surrounding hold is gone", error)
                : null;
    }

    private void conclude(@Nullable Throwable error) {
        own.leave();
        ended(error);
    }
}
