package io.r2lock;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;

/**
 * The calls that wait for a message, each the only one of its key. Not safe by itself: only the connection's drain uses it.
 *
 * <p>Unlocks go before locks, in a message and in the queue: the locks may need what those free, be it a key or room in the
 * server's lock table. Calls of a failed batch are repeated, and then go alone, so that the error of one is its own.
 */
final class SessionQueue {

    /** A message takes about a microsecond a call on the server, and nobody should wait a millisecond for others. */
    static final int LARGEST_BATCH = 512;

    /** A message costs as much as some tens of calls. */
    static final int WORTH_SPLITTING = 64;

    private final ArrayDeque<SessionCall> unlocks = new ArrayDeque<>();
    private final ArrayDeque<SessionCall> locks = new ArrayDeque<>();
    private final ArrayDeque<SessionCall> repeats = new ArrayDeque<>();

    void add(SessionCall call) {
        (call.isUnlock() ? unlocks : locks).add(call);
    }

    void repeat(SessionCall call) {
        call.said = null;
        repeats.add(call);
    }

    /** Whether the next message must be the only one in flight. */
    boolean isAlone() {
        return !repeats.isEmpty();
    }

    boolean isEmpty() {
        return unlocks.isEmpty() && locks.isEmpty() && repeats.isEmpty();
    }

    /**
     * The calls of the next message; the queue is not empty.
     *
     * @param both two messages may be sent now
     */
    List<SessionCall> next(boolean both) {
        int size = unlocks.size() + locks.size();
        // else this process waits for the server, and the server for it, with half of the machine idle each
        int most = both && size >= WORTH_SPLITTING ? Math.min(LARGEST_BATCH, (size + 1) / 2) : LARGEST_BATCH;
        List<SessionCall> calls = new ArrayList<>(Math.min(most, size + 1));
        take(unlocks, calls, most);
        if (repeats.isEmpty()) {
            take(locks, calls, most);
        } else if (calls.isEmpty()) {
            calls.add(repeats.remove());
        }
        return calls;
    }

    private static void take(ArrayDeque<SessionCall> from, List<SessionCall> calls, int most) {
        while (calls.size() < most && !from.isEmpty()) {
            calls.add(from.remove());
        }
    }

    void clear() {
        unlocks.clear();
        locks.clear();
        repeats.clear();
    }
}
