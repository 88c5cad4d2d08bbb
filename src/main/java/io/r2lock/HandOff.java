package io.r2lock;

import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * A connection that passes from a hold which ends to the next waiter at the gate of its key: BEGIN and the lock follow the COMMIT
 * at once, as a message of their own, so that the COMMIT's answer does not wait for the lock.
 *
 * <pre>
 *   OPEN ──claimed──▶ CLAIMED ──all answered──▶ DONE: the heir may do as it likes, or the lease goes back
 *     └──all answered──▶ DONE ──claimed──▶ the same, at once
 * </pre>
 *
 * <p>Until all that the first one sent is answered, the connection is still its own: no CancelRequest, which would hit its
 * COMMIT, no deadline of the heir's, nobody who closes it because a wait ended. It is claimed once, by the heir that sends on it or by
 * the one that was stopped before; so the lease goes back once, and never under a COMMIT.
 */
final class HandOff implements Waiter.Baton {

    private final DefaultAdvisoryLocks client;
    private final Waiter place;
    private final Lease lease;
    private final long since;
    private boolean passed;

    /** The answer to the end of the transaction, that to the cleaning behind it, and the claim. */
    private final AtomicInteger missing = new AtomicInteger(3);

    private volatile @Nullable Runnable claim;

    /** {@code place}: of the hold that ends, at the gate; {@code since}: when it was granted. */
    HandOff(DefaultAdvisoryLocks client, Waiter place, Lease lease, long since) {
        this.client = client;
        this.place = place;
        this.lease = lease;
        this.since = place.inherited instanceof HandOff before ? before.since : since;
    }

    /**
     * Gives place and lease to the next waiter at the gate, with a permit to wait on the server, if all that can be. Behind a pooler
     * it cannot: the heir's backend is another one there, and which one shows only in the answer.
     *
     * @return the heir, whose turn is to be told behind the end of the transaction, or null
     */
    @Nullable
    Waiter pass(LockSpec spec) {
        boolean may = spec.keys().size() == 1 && !lease.connection().isPooled();
        if (!may || !client.connections().mayWaitOnServer()) {
            return null;
        }
        Waiter heir = client.gates().handOver(place, this);
        passed = heir != null;
        if (!passed) {
            client.connections().waitedOnServer();
        }
        return heir;
    }

    boolean isPassed() {
        return passed;
    }

    /** Not passed on, and all has ended: after a full row the gate stays closed a little, so that others have a gap. */
    void leave(Runnable gates) {
        if (place.rests) {
            long now = client.now();
            client.options().clock().schedule(gates, Rest.nanos(since, now, now), TimeUnit.NANOSECONDS);
        } else {
            gates.run();
        }
    }

    @Override
    public boolean isGood() {
        return lease.connection().isUsable();
    }

    Lease lease() {
        return lease;
    }

    /** Called twice, when the end of the transaction is answered and when the cleaning is. */
    void answered() {
        oneLess();
    }

    /** The heir sends on it; {@code whenAnswered} runs once the connection is the heir's alone, which may be at once. */
    void take(Runnable whenAnswered) {
        claim = whenAnswered;
        oneLess();
    }

    private void oneLess() {
        if (missing.decrementAndGet() == 0) {
            Objects.requireNonNull(claim).run();
        }
    }

    /** The heir has sent nothing on it, and never will. */
    void refuse() {
        take(() -> {
            client.connections().waitedOnServer();
            lease.giveBack();
        });
    }
}
