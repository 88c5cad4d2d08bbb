package io.r2lock;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.scheduler.Scheduler;

/**
 * What an operator must act on, at most one line in {@link #QUIET_SECONDS}: a server that goes away takes hundreds of holds with
 * it, and one line says as much as hundreds. What is held back is counted in the next line, and logged at DEBUG.
 */
final class Warnings {

    static final long QUIET_SECONDS = 5;

    private static final Logger LOG = LoggerFactory.getLogger(AdvisoryLocks.class);
    private static final long NEVER = Long.MIN_VALUE;

    private final Scheduler clock;
    private final AtomicLong loggedAt = new AtomicLong(NEVER);
    private volatile @Nullable String lastHeldBack;
    private final AtomicLong heldBack = new AtomicLong();

    Warnings(Scheduler clock) {
        this.clock = clock;
    }

    /** Logs what was held back once the quiet is over, so that the last of a flood is not told at DEBUG only. */
    void flush() {
        String last = lastHeldBack;
        if (last != null && heldBack.get() > 0 && isDue(loggedAt.get())) {
            heldBack.decrementAndGet();
            warn(last);
        }
    }

    private boolean isDue(long last) {
        return last == NEVER || clock.now(TimeUnit.NANOSECONDS) - last >= TimeUnit.SECONDS.toNanos(QUIET_SECONDS);
    }

    Scheduler clock() {
        return clock;
    }

    void warn(String message) {
        long now = clock.now(TimeUnit.NANOSECONDS);
        long last = loggedAt.get();
        if (isDue(last) && loggedAt.compareAndSet(last, now)) {
            long others = heldBack.getAndSet(0);
            if (others == 0) {
                LOG.warn(message);
            } else {
                LOG.warn("{} ({} more warnings since the last one are at DEBUG)", message, others);
            }
        } else {
            lastHeldBack = message;
            heldBack.incrementAndGet();
            LOG.debug(message);
        }
    }
}
