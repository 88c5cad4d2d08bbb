package io.r2lock;

import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.atomic.AtomicIntegerFieldUpdater;
import java.util.function.Consumer;
import reactor.core.scheduler.Scheduler;

/**
 * Runs passes one after the other, as long as anybody has asked for one since the last began; asked from any thread, run on the loop.
 */
final class Drain {

    private static final AtomicIntegerFieldUpdater<Drain> WORK =
            AtomicIntegerFieldUpdater.newUpdater(Drain.class, "work");

    private final Scheduler loop;
    private final Runnable pass;
    private final Consumer<Throwable> failed;
    private volatile int work;

    /** {@code failed} is told what a pass has thrown. */
    Drain(Scheduler loop, Runnable pass, Consumer<Throwable> failed) {
        this.loop = loop;
        this.pass = pass;
        this.failed = failed;
    }

    void schedule() {
        if (WORK.getAndIncrement(this) != 0) {
            return;
        }
        try {
            loop.schedule(this::run);
        } catch (RejectedExecutionException e) {
            // the event loop has ended, so nothing else runs there
            run();
        }
    }

    /** For signals of the driver, which come on the event loop. */
    void signal() {
        if (WORK.getAndIncrement(this) == 0) {
            run();
        }
    }

    private void run() {
        int seen = work;
        do {
            try {
                pass.run();
            } catch (Throwable thrown) {
                // a drain that stopped here would never run again
                failed.accept(thrown);
            }
            seen = WORK.addAndGet(this, -seen);
        } while (seen != 0);
    }
}
