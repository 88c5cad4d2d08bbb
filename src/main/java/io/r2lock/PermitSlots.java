package io.r2lock;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;

/**
 * The slots of one key, as this process knows them. Belongs to its gate.
 *
 * <pre>
 *   unknown ──next──▶ TAKEN (tried, held, or being given back) ──▶ unknown
 *      ▲                └──▶ RESTING, so that other processes have their chance
 *      └──────────────────────┘
 * </pre>
 */
final class PermitSlots {

    private final int count;
    private final BitSet taken = new BitSet();
    private final BitSet resting = new BitSet();

    /** What is left of the round, in the order in which it is tried. */
    private final ArrayDeque<Integer> untried = new ArrayDeque<>();

    PermitSlots(int count) {
        this.count = count;
    }

    int count() {
        return count;
    }

    boolean noneIsTaken() {
        return taken.isEmpty();
    }

    boolean allAreTaken() {
        return taken.cardinality() == count;
    }

    /** A round of all that this process does not use itself. */
    void beginRound() {
        List<Integer> all = new ArrayList<>(count);
        for (int slot = 0; slot < count; slot++) {
            if (!taken.get(slot) && !resting.get(slot)) {
                all.add(slot);
            }
        }
        Collections.shuffle(all, ThreadLocalRandom.current());
        untried.addAll(all);
    }

    boolean isRoundOver() {
        return untried.isEmpty();
    }

    void endRound() {
        untried.clear();
    }

    /** The next one of the round, to be tried. */
    int next() {
        int slot = untried.remove();
        taken.set(slot);
        return slot;
    }

    /** It is not held here any more, or was not to be had. */
    void release(int slot) {
        taken.clear(slot);
    }

    /** Is the next one to be tried. */
    void tryNext(int slot) {
        untried.addFirst(slot);
    }

    void rest(int slot) {
        taken.clear(slot);
        resting.set(slot);
    }

    /** {@code false} if it does not rest. */
    boolean wake(int slot) {
        boolean rested = resting.get(slot);
        resting.clear(slot);
        return rested;
    }

    void wakeAll() {
        resting.clear();
    }
}
