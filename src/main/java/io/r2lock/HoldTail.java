package io.r2lock;

import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import reactor.core.Disposable;
import reactor.core.scheduler.Scheduler;

/**
 * What is left of a hold whose work has ended before {@code holdAtLeast} was over: {@code KEPT ──time is over, or close──▶ OVER},
 * by compare-and-set, and whoever moves it there gives the locks back.
 */
final class HoldTail {

    private final AtomicBoolean over = new AtomicBoolean();
    private final Runnable giveBack;
    private final Disposable timer;

    HoldTail(Scheduler clock, long nanos, Runnable giveBack) {
        this.giveBack = giveBack;
        this.timer = clock.schedule(this::giveBackOnce, nanos, TimeUnit.NANOSECONDS);
    }

    /** Before its time. */
    void end() {
        timer.dispose();
        giveBackOnce();
    }

    private void giveBackOnce() {
        if (over.compareAndSet(false, true)) {
            giveBack.run();
        }
    }
}
