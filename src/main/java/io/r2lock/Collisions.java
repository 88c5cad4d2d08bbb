package io.r2lock;

import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.BiConsumer;

/**
 * Two different names that are one number, and so one lock: each pair is told once, as many pairs as {@link #MOST}, so that a client
 * which meets ever new ones does not remember them all.
 */
final class Collisions {

    static final int MOST = 1_000;

    private final BiConsumer<LockKey, LockKey> told;

    /** Unordered pairs of {@link LockKey#origin}. */
    private final Set<Set<Object>> pairs = ConcurrentHashMap.newKeySet();

    Collisions(BiConsumer<LockKey, LockKey> told) {
        this.told = told;
    }

    /** Both are one number. Called outside of every lock, as it runs the listener. */
    void met(LockKey known, LockKey asked) {
        Object first = known.origin();
        Object second = asked.origin();
        // a number without a name contradicts none: somebody may have made it from the same text
        if (first == null || second == null || first.equals(second)) {
            return;
        }
        Set<Object> pair = Set.of(first, second);
        if (!pairs.contains(pair) && pairs.size() < MOST && pairs.add(pair)) {
            told.accept(known, asked);
        }
    }

    /** The keys of one request, as given and as they are without repetitions, which are the answer. */
    List<LockKey> within(List<LockKey> distinct, LockKey... given) {
        return given.length == 0 ? distinct : within(distinct, Arrays.asList(given));
    }

    List<LockKey> within(List<LockKey> distinct, Collection<LockKey> given) {
        for (LockKey key : given) {
            met(distinct.get(Collections.binarySearch(distinct, key)), key);
        }
        return distinct;
    }
}
