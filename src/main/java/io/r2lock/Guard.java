package io.r2lock;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.reactivestreams.Subscription;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Operators;
import reactor.core.scheduler.Scheduler;
import reactor.util.context.Context;

/**
 * One subscription to guarded work.
 *
 * <pre>
 *   ACQUIRING ──granted──▶ RUNNING ──work completes──▶ ENDING: COMMIT, then the result
 *       │                     ├──── work fails ──────▶ ENDING: ROLLBACK, then its error
 *       │                     ├──── hold is ended ───▶ ENDING: work cancelled, ROLLBACK, then the reason
 *       │                     └──── cancel ──────────▶ CANCELLED: work cancelled, ROLLBACK
 *       ├──failed──▶ ENDING: the error
 *       └──cancel──▶ CANCELLED
 * </pre>
 *
 * <p>Who leaves {@code RUNNING} decides the outcome; a cancel during a COMMIT comes too late and is ignored, as COMMIT cannot
 * be called back.
 */
final class Guard<T> implements CoreSubscriber<T>, Subscription, Acquire.Receiver {

    private static final Logger LOG = LoggerFactory.getLogger(Guard.class);

    /** A cancel and a signal may cross; what comes so much later did not stop. */
    private static final long IGNORED_NANOS = TimeUnit.SECONDS.toNanos(1);

    private static final int REQUESTED = 1;
    private static final int COMMITTED = 2;

    enum State {
        ACQUIRING,
        RUNNING,
        ENDING,
        CANCELLED
    }

    private final DefaultAdvisoryLocks client;
    private final LockSpec spec;
    private final Function<? super HeldLock, ? extends Publisher<? extends T>> work;
    /** A single value is held back until COMMIT has succeeded. */
    private final boolean single;

    private final CoreSubscriber<? super T> actual;
    private final CoreSubscriber<? super T> signals;
    private final AtomicReference<State> state = new AtomicReference<>(State.ACQUIRING);
    private final Operators.DeferredSubscription inner = new Operators.DeferredSubscription();
    /** A single value needs both: somebody who asked for it, and the COMMIT. */
    private final AtomicInteger emission = new AtomicInteger();

    private volatile @Nullable Acquire acquire;
    private @Nullable Hold hold;
    private volatile long abortedAt;
    private boolean reported;
    private Context context = Context.empty();
    private final AtomicReference<@Nullable T> value = new AtomicReference<>();

    Guard(
            DefaultAdvisoryLocks client,
            LockSpec spec,
            Function<? super HeldLock, ? extends Publisher<? extends T>> work,
            boolean single,
            CoreSubscriber<? super T> actual) {
        this.client = client;
        this.spec = spec;
        this.work = work;
        this.single = single;
        this.actual = actual;
        // an end from outside may have its reason to tell while an item is being told
        this.signals = single ? actual : Operators.serialize(actual);
    }

    void start() {
        actual.onSubscribe(this);
        client.attempt(spec, actual.currentContext(), this);
    }

    @Override
    public void admitted(Acquire created) {
        acquire = created;
        if (state.get() == State.CANCELLED) {
            created.stop(Acquire.Stop.CANCELLED);
        }
        client.begin(created);
    }

    @Override
    public void granted(Hold granted) {
        hold = granted;
        context = granted.into(actual.currentContext());
        if (!state.compareAndSet(State.ACQUIRING, State.RUNNING)) {
            granted.drop();
            return;
        }
        granted.runBy(this::abort);
        Scheduler scheduler = client.options().workScheduler();
        if (scheduler == null) {
            run();
            return;
        }
        try {
            scheduler.schedule(this::run);
        } catch (RejectedExecutionException shutDown) {
            onError(shutDown);
        }
    }

    @Override
    public void failed(Throwable error) {
        if (!state.compareAndSet(State.ACQUIRING, State.ENDING)) {
            return;
        }
        if (spec.skips(error)) {
            signals.onComplete();
        } else {
            signals.onError(error);
        }
    }

    private void run() {
        if (state.get() != State.RUNNING) {
            return;
        }
        try {
            Objects.requireNonNull(work.apply(hold()), "The function that was to be guarded returned null")
                    .subscribe(this);
            // work that blocked in its subscription was deaf to a cancel, and gives no signal after it
            wentOn();
        } catch (Throwable thrown) {
            // even a fatal one must not leave the lock held
            onError(thrown);
        }
    }

