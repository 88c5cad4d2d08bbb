package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;

import java.time.Duration;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Cron exclusion: every instance has the schedule, one of them runs. */
class CronRecipeIT {

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    // region cronJob
    static <T> Flux<T> onOneInstance(AdvisoryLocks locks, String job, Duration period, Mono<T> run) {
        LockRequest request = locks.exclusive(LockKey.named("cron", job))
                .inSession()
                .skipIfBusy() // another instance does it
                .holdAtLeast(period.multipliedBy(7).dividedBy(10)); // nor may a late clock repeat a quick run
        return Flux.interval(period)
                .onBackpressureDrop()
                .concatMap(tick -> request.guard(run)
                        .onErrorResume(AdvisoryLockException.class, error -> Mono.empty())); // next time then
    }
    // endregion

    @Test
    void oneOfTwoInstances_runsEachTime() {
        Duration period = Duration.ofMillis(400);
        AtomicInteger runs = new AtomicInteger();
        Mono<Integer> run = Mono.fromSupplier(runs::incrementAndGet);
        Flux<Integer> one = onOneInstance(clients.open(server), "report", period, run);
        Flux<Integer> other = onOneInstance(clients.open(server), "report", period, run);
        long start = System.nanoTime();
        assertThat(Flux.merge(one, other).take(3).collectList().block(PATIENCE)).containsExactly(1, 2, 3);
        // of two that both ran, the third run would come with the second tick
        assertThat(Duration.ofNanos(System.nanoTime() - start))
                .isGreaterThan(period.multipliedBy(7).dividedBy(5));
    }
}
