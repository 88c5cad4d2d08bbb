package io.r2lock;

import java.time.Duration;
import org.jspecify.annotations.Nullable;
import reactor.core.scheduler.Scheduler;

/**
 * What a client was built with.
 *
 * @param clock where all time comes from
 * @param defaultWait {@code null}: for ever
 * @param maxWaiters {@link Integer#MAX_VALUE}: no bound
 * @param settings of the server, for each lock connection
 * @param heartbeatClock {@code null}: the thread of the heartbeats
 * @param ambient {@code null}: no transaction of somebody else's is looked for
 */
record ClientOptions(
        Scheduler clock,
        int maxConnections,
        int sessionConnections,
        int waitingConnections,
        int handOffLimit,
        @Nullable Duration defaultWait,
        Duration connectTimeout,
        Duration closeGrace,
        Duration holdWarning,
        int maxWaiters,
        ConnectionSettings settings,
        Duration heartbeat,
        Duration heartbeatDeadline,
        @Nullable Scheduler heartbeatClock,
        Warnings warnings,
        @Nullable Scheduler workScheduler,
        LockListener listener,
        @Nullable AmbientTransaction ambient) {}
