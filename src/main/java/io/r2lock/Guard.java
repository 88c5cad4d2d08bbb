package io.r2lock;

import java.util.Objects;
import java.util.concurrent.RejectedExecutionException;
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
 *   ACQUIRING ──▶ GRANTED ──▶ RUNNING ──work completes──▶ ENDING: COMMIT, then the result
 *       │           │            ├──── work fails ──────▶ ENDING: ROLLBACK, then its error
 *       │           │            ├──── hold is ended ───▶ ENDING: work cancelled, ROLLBACK, then the reason
 *       │           │            └──── cancel ──────────▶ CANCELLED: work cancelled, ROLLBACK
 *       │           ├──hold is ended──▶ ENDING: hold dropped, then the reason
 *       │           └──cancel──▶ CANCELLED: hold dropped
 *       ├──failed──▶ ENDING: the error
 *       └──cancel──▶ CANCELLED
 * </pre>
 *
 * <p>Who moves it to {@code RUNNING} lets the work begin: where that never happens, nothing that the request wants kept beyond the
 * work ({@link LockRequest#holdAtLeast}) is. Who leaves {@code RUNNING} decides the outcome; a cancel during a COMMIT comes too late and is ignored, as COMMIT cannot
 * be called back.
 */
final class Guard<T> implements CoreSubscriber<T>, Subscription, Acquire.Receiver {

    private static final Logger LOG = LoggerFactory.getLogger(Guard.class);

    enum State {
        ACQUIRING,
        GRANTED,
        RUNNING,
        ENDING,
        CANCELLED
    }

    private final DefaultAdvisoryLocks client;
    private final LockSpec spec;
    private final Function<? super HeldLock, ? extends Publisher<? extends T>> work;

    /** Null where there may be many, which are told as they come. */
    private final @Nullable SingleValue<T> single;

    private final CoreSubscriber<? super T> actual;
    private final CoreSubscriber<? super T> signals;
    private final AtomicReference<State> state = new AtomicReference<>(State.ACQUIRING);
    private final Operators.DeferredSubscription inner = new Operators.DeferredSubscription();

    private volatile @Nullable Acquire acquire;
    private @Nullable Hold hold;
    /** Null unless the end of the hold has cancelled the work. */
    private volatile @Nullable IgnoredCancel aborted;

    private Context context = Context.empty();

    Guard(
            DefaultAdvisoryLocks client,
            LockSpec spec,
            Function<? super HeldLock, ? extends Publisher<? extends T>> work,
            boolean single,
            CoreSubscriber<? super T> actual) {
        this.client = client;
        this.spec = spec;
        this.work = work;
        this.single = single ? new SingleValue<>(actual) : null;
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
        if (!state.compareAndSet(State.ACQUIRING, State.GRANTED)) {
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
            failUnbegun(shutDown);
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
        if (!state.compareAndSet(State.GRANTED, State.RUNNING)) {
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
        if (single != null) {
            inner.request(Long.MAX_VALUE);
        }
    }

    @Override
    public void onNext(T item) {
        if (state.get() != State.RUNNING) {
            wentOn();
            Operators.onDiscard(item, context);
        } else if (single != null) {
            single.set(item);
            // whoever ended it meanwhile may have looked for the value before it was there
            if (state.get() != State.RUNNING) {
                single.discard();
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
        endWith(error, () -> hold().end(false));
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
        if (!failUnbegun(reason) && state.compareAndSet(State.RUNNING, State.ENDING)) {
            aborted = new IgnoredCancel(hold());
            cancelWork();
            endWith(reason, () -> hold().end(false));
        }
    }

    /** {@code false} when the work has begun, or has ended without. */
    private boolean failUnbegun(Throwable reason) {
        boolean unbegun = state.compareAndSet(State.GRANTED, State.ENDING);
        if (unbegun) {
            endWith(reason, hold()::drop);
        }
        return unbegun;
    }

    /** A signal of work that is over: it may be that it did not stop. */
    private void wentOn() {
        IgnoredCancel cancel = aborted;
        if (cancel != null) {
            cancel.signalled();
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

    private void endWith(Throwable error, Runnable end) {
        discardValue();
        end.run();
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
        if (error != null) {
            discardValue();
            signals.onError(error);
        } else if (single != null) {
            single.committed();
        } else {
            signals.onComplete();
        }
    }

    private void discardValue() {
        if (single != null) {
            single.discard();
        }
    }

    @Override
    public void request(long n) {
        if (single != null) {
            if (Operators.validate(n)) {
                single.requested();
            }
        } else {
            inner.request(n);
        }
    }

    @Override
    public void cancel() {
        cancel(() -> hold().end(false));
    }

    /** A cancel by one who knows that what there was to do never begins, whatever was subscribed to here. */
    void cancelUnbegun() {
        cancel(() -> hold().drop());
    }

    private void cancel(Runnable end) {
        State before = state.getAndUpdate(now -> now == State.ENDING ? now : State.CANCELLED);
        switch (before) {
            case ACQUIRING -> stopWaiting();
            case GRANTED -> hold().drop();
            case RUNNING -> {
                cancelWork();
                discardValue();
                end.run();
            }
            case ENDING, CANCELLED -> {
                // decided before
            }
        }
    }

    private void stopWaiting() {
        Acquire waiting = acquire;
        if (waiting != null) {
            waiting.stop(Acquire.Stop.CANCELLED);
        }
    }

    /** Where this subscription stands, for tests that count what a cancel met. */
    String phase() {
        Acquire attempt = acquire;
        return switch (state.get()) {
            case ACQUIRING -> attempt == null ? "STARTING" : attempt.phase();
            case GRANTED -> "GRANTED";
            case RUNNING -> "RUNNING";
            case ENDING -> "ENDING";
            case CANCELLED -> "CANCELLED";
        };
    }
}
