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

    /**
     * A hold was lost: its backend or connection is gone, or its own SQL has freed the lock; told once for each hold that has a
     * transaction, or session locks, of its own.
     *
     * @param keys the keys of the hold
     * @param mode the mode of the hold
     * @param age how long it had lasted
     * @param why what is known of the reason, a sentence for people
     */
    default void lost(List<LockKey> keys, LockMode mode, Duration age, String why) {}

    /**
     * Guarded work went on after its hold had been lost or had expired: it gave another signal, though it had been cancelled.
     * Whatever it does since is not protected by the lock. Told once for each hold, and only when the signal came a second or
     * more after the cancel.
     *
     * @param keys the keys of the hold
     * @param mode the mode of the hold
     * @param since how long after its cancel the work gave the signal
     */
    default void cancelIgnored(List<LockKey> keys, LockMode mode, Duration since) {}

    /**
     * Two different names are one number, and so one lock: their holders exclude each other without need, and a request for the one
     * inside a hold of the other joins it. Seen where both are in use in this client at the same time, or are keys of one request, and
     * with {@link AdvisoryLocks.Builder#ambientTransaction(AmbientTransaction)} mostly also where they are asked for one soon after the other; a
     * key of a number only ({@link LockKey#of(long)}) has no name that could differ. Told once for each pair in each client, for the
     * first {@value Collisions#MOST} pairs.
     *
     * @param held the key by the name of who came first, who may be waiting for it
     * @param asked the equal key by the name of who came later
     */
    default void collision(LockKey held, LockKey asked) {}
}
