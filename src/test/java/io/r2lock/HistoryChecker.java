package io.r2lock;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * Judges a history of holds: conflicting ones never overlap, except where the README says that they may, and who loses a
 * hold is told in time.
 *
 * <ul>
 *   <li>The server frees the lock before the holder can know (backend terminated, server down, connection reset): the old
 *       holder's work goes on for at most {@link #TOLD_WITHIN}.
 *   <li>The same while the holder's process is paused: counted from the moment it runs again.
 *   <li>The same while the holder is cut off: counted from {@link #SILENCE} after the cut, when it must have found out.
 *   <li>A cut, a stall, a pause or a kill alone excuse nothing: the server gives the lock away later than the holder knows.
 * </ul>
 *
 * <p>A hold whose caller was told that it succeeded never overlaps, nor outlives its backend. A session lock that is handed over
 * within its process is not released on the server, which so does not confirm that it was held to the end: such a hold, {@link
 * LabHold.Outcome#ENDED}, has the same windows as one that was lost.
 */
final class HistoryChecker {

    /** How long after the server freed a lock its old holder's work may go on. */
    static final Duration TOLD_WITHIN = Duration.ofSeconds(1);

    /** How long a holder that hears nothing from the server may go on: heartbeat and deadline. */
    static final Duration SILENCE = Duration.ofSeconds(5);

    private static final long TOLD_NANOS = TOLD_WITHIN.toNanos();

    // a grant that was read before the connection broke may be logged that much later
    private static final long GRANT_NANOS = Duration.ofMillis(100).toNanos();

    private final List<LabTrouble> troubles;
    private final List<String> violations = new ArrayList<>();
    private final Map<String, Times> windows = new TreeMap<>();
    private final Map<String, Times> told = new TreeMap<>();

    private HistoryChecker(List<LabTrouble> troubles) {
        this.troubles = troubles;
    }

    /**
     * What was found.
     *
     * @param holds how many holds were looked at
     * @param violations what must not be
     * @param windows for each excuse, how long old holders went on after the next one had begun
     * @param told for each trouble, how long after it the work of lost holds ended
     * @param sharing how many holds began while another one of their backend ran
     */
    record Verdict(
            int holds, List<String> violations, Map<String, Times> windows, Map<String, Times> told, int sharing) {

        /** How many holds were lost, and told so in time. */
        int losses() {
            return told.values().stream().mapToInt(Times::count).sum();
        }

        String table() {
            StringBuilder text = new StringBuilder(holds + " holds, " + violations.size() + " violations\n");
            windows.forEach((name, times) -> text.append("  overlap after ").append(name + ": " + times + "\n"));
            told.forEach(
                    (name, times) -> text.append("  lost holds ended after ").append(name + ": " + times + "\n"));
            text.append("  began beside others of their backend: ")
                    .append(sharing)
                    .append("\n");
            return text.toString();
        }
    }

    static Verdict check(LabHistory history) {
        HistoryChecker checker = new HistoryChecker(history.troubles());
        Map<Long, List<LabHold>> byKey = new TreeMap<>();
        for (LabHold logged : history.holds()) {
            LabHold hold = checker.ended(logged);
            checker.checkTold(hold);
            hold.keys()
                    .forEach(key ->
                            byKey.computeIfAbsent(key, k -> new ArrayList<>()).add(hold));
        }
        byKey.forEach(checker::checkKey);
        return new Verdict(
                history.holds().size(), checker.violations, checker.windows, checker.told, sharing(history.holds()));
    }

    /** How many holds began while another one of their backend ran, as only session holds can. */
    private static int sharing(List<LabHold> holds) {
        Map<Integer, Long> ends = new TreeMap<>();
        int sharing = 0;
        for (LabHold hold :
                holds.stream().sorted(Comparator.comparingLong(LabHold::begin)).toList()) {
            for (int backend : hold.backends()) {
                long end = hold.hasEnd() ? hold.end() : hold.begin();
                Long before = ends.put(backend, Math.max(end, ends.getOrDefault(backend, end)));
                sharing += before != null && hold.begin() < before ? 1 : 0;
            }
        }
        return sharing;
    }

    /** A killed process ended its holds with the kill; nobody else may leave one open. */
    private LabHold ended(LabHold hold) {
        if (hold.hasEnd()) {
            return hold;
        }
        for (LabTrouble trouble : troubles) {
            if (trouble.kind() == LabTrouble.Kind.KILL && trouble.concerns(hold)) {
                return hold.endedAt(Math.max(hold.begin(), trouble.from()));
            }
        }
        violations.add("never ended: " + hold);
        return hold;
    }

    private void checkTold(LabHold hold) {
        for (LabTrouble trouble : troubles) {
            if (!trouble.struck(hold) || !(trouble.frees() || trouble.silences())) {
                continue;
            }
            long due = due(trouble, hold);
            if (trouble.silences() && trouble.to() < due + TOLD_NANOS) {
                continue; // over before it had to be noticed: the hold may have lived through it
            }
            long after = hold.end() - trouble.from();
            if (hold.end() > due + TOLD_NANOS) {
                violations.add("not told of " + trouble.kind() + ": work went on for " + text(after) + ": " + hold);
            } else if (hold.outcome() == LabHold.Outcome.RELEASED && hold.end() > trouble.to()) {
                violations.add("told success after " + trouble.kind() + ": " + hold);
            } else if (hold.outcome() == LabHold.Outcome.LOST) {
                told.computeIfAbsent(name(trouble, due), key -> new Times()).add(after);
            }
        }
    }

    private void checkKey(long key, List<LabHold> holds) {
        holds.sort(Comparator.comparingLong(LabHold::begin));
        List<LabHold> running = new ArrayList<>();
        for (LabHold next : holds) {
            running.removeIf(hold -> hold.end() <= next.begin());
            for (LabHold earlier : running) {
                if (earlier.conflictsWith(next) && !excused(earlier, next) && !excusedLate(earlier, next)) {
                    long overlap = Math.min(earlier.end(), next.end()) - next.begin();
                    violations.add("overlap of " + text(overlap) + " on key " + key + ": " + earlier + " and " + next);
                }
            }
            running.add(next);
        }
    }

    /** The usual case: who began first is the one that lost its lock. */
    private boolean excused(LabHold earlier, LabHold next) {
        return excused(earlier, next.begin());
    }

    /** A process may learn of its grant so late that the lock was lost, and given to another, before. */
    private boolean excusedLate(LabHold earlier, LabHold next) {
        return earlier.end() > next.begin() && excused(next, next.begin());
    }

    private boolean excused(LabHold stale, long overlapFrom) {
        if (stale.outcome() == LabHold.Outcome.RELEASED) {
            return false;
        }
        for (LabTrouble trouble : troubles) {
            if (!trouble.frees() || !trouble.concerns(stale)) {
                continue;
            }
            long due = due(trouble, stale);
            boolean granted = stale.begin()
                    <= (trouble.kind() == LabTrouble.Kind.TERMINATE ? due + TOLD_NANOS : trouble.to() + GRANT_NANOS);
            if (granted
                    && trouble.from() <= overlapFrom
                    && trouble.from() < stale.end()
                    && stale.end() <= due + TOLD_NANOS) {
                windows.computeIfAbsent(name(trouble, due), key -> new Times()).add(stale.end() - overlapFrom);
                return true;
            }
        }
        return false;
    }

    /** From when on the hold's process can know, and act. */
    private long due(LabTrouble trouble, LabHold hold) {
        long due = trouble.silences() ? trouble.from() + SILENCE.toNanos() : trouble.to();
        for (LabTrouble other : troubles) {
            if (!other.concerns(hold) || hold.end() <= other.from()) {
                continue;
            }
            if (other.silences() && other.from() <= trouble.to() && trouble.from() <= other.to()) {
                due = Math.max(due, other.from() + SILENCE.toNanos());
            }
            if (other.kind() == LabTrouble.Kind.PAUSE && other.from() <= due + TOLD_NANOS && due < other.to()) {
                due = other.to();
            }
        }
        return due;
    }

    private static String name(LabTrouble trouble, long due) {
        boolean atOnce = due == (trouble.silences() ? trouble.from() + SILENCE.toNanos() : trouble.to());
        return trouble.kind() + (atOnce ? "" : " while paused or cut off");
    }

    private static String text(long nanos) {
        return nanos > Duration.ofDays(1).toNanos()
                ? "ever"
                : Duration.ofNanos(nanos).toMillis() + " ms";
    }

    /** How many, and the longest. */
    static final class Times {

        private int count;
        private long max;

        private void add(long nanos) {
            count++;
            max = Math.max(max, nanos);
        }

        int count() {
            return count;
        }

        Duration max() {
            return Duration.ofNanos(max);
        }

        @Override
        public String toString() {
            return count + " times, at most " + text(max);
        }
    }
}
