package io.r2lock;

import java.time.Duration;
import java.util.List;

/**
 * Is told what happens to holds, to count or to alert; given to {@link AdvisoryLocks.Builder#listener(LockListener)}.
 *
 * <p>Called on whatever thread found out, often an event loop: it must not block. What it throws is logged and otherwise
 * ignored. Every method has an empty body, so that an implementation names what it wants.
 */
public interface LockListener {

    /**
     * A hold has lasted longer than {@link AdvisoryLocks.Builder#holdWarning(Duration)}; told once for each hold.
     *
     * @param keys the keys of the hold
     * @param mode the mode of the hold
     * @param age how long it has lasted so far
     */
    default void longHold(List<LockKey> keys, LockMode mode, Duration age) {}
}
