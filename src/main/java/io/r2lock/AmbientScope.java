package io.r2lock;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * What this client has in one ambient transaction, from its first request there to the transaction's end:
 * {@code OPEN ──completed──▶ COMPLETED}. It refers to nothing of the transaction itself, so that {@link AmbientScopes} can forget it
 * when nobody else knows that transaction any more.
 *
 * <p>A request is entered first and the state looked at after; the completion does the opposite. So none is missed.
 */
final class AmbientScope {

    static final String COMPLETED = "its transaction, which is somebody else's, was completed";

    private final TurnWaits turns;
    private final Children requests = new Children();

    /** The strongest mode of each. */
    private final Map<LockKey, LockMode> taken = new ConcurrentHashMap<>();

    private final AtomicInteger freeing = new AtomicInteger();
    private volatile boolean completed;

    /** {@code surrounding}: of the first request; its turns and these are looked at together for cycles. */
    AmbientScope(@Nullable Hold surrounding) {
        this.turns = surrounding == null ? new TurnWaits() : surrounding.turns();
    }

    /** What its requests take turns at: the server would grant them all, as they are one backend to it. */
    record Key(AmbientScope scope, LockKey key) {}

    /** Counts the statements of guarded work that may have freed something, see {@link Lane#freeing()}. */
    AtomicInteger freeing() {
        return freeing;
    }

    TurnWaits turns() {
        return turns;
    }

    /** From now on the request ends with the transaction; {@code false} when that is now. */
    boolean adopt(Acquire request) {
        requests.add(request);
        if (isOpen()) {
            return true;
        }
        abandon(request);
        return false;
    }

    void abandon(Acquire request) {
        requests.remove(request);
    }

    boolean isOpen() {
        return !completed;
    }

    /** The server has locked them, until the transaction ends. */
    void keep(LockSpec granted) {
        for (LockKey key : granted.keys()) {
            taken.merge(key, granted.mode(), (before, now) -> before == LockMode.EXCLUSIVE ? before : now);
        }
    }

    /**
     * The first of the keys that the transaction most likely has, unless its owner went back to an older savepoint, in a mode that
     * whoever asks elsewhere has to wait for.
     */
    @Nullable
    LockKey taken(LockSpec asked) {
        return asked.permits() > 0
                ? null
                : asked.keys().stream()
                        .filter(key -> excludes(taken.get(key), asked.mode()))
                        .findFirst()
                        .orElse(null);
    }

    private static boolean excludes(@Nullable LockMode held, LockMode asked) {
        return held == LockMode.EXCLUSIVE || (held == LockMode.SHARED && asked == LockMode.EXCLUSIVE);
    }

    void complete() {
        completed = true;
        requests.end(Acquire.Stop.TRANSACTION_ENDED);
    }
}
