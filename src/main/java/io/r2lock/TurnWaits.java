package io.r2lock;

import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Who waits for whom among the requests inside one outermost hold, for keys that are held already. Siblings that nest B, D and
 * D, B wait for each other's turns,
 * and as they are one backend PostgreSQL cannot see it: so who would close such a cycle is refused.
 *
 * <p>A request waits for those that came to one of its keys before it, unless both are shared, and, once granted, for the
 * requests of its own work: work that does not wait for what it subscribes to is taken to do so. A cycle is closed only by a
 * wait that begins, so it is looked for then, and only if somebody can be waiting for the newcomer: siblings that queue for
 * one key pay nothing.
 *
 * <p>Everything here is guarded by this object's lock, under which nothing of the user's runs. A place is entered under it
 * too, so that the order here is the gate's.
 */
final class TurnWaits {

    enum Entry {
        INSIDE,
        QUEUED,
        /** Entered all the same: whoever is refused must leave. */
        CLOSES_CYCLE
    }

    /** One request: where it is. */
    static final class Member {
        private final Acquire request;
        private final List<Object> keys = new ArrayList<>(1);
        private boolean gone;

        Member(Acquire request) {
            this.request = request;
        }
    }

    private final KeyGates gates = new KeyGates();

    /** Who is at a key, inside or queued, in the order of arrival. */
    private final Map<Object, Map<Member, LockMode>> present = new HashMap<>();

    KeyGates gates() {
        return gates;
    }

    synchronized Entry enter(Member member, Waiter place) {
        if (member.gone) {
            return Entry.QUEUED;
        }
        add(member, place);
        if (gates.enter(place)) {
            return Entry.INSIDE;
        }
        return isAwaited(member) && closesCycle(member) ? Entry.CLOSES_CYCLE : Entry.QUEUED;
    }

    synchronized boolean tryEnter(Member member, Waiter place) {
        if (member.gone || !gates.tryEnter(place)) {
            return false;
        }
        add(member, place);
        return true;
    }

    /** Before its places are given up, and for good. */
    synchronized void leave(Member member) {
        member.gone = true;
        for (Object key : member.keys) {
            present.computeIfPresent(key, (same, members) -> {
                members.remove(member);
                return members.isEmpty() ? null : members;
            });
        }
        member.keys.clear();
    }

    private void add(Member member, Waiter place) {
        present.computeIfAbsent(place.key, key -> new LinkedHashMap<>()).put(member, place.mode);
        member.keys.add(place.key);
    }

    /** Whether anybody can wait for one that came last to its last key: those behind it elsewhere, or a hold around it. */
    private static boolean isAwaited(Member member) {
        Hold around = member.request.surrounding;
        return member.keys.size() > 1
                || (around != null && (around.surrounding != null || around instanceof AmbientHold));
    }

    private boolean closesCycle(Member newcomer) {
        Map<Acquire, List<Member>> inner = new HashMap<>();
        for (Map<Member, LockMode> members : present.values()) {
            for (Member member : members.keySet()) {
                for (Hold around = member.request.surrounding; around != null; around = around.surrounding) {
                    inner.computeIfAbsent(around.acquire, outer -> new ArrayList<>())
                            .add(member);
                }
            }
        }
        Set<Member> seen = new HashSet<>();
        Deque<Member> next = new ArrayDeque<>(List.of(newcomer));
        for (Member member = next.poll(); member != null; member = next.poll()) {
            List<Member> awaited = before(member);
            awaited.addAll(inner.getOrDefault(member.request, List.of()));
            for (Member one : awaited) {
                if (one == newcomer) {
                    return true;
                }
                if (seen.add(one)) {
                    next.add(one);
                }
            }
        }
        return false;
    }

    private List<Member> before(Member member) {
        List<Member> before = new ArrayList<>();
        for (Object key : member.keys) {
            Map<Member, LockMode> members = present.getOrDefault(key, Map.of());
            LockMode mode = members.get(member);
            for (Map.Entry<Member, LockMode> other : members.entrySet()) {
                if (other.getKey() == member) {
                    break;
                }
                if (mode == LockMode.EXCLUSIVE || other.getValue() == LockMode.EXCLUSIVE) {
                    before.add(other.getKey());
                }
            }
        }
        return before;
    }
}
