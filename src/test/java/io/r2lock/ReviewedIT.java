package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/** Corners that reading found: subscribers that throw, readers that do not wait, and keys that an ended hold left locked. */
class ReviewedIT {

    private static final Duration PATIENCE = Duration.ofSeconds(10);
    private static final LockKey A = LockKey.of(301);
    private static final LockKey B = LockKey.of(302);

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    final NoResidue residue = NoResidue.on(server);

    private final DefaultAdvisoryLocks locks = (DefaultAdvisoryLocks) AdvisoryLocks.builder(server.connectionFactory())
            .connectTimeout(Duration.ofSeconds(20))
            .build();

    @BeforeEach
    void gauges() {
        residue.zero("pool acquired", locks.connections()::acquired);
        residue.zero("gates", locks.gates()::size);
        residue.zero("live", locks::live);
        residue.zero("settled", locks.connections()::settled);
    }

    @AfterEach
    void close() {
        locks.close().block(PATIENCE);
    }

    @Test
    void requireNewOfAKeyThatAnEndedNestedHoldTook_isRefused() {
        Mono<Integer> call = locks.exclusive(A)
                .guard(locks.withAdvisoryLock(B, Mono.just(1))
                        .then(locks.exclusive(B).requireNew().guard(Mono.just(2))));
        assertThatThrownBy(() -> call.block(PATIENCE))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("the same chain holds");
    }

    @Test
    void readersThatDoNotWait_areNotRefusedForEachOther() {
        Flux<Integer> readers = Flux.range(0, 10)
                .flatMap(
                        i -> locks.shared(A)
                                .noWait()
                                .guard(Mono.delay(Duration.ofMillis(50)).thenReturn(i)),
                        10);
        assertThat(readers.collectList().block(PATIENCE)).hasSize(10);
    }

    @Test
    void readersThatDoNotWait_doNotOvertakeAWriterThatWaits() {
        HeldLock reader = Objects.requireNonNull(locks.shared(A).acquire().block(PATIENCE));
        CompletableFuture<Integer> writer =
                locks.exclusive(A).guard(Mono.just(1)).toFuture();
        Await.until("the writer waits", () -> locks.waiting() == 1);
        assertThatThrownBy(() -> locks.shared(A).noWait().guard(Mono.just(2)).block(PATIENCE))
                .isInstanceOf(LockNotAvailableException.class);
        reader.release().block(PATIENCE);
        assertThat(writer.orTimeout(10, TimeUnit.SECONDS).join()).isEqualTo(1);
    }

    @Test
    void subscribersThatThrow_keepNobodyFromItsTurn() {
        residue.allowDroppedErrors();
        Sinks.Empty<Void> end = Sinks.empty();
        CompletableFuture<Integer> holder =
                locks.exclusive(A).guard(end.asMono().thenReturn(0)).toFuture();
        Await.until("held", () -> locks.connections().settled() == 1);
        for (int i = 0; i < 3; i++) {
            locks.exclusive(A)
                    .waitAtMost(Duration.ofMillis(50))
                    .guard(Mono.just(1))
                    .subscribe(value -> {}, error -> {
                        throw new IllegalStateException("thrown by a subscriber");
                    });
        }
        CompletableFuture<Integer> last = locks.exclusive(A).guard(Mono.just(9)).toFuture();
        Await.until("timed out", () -> locks.waiting() == 1);
        end.tryEmitEmpty().orThrow();
        assertThat(holder.orTimeout(10, TimeUnit.SECONDS).join()).isZero();
        assertThat(last.orTimeout(10, TimeUnit.SECONDS).join()).isEqualTo(9);
    }

    @Test
    void nestedWorkThatThrowsWhenItIsCancelled_doesNotKeepTheLock() {
        residue.allowDroppedErrors();
        Mono<Object> stubborn = Mono.never().doOnCancel(() -> {
            throw new IllegalStateException("thrown by the work");
        });
        HeldLock outer = Objects.requireNonNull(locks.exclusive(A).acquire().block(PATIENCE));
        CompletableFuture<Object> nested =
                outer.guard(locks.withAdvisoryLock(B, stubborn)).toFuture();
        Await.until("nested", () -> locks.live() == 2 && locks.waiting() == 0);
        outer.release().block(PATIENCE);
        assertThat(nested).failsWithin(PATIENCE);
    }
}
