package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import reactor.core.Disposable;
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

    /** One who waits for the key, and may be cancelled; whoever has the hold ends it. */
    static final class Caller {

        final CompletableFuture<HeldLock> hold = new CompletableFuture<>();
        final AtomicInteger told = new AtomicInteger();
        final AtomicReference<@Nullable Throwable> error = new AtomicReference<>();
        private final Disposable call;

        Caller(DefaultAdvisoryLocks client) {
            call = client.exclusive(KEY).acquire().subscribe(this::granted, this::failed);
        }

        private void granted(HeldLock granted) {
            told.incrementAndGet();
            hold.complete(granted);
        }

        private void failed(Throwable failure) {
            told.incrementAndGet();
            error.set(failure);
            hold.completeExceptionally(failure);
        }

        void cancel() {
            call.dispose();
        }

        HeldLock get() {
            return hold.orTimeout(SOON.toSeconds(), TimeUnit.SECONDS).join();
        }

        /** What a cancel came too late for. */
        void endIfGranted() {
            if (hold.isDone() && !hold.isCompletedExceptionally()) {
                hold.join().release().block(SOON);
            }
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

    final AtomicReference<Object> commit(HeldLock hold) {
        AtomicReference<Object> outcome = new AtomicReference<>("none");
        commit(hold, outcome);
        return outcome;
    }

    final void commit(HeldLock hold, AtomicReference<Object> outcome) {
        hold.commit().subscribe(nothing -> {}, outcome::set, () -> outcome.set("committed"));
    }
}
