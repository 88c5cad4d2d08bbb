package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Schedulers;

/** What a CancelRequest of a nested request may hit, without a server. */
class NestedCancelTest {

    private static final Duration SOON = Duration.ofSeconds(10);

    private final Sinks.One<Boolean> savepoint = Sinks.one();
    private final Sinks.One<Boolean> lock = Sinks.one();
    private final AtomicInteger cancelRequests = new AtomicInteger();

    private final DefaultAdvisoryLocks client = FakeConnection.client(
            generation -> Mono.fromSupplier(() -> FakeConnection.open(
                    Schedulers.parallel(), this::answer, () -> Mono.fromRunnable(cancelRequests::incrementAndGet))),
            1);

    private Mono<Boolean> answer(String sql) {
        if (sql.startsWith("SAVEPOINT")) {
            return savepoint.asMono();
        }
        return sql.startsWith("BEGIN") || sql.startsWith("ROLLBACK") ? Mono.just(true) : lock.asMono();
    }

    @AfterEach
    void close() {
        client.close().block(SOON);
    }

    @Test
    void theSavepoint_isHitByNoCancelRequest() {
        Hold outer = (Hold)
                Objects.requireNonNull(client.exclusive(LockKey.of(1)).acquire().block(SOON));
        Disposable nested = client.exclusive(LockKey.of(2))
                .acquire()
                .contextWrite(outer::into)
                .subscribe();

        nested.dispose();
        assertThat(cancelRequests).hasValue(0);

        savepoint.tryEmitValue(true);
        assertThat(cancelRequests).hasValue(1);

        lock.tryEmitError(new IllegalStateException("planted"));
        outer.release().block(SOON);
        assertThat(client.live()).isZero();
    }
}