    private Hold hold() {
        return Objects.requireNonNull(hold);
    }

    @Override
    public Context currentContext() {
        return context;
    }

    @Override
    public void onSubscribe(Subscription subscription) {
        inner.set(subscription);
        if (single) {
            inner.request(Long.MAX_VALUE);
        }
    }

    @Override
    public void onNext(T item) {
        if (state.get() != State.RUNNING) {
            wentOn();
            Operators.onDiscard(item, context);
        } else if (single) {
            value.set(item);
            // whoever ended it meanwhile may have looked for the value before it was there
            if (state.get() != State.RUNNING) {
                discardValue();
            }
        } else {
            signals.onNext(item);
        }
    }

    @Override
    public void onError(Throwable error) {
        if (!state.compareAndSet(State.RUNNING, State.ENDING)) {
            LOG.debug("Guarded work failed after it had been cancelled", error);
            wentOn();
            return;
        }
        endWith(error);
    }

    @Override
    public void onComplete() {
        if (!state.compareAndSet(State.RUNNING, State.ENDING)) {
            wentOn();
            return;
        }
        // the caller hears of its own result before those who take the lock over have their turns
        KeyGates.turnsAfter(() -> hold().commit(this::ended));
    }

    private void abort(AdvisoryLockException reason) {
        if (state.compareAndSet(State.RUNNING, State.ENDING)) {
            abortedAt = Math.max(1, client.now());
            cancelWork();
            endWith(reason);
        }
    }

    /** A signal of work that the end of its hold had cancelled: it did not stop, and the lock does not protect it any more. */
    private void wentOn() {
        long since = abortedAt;
        long after = client.now() - since;
        if (since != 0 && after >= IGNORED_NANOS && !reported) {
            reported = true;
            client.reports().cancelIgnored(hold(), Duration.ofNanos(after));
        }
    }

    /** What the work throws when it is cancelled must not keep the hold from its end. */
    private void cancelWork() {
        try {
            inner.cancel();
        } catch (Throwable thrown) {
            Operators.onErrorDropped(thrown, context);
        }
    }

    private void endWith(Throwable error) {
        discardValue();
        hold().end(false);
        hold().outcome()
                .subscribe(
                        nothing -> {},
                        alsoFailed -> {
                            if (alsoFailed != error) {
                                error.addSuppressed(alsoFailed);
                            }
                            signals.onError(error);
                        },
                        () -> signals.onError(error));
    }

    private void ended(@Nullable Throwable error) {
        if (error == null) {
            committed();
        } else {
            refuse(error);
        }
    }

    private void refuse(Throwable error) {
        discardValue();
        signals.onError(error);
    }

    private void discardValue() {
        T held = value.getAndSet(null);
        if (held != null) {
            Operators.onDiscard(held, context);
        }
    }

    private void committed() {
        if (value.get() == null) {
            signals.onComplete();
        } else {
            emitOnce(COMMITTED);
        }
    }

    private void emitOnce(int part) {
        int before = emission.getAndAccumulate(part, (now, bit) -> now | bit);
        if (before != (before | part) && (before | part) == (REQUESTED | COMMITTED)) {
            signals.onNext(Objects.requireNonNull(value.get()));
            signals.onComplete();
        }
    }

    @Override
    public void request(long n) {
        if (single) {
            if (Operators.validate(n)) {
                emitOnce(REQUESTED);
            }
        } else {
            inner.request(n);
        }
    }

    @Override
    public void cancel() {
        State before = state.get();
        while (before == State.ACQUIRING || before == State.RUNNING) {
            if (state.compareAndSet(before, State.CANCELLED)) {
                Acquire waiting = acquire;
                if (before == State.RUNNING) {
                    cancelWork();
                    discardValue();
                    hold().end(false);
                } else if (waiting != null) {
                    waiting.stop(Acquire.Stop.CANCELLED);
                }
                return;
            }
            before = state.get();
        }
    }

    /** Where this subscription stands, for tests that count what a cancel met. */
    String phase() {
        Acquire attempt = acquire;
        return switch (state.get()) {
            case ACQUIRING -> attempt == null ? "STARTING" : attempt.phase();
            case RUNNING -> "RUNNING";
            case ENDING -> "ENDING";
            case CANCELLED -> "CANCELLED";
        };
    }
}
