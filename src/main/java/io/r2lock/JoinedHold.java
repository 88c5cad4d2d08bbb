package io.r2lock;

import io.r2dbc.spi.Connection;
import java.util.concurrent.atomic.AtomicReference;

/**
 * A hold inside another one's transaction. Its end gives up its turn among its siblings; what it locked stays locked until
 * the transaction ends, and so its commit and its release are the same.
 */
final class JoinedHold extends Hold {

    private enum State {
        HELD,
        COMMITTED,
        RELEASED
    }

    private final JoinedAcquire own;
    private final Hold parent;
    private final AtomicReference<State> state = new AtomicReference<>(State.HELD);

    JoinedHold(JoinedAcquire acquire, Hold parent) {
        super(acquire);
        this.own = acquire;
        this.parent = parent;
    }

    @Override
    TransactionHold root() {
        return parent.root();
    }

    @Override
    public Connection connection() {
        return root().connection();
    }

    @Override
    boolean isLive() {
        return isHeld() && parent.isLive();
    }

    @Override
    boolean isHeld() {
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
        parent.abandon(own);
        own.leaveTurns();
        ended(null);
        return true;
    }
}
