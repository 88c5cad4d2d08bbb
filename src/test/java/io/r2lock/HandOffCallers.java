package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import reactor.core.publisher.BaseSubscriber;
import reactor.core.publisher.Mono;

/** A client over {@link FakeBackend}s, and callers of one key, who have it one after the other. */
abstract class HandOffCallers {

    static final Duration SOON = Duration.ofSeconds(10);
    static final LockKey KEY = LockKey.of(1);

    final FakeBackend.Servers servers = new FakeBackend.Servers();
    DefaultAdvisoryLocks client = client();

    final DefaultAdvisoryLocks client() {
        return FakeConnection.client(generation -> Mono.fromSupplier(() -> servers.open(generation)), 3);
    }

    @AfterEach
    void close() {
        client.close().block(SOON);
    }

    /** One who waits for the key, and may be cancelled; whoever has the hold ends it, as no operator is there to drop it. */
    static final class Caller extends BaseSubscriber<HeldLock> {

        final CompletableFuture<HeldLock> hold = new CompletableFuture<>();
        final AtomicInteger told = new AtomicInteger();
        final AtomicReference<@Nullable Throwable> error = new AtomicReference<>();

        Caller(DefaultAdvisoryLocks client) {
            client.exclusive(KEY).acquire().subscribe(this);
        }

        @Override
        protected void hookOnNext(HeldLock granted) {
            told.incrementAndGet();
            hold.complete(granted);
        }

        @Override
        protected void hookOnError(Throwable failure) {
            told.incrementAndGet();
            error.set(failure);
            hold.completeExceptionally(failure);
        }

        HeldLock get() {
            return hold.orTimeout(SOON.toSeconds(), TimeUnit.SECONDS).join();
        }

        /** What a cancel came too late for. */
        void endWhenGranted() {
            Mono.fromFuture(hold).flatMap(HeldLock::release).onErrorComplete().subscribe();
        }
    }

    private boolean isAllBack() {
        return client.live() == 0
                && client.connections().demand() == 0
                && client.connections().acquired() == 0;
    }

    final void assertAllBack() {
        if (!isAllBack()) {
            Await.until("the end of all", this::isAllBack);
        }
        assertThat(servers.endsHit).as("COMMITs that a CancelRequest hit").hasValue(0);
        assertThat(client.gates().size()).isZero();
        assertThat(client.waiting()).isZero();
        assertThat(client.connections().acquired()).isZero();
        assertThat(client.connections().settled()).isZero();
        assertThat(client.connections().serverWaits()).isZero();
        assertThat(servers.unanswered()).isZero();
    }

    /** How it ends: "committed", or an error. It may be told by a thread that is just being left by another answer. */
    final CompletableFuture<Object> commit(HeldLock hold) {
        CompletableFuture<Object> outcome = new CompletableFuture<>();
        commit(hold, outcome);
        return outcome;
    }

    final void commit(HeldLock hold, CompletableFuture<Object> outcome) {
        hold.commit().subscribe(nothing -> {}, outcome::complete, () -> outcome.complete("committed"));
    }
}
