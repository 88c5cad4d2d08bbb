package io.r2lock.bench;

import java.util.function.LongSupplier;

/** One way to lock a key, do nothing, and unlock it: a cycle. It runs its callers itself, as a user of it would. */
interface Contender extends AutoCloseable {

    String name();

    /** How many callers it is given where a workload wants so many. */
    default int callers(int wanted) {
        return wanted;
    }

    /** Cycles a second of that many callers, each of which begins its next cycle when the last one has ended. */
    double rate(int callers, double seconds, LongSupplier keys);

    /** The middle duration of one caller's cycles, in microseconds. */
    double median(double seconds, LongSupplier keys);

    @Override
    void close();
}
