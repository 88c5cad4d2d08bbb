package io.r2lock;

import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Operators;

/**
 * The one value of guarded work, which is held back until COMMIT has succeeded, and until somebody has asked for it; whichever comes
 * second tells it. Until then it may be discarded, once.
 */
final class SingleValue<T> {

    private static final int REQUESTED = 1;
    private static final int COMMITTED = 2;

    private final CoreSubscriber<? super T> actual;
    private final AtomicReference<@Nullable T> value = new AtomicReference<>();
    private final AtomicInteger emission = new AtomicInteger();

    SingleValue(CoreSubscriber<? super T> actual) {
        this.actual = actual;
    }

    void set(T given) {
        value.set(given);
    }

    void discard() {
        T held = value.getAndSet(null);
        if (held != null) {
            Operators.onDiscard(held, actual.currentContext());
        }
    }

    void requested() {
        emitOnce(REQUESTED);
    }

    void committed() {
        if (value.get() == null) {
            actual.onComplete();
        } else {
            emitOnce(COMMITTED);
        }
    }

    private void emitOnce(int part) {
        int before = emission.getAndAccumulate(part, (now, bit) -> now | bit);
        if (before != (before | part) && (before | part) == (REQUESTED | COMMITTED)) {
            actual.onNext(Objects.requireNonNull(value.get()));
            actual.onComplete();
        }
    }
}
