package io.r2lock;

import java.util.List;
import java.util.Set;

/**
 * One hold as its process logged it.
 *
 * @param process which process
 * @param id which of its holds
 * @param keys what was locked
 * @param exclusive how
 * @param backends the server processes that granted its keys: one, or more where session locks are held on several
 * @param begin when the guarded work began, as {@link System#nanoTime()}, which all processes of a machine share
 * @param end when it ended, before the lock was released; {@link Long#MAX_VALUE} if that was not logged
 * @param outcome what the caller was told
 */
record LabHold(
        String process,
        String id,
        Set<Long> keys,
        boolean exclusive,
        List<Integer> backends,
        long begin,
        long end,
        Outcome outcome) {

    /** What a caller was told about its hold. */
    enum Outcome {
        /** Success: COMMIT was answered, so the lock was held to the end. */
        RELEASED,
        /** It ended the hold by a call that never fails, or that may have handed it on unseen by the server: proves nothing. */
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

    /** The first of them. */
    int backend() {
        return backends.get(0);
    }

    boolean conflictsWith(LabHold other) {
        return exclusive || other.exclusive;
    }

    LabHold endedAt(long time) {
        return new LabHold(process, id, keys, exclusive, backends, begin, time, outcome);
    }

    boolean hasEnd() {
        return end != Long.MAX_VALUE;
    }

    @Override
    public String toString() {
        return process + "/" + id + (exclusive ? " exclusive " : " shared ") + keys + " backends " + backends + ", "
                + outcome;
    }
}
