package io.r2lock;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * The holds around a request, outwards, as they were when it was made. One that had ended, or was ending, is left out: what is
 * inside may live on without it, on another connection.
 */
final class HoldChain {

    private final List<Hold> live = new ArrayList<>(2);

    HoldChain(@Nullable Hold innermost) {
        for (Hold hold = innermost; hold != null; hold = hold.surrounding) {
            if (hold.isLive()) {
                live.add(hold);
            }
        }
    }

    /** The nearest one; null where none is left. */
    @Nullable
    Hold innermost() {
        return live.isEmpty() ? null : live.get(0);
    }

    /** The nearest hold that has the key, as a lock or as a permit, as it is asked for. */
    @Nullable
    Hold ownerOf(LockKey key, LockSpec asked) {
        for (Hold hold : live) {
            if (hold.spec.permits() == asked.permits() && hold.spec.keys().contains(key)) {
                return hold;
            }
        }
        return null;
    }

    /** How many of the keys some hold has. */
    long owned(LockSpec asked) {
        return asked.keys().stream().filter(key -> ownerOf(key, asked) != null).count();
    }

    /** The nearest transaction, if that is r2lock's own. */
    @Nullable
    TransactionHold transaction() {
        for (Hold hold : live) {
            if (hold.root() instanceof AmbientHold) {
                return null;
            }
            if (hold.root() instanceof TransactionHold transaction) {
                return transaction;
            }
        }
        return null;
    }

    /** The first of the keys that anything of the chain has in the same way: waiting for it on another connection would be for ever. */
    @Nullable
    LockKey taken(LockSpec asked) {
        for (LockKey key : asked.keys()) {
            for (Hold hold : live) {
                Hold root = hold.root();
                if (root.spec.permits() == asked.permits() && root.hasTaken(key)) {
                    return key;
                }
            }
        }
        return null;
    }

    /**
     * The error of a wait that must not be for ever, or null: PostgreSQL sees a cycle of waits only where those who hold and those who
     * wait are the same backends, and in session scope they are not. A permit around it does no harm: who waits for one while it
     * holds something does not wait for ever.
     */
    @Nullable
    IllegalArgumentException unbounded(LockSpec asked) {
        boolean unseen = asked.inSession() || live.stream().anyMatch(HoldChain::isSessionLock);
        boolean isBounded = asked.noWait() || asked.maxWait() != null;
        // what it has already is refused for that reason
        if (live.isEmpty() || !unseen || isBounded || taken(asked) != null) {
            return null;
        }
        return new IllegalArgumentException("wait must be bounded for the " + asked.attempt(Duration.ZERO)
                + ", was for ever: it waits inside another hold, one of the two is in session scope, and PostgreSQL does not see a"
                + " cycle of such waits. Use waitAtMost or noWait.");
    }

    private static boolean isSessionLock(Hold hold) {
        return hold.root() instanceof SessionHold root && root.spec.permits() == 0;
    }

    /** Whether a transaction of the chain other than {@code own} has the key. */
    boolean isTakenByOther(@Nullable TransactionHold own, LockKey key, LockSpec asked) {
        if (own == null || asked.permits() != 0) {
            // nothing can be missing where there is no transaction of its own
            return false;
        }
        for (Hold hold : live) {
            if (hold.root() instanceof TransactionHold other && other != own && other.hasTaken(key)) {
                return true;
            }
        }
        return false;
    }
}
