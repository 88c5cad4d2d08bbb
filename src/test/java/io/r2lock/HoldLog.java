package io.r2lock;

import java.io.FileOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Collection;
import java.util.Locale;
import java.util.stream.Collectors;

/**
 * What a process of the lab writes about its holds, one line an event, on the clock that all processes of a machine share.
 *
 * <p>Each line is one unbuffered write at the end of the file, so that a killed process loses none. No channel is used: an
 * interrupt, which Reactor sends to tasks that it cancels, would close it.
 */
final class HoldLog implements AutoCloseable {

    private final FileOutputStream file;

    HoldLog(Path path) {
        try {
            file = new FileOutputStream(path.toFile(), true);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** The process has started. */
    void ready() {
        write("ready");
    }

    /** The guarded work has started. */
    void begin(String hold, boolean exclusive, Collection<Long> keys, Collection<Integer> backends) {
        write("begin " + hold + " " + (exclusive ? "exclusive" : "shared") + " " + list(keys) + " " + list(backends));
    }

    private static String list(Collection<? extends Number> numbers) {
        return numbers.stream().map(String::valueOf).collect(Collectors.joining(","));
    }

    /** The guarded work has ended, or is being cancelled; the lock is still held. */
    void end(String hold) {
        write("end " + hold);
    }

    /** The hold has got its fencing token. */
    void token(String hold, long token) {
        write("token " + hold + " " + token);
    }

    /** What the caller was told in the end. */
    void told(String hold, LabHold.Outcome outcome) {
        write("told " + hold + " " + outcome.name().toLowerCase(Locale.ROOT));
    }

    /** How long a caller had waited when it was granted its lock, or gave up. */
    void waited(long nanos) {
        write("waited " + nanos);
    }

    /** What a candidate was told. */
    void event(LeadershipEvent event) {
        write("event " + event.kind() + " " + event.term().asLong());
    }

    /** A request that was not granted. */
    void refused(Throwable error) {
        write("refused " + error.getClass().getSimpleName());
    }

    private void write(String event) {
        try {
            file.write((System.nanoTime() + " " + event + "\n").getBytes(StandardCharsets.UTF_8));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public void close() {
        try {
            file.close();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
