package io.r2lock;

import io.r2lock.AdvisoryLockException.LockAttempt;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;

/**
 * Whether a request is let in, and as what: by itself, or joined to what its chain holds. Counts those that wait, from here to
 * their grant or their failure.
 */
final class Admission {

    private final DefaultAdvisoryLocks client;
    private final AtomicInteger waiting = new AtomicInteger();

    Admission(DefaultAdvisoryLocks client) {
        this.client = client;
    }

    /** Attempts that count against {@code maxWaiters}. */
    int waiting() {
        return waiting.get();
    }

    /** One of them waits no more. */
    void left() {
        waiting.decrementAndGet();
    }

    /** {@code null} when the receiver was told an error instead. */
    @Nullable
    Acquire attempt(LockSpec spec, @Nullable Hold innermost, Acquire.Receiver receiver) {
        if (client.isClosing()) {
            LockAttempt asked = spec.attempt(Duration.ZERO);
            receiver.failed(new LocksClosedException("The client is closed: no " + asked, asked, null));
            return null;
        }
        if (waiting.incrementAndGet() > client.options().maxWaiters()) {
            waiting.decrementAndGet();
            LockAttempt asked = spec.attempt(Duration.ZERO);
            receiver.failed(new LockNotAvailableException(
                    "The queue is full: no " + asked + ", because "
                            + client.options().maxWaiters() + " callers (maxWaiters) wait already",
                    asked,
                    false));
            return null;
        }
        return innermost == null
                ? Acquire.fresh(client, spec, null, receiver)
                : inside(new HoldChain(innermost), spec, receiver);
    }

    private @Nullable Acquire inside(HoldChain chain, LockSpec spec, Acquire.Receiver receiver) {
        Hold surrounding = chain.innermost();
        long owned = spec.requireNew()
                ? 0
                : spec.keys().stream()
                        .filter(key -> chain.ownerOf(key, spec) != null)
                        .count();
        boolean all = owned == spec.keys().size();
        boolean joins = all || (!spec.requireNew() && !spec.inSession() && chain.transaction() != null);
        RuntimeException refused = all ? null : chain.unbounded(spec);
        if (refused == null && owned > 0 && !joins) {
            refused = new IllegalStateException(
                    "No " + spec.attempt(Duration.ZERO) + ": the surrounding holds have some of the keys and not the"
                            + " others, and no transaction in which those could be added. Ask for the others only.");
        }
        if (refused == null && joins && spec.minHold() != null) {
            refused = new IllegalStateException(
                    "No " + spec.attempt(Duration.ZERO) + " with holdAtLeast " + spec.minHold()
                            + ": a surrounding hold has the key, and frees it at its own end. Ask for it there.");
        }
        if (refused != null) {
            waiting.decrementAndGet();
            receiver.failed(refused);
            return null;
        }
        return joins && surrounding != null
                ? new JoinedAcquire(client, spec, surrounding, chain, receiver)
                : Acquire.fresh(client, spec, surrounding, receiver);
    }
}
