package io.r2lock;

import java.util.ArrayDeque;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * The items of a {@link KeyedStream} that were asked for and are not gone, each behind those that came before with one of its keys.
 *
 * <pre>
 *   asked for ──▶ WAITING ──first at each of its keys──▶ READY ──slot──▶ RUNNING ──hold ended──▶ ENDED ──values taken──▶ gone
 *                    └──next at the one key of a running one──▶ QUEUED at the gate ──takes its slot──▲
 * </pre>
 *
 * <p>Invariants: never more than {@link #capacity}, those included that are asked for; at most {@link #concurrency} are RUNNING; of
 * the items of one key at most one is RUNNING, and at most one is QUEUED, behind it.
 *
 * <p>An item is QUEUED while the one before it runs so that the gate hands the lock over between them, without the server. That is
 * done only where nobody can tell the difference: not where it could fail because of the one before, or count as one more waiter, or
 * go in first; and not while others are READY, which else would never get the slot.
 *
 * <p>Belongs to whoever has the stream's drain.
 */
final class KeyedWindow<R, V> {

    private final int concurrency;
    private final int capacity;
    private final boolean queues;

    /** The last item of each key that has not ended. */
    private final Map<LockKey, KeyedItem<R, V>> last = new HashMap<>();

    private final Set<KeyedItem<R, V>> all = new HashSet<>();
    private final Deque<KeyedItem<R, V>> ready = new ArrayDeque<>();

    /** Those whose followers may be QUEUED now. */
    private final Deque<KeyedItem<R, V>> leaders = new ArrayDeque<>();

    private final Deque<KeyedItem<R, V>> ended = new ArrayDeque<>();
    private int asked;
    private int running;

    KeyedWindow(int concurrency, boolean queues) {
        this.concurrency = concurrency;
        this.capacity = concurrency * KeyedFlux.LOOK_AHEAD;
        this.queues = queues;
    }

    boolean isEmpty() {
        return all.isEmpty();
    }

    /** How many more the source may send now. */
    int ask() {
        int more = capacity - all.size() - asked;
        asked += more;
        return more;
    }

    /** {@code false}: nobody asked for it. */
    boolean come(KeyedItem<R, V> item) {
        all.add(item);
        if (asked == 0) {
            return false;
        }
        asked--;
        for (LockKey key : item.spec.keys()) {
            KeyedItem<R, V> before = last.put(key, item);
            if (before != null) {
                before.followers.add(item);
                item.waitsFor++;
                leaders.add(before);
            }
        }
        if (item.waitsFor == 0) {
            ready.add(item);
        }
        return true;
    }

    /** It has ended; the answer is its error, or null. */
    @Nullable
    Throwable take(KeyedItem<R, V> item) {
        if (item.waitsFor > 0) {
            // an error that it met in the queue is not told before the others have ended
            item.endedEarly = true;
            return null;
        }
        Throwable error = item.error();
        if (error != null) {
            return error;
        }
        running--;
        item.settle();
        if (item.hasNext()) {
            ended.add(item);
        } else {
            all.remove(item);
        }
        for (LockKey key : item.spec.keys()) {
            last.remove(key, item);
        }
        for (KeyedItem<R, V> follower : item.followers) {
            follower.waitsFor--;
            if (follower.waitsFor == 0) {
                error = follow(follower);
            }
        }
        return error;
    }

    /** Nothing is before it any more; one that is QUEUED is the only one that its leader has. */
    private @Nullable Throwable follow(KeyedItem<R, V> item) {
        if (!item.isSubscribed()) {
            ready.add(item);
            return null;
        }
        running++;
        leaders.add(item);
        item.turnComes();
        return item.endedEarly ? take(item) : null;
    }

    /** Lets those run that can. */
    void start() {
        while (running < concurrency && !ready.isEmpty()) {
            KeyedItem<R, V> item = ready.remove();
            running++;
            leaders.add(item);
            item.subscribe();
        }
        for (KeyedItem<R, V> leader = leaders.poll(); leader != null; leader = leaders.poll()) {
            if (queues && ready.isEmpty() && !leader.followers.isEmpty()) {
                queue(leader.followers.get(0), leader);
            }
        }
    }

    private void queue(KeyedItem<R, V> item, KeyedItem<R, V> leader) {
        boolean leads = leader.isSubscribed() && leader.waitsFor == 0;
        // who has one key only waits until its one leader has ended
        if (leads && item.waitsFor > 0 && !item.isSubscribed() && item.canQueueBehind(leader)) {
            item.queueBehind(leader);
        }
    }

    boolean hasValue() {
        return !ended.isEmpty();
    }

    V nextValue() {
        KeyedItem<R, V> item = ended.element();
        V value = item.next();
        if (!item.hasNext()) {
            ended.remove();
            all.remove(item);
        }
        return value;
    }

    /** The stream is over. */
    void drop() {
        all.forEach(KeyedItem::drop);
        all.clear();
        last.clear();
        ready.clear();
        leaders.clear();
        ended.clear();
    }
}
