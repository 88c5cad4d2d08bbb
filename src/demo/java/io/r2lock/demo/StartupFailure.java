package io.r2lock.demo;

import io.r2lock.LockServerException;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.springframework.boot.web.server.PortInUseException;

/** Says why the application did not start, in one line where the reason is one that its user can change. */
final class StartupFailure {

    private StartupFailure() {}

    static void log(Logger log, Throwable failure) {
        String reason = reason(failure);
        if (reason == null) {
            log.error("The demo did not start", failure);
        } else {
            log.error(reason);
        }
    }

    private static @Nullable String reason(Throwable failure) {
        for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
            if (cause instanceof PortInUseException inUse) {
                int port = inUse.getPort();
                return "Port " + port + " is in use. Choose another one: mvn -Pdemo -Dserver.port=" + (port + 1);
            }
            if (cause instanceof LockServerException unusable) {
                return "The PostgreSQL at -Ddemo.postgres.url cannot be used: " + rootOf(unusable);
            }
        }
        return null;
    }

    private static Throwable rootOf(Throwable failure) {
        return failure.getCause() == null ? failure : rootOf(failure.getCause());
    }
}
