package io.r2lock;

import java.io.File;
import java.io.IOException;
import java.io.OutputStreamWriter;
import java.io.UncheckedIOException;
import java.io.Writer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import org.jspecify.annotations.Nullable;

/** A {@link LabProcess} seen from the test that started it. Signals go to this process only. */
final class LabChild implements AutoCloseable {

    private static final Duration START = Duration.ofSeconds(60);
    private static final int END_SECONDS = 60;

    private final Path directory;
    private final String name;
    private final Process process;
    private final Writer input;
    private @Nullable Process pause;
    private int begins;
    private int bytesRead;

    private LabChild(Path directory, String name, Process process) {
        this.directory = directory;
        this.name = name;
        this.process = process;
        this.input = new OutputStreamWriter(process.getOutputStream(), StandardCharsets.UTF_8);
    }

    /**
     * Starts a process with the classes of this one.
     *
     * @param directory for its log
     * @param name for its log, and on the server
     * @param inside what to put before its command
     * @param options what {@link LabProcess} reads
     */
    static LabChild start(Path directory, String name, List<String> inside, Map<String, ?> options) {
        List<String> command = new ArrayList<>(inside);
        command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
        command.addAll(List.of("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx192m"));
        command.addAll(List.of("-cp", System.getProperty("java.class.path"), LabProcess.class.getName()));
        command.add("directory=" + directory);
        command.add("name=" + name);
        options.forEach((option, value) -> command.add(option + "=" + value));
        File output = directory.resolve(name + ".out").toFile();
        try {
            Files.deleteIfExists(LabHistory.log(directory, name));
            Process process = new ProcessBuilder(command)
                    .redirectErrorStream(true)
                    .redirectOutput(output)
                    .start();
            return new LabChild(directory, name, process);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** An empty directory for the logs of a test, which stay there. */
    static Path directory(String test) {
        Path directory = Path.of("target", "failure-lab", test);
        try {
            Files.createDirectories(directory);
            try (var files = Files.list(directory)) {
                for (Path file : files.toList()) {
                    Files.delete(file);
                }
            }
            return directory;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Waits until it runs, and makes sure that its clock is ours. */
    LabChild awaitReady(long startedAfter) {
        Path log = LabHistory.log(directory, name);
        String ready = Await.value(() -> firstLine(log), line -> !line.isEmpty() || !process.isAlive(), START);
        if (ready.isEmpty()) {
            throw new AssertionError(name + " did not start, see its output in " + directory);
        }
        long time = Long.parseLong(ready.substring(0, ready.indexOf(' ')));
        if (time < startedAfter || time > System.nanoTime()) {
            throw new AssertionError("processes do not share System.nanoTime(): " + time + " is not between "
                    + startedAfter + " and " + System.nanoTime());
        }
        return this;
    }

    String name() {
        return name;
    }

    long pid() {
        return process.pid();
    }

    void command(String line) {
        try {
            input.write(line + "\n");
            input.flush();
        } catch (IOException e) {
            throw new UncheckedIOException(name, e);
        }
    }

    List<LabHold> holds() {
        return LabHistory.holds(directory, name);
    }

    /** Waits for a hold of this key to have begun, whether it has ended or not. */
    LabHold awaitHold(long key, Duration patience) {
        Optional<LabHold> hold = Await.value(
                () -> holds().stream().filter(one -> one.keys().contains(key)).findFirst(),
                Optional::isPresent,
                patience);
        return hold.orElseThrow(() -> new AssertionError(
                name + " has not got key " + key + " within " + patience + ", see its log in " + directory));
    }

    /** How many holds have begun so far. */
    int begins() {
        try (var log = Files.newInputStream(LabHistory.log(directory, name))) {
            log.skipNBytes(bytesRead);
            String fresh = new String(log.readAllBytes(), StandardCharsets.UTF_8);
            String complete = fresh.substring(0, fresh.lastIndexOf('\n') + 1);
            bytesRead += complete.length(); // the log is ASCII
            begins += (int)
                    complete.lines().filter(line -> line.contains(" begin ")).count();
            return begins;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Kills it at once, and waits until it is gone. */
    void kill() {
        process.destroyForcibly();
        awaitEnd(END_SECONDS);
    }

    /** Begins to stop it for a time; a process of its own ends that, even if this one does not live to see it. */
    Process pause(Duration time) {
        String seconds = String.format(Locale.ROOT, "%.3f", time.toMillis() / 1_000.0);
        try {
            pause = new ProcessBuilder(
                            "sh",
                            "-c",
                            "kill -STOP \"$0\"; sleep \"$1\"; kill -CONT \"$0\"",
                            Long.toString(process.pid()),
                            seconds)
                    .start();
            return pause;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Lets it end its holds, and fails if it does not. */
    void end() {
        try {
            input.close();
        } catch (IOException e) {
            throw new UncheckedIOException(name, e);
        }
        awaitEnd(END_SECONDS);
        if (process.exitValue() != 0) {
            throw new AssertionError(name + " ended with " + process.exitValue() + ", see its output in " + directory);
        }
    }

    @Override
    public void close() {
        if (pause != null) {
            pause.destroyForcibly(); // or it would later signal whoever has got this process's id
        }
        kill();
    }

    private void awaitEnd(int seconds) {
        try {
            if (!process.waitFor(seconds, TimeUnit.SECONDS)) {
                process.destroyForcibly();
                throw new AssertionError(name + " did not end within " + seconds + " s");
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(e);
        }
    }

    private static String firstLine(Path log) {
        try {
            return Files.exists(log) ? Files.readString(log).lines().findFirst().orElse("") : "";
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
