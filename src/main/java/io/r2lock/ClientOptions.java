package io.r2lock;

import java.time.Duration;
import java.util.Map;
import org.jspecify.annotations.Nullable;
import reactor.core.scheduler.Scheduler;

/**
 * What a client was built with.
 *
 * @param clock where all time comes from
 * @param defaultWait {@code null}: for ever
 * @param maxWaiters {@link Integer#MAX_VALUE}: no bound
 * @param settings of the server, in the order in which they are set
 */
record ClientOptions(
        Scheduler clock,
        int maxConnections,
        @Nullable Duration defaultWait,
        Duration connectTimeout,
        Duration closeGrace,
        Duration holdWarning,
        int maxWaiters,
        Map<String, String> settings,
        @Nullable Scheduler workScheduler,
        LockListener listener) {}
