package io.r2lock;

import io.r2lock.AmbientTransaction.Participation;
import java.time.Duration;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Subscription;
import reactor.core.CoreSubscriber;
import reactor.core.Disposable;
import reactor.core.Disposables;
import reactor.core.publisher.Operators;
import reactor.util.context.Context;
import reactor.util.context.ContextView;

/**
 * Asks for the ambient transaction of one request:
 * {@code ASKING ──an answer, the end of the request's wait, or close──▶ DECIDED}, by compare-and-set.
 *
 * <p>Never cancelled: it may be just opening what would be nobody's then; a request that was cancelled meanwhile ends when it begins. What
 * answers at once, as almost all do, needs no timer and is not entered anywhere.
 */
final class AmbientLookup implements CoreSubscriber<Participation> {

    /** Who goes on: with a request that may wait for the rest of its time. */
    @FunctionalInterface
    interface Next {
        void found(LockSpec rest, @Nullable Participation transaction);
    }

    private final DefaultAdvisoryLocks client;
    private final LockSpec spec;
    private final Context context;
    private final Acquire.Receiver receiver;
    private final Next next;
    private final Waited waited;
    private final Disposable.Swap timer = Disposables.swap();
    private final AtomicBoolean decided = new AtomicBoolean();

    /** Those of the client that have no answer yet; null before this one is among them. */
    private volatile @Nullable Set<AmbientLookup> open;

    AmbientLookup(
            DefaultAdvisoryLocks client, LockSpec spec, ContextView context, Acquire.Receiver receiver, Next next) {
        this.client = client;
        this.spec = spec;
        this.context = Context.of(context);
        this.receiver = receiver;
        this.next = next;
        this.waited = new Waited(spec, client.options().clock());
    }

    /** The receiver is told an error. */
    void ask(AmbientTransaction ambient, Set<AmbientLookup> unanswered) {
        try {
            Objects.requireNonNull(ambient.current(), "The AmbientTransaction returned null")
                    .subscribe(this);
        } catch (Throwable thrown) {
            onError(thrown);
        }
        if (!decided.get()) {
            await(unanswered);
        }
    }

    private void await(Set<AmbientLookup> unanswered) {
        open = unanswered;
        unanswered.add(this);
        Duration wait = spec.maxWait();
        if (wait != null) {
            timer.update(client.options()
                    .clock()
                    .schedule(() -> end(this::timedOut), Math.max(1, wait.toMillis()), TimeUnit.MILLISECONDS));
        }
        // whoever closes may have looked for it before it was there
        if (client.isClosing()) {
            close();
        }
        if (decided.get()) {
            forget(unanswered);
        }
    }

    void close() {
        end(waited::closed);
    }

    private AdvisoryLockException timedOut() {
        waited.connectionTaken();
        return waited.timedOut();
    }

    private void end(Supplier<? extends Throwable> reason) {
        if (decide()) {
            tell(reason.get());
        }
    }

    private boolean decide() {
        if (!decided.compareAndSet(false, true)) {
            return false;
        }
        Set<AmbientLookup> entered = open;
        if (entered != null) {
            forget(entered);
        }
        return true;
    }

    private void forget(Set<AmbientLookup> entered) {
        entered.remove(this);
        timer.dispose();
    }

    /** What a subscriber throws is not for whoever answers. */
    private void tell(Throwable error) {
        try {
            receiver.failed(error);
        } catch (Throwable thrown) {
            Operators.onErrorDropped(thrown, context);
        }
    }

    private void goOn(@Nullable Participation transaction) {
        try {
            next.found(rest(), transaction);
        } catch (Throwable thrown) {
            tell(thrown);
        }
    }

    private LockSpec rest() {
        Duration wait = spec.maxWait();
        if (wait == null || open == null) {
            return spec;
        }
        Duration left = wait.minus(waited.attempt().waited());
        return spec.waiting(left.isNegative() || left.isZero() ? Duration.ofNanos(1) : left);
    }

    @Override
    public Context currentContext() {
        return context;
    }

    @Override
    public void onSubscribe(Subscription subscription) {
        subscription.request(Long.MAX_VALUE);
    }

    @Override
    public void onNext(Participation participation) {
        if (decide()) {
            goOn(participation);
        }
    }

    @Override
    public void onError(Throwable error) {
        if (decide()) {
            tell(error);
        } else {
            Operators.onErrorDropped(error, context);
        }
    }

    @Override
    public void onComplete() {
        if (decide()) {
            goOn(null);
        }
    }
}
