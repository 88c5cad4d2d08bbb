package io.r2lock;

import static io.r2lock.TestClients.PATIENCE;
import static io.r2lock.TestClients.acquire;
import static org.assertj.core.api.Assertions.assertThat;

import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.concurrent.atomic.LongAdder;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Order;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;

/** A hundred thousand callers that queue for a hundred keys: what they cost, that all are served, and that all can go. */
class SessionWaitersIT {

    private static final Logger LOG = LoggerFactory.getLogger(SessionWaitersIT.class);

    private static final int MANY = 100_000;
    private static final int KEYS = 100;
    private static final int MOST_BYTES = 1_024;

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    @Order(2)
    final NoResidue residue = NoResidue.on(server);

    @RegisterExtension
    @Order(1)
    final TestClients clients = new TestClients(residue);

    private final LongAdder served = new LongAdder();
    private final LongAdder failed = new LongAdder();
    private final Disposable[] calls = new Disposable[MANY];

    private static LockKey key(int i) {
        return LockKey.of(49_000 + i % KEYS);
    }

    private static List<HeldLock> holdAll(DefaultAdvisoryLocks locks) {
        return IntStream.range(0, KEYS)
                .mapToObj(i -> acquire(locks.exclusive(key(i)).inSession()))
                .toList();
    }

    /** Until it says the same twice, near enough. */
    private static long usedHeap() {
        long last = Long.MAX_VALUE;
        for (int i = 0; i < 10; i++) {
            System.gc();
            long now = ManagementFactory.getMemoryMXBean().getHeapMemoryUsage().getUsed();
            if (Math.abs(last - now) < 16_384) {
                return now;
            }
            last = now;
        }
        return last;
    }

    /** All of a call counts: its request, its publishers, its subscriber. */
    private void queueAll(DefaultAdvisoryLocks locks) {
        for (int i = 0; i < MANY; i++) {
            calls[i] = locks.exclusive(key(i))
                    .inSession()
                    .guard(Mono.just(i))
                    .subscribe(one -> served.increment(), error -> failed.increment());
        }
    }

    private long connections() {
        return server.count("select count(*) from pg_stat_activity where application_name like 'r2lock%'");
    }

    @Test
    void eachCostsLessThanAKilobyte_andNoConnection_andAllAreServed() {
        DefaultAdvisoryLocks locks = clients.open(server);
        List<HeldLock> holds = holdAll(locks);
        long before = usedHeap();
        queueAll(locks);
        long bytes = (usedHeap() - before) / MANY;
        LOG.info("{} waiters on {} keys: {} bytes each", MANY, KEYS, bytes);
        assertThat(locks.waiting()).isEqualTo(MANY);
        assertThat(connections()).as("shared, heartbeat").isLessThanOrEqualTo(2);
        assertThat(bytes).isLessThanOrEqualTo(MOST_BYTES);

        holds.forEach(TestClients::release);
        assertThat(Await.value(served::sum, count -> count == MANY, Duration.ofSeconds(60)))
                .isEqualTo(MANY);
        assertThat(failed.sum()).isZero();
        assertThat(locks.waiting()).isZero();
        assertThat(connections()).isLessThanOrEqualTo(2);
    }

    @Test
    void cancelledInAnyOrder_theyLeaveNothing() {
        DefaultAdvisoryLocks locks = clients.open(server);
        List<HeldLock> holds = holdAll(locks);
        queueAll(locks);
        assertThat(locks.waiting()).isEqualTo(MANY);
        List<Disposable> some = new ArrayList<>(Arrays.asList(calls));
        Collections.shuffle(some, new Random(11));
        some.forEach(Disposable::dispose);
        assertThat(locks.waiting()).isZero();
        assertThat(locks.live()).isEqualTo(KEYS);
        assertThat(locks.gates().size()).isEqualTo(KEYS);
        holds.forEach(hold -> hold.release().block(PATIENCE));
        assertThat(locks.live()).isZero();
        assertThat(locks.gates().size()).isZero();
        assertThat(locks.sessions().held()).isZero();
        assertThat(served.sum() + failed.sum()).isZero();
    }
}
