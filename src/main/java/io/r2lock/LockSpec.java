package io.r2lock;

import io.r2lock.AdvisoryLockException.LockAttempt;
import java.time.Duration;
import java.util.List;
import org.jspecify.annotations.Nullable;

/**
 * What a {@link LockRequest} asks for.
 *
 * @param keys in canonical order, distinct
 * @param permits 0 for locks; else one of so many permits of the only key, which is a lock of its own for the server
 * @param maxWait {@code null}: for ever
 * @param skipIfBusy with {@code noWait}: busy completes empty
 * @param polls waits without a statement that blocks on the server
 * @param inSession the locks are the session's, else a transaction's
 * @param maxHold {@code null}: no bound
 * @param minHold {@code null}: ends with its work
 * @param durableTokens in session scope only, which is checked where the request is used
 */
record LockSpec(
        List<LockKey> keys,
        int permits,
        LockMode mode,
        @Nullable Duration maxWait,
        boolean noWait,
        boolean skipIfBusy,
        boolean polls,
        boolean inSession,
        boolean requireNew,
        @Nullable Duration maxHold,
        @Nullable Duration minHold,
        boolean durableTokens) {

    static LockSpec of(List<LockKey> keys, LockMode mode, @Nullable Duration maxWait) {
        return new LockSpec(keys, 0, mode, maxWait, false, false, false, false, false, null, null, false);
    }

    static LockSpec permit(LockKey key, int permits, @Nullable Duration maxWait) {
        return new LockSpec(
                List.of(key),
                permits,
                LockMode.EXCLUSIVE,
                maxWait,
                false,
                false,
                false,
                true,
                false,
                null,
                null,
                false);
    }

    LockSpec waiting(@Nullable Duration atMost) {
        return new LockSpec(
                keys,
                permits,
                mode,
                atMost,
                noWait,
                skipIfBusy,
                polls,
                inSession,
                requireNew,
                maxHold,
                minHold,
                durableTokens);
    }

    LockSpec notWaiting(boolean skip) {
        return new LockSpec(
                keys, permits, mode, null, true, skip, polls, inSession, requireNew, maxHold, minHold, durableTokens);
    }

    LockSpec polling() {
        return new LockSpec(
                keys,
                permits,
                mode,
                maxWait,
                noWait,
                skipIfBusy,
                true,
                inSession,
                requireNew,
                maxHold,
                minHold,
                durableTokens);
    }

    LockSpec in(boolean session) {
        return new LockSpec(
                keys,
                permits,
                mode,
                maxWait,
                noWait,
                skipIfBusy,
                polls,
                session,
                requireNew,
                maxHold,
                minHold,
                durableTokens);
    }

    LockSpec asNew() {
        return new LockSpec(
                keys,
                permits,
                mode,
                maxWait,
                noWait,
                skipIfBusy,
                polls,
                inSession,
                true,
                maxHold,
                minHold,
                durableTokens);
    }

    LockSpec heldAtMost(Duration hold) {
        return new LockSpec(
                keys,
                permits,
                mode,
                maxWait,
                noWait,
                skipIfBusy,
                polls,
                inSession,
                requireNew,
                hold,
                minHold,
                durableTokens);
    }

    LockSpec heldAtLeast(Duration hold) {
        return new LockSpec(
                keys,
                permits,
                mode,
                maxWait,
                noWait,
                skipIfBusy,
                polls,
                inSession,
                requireNew,
                maxHold,
                hold,
                durableTokens);
    }

    LockSpec withDurableTokens() {
        return new LockSpec(
                keys, permits, mode, maxWait, noWait, skipIfBusy, polls, inSession, requireNew, maxHold, minHold, true);
    }

    /** The one of its keys that is the same lock, maybe by another name. */
    LockKey own(LockKey key) {
        return keys.get(keys.indexOf(key));
    }

    LockAttempt attempt(Duration waited) {
        return new LockAttempt(keys, permits, mode, waited);
    }

    /** Whether the failure is the one that {@code skipIfBusy} asked to be nothing. */
    boolean skips(Throwable error) {
        return skipIfBusy && error instanceof LockNotAvailableException notAvailable && notAvailable.isKeyBusy();
    }
}
