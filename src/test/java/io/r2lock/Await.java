package io.r2lock;

import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.BooleanSupplier;
import java.util.function.Predicate;
import java.util.function.Supplier;

/** Waits for what can only be seen by asking again, such as a row of {@code pg_locks}. */
final class Await {

    private static final Duration PATIENCE = Duration.ofSeconds(10);
    private static final long PAUSE_NANOS = TimeUnit.MILLISECONDS.toNanos(5);

    private Await() {}

    /** Waits until the condition holds; fails, saying what was awaited, if it does not in ten seconds. */
    static void until(String awaited, BooleanSupplier condition) {
        if (!value(condition::getAsBoolean, held -> held, PATIENCE)) {
            throw new AssertionError("not within " + PATIENCE + ": " + awaited);
        }
    }

    /** Lets this time pass. */
    static void rest(Duration time) {
        value(() -> false, over -> over, time);
    }

    /** The first value that is good, or the last one that was seen in that time. */
    static <T> T value(Supplier<T> source, Predicate<? super T> good, Duration patience) {
        long deadline = System.nanoTime() + patience.toNanos();
        T value = source.get();
        while (!good.test(value) && System.nanoTime() < deadline) {
            LockSupport.parkNanos(PAUSE_NANOS);
            value = source.get();
        }
        return value;
    }
}
