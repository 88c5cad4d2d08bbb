package io.r2lock;

import io.r2lock.AdvisoryLockException.LockAttempt;
import io.r2lock.AmbientTransaction.Participation;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicInteger;
import org.jspecify.annotations.Nullable;
import reactor.util.context.ContextView;

/**
 * Whether a request is let in, and as what: by itself, or joined to what its chain holds. Counts those that wait, from here to
 * their grant or their failure.
 */
final class Admission {

    private final DefaultAdvisoryLocks client;
    private final AmbientAdmission ambient;
    private final AtomicInteger waiting = new AtomicInteger();

    Admission(DefaultAdvisoryLocks client) {
        this.client = client;
        this.ambient = new AmbientAdmission(client, this);
    }

    /** Attempts that count against {@code maxWaiters}. */
    int waiting() {
        return waiting.get();
    }

    /** One of them waits no more. */
    void left() {
        waiting.decrementAndGet();
    }

    AmbientAdmission ambient() {
        return ambient;
    }

    /** Tells the receiver the attempt, or an error. */
    void admit(LockSpec spec, ContextView context, Acquire.Receiver receiver) {
        Hold innermost = context.getOrDefault(client, null);
        AmbientTransaction outside = client.options().ambient();
        // a permit is never taken in a transaction, and never meets a lock
        if (outside == null || spec.permits() > 0) {
            admit(spec, innermost, null, receiver);
        } else {
            ambient.lookUp(outside, spec, context, receiver, (rest, found) -> admit(rest, innermost, found, receiver));
        }
    }

    private void admit(
            LockSpec spec, @Nullable Hold innermost, @Nullable Participation outside, Acquire.Receiver receiver) {
        Acquire attempt = attempt(spec, innermost, outside, receiver);
        if (attempt != null) {
            receiver.admitted(attempt);
        }
    }

    /** {@code null} when the receiver was told an error instead. */
    private @Nullable Acquire attempt(
            LockSpec spec, @Nullable Hold innermost, @Nullable Participation outside, Acquire.Receiver receiver) {
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
        if (outside != null) {
            return ambient.attempt(new HoldChain(innermost), spec, outside, receiver);
        }
        return innermost == null
                ? Acquire.fresh(client, spec, null, receiver)
                : inside(new HoldChain(innermost), spec, receiver);
    }

    /** {@code null} when the receiver was told an error instead. */
    @Nullable
    Acquire inside(HoldChain chain, LockSpec spec, Acquire.Receiver receiver) {
        Hold surrounding = chain.innermost();
        long owned = spec.requireNew() ? 0 : chain.owned(spec);
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
            return refuse(receiver, refused);
        }
        return joins && surrounding != null
                ? new JoinedAcquire(client, spec, surrounding, chain, receiver)
                : Acquire.fresh(client, spec, surrounding, receiver);
    }

    /** {@code null}, the receiver being told. */
    @Nullable
    Acquire refuse(Acquire.Receiver receiver, Throwable reason) {
        waiting.decrementAndGet();
        receiver.failed(reason);
        return null;
    }
}
