package io.r2lock;

import java.time.Duration;
import java.util.function.Function;
import org.reactivestreams.Publisher;
import reactor.core.CoreSubscriber;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

final class DefaultLockRequest implements LockRequest {

    private final DefaultAdvisoryLocks client;
    private final LockSpec spec;

    DefaultLockRequest(DefaultAdvisoryLocks client, LockSpec spec) {
        this.client = client;
        this.spec = spec;
    }

    private LockRequest with(LockSpec changed) {
        return new DefaultLockRequest(client, changed);
    }

    @Override
    public LockRequest waitForever() {
        return with(spec.waiting(null));
    }

    @Override
    public LockRequest waitAtMost(Duration wait) {
        return with(spec.waiting(Arguments.wait("wait", wait)));
    }

    @Override
    public LockRequest noWait() {
        return with(spec.notWaiting(false));
    }

    @Override
    public LockRequest skipIfBusy() {
        return with(spec.notWaiting(true));
    }

    @Override
    public LockRequest polling() {
        return with(spec.polling());
    }

    @Override
    public LockRequest inTransaction() {
        if (spec.permits() > 0) {
            throw new IllegalArgumentException("scope must be inSession() for " + spec.attempt(Duration.ZERO)
                    + ", was inTransaction(): permits are taken in session scope only");
        }
        return with(spec.in(false));
    }

    @Override
    public LockRequest inSession() {
        return with(spec.in(true));
    }

    @Override
    public LockRequest requireNew() {
        return with(spec.asNew());
    }

    @Override
    public LockRequest holdAtMost(Duration hold) {
        return with(spec.heldAtMost(Arguments.holdAtMost(hold, spec.minHold())));
    }

    @Override
    public LockRequest holdAtLeast(Duration hold) {
        return with(spec.heldAtLeast(Arguments.holdAtLeast(hold, spec.maxHold())));
    }

    boolean isOf(DefaultAdvisoryLocks asked) {
        return client == asked;
    }

    /** What is asked for at last: a setting before it may have been undone by a later one. */
    LockSpec complete() {
        checkTokens();
        if (spec.minHold() != null && !spec.inSession()) {
            throw new IllegalArgumentException("holdAtLeast must not be set in transaction scope, was " + spec.minHold()
                    + ": a transaction would be kept open after its work. Use inSession().");
        }
        return spec;
    }

    @Override
    public LockRequest durableTokens() {
        return with(spec.withDurableTokens());
    }

    @Override
    public <T> Mono<T> guard(Mono<T> work) {
        Arguments.notNull("work", work);
        return single(hold -> work);
    }

    @Override
    public <T> Flux<T> guard(Flux<T> work) {
        Arguments.notNull("work", work);
        return many(hold -> work);
    }

    @Override
    public <T> Mono<T> guard(Function<? super HeldLock, ? extends Mono<T>> work) {
        return single(Arguments.notNull("work", work));
    }

    @Override
    public <T> Flux<T> guardMany(Function<? super HeldLock, ? extends Publisher<T>> work) {
        return many(Arguments.notNull("work", work));
    }

    /** A {@code Mono} that is typed as {@code Publisher} is one all the same: its value waits for COMMIT. */
    <T> Flux<T> guardPublisher(Publisher<T> work) {
        Arguments.notNull("work", work);
        return work instanceof Mono<T> mono ? guard(mono).flux() : many(hold -> work);
    }

    private void checkTokens() {
        if (!spec.durableTokens() || (spec.inSession() && spec.permits() == 0)) {
            return;
        }
        String scope = spec.inSession() ? "permit(...)" : "inTransaction()";
        String why = spec.inSession()
                ? "permits have no fencing tokens"
                : "the id of a transaction is not durable before its COMMIT, with which the hold ends";
        throw new IllegalArgumentException("durableTokens() needs a lock that is taken inSession(), was " + scope
                + ", for the " + spec.attempt(Duration.ZERO) + ": " + why);
    }

    private <T> Mono<T> single(Function<? super HeldLock, ? extends Publisher<? extends T>> work) {
        LockSpec asked = complete();
        return new Mono<>() {
            @Override
            public void subscribe(CoreSubscriber<? super T> actual) {
                new Guard<T>(client, asked, work, true, actual).start();
            }
        };
    }

    private <T> Flux<T> many(Function<? super HeldLock, ? extends Publisher<? extends T>> work) {
        LockSpec asked = complete();
        return new Flux<>() {
            @Override
            public void subscribe(CoreSubscriber<? super T> actual) {
                new Guard<T>(client, asked, work, false, actual).start();
            }
        };
    }

    @Override
    public Mono<HeldLock> acquire() {
        return new AcquireMono(client, complete());
    }

    @Override
    public String toString() {
        String wait = spec.noWait()
                ? "no wait"
                : spec.maxWait() == null ? "waits for ever" : "waits at most " + spec.maxWait();
        String how = (spec.inSession() ? ", in session" : "") + (spec.polls() ? ", polling" : "");
        String tokens = spec.durableTokens() ? ", durable tokens" : "";
        String hold = (spec.maxHold() == null ? "" : ", holds at most " + spec.maxHold())
                + (spec.minHold() == null ? "" : ", holds at least " + spec.minHold());
        String what = spec.permits() > 0 ? spec.attempt(Duration.ZERO).toString() : spec.mode() + " " + spec.keys();
        return "LockRequest[" + what + ", " + wait + how + hold + tokens + "]";
    }
}
