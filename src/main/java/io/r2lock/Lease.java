package io.r2lock;

import java.util.concurrent.atomic.AtomicBoolean;
import reactor.pool.PooledRef;

/** A borrowed lock connection; goes back once, whoever gives it back, and closed where it must not be used again. */
final class Lease {

    private final LockConnections owner;
    private final PooledRef<LockConnection> slot;
    private final AtomicBoolean back = new AtomicBoolean();

    Lease(LockConnections owner, PooledRef<LockConnection> slot) {
        this.owner = owner;
        this.slot = slot;
    }

    LockConnection connection() {
        return slot.poolable();
    }

    /** Gives the connection back; the pool may hand it to the next borrower before this returns. */
    void giveBack() {
        if (back.compareAndSet(false, true)) {
            owner.takeBack(slot);
        }
    }

    /** Hands the connection on to a borrower that waits for just this; whether it still did. */
    boolean handTo(Borrow borrow) {
        if (!back.compareAndSet(false, true)) {
            return false;
        }
        boolean taken = borrow.take(slot);
        if (!taken) {
            back.set(false);
        }
        return taken;
    }
}
