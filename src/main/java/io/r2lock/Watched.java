package io.r2lock;

import org.jspecify.annotations.Nullable;
import reactor.core.scheduler.Scheduler;

/** A connection whose backend must live on while somebody relies on it; the {@link Heartbeat} sees to that. */
interface Watched {

    /** Who relies on it, if anybody does. */
    LockConnection.@Nullable Holder holder();

    int pid();

    /** In microseconds since 1970, or 0 where the server does not show it. */
    long backendStart();

    /** The pid does not tell which backend will run the next transaction. */
    boolean isPooled();

    /** Its event loop. */
    @Nullable
    Scheduler loop();

    /** A question by the connection itself, where no statement of a user can be in its way. */
    default void probe() {}
}
