package io.r2lock;

import java.util.Objects;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import org.reactivestreams.Subscription;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Operators;
import reactor.core.publisher.Sinks;
import reactor.util.context.Context;

/**
 * One term: the work of a leader, within a {@link Guard} that holds the lock; subscribed to once.
 *
 * <pre>
 *   NEW ──▶ LEADING ──work completes──▶ COMPLETED
 *    │        ├────── work fails ─────▶ FAILED
 *    │        ├────── resign ─────────▶ RESIGNED: work cancelled
 *    └────────┴────── cancel ─────────▶ CANCELLED: work cancelled
 * </pre>
 *
 * <p>Who leaves {@code LEADING} decides what the candidate does next. The first three end the guarded publisher <em>normally</em>,
 * on which the guard releases the lock: its error then is always the lock's, and never the work's. A cancel is the guard's: the
 * lock was lost, or the candidate was cancelled. Whether the term counts as lost is the hold's to tell, once it has ended.
 */
final class Term<T> extends Flux<T> implements Leadership, CoreSubscriber<T>, Subscription {

    private static final Logger LOG = LoggerFactory.getLogger(Term.class);

    enum State {
        NEW,
        LEADING,
        COMPLETED,
        FAILED,
        RESIGNED,
        CANCELLED
    }

    private final HeldLock hold;
    private final FencingToken token;
    private final LeadershipEvents events;
    private final Function<? super Leadership, ? extends Publisher<T>> work;

    private final AtomicReference<State> state = new AtomicReference<>(State.NEW);
    private final Operators.DeferredSubscription inner = new Operators.DeferredSubscription();
    private final Sinks.Empty<Void> over = Sinks.empty();
    private volatile @Nullable Throwable failure;
    private @Nullable CoreSubscriber<? super T> actual;

    Term(
            HeldLock hold,
            FencingToken token,
            LeadershipEvents events,
            Function<? super Leadership, ? extends Publisher<T>> work) {
        this.hold = hold;
        this.token = token;
        this.events = events;
        this.work = work;
    }

    State state() {
        return Objects.requireNonNull(state.get());
    }

    Throwable failure() {
        return Objects.requireNonNull(failure);
    }

    @Override
    public void subscribe(CoreSubscriber<? super T> guard) {
        actual = guard;
        guard.onSubscribe(this);
        if (!state.compareAndSet(State.NEW, State.LEADING)) {
            return;
        }
        events.tell(LeadershipEvent.Kind.ELECTED, token);
        // told after the work was cancelled, and before the guard is told
        hold.lost()
                .then(hold.release())
                .subscribe(
                        nothing -> {},
                        lost -> over(LeadershipEvent.Kind.LOST),
                        () -> over(LeadershipEvent.Kind.RESIGNED));
        try {
            Publisher<T> publisher = Objects.requireNonNull(work.apply(this), "The function that leads returned null");
            if (state.get() == State.LEADING) {
                publisher.subscribe(this);
            }
        } catch (Throwable thrown) {
            // even a fatal one must not leave the lock held
            onError(thrown);
        }
    }

    private void over(LeadershipEvent.Kind how) {
        events.tell(how, token);
        over.tryEmitEmpty();
    }

    private CoreSubscriber<? super T> actual() {
        return Objects.requireNonNull(actual);
    }

    @Override
    public FencingToken term() {
        return token;
    }

    @Override
    public Mono<Void> lost() {
        return hold.lost();
    }

    @Override
    public Mono<Void> resign() {
        return Mono.defer(() -> {
            if (state.compareAndSet(State.LEADING, State.RESIGNED)) {
                cancelWork();
                actual().onComplete();
            }
            return over.asMono();
        });
    }

    @Override
    public Context currentContext() {
        return actual().currentContext();
    }

    @Override
    public void onSubscribe(Subscription subscription) {
        inner.set(subscription);
    }

    /** After the end too: the guard discards it then, and reports work that goes on. */
    @Override
    public void onNext(T item) {
        actual().onNext(item);
    }

    @Override
    public void onError(Throwable error) {
        if (state.get() == State.LEADING) {
            failure = error;
        }
        if (state.compareAndSet(State.LEADING, State.FAILED)) {
            actual().onComplete();
        } else if (state.get() == State.CANCELLED) {
            actual().onError(error);
        } else {
            LOG.debug("The work failed after its term had ended", error);
        }
    }

    @Override
    public void onComplete() {
        if (state.compareAndSet(State.LEADING, State.COMPLETED) || state.get() == State.CANCELLED) {
            actual().onComplete();
        }
    }

    @Override
    public void request(long n) {
        inner.request(n);
    }

    @Override
    public void cancel() {
        if (state.compareAndSet(State.NEW, State.CANCELLED) || state.compareAndSet(State.LEADING, State.CANCELLED)) {
            cancelWork();
        }
    }

    /** What the work throws when it is cancelled must not keep the lock from its release. */
    private void cancelWork() {
        try {
            inner.cancel();
        } catch (Throwable thrown) {
            Operators.onErrorDropped(thrown, currentContext());
        }
    }
}
