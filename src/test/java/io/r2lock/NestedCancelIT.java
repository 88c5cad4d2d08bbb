package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.UnaryOperator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Named;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** A nested request that is cancelled about when it is granted leaves the transaction around it as it was. */
class NestedCancelIT {

    private static final int ROUNDS = 600;

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(1)
    final NestingClients clients = new NestingClients();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    private static Stream<Named<UnaryOperator<LockRequest>>> waits() {
        return Stream.of(
                Named.of("waits", LockRequest::waitForever),
                Named.of("does not wait", LockRequest::noWait),
                Named.of("polls", LockRequest::polling));
    }

    @ParameterizedTest
    @MethodSource("waits")
    void cancelAtAnyInstant_leavesTheTransactionUsable(UnaryOperator<LockRequest> wait) {
        DefaultAdvisoryLocks locks = clients.on(server, residue);
        AtomicInteger cancelled = new AtomicInteger();
        Flux<Integer> calls = Flux.range(0, ROUNDS).flatMap(i -> outer(locks, i, wait, cancelled), 4);
        assertThat(calls.count().block(Duration.ofSeconds(60))).isEqualTo(ROUNDS);
        // how many of each depends on the machine
        assertThat(cancelled).hasValueBetween(1, ROUNDS - 1);
    }

    private static Mono<Integer> outer(
            DefaultAdvisoryLocks locks, int i, UnaryOperator<LockRequest> wait, AtomicInteger cancelled) {
        Duration soon = Duration.ofNanos(ThreadLocalRandom.current().nextInt(3_000_000));
        return locks.exclusive(LockKey.of(5_000 + i))
                .guard(hold -> wait.apply(locks.exclusive(LockKey.of(50_000 + i)))
                        .guard(Mono.just(1))
                        .takeUntilOther(Mono.delay(soon))
                        .switchIfEmpty(Mono.fromRunnable(cancelled::incrementAndGet))
                        .then(NestingClients.run(hold.connection(), "select 1"))
                        .thenReturn(1));
    }
}
