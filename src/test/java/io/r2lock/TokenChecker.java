package io.r2lock;

import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.PriorityQueue;
import java.util.TreeMap;

/**
 * Judges the fencing tokens of a history: of two conflicting holds of a key the one that began after the other had ended has the larger
 * token, and no two have the same.
 *
 * <p>Holds that overlap, as they may when a lock was lost, are not ordered by what their processes saw; their tokens must differ all
 * the same.
 */
final class TokenChecker {

    private final Map<String, Long> tokens;
    private final List<String> violations = new ArrayList<>();
    private long pairs;

    private TokenChecker(Map<String, Long> tokens) {
        this.tokens = tokens;
    }

    /**
     * What was found.
     *
     * @param tokens how many holds had one
     * @param ordered how many of them came after one of their key
     * @param violations what must not be
     */
    record Verdict(int tokens, long ordered, List<String> violations) {}

    /** {@code tokens}: by {@code process/hold}. */
    static Verdict check(LabHistory history, Map<String, Long> tokens) {
        TokenChecker checker = new TokenChecker(tokens);
        Map<Long, List<LabHold>> byKey = new TreeMap<>();
        for (LabHold hold : history.holds()) {
            if (tokens.containsKey(name(hold))) {
                hold.keys()
                        .forEach(key -> byKey.computeIfAbsent(key, k -> new ArrayList<>())
                                .add(hold));
            }
        }
        byKey.forEach((key, holds) -> {
            checker.checkOrder(key, holds);
            checker.checkDistinct(key, holds);
        });
        return new Verdict(tokens.size(), checker.pairs, checker.violations);
    }

    private static String name(LabHold hold) {
        return hold.process() + "/" + hold.id();
    }

    private long token(LabHold hold) {
        return tokens.getOrDefault(name(hold), 0L);
    }

    private void checkOrder(long key, List<LabHold> holds) {
        holds.sort(Comparator.comparingLong(LabHold::begin));
        PriorityQueue<LabHold> running = new PriorityQueue<>(Comparator.comparingLong(LabHold::end));
        LabHold writer = null;
        LabHold any = null;
        for (LabHold next : holds) {
            while (!running.isEmpty() && running.element().end() <= next.begin()) {
                LabHold over = running.remove();
                any = any == null || token(over) > token(any) ? over : any;
                if (over.exclusive()) {
                    writer = writer == null || token(over) > token(writer) ? over : writer;
                }
            }
            LabHold before = next.exclusive() ? any : writer;
            if (before != null) {
                pairs++;
                if (token(next) <= token(before)) {
                    violations.add("token " + token(next) + " after " + token(before) + " on key " + key + ": " + next
                            + " came after " + before);
                }
            }
            running.add(next);
        }
    }

    private void checkDistinct(long key, List<LabHold> holds) {
        Map<Long, LabHold> seen = new HashMap<>();
        for (LabHold hold : holds) {
            LabHold other = seen.put(token(hold), hold);
            if (other != null && hold.conflictsWith(other)) {
                violations.add("token " + token(hold) + " twice on key " + key + ": " + other + " and " + hold);
            }
        }
    }
}
