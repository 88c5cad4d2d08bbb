package io.r2lock;

import io.r2lock.AdvisoryLockException.Failure;
import io.r2lock.AdvisoryLockException.LockAttempt;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import org.jspecify.annotations.Nullable;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Operators;
import reactor.core.publisher.Sinks;
import reactor.util.context.Context;

/**
 * A granted attempt, until it has ended. Holds form a tree by {@link #surrounding}; those that only use what another one has on
 * the server share its {@link #root}.
 *
 * <p>Ends once: by commit, by release, or by {@link #abort} from outside. Whatever still runs inside it is ended first.
 */
abstract class Hold implements HeldLock {

    final DefaultAdvisoryLocks client;
    final Acquire acquire;
    final LockSpec spec;
    final @Nullable Hold surrounding;

    private final long since;
    private final long waitedNanos;
    private final Sinks.Empty<Void> ending = Sinks.empty();
    private final Sinks.Empty<Void> outcome = Sinks.empty();
    private final AtomicReference<@Nullable AdvisoryLockException> aborted = new AtomicReference<>();
    private final AtomicReference<@Nullable Consumer<@Nullable Throwable>> whenCommitted = new AtomicReference<>();
    private final AtomicBoolean warned = new AtomicBoolean();
    private final Children children = new Children();
    private final HoldToken token = new HoldToken(this);

    private volatile @Nullable Disposable expiry;
    private volatile @Nullable Consumer<AdvisoryLockException> worker;

    Hold(Acquire acquire) {
        this.client = acquire.client;
        this.acquire = acquire;
        this.spec = acquire.spec;
        this.surrounding = acquire.surrounding;
        this.since = client.now();
        this.waitedNanos = acquire.waited.until(since);
    }

    /** The hold that has the connection, which this one may be itself. */
    abstract Hold root();

    /** Neither ended nor ending. */
    abstract boolean isLive();

    /** Has not begun to end; one inside another may outlive that one's end for a moment, to be ended by it. */
    abstract boolean isOpen();

    /** Starts to end it; {@code false} when something else has. */
    abstract boolean end(boolean commit);

    /** Ends one that nobody was given, whose work so never began. */
    void drop() {
        end(false);
    }

    /** Whether the end that came first was a commit. */
    abstract boolean isCommit();

    @Override
    public final List<LockKey> keys() {
        return spec.keys();
    }

    @Override
    public final LockMode mode() {
        return spec.mode();
    }

    @Override
    public final Mono<FencingToken> fencingToken() {
        return token.get();
    }

    /** Asks the server, at each subscription; never cancelled. */
    abstract Mono<FencingToken> askToken();

    @Override
    public final Mono<Void> commit() {
        return Mono.defer(() -> {
            end(true);
            AdvisoryLockException why = aborted.get();
            if (isCommit()) {
                return outcome.asMono();
            }
            return Mono.error(
                    why != null
                            ? why
                            : new IllegalStateException(
                                    "The " + attempt() + " was released before: nothing was committed"));
        });
    }

    /** As {@link #commit()}, without a publisher: for the one who runs the work, and asks once. */
    final void commit(Consumer<@Nullable Throwable> told) {
        whenCommitted.set(told);
        if (!end(true) && whenCommitted.getAndSet(null) != null) {
            commit().subscribe(nothing -> {}, told, () -> told.accept(null));
        }
    }

    /** How it ended; an error of a rollback is told here only. */
    final Mono<Void> outcome() {
        return outcome.asMono();
    }

    @Override
    public final Mono<Void> release() {
        return Mono.defer(() -> {
            end(false);
            return outcome.asMono().onErrorComplete();
        });
    }

    @Override
    public final <T> Mono<T> guard(Mono<T> work) {
        Arguments.notNull("work", work);
        return Mono.defer(() -> {
            if (!isLive()) {
                return Mono.error(lost("it has ended; work that is guarded by it cannot start", null));
            }
            // cancelled when the end begins: told its outcome only, the work would overlap with the next hold
            Mono<T> ended =
                    ending.asMono().then(Mono.error(() -> lost("it ended before the work that it guarded", null)));
            return Mono.firstWithSignal(work.contextWrite(this::into), ended);
        });
    }

    /** The Context of work that runs inside this hold. */
    final Context into(Context context) {
        return context.put(client, this);
    }

    /** Whoever runs work under this hold ends it when told, instead of {@link #abort}. */
    final void runBy(Consumer<AdvisoryLockException> running) {
        worker = running;
        AdvisoryLockException why = aborted.get();
        if (why != null) {
            running.accept(why);
        }
    }

