package io.r2lock;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.jspecify.annotations.Nullable;

/**
 * What a session connection knows of each key: whether the session holds it, which call is under way, and who comes next.
 *
 * <pre>
 *   a key:  FREE ⇄ CLAIMED      by answers of the server only
 * </pre>
 *
 * <p>Invariants: of the calls for one key at most one is <em>current</em>, from before it is sent until it is answered, so that
 * no two messages on the wire name one key; the others stand behind it in the order of their arrival. A claim is made by a
 * grant and ended by an unlock, once each: PostgreSQL counts, and would grant a session its own lock again. A key that is free
 * and has no call leaves the map.
 *
 * <p>Not safe by itself: only the connection's drain uses it.
 */
final class SessionClaims {

    /** One key. */
    private static final class Entry {
        /** Null: the session does not hold it. */
        @Nullable
        LockMode claimed;

        @Nullable
        SessionCall current;

        /** The newest of those behind the current call. */
        @Nullable
        SessionCall last;
    }

    /** A lock as the server lists it: an exclusive and a shared one of one key are two. */
    record Held(LockKey key, LockMode mode) {}

    private final Map<LockKey, Entry> entries = new HashMap<>();
    private int claims;

    /** Lets the call go ahead, or puts it behind those for its key. */
    boolean isFirst(SessionCall call) {
        Entry entry = entries.computeIfAbsent(call.key, key -> new Entry());
        SessionCall current = entry.current;
        if (current == null) {
            entry.current = call;
            entry.last = call;
            return true;
        }
        SessionCall last = entry.last == null ? current : entry.last;
        last.behind = call;
        entry.last = call;
        return false;
    }

    /** The answer that a current call has without the server, or null where that must be asked. */
    SessionCall.@Nullable Answer knownAnswer(SessionCall call) {
        LockMode claimed = entry(call).claimed;
        if (call.isUnlock()) {
            return claimed == call.mode ? null : SessionCall.Answer.NOT_HELD;
        }
        return claimed == null ? null : SessionCall.Answer.CLAIMED;
    }

    /** Records the answer of a current call; the result is the call that is current now. */
    @Nullable
    SessionCall answered(SessionCall call, SessionCall.Answer answer) {
        Entry entry = entry(call);
        switch (answer) {
            case GRANTED -> claim(entry, call.mode);
            case RELEASED -> claim(entry, null);
            case NOT_HELD, FAILED -> {
                if (call.isUnlock() && entry.claimed == call.mode) {
                    claim(entry, null);
                }
            }
            case BUSY, CLAIMED -> {}
        }
        SessionCall next = call.behind;
        call.behind = null;
        entry.current = next;
        if (next == null) {
            entry.last = null;
            if (entry.claimed == null) {
                entries.remove(call.key);
            }
        }
        return next;
    }

    private void claim(Entry entry, @Nullable LockMode mode) {
        claims += (mode == null ? 0 : 1) - (entry.claimed == null ? 0 : 1);
        entry.claimed = mode;
    }

    private Entry entry(SessionCall call) {
        Entry entry = entries.get(call.key);
        if (entry == null || entry.current != call) {
            throw new IllegalStateException("not the current call of " + call.key);
        }
        return entry;
    }

    /** Whether a lock that the server lists is one that was granted and that nobody is just giving back. */
    boolean claims(Held held, Collection<SessionCall> doubtful) {
        Entry entry = entries.get(held.key);
        return entry != null
                && entry.claimed == held.mode
                && (entry.current == null || !doubtful.contains(entry.current));
    }

    /** Ends the claims that the server does not list and no doubtful call is about; those are losses. */
    List<Held> endMissing(Set<Held> listed, Collection<SessionCall> doubtful) {
        List<Held> missing = new ArrayList<>();
        entries.entrySet().removeIf(each -> {
            Entry entry = each.getValue();
            LockMode mode = entry.claimed;
            if (mode == null || (entry.current != null && doubtful.contains(entry.current))) {
                return false;
            }
            Held held = new Held(each.getKey(), mode);
            if (listed.contains(held)) {
                return false;
            }
            missing.add(held);
            claim(entry, null);
            return entry.current == null;
        });
        return missing;
    }

    /** Ends all claims and forgets all calls; the result is those calls. */
    List<SessionCall> clear() {
        List<SessionCall> calls = new ArrayList<>();
        for (Entry entry : entries.values()) {
            for (SessionCall call = entry.current; call != null; call = call.behind) {
                calls.add(call);
            }
        }
        entries.clear();
        claims = 0;
        return calls;
    }

    /** How many locks the session holds. */
    int held() {
        return claims;
    }

    /** How many keys are held or asked for. */
    int keys() {
        return entries.size();
    }
}
