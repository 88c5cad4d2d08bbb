package io.r2lock;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;

/**
 * One key that a session of this process has locked on the server. Holds use it one after the other, or side by side where it is
 * shared; the server is told of the last one's end only.
 *
 * <pre>
 *   HELD ──▶ released     by whoever the {@link KeyGate} told to
 *     └────▶ LOST         for all who use it, or come to use it
 * </pre>
 */
final class SessionLock extends Baton {

    /** The connection that it is held on, which alone can give it back. */
    interface Place {
        int pid();

        /** Called once, also after a loss. */
        void unlock(SessionLock lock, SessionCall.Listener told);

        /** Has the session assign a transaction id; not after the lock was given back. */
        void token(boolean durable, TokenCall caller);
    }

    final LockKey key;
    final LockMode mode;
    private final Place place;
    private final long since;

    /** Of an exclusive lock: one at a time, and the one before has left. */
    private final AtomicReference<@Nullable SessionHold> user = new AtomicReference<>();

    /** Of a shared lock. */
    private final Set<SessionHold> users;

    private final AtomicReference<@Nullable String> lost = new AtomicReference<>();

    /** {@code since}: when it was granted, in nanoseconds of the client's clock. */
    SessionLock(LockKey key, LockMode mode, Place place, long since) {
        this.key = key;
        this.mode = mode;
        this.place = place;
        this.since = since;
        this.users = mode == LockMode.SHARED ? ConcurrentHashMap.newKeySet() : Set.of();
    }

    int pid() {
        return place.pid();
    }

    Place place() {
        return place;
    }

    long since() {
        return since;
    }

    @Override
    boolean isGood() {
        return lost.get() == null;
    }

    /** From now on the hold is told of a loss, which may be at once. */
    void usedBy(SessionHold hold) {
        if (mode == LockMode.SHARED) {
            users.add(hold);
        } else {
            user.set(hold);
        }
        String why = lost.get();
        if (why != null) {
            hold.lose(why);
        }
    }

    void unusedBy(SessionHold hold) {
        if (mode == LockMode.SHARED) {
            users.remove(hold);
        } else {
            user.compareAndSet(hold, null);
        }
    }

    /** Nobody can take it over any more; {@link #tellLost} has to follow. The first reason stays. */
    void markLost(String why) {
        lost.compareAndSet(null, why);
    }

    /** Why it is lost, or null. */
    @Nullable
    String lostBecause() {
        return lost.get();
    }

    /** Tells each of those who use it on its own. */
    void tellLost() {
        String why = lost.get();
        if (why != null) {
            users.forEach(hold -> Losses.tell(() -> hold.lose(why)));
            SessionHold alone = user.get();
            if (alone != null) {
                Losses.tell(() -> alone.lose(why));
            }
        }
    }

    /** Gives it back; {@code done} is told why it was lost, or null. Of a loss nobody waits to hear more. */
    void release(Consumer<@Nullable String> done) {
        String known = lost.get();
        if (known != null) {
            place.unlock(this, (answer, error) -> {});
            done.accept(known);
            return;
        }
        place.unlock(this, (answer, error) -> {
            String why = lost.get();
            if (why == null && answer == SessionCall.Answer.NOT_HELD) {
                why = "the server did not have it any more when it was released";
            } else if (why == null && answer != SessionCall.Answer.RELEASED) {
                why = "its connection broke before the server had confirmed its release";
            }
            done.accept(why);
        });
    }
}
