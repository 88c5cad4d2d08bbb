package io.r2lock;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Everything that happened in a lab: the holds of all processes, and the troubles. */
record LabHistory(List<LabHold> holds, List<LabTrouble> troubles) {

    static final String TROUBLES = "troubles";
    private static final String SUFFIX = ".log";

    /** Where a process logs. */
    static Path log(Path directory, String process) {
        return directory.resolve(process + SUFFIX);
    }

    /** Reads all logs of a directory. */
    static LabHistory read(Path directory) {
        List<LabHold> holds = new ArrayList<>();
        List<LabTrouble> troubles = new ArrayList<>();
        try (Stream<Path> files = Files.list(directory)) {
            for (Path file :
                    files.filter(path -> path.toString().endsWith(SUFFIX)).toList()) {
                String name = String.valueOf(file.getFileName());
                if (name.equals(TROUBLES + SUFFIX)) {
                    lines(file).stream().map(LabTrouble::parse).forEach(troubles::add);
                } else {
                    holds.addAll(holds(name.substring(0, name.length() - SUFFIX.length()), lines(file)));
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return new LabHistory(holds, troubles);
    }

    /** The holds of one process. */
    static List<LabHold> holds(Path directory, String process) {
        return holds(process, lines(log(directory, process)));
    }

    static List<LabHold> holds(String process, List<String> lines) {
        Map<String, LabHold> holds = new LinkedHashMap<>();
        for (String line : lines) {
            String[] words = line.split(" ", -1);
            long time = Long.parseLong(words[0]);
            switch (words[1]) {
                case "begin" -> holds.put(words[2], begun(process, words, time));
                // work that ends while it is cancelled logs both
                case "end" ->
                    holds.computeIfPresent(
                            words[2], (id, hold) -> hold.endedAt(hold.hasEnd() ? Math.max(hold.end(), time) : time));
                case "told" -> holds.computeIfPresent(words[2], (id, hold) -> told(hold, words[3]));
                case "ready", "refused", "waited", "event", "token" -> {}
                default -> throw new IllegalArgumentException(line);
            }
        }
        return List.copyOf(holds.values());
    }

    /** The fencing tokens of all holds that logged one, by process and hold, {@code a/1} say. */
    static Map<String, Long> tokens(Path directory, Collection<LabHold> holds) {
        Map<String, Long> tokens = new HashMap<>();
        for (String process : holds.stream().map(LabHold::process).distinct().toList()) {
            lines(log(directory, process)).stream()
                    .map(line -> line.split(" ", -1))
                    .filter(words -> words[1].equals("token"))
                    .forEach(words -> tokens.put(process + "/" + words[2], Long.valueOf(words[3])));
        }
        return tokens;
    }

    /** How often requests were not granted, by error. */
    static Map<String, Integer> refusals(Path directory, Collection<String> processes) {
        Map<String, Integer> refusals = new TreeMap<>();
        for (String process : processes) {
            lines(log(directory, process)).stream()
                    .map(line -> line.split(" ", -1))
                    .filter(words -> words[1].equals("refused"))
                    .forEach(words -> refusals.merge(words[2], 1, Integer::sum));
        }
        return refusals;
    }

    /** How long callers of one process waited, in nanoseconds, in the order of the ends of their waits. */
    static List<Long> waits(Path directory, String process) {
        return lines(log(directory, process)).stream()
                .map(line -> line.split(" ", -1))
                .filter(words -> words[1].equals("waited"))
                .map(words -> Long.valueOf(words[2]))
                .toList();
    }

    private static LabHold begun(String process, String[] words, long time) {
        Set<Long> keys = Stream.of(words[4].split(",", -1)).map(Long::valueOf).collect(Collectors.toUnmodifiableSet());
        return new LabHold(
                process,
                words[2],
                keys,
                words[3].equals("exclusive"),
                Stream.of(words[5].split(",", -1)).map(Integer::valueOf).toList(),
                time,
                Long.MAX_VALUE,
                LabHold.Outcome.NONE);
    }

    private static LabHold told(LabHold hold, String outcome) {
        LabHold.Outcome told = LabHold.Outcome.valueOf(outcome.toUpperCase(Locale.ROOT));
        return new LabHold(
                hold.process(),
                hold.id(),
                hold.keys(),
                hold.exclusive(),
                hold.backends(),
                hold.begin(),
                hold.end(),
                told);
    }

    /** The complete lines: a process may have been killed while it wrote the last one. */
    private static List<String> lines(Path file) {
        try {
            String text = Files.readString(file);
            return text.substring(0, text.lastIndexOf('\n') + 1).lines().toList();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