    /** Ends the hold against the will of who has it; the first reason is what they are told. */
    final void abort(AdvisoryLockException why) {
        if (!isOpen() || !aborted.compareAndSet(null, why)) {
            return;
        }
        Consumer<AdvisoryLockException> running = worker;
        if (running != null) {
            running.accept(why);
        } else {
            end(false);
        }
    }

    /** The reason is there before the end is, so that nobody sees an end without one; {@code false} when there is another. */
    final boolean endsBecause(AdvisoryLockException why) {
        return aborted.compareAndSet(null, why);
    }

    final void endedOtherwise(AdvisoryLockException why) {
        aborted.compareAndSet(why, null);
    }

    final void tellWorker(AdvisoryLockException why) {
        Consumer<AdvisoryLockException> running = worker;
        if (running != null) {
            running.accept(why);
        }
    }

    @Override
    public final Mono<Void> lost() {
        return Mono.defer(() -> ending.asMono().then(Mono.defer(this::howItEnded)));
    }

    private Mono<Void> howItEnded() {
        if (isCommit()) {
            return outcome.asMono()
                    .onErrorResume(error -> !(error instanceof LockLostException), error -> Mono.empty());
        }
        AdvisoryLockException why = aborted.get();
        return why == null ? Mono.empty() : Mono.error(why);
    }

    /** Granted: from now on it may last as long as its request allows. */
    final void startToExpire() {
        Duration most = spec.maxHold();
        if (most == null) {
            return;
        }
        Disposable timer =
                client.options().clock().schedule(this::expire, Math.max(1, most.toMillis()), TimeUnit.MILLISECONDS);
        expiry = timer;
        if (!isOpen()) {
            timer.dispose();
        }
    }

    private void expire() {
        abort(new LockHoldExpiredException(
                "Held the " + attempt() + " for " + heldMillis()
                        + " ms, as long as holdAtMost allows: the work was cancelled and"
                        + " rolled back. Give it more time, or less to do.",
                attempt()));
    }

    /** The end has come: tells who waits for it. */
    final void ended(@Nullable Throwable error) {
        client.ended(acquire);
        tell(error);
    }

    /** Tells how it ended. */
    final void tell(@Nullable Throwable error) {
        Disposable timer = expiry;
        if (timer != null) {
            timer.dispose();
        }
        try {
            if (error == null) {
                outcome.tryEmitEmpty();
            } else {
                outcome.tryEmitError(error);
            }
            Consumer<@Nullable Throwable> told = isCommit() ? whenCommitted.getAndSet(null) : null;
            if (told != null) {
                told.accept(error);
            }
        } catch (Throwable thrown) {
            // of one who was told; it must not reach the driver, from whose stream this is called
            Operators.onErrorDropped(thrown, Context.empty());
        }
    }

    /** From now on the child ends when this hold does; {@code false} when that is now. */
    final boolean adopt(Acquire child) {
        children.add(child);
        if (isLive()) {
            return true;
        }
        abandon(child);
        return false;
    }

    /** Also of a child that was never adopted. */
    final void abandon(Acquire child) {
        children.remove(child);
    }

    /** The end begins: nothing that runs inside the hold may outlive it. */
    final void endChildren() {
        try {
            ending.tryEmitEmpty();
        } catch (Throwable thrown) {
            Operators.onErrorDropped(thrown, Context.empty());
        }
        children.end(Acquire.Stop.SURROUNDING_ENDED);
    }

    /** Whether the server holds the key for this one, or for what was nested in it. */
    boolean hasTaken(LockKey key) {
        return spec.keys().contains(key);
    }

    /** The turns that requests inside the outermost hold of this chain take for keys that are held already. */
    TurnWaits turns() {
        return surrounding == null ? children.turns() : surrounding.turns();
    }

    void warnIfLong(long now) {
        Duration limit = client.options().holdWarning();
        long age = now - since;
        if (!limit.isZero() && age > limit.toNanos() && isLive() && warned.compareAndSet(false, true)) {
            client.reports().longHold(this, Duration.ofNanos(age));
        }
    }

    final LockAttempt attempt() {
        return spec.attempt(Duration.ofNanos(waitedNanos));
    }

    final LockLostException lost(String why, @Nullable Throwable cause) {
        return new LockLostException(
                "Lost the " + attempt() + ": " + why,
                attempt(),
                cause == null ? null : new Failure(cause, SqlStates.of(cause)));
    }

    /** When it was granted, in nanoseconds of the client's clock. */
    final long since() {
        return since;
    }

    final Duration age() {
        return Duration.ofNanos(client.now() - since);
    }

    final long heldMillis() {
        return TimeUnit.NANOSECONDS.toMillis(client.now() - since);
    }
}
