package io.r2lock;

import java.time.Duration;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;

/** The work of a hold that was ended from outside, and was cancelled by that: its signals are looked at, as it may not have stopped. */
final class IgnoredCancel {

    /** A cancel and a signal may cross; what comes so much later did not stop. */
    private static final long IGNORED_NANOS = TimeUnit.SECONDS.toNanos(1);

    private final Hold hold;
    private final long cancelledAt;
    private final AtomicBoolean reported = new AtomicBoolean();

    IgnoredCancel(Hold hold) {
        this.hold = hold;
        this.cancelledAt = hold.client.now();
    }

    /** The lock does not protect it any more. */
    void signalled() {
        long after = hold.client.now() - cancelledAt;
        if (after >= IGNORED_NANOS && reported.compareAndSet(false, true)) {
            hold.client.reports().cancelIgnored(hold, Duration.ofNanos(after));
        }
    }
}
