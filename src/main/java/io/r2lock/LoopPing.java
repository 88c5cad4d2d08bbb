package io.r2lock;

import java.util.concurrent.RejectedExecutionException;
import org.jspecify.annotations.Nullable;
import reactor.core.scheduler.Scheduler;

/**
 * Finds out whether an event loop of the driver runs: {@code IDLE ──look──▶ PENDING ──the loop runs it──▶ IDLE}. Only the heartbeat's
 * thread looks.
 *
 * <p>One that ran when a question was sent says nothing about the answer, so it is looked at again and again while one is missing.
 */
final class LoopPing {

    private final @Nullable Scheduler loop;
    private volatile boolean pending;
    private long since;

    /** Without a loop it never stalls. */
    LoopPing(@Nullable Scheduler loop) {
        this.loop = loop;
    }

    void look(long now) {
        Scheduler checked = loop;
        if (checked == null || pending) {
            return;
        }
        since = now;
        pending = true;
        try {
            checked.schedule(() -> pending = false);
        } catch (RejectedExecutionException shutDown) {
            // its connections are closed then, which is told in another way
            pending = false;
        }
    }

    /** The loop, if it has run since it was looked at last; {@code null} also before the first look. */
    @Nullable
    Scheduler running() {
        return since != 0 && !pending ? loop : null;
    }

    /** Something else has kept it busy for so long. */
    boolean isStalled(long now, long nanos) {
        return pending && now - since > nanos;
    }
}
