package io.r2lock;

import java.util.Set;

/**
 * One hold as its process logged it.
 *
 * @param process which process
 * @param id which of its holds
 * @param keys what was locked
 * @param exclusive how
 * @param backend the server process that granted it
 * @param begin when the guarded work began, as {@link System#nanoTime()}, which all processes of a machine share
 * @param end when it ended, before the lock was released; {@link Long#MAX_VALUE} if that was not logged
 * @param outcome what the caller was told
 */
record LabHold(
        String process,
        String id,
        Set<Long> keys,
        boolean exclusive,
        int backend,
        long begin,
        long end,
        Outcome outcome) {

    /** What a caller was told about its hold. */
    enum Outcome {
        /** Success: COMMIT was answered, so the lock was held to the end. */
        RELEASED,
        /** It ended the hold by a call that never fails, which proves nothing. */
        ENDED,
        LOST,
        /** The COMMIT was not answered. */
        UNKNOWN,
        /** The caller itself gave up. */
        CANCELLED,
        FAILED,
        /** Nothing was logged. */
        NONE
    }

    boolean conflictsWith(LabHold other) {
        return exclusive || other.exclusive;
    }

    LabHold endedAt(long time) {
        return new LabHold(process, id, keys, exclusive, backend, begin, time, outcome);
    }

    boolean hasEnd() {
        return end != Long.MAX_VALUE;
    }

    @Override
    public String toString() {
        return process + "/" + id + (exclusive ? " exclusive " : " shared ") + keys + " backend " + backend + ", "
                + outcome;
    }
}
