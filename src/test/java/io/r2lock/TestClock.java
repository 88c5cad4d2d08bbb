package io.r2lock;

import java.time.Duration;
import java.util.concurrent.TimeUnit;
import reactor.core.Disposable;
import reactor.test.scheduler.VirtualTimeScheduler;

/**
 * A virtual time that other threads may schedule in while the test moves it. Reactor's own then loses a task at times: it looks at the
 * first of its queue and removes the first, which may be another one by then.
 */
final class TestClock extends VirtualTimeScheduler {

    TestClock() {
        super(false);
    }

    @Override
    public synchronized Disposable schedule(Runnable task, long delay, TimeUnit unit) {
        return super.schedule(task, delay, unit);
    }

    @Override
    public synchronized void advanceTimeBy(Duration time) {
        super.advanceTimeBy(time);
    }
}
