package io.r2lock;

import io.zonky.test.db.postgres.embedded.DefaultPostgresBinaryResolver;
import io.zonky.test.db.postgres.embedded.EmbeddedPostgres;
import io.zonky.test.db.postgres.embedded.PgBinaryResolver;
import io.zonky.test.db.postgres.util.LinuxUtils;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import java.util.stream.Stream;

/**
 * The processes of one PostgreSQL that this JVM started from binaries: start, stop, crash.
 *
 * <p>{@link EmbeddedPostgres} starts a server once and removes it in the end. What lies between is done here with the
 * {@code pg_ctl} that stands beside the server's binary, which the server itself names in {@code postmaster.opts}.
 */
final class EmbeddedServer implements AutoCloseable {

    static final int NEWEST = 18;
    static final int OLDEST = 14;

    private static final int START_SECONDS = 60;

    private final EmbeddedPostgres postgres;
    private final Path data;
    private final Path binaries;
    private boolean running = true;

    private EmbeddedServer(EmbeddedPostgres postgres, Path data, Path binaries) {
        this.postgres = postgres;
        this.data = data;
        this.binaries = binaries;
    }

    /** Starts a server; {@code beforeStart} sees its data directory when {@code initdb} has made it. */
    static EmbeddedServer start(int major, Map<String, String> settings, Consumer<Path> beforeStart) {
        Path[] data = new Path[1];
        EmbeddedPostgres.Builder builder = EmbeddedPostgres.builder()
                .setPgBinaryResolver(binaries(major))
                .setServerConfig("max_connections", "200")
                // the library's own default is off, which loses commits that were answered before a crash
                .setServerConfig("synchronous_commit", "on")
                // a killed server leaves the lock file of its socket, which keeps the next start waiting
                .setServerConfig("unix_socket_directories", "")
                .setDataDirectoryCustomizer(directory -> {
                    data[0] = directory.toPath();
                    beforeStart.accept(data[0]);
                });
        settings.forEach(builder::setServerConfig);
        try {
            EmbeddedPostgres postgres = builder.start();
            String started = Files.readString(data[0].resolve("postmaster.opts"));
            Path server = Path.of(started.substring(0, started.indexOf(" \"")));
            return new EmbeddedServer(postgres, data[0], server.resolveSibling("pg_ctl"));
        } catch (IOException e) {
            throw new UncheckedIOException("PostgreSQL " + major + " did not start", e);
        }
    }

    /** Starts a server that also listens to a network. */
    static EmbeddedServer start(CuttableNetwork network) {
        String client = "host all all " + network.range() + " trust\n";
        return start(NEWEST, Map.of("listen_addresses", "localhost," + network.serverHost()), data -> {
            try {
                Files.writeString(data.resolve("pg_hba.conf"), client, StandardOpenOption.APPEND);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        });
    }

    private static PgBinaryResolver binaries(int major) {
        return switch (major) {
            case NEWEST -> DefaultPostgresBinaryResolver.INSTANCE;
            case OLDEST -> OldestBinaries.INSTANCE;
            default -> throw new IllegalArgumentException("major: no binaries of PostgreSQL " + major);
        };
    }

    int port() {
        return postgres.getPort();
    }

    /** Stops as {@code pg_ctl stop -m immediate} does: clients are told, nothing is written. */
    synchronized void stop() {
        if (running) {
            pgCtl("stop", "-m", "immediate");
            running = false;
        }
    }

    /** Kills the postmaster and all its processes at once: no client hears a word from the server. */
    synchronized void crash() {
        ProcessHandle postmaster = ProcessHandle.of(postmasterPid())
                .orElseThrow(() -> new IllegalStateException("the server is not running"));
        List<ProcessHandle> all =
                Stream.concat(Stream.of(postmaster), postmaster.descendants()).toList();
        all.forEach(ProcessHandle::destroyForcibly);
        Await.until("end of " + all, () -> all.stream().noneMatch(EmbeddedServer::runs));
        deleteIfExists(data.resolve("postmaster.pid")); // a zombie's id there would keep the next start waiting
        running = false;
    }

    /** Starts a server that was stopped or crashed, on the port and with the settings it had. */
    synchronized void start() {
        if (!running) {
            // only the restart action takes its options from postmaster.opts; it starts a server that is down
            pgCtl("restart", "-l", data.resolve("restarted.log").toString());
            running = true;
        }
    }

    @Override
    public synchronized void close() {
        try {
            start(); // or else the library reports that it found no server to stop
            postgres.close();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private long postmasterPid() {
        try (Stream<String> lines = Files.lines(data.resolve("postmaster.pid"))) {
            return Long.parseLong(lines.findFirst().orElseThrow());
        } catch (NoSuchFileException e) {
            throw new IllegalStateException("the server is not running", e);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** A killed process that nobody has reaped yet counts as alive with the JDK; its memory and sockets are gone. */
    private static boolean runs(ProcessHandle process) {
        Path status = Path.of("/proc", Long.toString(process.pid()), "stat");
        try {
            return process.isAlive()
                    && !(Files.exists(status) && Files.readString(status).contains(") Z "));
        } catch (IOException e) {
            return false; // reaped between the two questions
        }
    }

    private static void deleteIfExists(Path file) {
        try {
            Files.deleteIfExists(file);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void pgCtl(String... action) {
        List<String> command = new ArrayList<>();
        if (LinuxUtils.isUnshareAvailable()) {
            // PostgreSQL refuses to run as root; in a user namespace of its own root is nobody
            command.addAll(List.of("unshare", "-U"));
        }
        command.add(binaries.toString());
        command.addAll(Arrays.asList(action));
        command.addAll(List.of("-D", data.toString(), "-w", "-t", Integer.toString(START_SECONDS)));
        try {
            // the server inherits the output: through a pipe it would outlive pg_ctl and never end
            File output = data.resolve("pg_ctl.log").toFile();
            Process process = new ProcessBuilder(command)
                    .redirectErrorStream(true)
                    .redirectOutput(output)
                    .start();
            if (!process.waitFor(START_SECONDS + 10, TimeUnit.SECONDS) || process.exitValue() != 0) {
                process.destroyForcibly();
                throw new IllegalStateException(command + " failed: " + Files.readString(output.toPath()));
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(command + " was interrupted", e);
        }
    }

    /** The archive that the build unpacked under {@code target}: both majors use one resource path, so one cannot be a dependency. */
    private enum OldestBinaries implements PgBinaryResolver {
        INSTANCE;

        @Override
        public InputStream getPgBinary(String system, String machineHardware) throws IOException {
            Path directory = Path.of(System.getProperty("r2lock.test.oldest.binaries", "target/postgres-oldest"));
            try (Stream<Path> files = Files.list(directory)) {
                Path archive = files.filter(file -> file.toString().endsWith(".txz"))
                        .findFirst()
                        .orElseThrow(() -> new NoSuchFileException(
                                directory + "/*.txz: run mvn process-test-resources, which puts it there"));
                return Files.newInputStream(archive);
            }
        }
    }
}
