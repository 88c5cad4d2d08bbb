package io.r2lock;

import java.time.Duration;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import reactor.core.Disposable;
import reactor.core.scheduler.Scheduler;
import reactor.core.scheduler.Schedulers;

/** A clock that counts the timers of one length. */
final class TimerCount implements Scheduler {

    private final Scheduler real = Schedulers.parallel();
    private final long nanos;
    private final Queue<Disposable> timers = new ConcurrentLinkedQueue<>();

    TimerCount(Duration length) {
        this.nanos = length.toNanos();
    }

    int started() {
        return timers.size();
    }

    long left() {
        return timers.stream().filter(timer -> !timer.isDisposed()).count();
    }

    @Override
    public Disposable schedule(Runnable task) {
        return real.schedule(task);
    }

    @Override
    public Disposable schedule(Runnable task, long delay, TimeUnit unit) {
        Disposable timer = real.schedule(task, delay, unit);
        if (unit.toNanos(delay) == nanos) {
            timers.add(timer);
        }
        return timer;
    }

    @Override
    public Disposable schedulePeriodically(Runnable task, long initialDelay, long period, TimeUnit unit) {
        return real.schedulePeriodically(task, initialDelay, period, unit);
    }

    @Override
    public Worker createWorker() {
        return real.createWorker();
    }
}
