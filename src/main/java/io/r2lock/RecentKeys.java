package io.r2lock;

import java.util.concurrent.atomic.AtomicReferenceArray;

/**
 * The keys that were asked for last, at most one for each of a fixed number of places. So that two names on one number are noticed
 * also where no gate of the process is met, as in ambient transactions; where very many keys are asked for at a time, not each pair is.
 */
final class RecentKeys {

    private static final int PLACES = 1 << 12;

    private final AtomicReferenceArray<LockKey> places = new AtomicReferenceArray<>(PLACES);
    private final Collisions collisions;

    RecentKeys(Collisions collisions) {
        this.collisions = collisions;
    }

    void asked(LockSpec spec) {
        for (LockKey key : spec.keys()) {
            int hash = key.hashCode();
            int place = (hash ^ (hash >>> 16)) & (PLACES - 1);
            LockKey last = places.get(place);
            if (key.equals(last)) {
                collisions.met(last, key);
            }
            places.set(place, key);
        }
    }
}
