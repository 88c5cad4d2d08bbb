package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static io.r2lock.TestClients.release;
import static org.assertj.core.api.Assertions.assertThat;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Mono;

/** Permits that are given up on a thread that may block, and does. */
class PermitBlockingIT {

    private static final LockKey KEY = LockKey.named("blocking", "permit");

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    /** The holder's own thread waits, when it hears of its end, for the one who has the permit next. */
    @Test
    void whoHearsOfItsEnd_mayWaitForTheNextHolder() {
        DefaultAdvisoryLocks locks = clients.open(server);
        HeldLock hold = acquire(locks.permit(KEY, 1));
        CountDownLatch served = new CountDownLatch(1);
        CompletableFuture<Integer> next = locks.permit(KEY, 1)
                .guard(Mono.fromSupplier(() -> {
                    served.countDown();
                    return 1;
                }))
                .toFuture();
        boolean[] seen = new boolean[1];
        hold.lost().doFinally(signal -> seen[0] = await(served)).subscribe();
        hold.commit().block(PATIENCE);
        assertThat(seen[0]).isTrue();
        assertThat(next).succeedsWithin(PATIENCE);
    }

    /** Work that blocks, on the thread that gave the permit up, would keep that from going on. */
    @Test
    void theNextHoldersWork_doesNotRunOnTheThreadThatReleases() {
        DefaultAdvisoryLocks locks = clients.open(server);
        HeldLock hold = acquire(locks.permit(KEY, 1));
        CompletableFuture<Thread> next = locks.permit(KEY, 1)
                .guard(Mono.fromSupplier(Thread::currentThread))
                .toFuture();
        release(hold);
        assertThat(next).succeedsWithin(PATIENCE).isNotSameAs(Thread.currentThread());
    }

    private static boolean await(CountDownLatch latch) {
        try {
            return latch.await(PATIENCE.toSeconds(), TimeUnit.SECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return false;
        }
    }
}
