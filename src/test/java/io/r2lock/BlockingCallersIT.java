package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static org.assertj.core.api.Assertions.assertThat;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Mono;
import reactor.core.scheduler.Schedulers;

/** Code that blocks where it may, as on a bounded elastic thread, must not keep the next holder from its turn. */
class BlockingCallersIT {

    private static final LockKey KEY = LockKey.named("blocking", "key");

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private DefaultAdvisoryLocks locks;

    @SuppressWarnings("NullAway.Init")
    BlockingCallersIT() {}

    @BeforeEach
    void open() {
        locks = clients.open(server);
    }

    private <T> Mono<T> guarded(Mono<T> work) {
        return locks.exclusive(KEY).inSession().guard(work);
    }

    @Test
    void callerThatBlocksOnItsResult_doesNotKeepTheNextHolderFromItsWork() {
        CountDownLatch queued = new CountDownLatch(1);
        Mono<Integer> slow = Mono.fromCallable(() -> {
                    queued.await();
                    return 1;
                })
                .subscribeOn(Schedulers.boundedElastic());
        // what comes behind the guard waits for the lock that the guard has just passed on
        CompletableFuture<Integer> first = guarded(slow)
                .doOnNext(one -> guarded(Mono.just(1)).block(PATIENCE))
                .toFuture();
        Await.until("held", () -> locks.sessions().held() == 1);
        CompletableFuture<Integer> next = guarded(Mono.just(5)).toFuture();
        queued.countDown();
        assertThat(next).succeedsWithin(PATIENCE).isEqualTo(5);
        assertThat(first).succeedsWithin(PATIENCE).isEqualTo(1);
    }
}
