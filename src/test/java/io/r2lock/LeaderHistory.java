package io.r2lock;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Comparator;
import java.util.List;

/**
 * What {@link LeadingProcess}es logged: their terms, each a hold named by its token, and what they were told of them.
 *
 * <p>That terms do not overlap is {@link HistoryChecker}'s to say; here, that tokens grow from term to term, and that the events of
 * each process are those of its terms.
 */
final class LeaderHistory {

    private LeaderHistory() {}

    /** The events of one process, as {@code KIND TOKEN}. */
    static List<String> events(Path directory, String process) {
        try {
            String text = Files.readString(LabHistory.log(directory, process));
            return text.substring(0, text.lastIndexOf('\n') + 1)
                    .lines()
                    .map(line -> line.split(" ", -1))
                    .filter(words -> words[1].equals("event"))
                    .map(words -> words[2] + " " + words[3])
                    .toList();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** What must not be. */
    static List<String> violations(Collection<LabHold> terms) {
        List<String> violations = new ArrayList<>();
        List<LabHold> sorted =
                terms.stream().sorted(Comparator.comparingLong(LabHold::begin)).toList();
        for (int i = 1; i < sorted.size(); i++) {
            if (token(sorted.get(i)) <= token(sorted.get(i - 1))) {
                violations.add("token of " + sorted.get(i) + " after that of " + sorted.get(i - 1));
            }
        }
        return violations;
    }

    /**
     * What must not be in the events of one process.
     *
     * @param killed the last of them may not have been told any more
     */
    static List<String> violations(List<LabHold> terms, List<String> events, boolean killed) {
        List<String> expected = new ArrayList<>();
        for (LabHold term :
                terms.stream().sorted(Comparator.comparingLong(LabHold::begin)).toList()) {
            expected.add("ELECTED " + term.id());
            if (term.outcome() != LabHold.Outcome.NONE) {
                expected.add((term.outcome() == LabHold.Outcome.LOST ? "LOST " : "RESIGNED ") + term.id());
            }
        }
        // of one that was killed, the log of a term or the event of it may be missing at the end
        int least = killed ? Math.max(0, expected.size() - 2) : expected.size();
        int most = killed ? expected.size() + 1 : expected.size();
        int both = Math.min(expected.size(), events.size());
        boolean same = events.size() >= least
                && events.size() <= most
                && events.subList(0, both).equals(expected.subList(0, both));
        return same ? List.of() : List.of("events " + events + " of " + expected);
    }

    private static long token(LabHold term) {
        return Long.parseLong(term.id());
    }
}
