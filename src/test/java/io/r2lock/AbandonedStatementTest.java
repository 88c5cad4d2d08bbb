package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Schedulers;

/** A statement that still runs when its hold ends is told so, but not before it is over. */
class AbandonedStatementTest {

    private static final Duration SOON = Duration.ofSeconds(10);

    private final Sinks.One<Boolean> answer = Sinks.one();
    private final DefaultAdvisoryLocks client = FakeConnection.client(
            generation -> Mono.fromSupplier(() -> FakeConnection.open(
                    Schedulers.parallel(), sql -> sql.equals("slow") ? answer.asMono() : Mono.just(true), Mono::empty)),
            2);

    @AfterEach
    void close() {
        client.close().block(SOON);
    }

    @Test
    void itIsToldOnceTheServerHasAnswered() {
        HeldLock held =
                Objects.requireNonNull(client.exclusive(LockKey.of(1)).acquire().block(SOON));
        AtomicReference<@Nullable Throwable> told = new AtomicReference<>();
        Flux.from(held.connection().createStatement("slow").execute()).subscribe(result -> {}, told::set);

        held.release().subscribe();
        assertThat(told.get()).as("before the work's own cancel has arrived").isNull();
        assertThat(client.live()).isEqualTo(1);

        answer.tryEmitValue(true);
        assertThat(told.get()).isInstanceOf(LockLostException.class);
        Await.until("released", () -> client.live() == 0);
    }
}
