package io.r2lock;

import io.r2dbc.postgresql.PostgresqlConnectionConfiguration;
import io.r2dbc.postgresql.PostgresqlConnectionFactory;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.junit.jupiter.api.Assumptions;

/** A PgBouncer of the test's own in front of a server, on loopback. */
final class PgBouncer implements AutoCloseable {

    private static final String PROGRAM = "pgbouncer";
    private static final long STOP_SECONDS = 10;

    private final TestServer server;
    private final Path directory;
    private final Process process;
    private final int port;

    private PgBouncer(TestServer server, Path directory, Process process, int port) {
        this.server = server;
        this.directory = directory;
        this.process = process;
        this.port = port;
    }

    /** With a backend for each transaction, of {@code poolSize} in all. */
    static PgBouncer transactionMode(TestServer server, int poolSize) {
        return start(server, "transaction", poolSize);
    }

    /** With a backend for each client. */
    static PgBouncer sessionMode(TestServer server, int poolSize) {
        return start(server, "session", poolSize);
    }

    private static PgBouncer start(TestServer server, String mode, int poolSize) {
        assumeInstalled();
        try {
            Path directory = Files.createTempDirectory("r2lock-pgbouncer");
            // another user reads it
            Files.setPosixFilePermissions(directory, PosixFilePermissions.fromString("rwxr-xr-x"));
            int port = freePort();
            Path configuration = directory.resolve("pgbouncer.ini");
            Files.writeString(configuration, configuration(server, mode, poolSize, port));
            Process process = new ProcessBuilder(command(configuration))
                    .redirectErrorStream(true)
                    .redirectOutput(directory.resolve("pgbouncer.log").toFile())
                    .start();
            PgBouncer pooler = new PgBouncer(server, directory, process, port);
            Await.until("start of PgBouncer: " + pooler.log(), () -> pooler.accepts() || !process.isAlive());
            if (!process.isAlive()) {
                throw new IllegalStateException("PgBouncer did not start: " + pooler.log());
            }
            return pooler;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    static boolean isInstalled() {
        return Stream.of(System.getenv("PATH").split(":", -1))
                .anyMatch(path -> Files.isExecutable(Path.of(path).resolve(PROGRAM)));
    }

    /** Skips the test where there is none. */
    static void assumeInstalled() {
        Assumptions.assumeTrue(
                isInstalled(),
                "there is no " + PROGRAM + " on the PATH; Debian and Ubuntu have it in the package pgbouncer");
    }

    private static List<String> command(Path configuration) {
        List<String> command = new ArrayList<>(List.of(PROGRAM));
        if ("root".equals(System.getProperty("user.name"))) {
            // it refuses to run as root
            command.addAll(List.of("-u", "nobody"));
        }
        command.add(configuration.toString());
        return command;
    }

    private static String configuration(TestServer server, String mode, int poolSize, int port) {
        return """
                [databases]
                %s = host=127.0.0.1 port=%d user=postgres
                [pgbouncer]
                listen_addr = 127.0.0.1
                listen_port = %d
                unix_socket_dir =
                auth_type = any
                pool_mode = %s
                default_pool_size = %d
                max_client_conn = 200
                ignore_startup_parameters = extra_float_digits
                """.formatted(server.database(), server.port(), port, mode, poolSize);
    }

    private static int freePort() throws IOException {
        try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            return free.getLocalPort();
        }
    }

    private boolean accepts() {
        try (Socket socket = new Socket()) {
            socket.connect(new InetSocketAddress(InetAddress.getLoopbackAddress(), port), 1_000);
            return true;
        } catch (IOException e) {
            return false;
        }
    }

    private String log() {
        try {
            return Files.readString(directory.resolve("pgbouncer.log"));
        } catch (IOException e) {
            return e.toString();
        }
    }

    PostgresqlConnectionFactory connectionFactory() {
        return new PostgresqlConnectionFactory(through(server.configuration()).build());
    }

    PostgresqlConnectionConfiguration.Builder through(PostgresqlConnectionConfiguration.Builder configuration) {
        return configuration.host("127.0.0.1").port(port);
    }

    @Override
    public void close() {
        process.destroy();
        try {
            if (!process.waitFor(STOP_SECONDS, TimeUnit.SECONDS)) {
                process.destroyForcibly();
            }
            Files.deleteIfExists(directory.resolve("pgbouncer.ini"));
            Files.deleteIfExists(directory.resolve("pgbouncer.log"));
            Files.deleteIfExists(directory);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            throw new IllegalStateException(e);
        }
    }
}
