package io.r2lock;

import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicReferenceFieldUpdater;
import org.jspecify.annotations.Nullable;

/** The attempts that end with one hold, or with one ambient transaction. */
final class Children {

    @SuppressWarnings("rawtypes")
    private static final AtomicReferenceFieldUpdater<Children, @Nullable Set> ALL =
            AtomicReferenceFieldUpdater.newUpdater(Children.class, Set.class, "all");

    private static final AtomicReferenceFieldUpdater<Children, @Nullable TurnWaits> TURNS =
            AtomicReferenceFieldUpdater.newUpdater(Children.class, TurnWaits.class, "turns");

    /** Null until there is one: most holds have none. */
    private volatile @Nullable Set<Acquire> all;

    private volatile @Nullable TurnWaits turns;

    /** The turns that all that runs inside takes, at whatever depth. */
    TurnWaits turns() {
        TurnWaits known = turns;
        if (known != null) {
            return known;
        }
        TURNS.compareAndSet(this, null, new TurnWaits());
        return Objects.requireNonNull(turns);
    }

    void add(Acquire child) {
        if (all == null) {
            ALL.compareAndSet(this, null, ConcurrentHashMap.newKeySet());
        }
        all().add(child);
    }

    void remove(Acquire child) {
        if (all != null) {
            all().remove(child);
        }
    }

    private Set<Acquire> all() {
        Set<Acquire> some = all;
        return some == null ? Set.of() : some;
    }

    /** All that wait first: else the end of one would be the turn of the next. */
    void end(Acquire.Stop why) {
        for (Acquire child : all()) {
            child.stop(why);
        }
        for (Acquire child : all()) {
            child.endHold(why);
        }
    }
}
