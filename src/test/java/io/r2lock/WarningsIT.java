package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.since;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntFunction;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.event.Level;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** A server that goes away does not flood the log. */
class WarningsIT {

    private static final int HOLDS = 200;
    private static final int REQUESTS = 100;

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on();

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private static final class BrokenListener implements LockListener {

        final AtomicInteger told = new AtomicInteger();

        @Override
        public void lost(List<LockKey> keys, LockMode mode, Duration age, String why) {
            told.incrementAndGet();
            throw new IllegalStateException("of the listener");
        }
    }

    /** The errors that the calls end with, all made at once. */
    private static List<Throwable> errors(int count, IntFunction<Mono<?>> call) {
        return Flux.range(0, count)
                .flatMap(i -> call.apply(i).then(Mono.<Throwable>empty()).onErrorResume(Mono::just), count)
                .collectList()
                .blockOptional(PATIENCE)
                .orElseThrow();
    }

    @Test
    void serverThatGoesAway_isOneWarning_thoughEachHoldAndRequestIsTold() {
        residue.allowLog(Level.WARN, "io.r2lock.AdvisoryLocks");
        BrokenListener listener = new BrokenListener();
        try (TestServer own = TestServer.own(18, Map.of("max_connections", "300"))) {
            residue.watch(own);
            DefaultAdvisoryLocks locks =
                    clients.open(own, builder -> builder.maxConnections(HOLDS).listener(listener));
            List<HeldLock> holds = Objects.requireNonNull(Flux.range(0, HOLDS)
                    .flatMap(i -> locks.exclusive(LockKey.of(i)).acquire(), HOLDS)
                    .collectList()
                    .block(PATIENCE));
            try (LogCount warnings = new LogCount(Level.WARN)) {
                long start = System.nanoTime();
                own.stop();
                assertThat(errors(HOLDS, i -> holds.get(i).lost()))
                        .hasSize(HOLDS)
                        .hasOnlyElementsOfType(LockLostException.class);
                assertThat(errors(REQUESTS, i -> locks.withAdvisoryLock(LockKey.of(10_000 + i), Mono.just(i))))
                        .hasSize(REQUESTS)
                        .hasOnlyElementsOfType(LockServerException.class);
                Await.until("all losses told", () -> listener.told.get() == HOLDS);
                assertThat(since(start)).isLessThan(Duration.ofSeconds(Warnings.QUIET_SECONDS));
                assertThat(warnings.messages()).singleElement().asString().startsWith("Lost after");
            }
            own.start();
            assertThat(locks.withAdvisoryLock(LockKey.of(1), Mono.just(1)).block(PATIENCE))
                    .isEqualTo(1);
            residue.check();
            locks.close().block(PATIENCE);
        }
    }
}
