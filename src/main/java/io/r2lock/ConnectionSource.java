package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import reactor.core.publisher.Mono;

/** Where a client's connections come from. Nothing here is ever cancelled; everything ends in time. */
interface ConnectionSource {

    /**
     * One lock connection, set up.
     *
     * @param generation what {@link LockConnection#generation()} will answer
     */
    Mono<LockConnection> open(int generation);

    /** One connection for the {@link Heartbeat}. */
    Mono<PostgresqlConnection> openForHeartbeat();

    /** Looks at the server anew, over connections that are closed afterwards. */
    Mono<SelfCheck> selfCheck(LockKey probe);

    /** Closes what was opened and not taken. */
    void close();
}
