package io.r2lock;

import java.util.ArrayList;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import org.jspecify.annotations.Nullable;

/** Who waits for a permit of one key, in order: those who hold something already, then the others. Belongs to its gate. */
final class PermitQueue {

    private final Set<PermitCaller> nested = new LinkedHashSet<>();
    private final Set<PermitCaller> others = new LinkedHashSet<>();

    /** How many do not wait. */
    private int impatient;

    int size() {
        return nested.size() + others.size();
    }

    boolean isEmpty() {
        return nested.isEmpty() && others.isEmpty();
    }

    @Nullable
    PermitCaller oldest() {
        Set<PermitCaller> first = nested.isEmpty() ? others : nested;
        return first.isEmpty() ? null : first.iterator().next();
    }

    void add(PermitCaller caller) {
        caller.place = PermitCaller.Place.WAITING;
        of(caller).add(caller);
        impatient += caller.waits ? 0 : 1;
    }

    void remove(PermitCaller caller) {
        of(caller).remove(caller);
        impatient -= caller.waits ? 0 : 1;
    }

    private Set<PermitCaller> of(PermitCaller caller) {
        return caller.nested ? nested : others;
    }

    /** The oldest one on whose behalf no connection was replaced yet. */
    @Nullable
    PermitCaller firstUnreplaced() {
        List<PermitCaller> found = find(caller -> !caller.replaced, 1);
        return found.isEmpty() ? null : found.get(0);
    }

    /** Those who do not wait and have seen this round from its begin on. */
    List<PermitCaller> impatient(int round) {
        return impatient == 0 ? List.of() : find(caller -> !caller.waits && caller.round <= round, impatient);
    }

    private List<PermitCaller> find(Predicate<PermitCaller> wanted, int most) {
        List<PermitCaller> found = new ArrayList<>();
        for (Set<PermitCaller> callers : List.of(nested, others)) {
            for (PermitCaller caller : callers) {
                if (found.size() == most) {
                    return found;
                }
                if (wanted.test(caller)) {
                    found.add(caller);
                }
            }
        }
        return found;
    }
}
