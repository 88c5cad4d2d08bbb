package io.r2lock;

import java.util.concurrent.atomic.AtomicBoolean;
import reactor.pool.PooledRef;

/** A borrowed lock connection; goes back once, whoever gives it back, and closed where it must not be used again. */
final class Lease {

    private final LockConnections owner;
    private final PooledRef<LockConnection> slot;
    private final AtomicBoolean back = new AtomicBoolean();
    private volatile boolean settled;

    Lease(LockConnections owner, PooledRef<LockConnection> slot) {
        this.owner = owner;
        this.slot = slot;
    }

    LockConnection connection() {
        return slot.poolable();
    }

    /** From now on the connection will not be back soon; called by who has the lease, before it is given back. */
    void settle() {
        if (!settled) {
            settled = true;
            owner.settles();
        }
    }

    /** Gives the connection back; the pool may hand it to the next borrower before this returns. */
    void giveBack() {
        if (back.compareAndSet(false, true)) {
            connection().letGo();
            owner.takeBack(slot, settled);
        }
    }
}
