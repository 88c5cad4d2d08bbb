package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import org.jspecify.annotations.Nullable;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Scheduler;

/** Where a client's connections come from. Nothing here is ever cancelled; everything ends in time. */
interface ConnectionSource {

    /** A connection for session locks, with what was learned when it was opened. */
    record SessionWire(PostgresqlConnection wire, ConnectionFacts facts) {}

    /**
     * One lock connection, set up.
     *
     * @param generation what {@link LockConnection#generation()} will answer
     */
    Mono<LockConnection> open(int generation);

    /** One connection for session locks, set up; an error behind a pooler that shares backends. */
    Mono<SessionWire> openForSession();

    /**
     * One connection for the {@link Heartbeat}.
     *
     * @param from where connecting begins: on one of the driver's event loops the connection will live on that loop, if the loops
     *     are colocating, as they are by default
     */
    Mono<PostgresqlConnection> openForHeartbeat(Scheduler from);

    /** Looks at the server anew, over connections that are closed afterwards. */
    Mono<SelfCheck> selfCheck(LockKey probe);

    /** The advisory locks of the database, over a connection that is closed afterwards. */
    Mono<ServerLocks> locks();

    /** Where the size of the server's lock table comes from; null before anybody has looked. */
    LockCapacityException.@Nullable Settings lockTable();

    /** Closes what was opened and not taken. */
    void close();
}
