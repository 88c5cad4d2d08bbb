package io.r2lock;

import org.jspecify.annotations.Nullable;

/**
 * A hold and those around it, outwards.
 *
 * @param innermost where it begins
 */
record HoldChain(Hold innermost) {

    /** The nearest hold that has the key. */
    @Nullable
    Hold ownerOf(LockKey key) {
        for (Hold hold = innermost; hold != null; hold = hold.surrounding) {
            if (hold.spec.keys().contains(key)) {
                return hold;
            }
        }
        return null;
    }

    /** The nearest transaction. */
    @Nullable
    TransactionHold transaction() {
        for (Hold hold = innermost; hold != null; hold = hold.surrounding) {
            if (hold.root() instanceof TransactionHold transaction) {
                return transaction;
            }
        }
        return null;
    }

    /** The first of the keys that anything of the chain has: waiting for it on another connection would be for ever. */
    @Nullable
    LockKey taken(Iterable<LockKey> keys) {
        for (LockKey key : keys) {
            for (Hold hold = innermost; hold != null; hold = hold.surrounding) {
                if (hold.root().hasTaken(key)) {
                    return key;
                }
            }
        }
        return null;
    }

    /** Whether a transaction of the chain other than {@code own} has the key. */
    boolean isTakenByOther(@Nullable TransactionHold own, LockKey key) {
        for (Hold hold = innermost; hold != null; hold = hold.surrounding) {
            if (hold.root() instanceof TransactionHold other && other != own && other.hasTaken(key)) {
                return true;
            }
        }
        return false;
    }
}
