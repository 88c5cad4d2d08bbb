package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;

/** One who asked for a hold: counts what it is told, and can cancel, which also ends a hold that it has got. */
final class FakeCaller implements CoreSubscriber<HeldLock> {

    private final AtomicInteger told = new AtomicInteger();
    private final AtomicReference<@Nullable HeldLock> hold = new AtomicReference<>();
    private volatile @Nullable Throwable error;
    private volatile @Nullable Subscription subscription;
    private volatile boolean cancelled;

    @Override
    public void onSubscribe(Subscription given) {
        subscription = given;
        given.request(1);
    }

    @Override
    public void onNext(HeldLock given) {
        // before it is told: whoever waits for that may release it at once
        hold.set(given);
        told.incrementAndGet();
        if (cancelled) {
            release();
        }
    }

    @Override
    public void onError(Throwable failure) {
        told.incrementAndGet();
        error = failure;
    }

    @Override
    public void onComplete() {
        // the hold came before
    }

    void cancel() {
        cancelled = true;
        Objects.requireNonNull(subscription).cancel();
        release();
    }

    /** Ends the hold, if there is one; does not wait. */
    void release() {
        HeldLock held = hold.getAndSet(null);
        if (held != null) {
            held.release().subscribe();
        }
    }

    boolean isTold() {
        return told.get() > 0;
    }

    boolean hasHold() {
        return hold.get() != null;
    }

    HeldLock hold() {
        return Objects.requireNonNull(hold.get());
    }

    @Nullable
    Throwable error() {
        return error;
    }

    void assertToldOnce() {
        FakeClient.until("an answer", this::isTold);
        assertThat(told).hasValue(1);
    }

    /** Of one that was cancelled: nothing, or a hold that had come before. */
    void assertToldAtMostOnce() {
        assertThat(told.get()).isLessThanOrEqualTo(1);
        assertThat(error).isNull();
    }
}
