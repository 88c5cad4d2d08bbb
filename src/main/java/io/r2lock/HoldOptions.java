package io.r2lock;

import java.time.Duration;
import reactor.core.scheduler.Scheduler;

/** Those options of {@link AdvisoryLocks.Builder} that are about waiting and holding, and about who is told of it. */
public interface HoldOptions {

    /** Default of {@link #closeGrace(Duration)}: 10 seconds. */
    Duration DEFAULT_CLOSE_GRACE = Duration.ofSeconds(10);

    /** Default of {@link #holdWarning(Duration)}: 30 seconds. */
    Duration DEFAULT_HOLD_WARNING = Duration.ofSeconds(30);

    /**
     * How long a request waits that does not say so itself. Without this option: for ever.
     *
     * @param wait as for {@link LockRequest#waitAtMost(Duration)}
     * @return this
     */
    AdvisoryLocks.Builder defaultWait(Duration wait);

    /**
     * How long {@link AdvisoryLocks#close()} lets holds go on.
     *
     * @param grace from zero (ends them at once) to 24 days
     * @return this
     */
    AdvisoryLocks.Builder closeGrace(Duration grace);

    /**
     * A hold longer than this is logged once at WARN and told to {@link LockListener#longHold}: long holds are the
     * commonest misuse. Checked once a second.
     *
     * @param age from zero (never warns) to 24 days
     * @return this
     */
    AdvisoryLocks.Builder holdWarning(Duration age);

    /**
     * How many callers may be waiting at once, from their subscription to the grant; one more fails with
     * {@link LockNotAvailableException}. Without this option: no bound.
     *
     * @param maxWaiters at least 1
     * @return this
     */
    AdvisoryLocks.Builder maxWaiters(int maxWaiters);

    /**
     * Where the guarded work is subscribed to. Without this option: on the event loop of the lock's connection, which
     * work that blocks, or computes for long, would stall together with other connections; in session scope, where the lock came
     * from another caller, on the thread that he ended his hold on, or on one of {@code Schedulers.parallel()} if that may block.
     *
     * @param scheduler stays the caller's to dispose of
     * @return this
     */
    AdvisoryLocks.Builder workScheduler(Scheduler scheduler);

    /**
     * Who is told what happens to holds.
     *
     * @param listener called on event loops: it must not block
     * @return this
     */
    AdvisoryLocks.Builder listener(LockListener listener);

    /**
     * Where transactions of somebody else's are found, which requests in transaction scope join. Without this option: nowhere.
     *
     * @param ambient asked at each subscription, but for permits
     * @return this
     */
    AdvisoryLocks.Builder ambientTransaction(AmbientTransaction ambient);
}
