package io.r2lock.demo;

import io.zonky.test.db.postgres.embedded.EmbeddedPostgres;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.CompletableFuture;
import org.jspecify.annotations.Nullable;
import org.springframework.boot.SpringApplication;
import org.springframework.util.FileSystemUtils;

/**
 * A PostgreSQL that lives as long as the instance that started it, and leaves neither process nor files.
 *
 * <p>The application context closes it, after everything that uses it. A process that is ended while it still starts has no
 * such context: then Spring Boot's shutdown handlers do, once the launch under way is over.
 */
final class EmbeddedServer implements PostgresServer {

    private final Path data;
    private @Nullable EmbeddedPostgres postgres;
    private String url = "";
    private boolean closed;

    private EmbeddedServer(Path data) {
        this.data = data;
    }

    static EmbeddedServer start() {
        try {
            EmbeddedServer server = new EmbeddedServer(Files.createTempDirectory("r2lock-demo"));
            SpringApplication.getShutdownHandlers().add(server::close);
            // on another thread, because Spring interrupts the one that starts the application, and half a launch is
            // lost
            CompletableFuture.runAsync(server::launch).join();
            return server;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    @Override
    public synchronized String url() {
        return url;
    }

    @Override
    public String urlToTell() {
        return url();
    }

    /** Waits for a launch that is under way. */
    @Override
    public synchronized void close() {
        closed = true;
        try {
            if (postgres != null) {
                postgres.close();
            }
            FileSystemUtils.deleteRecursively(data);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private synchronized void launch() {
        if (closed) {
            throw new IllegalStateException("ended before it was started");
        }
        try {
            // its own shutdown hook would end the server under the requests that are still being answered
            EmbeddedPostgres started = EmbeddedPostgres.builder()
                    .setDataDirectory(data)
                    .setRegisterShutdownHook(false)
                    .start();
            url = "r2dbc:postgresql://postgres:postgres@localhost:" + started.getPort() + "/postgres";
            postgres = started;
        } catch (IOException e) {
            throw new UncheckedIOException("PostgreSQL does not start", e);
        }
    }
}
