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
 * @param maxHold {@code null}: no bound
 */
record LockSpec(
        List<LockKey> keys,
        LockMode mode,
        @Nullable Duration maxWait,
        boolean noWait,
        boolean skipIfBusy,
        boolean requireNew,
        @Nullable Duration maxHold) {

    LockSpec waiting(@Nullable Duration atMost) {
        return new LockSpec(keys, mode, atMost, false, false, requireNew, maxHold);
    }

    LockSpec notWaiting(boolean skip) {
        return new LockSpec(keys, mode, null, true, skip, requireNew, maxHold);
    }

    LockSpec asNew() {
        return new LockSpec(keys, mode, maxWait, noWait, skipIfBusy, true, maxHold);
    }

    LockSpec heldAtMost(Duration hold) {
        return new LockSpec(keys, mode, maxWait, noWait, skipIfBusy, requireNew, hold);
    }

    /** Whether the failure is the one that {@code skipIfBusy} asked to be nothing. */
    boolean skips(Throwable error) {
        return skipIfBusy && error instanceof LockNotAvailableException notAvailable && notAvailable.isKeyBusy();
    }
}
