package io.r2lock;

import java.time.Duration;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * What a {@link LockRequest} asks for.
 *
 * @param keys in canonical order, distinct
 * @param maxWait {@code null}: for ever
 * @param skipIfBusy with {@code noWait}: busy completes empty
 */
record LockSpec(
        List<LockKey> keys,
        LockMode mode,
        @Nullable Duration maxWait,
        boolean noWait,
        boolean skipIfBusy,
        boolean requireNew) {

    LockSpec waiting(@Nullable Duration atMost) {
        return new LockSpec(keys, mode, atMost, false, false, requireNew);
    }

    LockSpec notWaiting(boolean skip) {
        return new LockSpec(keys, mode, null, true, skip, requireNew);
    }

    LockSpec asNew() {
        return new LockSpec(keys, mode, maxWait, noWait, skipIfBusy, true);
    }

    /** Whether the failure is the one that {@code skipIfBusy} asked to be nothing. */
    boolean skips(Throwable error) {
        return skipIfBusy && error instanceof LockNotAvailableException notAvailable && notAvailable.isKeyBusy();
    }
}
