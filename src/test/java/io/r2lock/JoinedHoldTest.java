package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Requests inside a hold, without a server. */
class JoinedHoldTest {

    private static final Duration SOON = Duration.ofSeconds(10);
    private static final LockKey KEY = LockKey.of(1);
    private static final int MANY = 20_000;

    private final DefaultAdvisoryLocks client =
            FakeConnection.client(generation -> Mono.fromSupplier(FakeConnection::granting), 2);

    private final Hold outer =
            (Hold) Objects.requireNonNull(client.exclusive(KEY).acquire().block(SOON));

    @AfterEach
    void close() {
        outer.release().block(SOON);
        client.close().block(SOON);
    }

    @Test
    void theEndOfTheOuterHold_cancelsNestedWork_andItsCallerIsTold() {
        AtomicReference<@Nullable Throwable> told = new AtomicReference<>();
        AtomicBoolean cancelled = new AtomicBoolean();
        client.withAdvisoryLock(LockKey.of(2), Mono.never().doOnCancel(() -> cancelled.set(true)))
                .contextWrite(outer::into)
                .subscribe(value -> {}, told::set);

        outer.release().block(SOON);

        assertThat(cancelled).isTrue();
        assertThat(told.get()).isInstanceOf(LockLostException.class);
        assertThat(client.live()).isZero();
    }

    @Test
    void manySiblingsOfOneKey_takeTheirTurns_whateverTheStack() {
        Sinks.Empty<Void> first = Sinks.empty();
        AtomicInteger served = new AtomicInteger();
        client.withAdvisoryLock(KEY, first.asMono()).contextWrite(outer::into).subscribe();
        Mono<Integer> sibling = client.withAdvisoryLock(KEY, Mono.just(1)).contextWrite(outer::into);
        for (int i = 0; i < MANY; i++) {
            sibling.subscribe(value -> served.incrementAndGet());
        }
        assertThat(served).hasValue(0);

        first.tryEmitEmpty();

        assertThat(served).hasValue(MANY);
        assertThat(client.live()).isEqualTo(1);
    }
}
